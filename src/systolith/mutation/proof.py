"""Proofs by Yosys that a mutant is the same design: one netlist, or registers and outputs that no input tells apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.formats import BadInput
from systolith.synthesis.yosys import quoted, read_design, run_yosys

SAME = "the same netlist"
PROVED = "no state and input give another next state or output (SAT)"
_SECONDS = 60


@dataclass(frozen=True)
class Prover:
    """The netlists that mutants are compared with.

    Attributes:
        top: the module whose ports count.
        golden: of each choice of parameters, these, and the file of the netlist.
    """

    top: str
    golden: tuple[tuple[Mapping[str, int], Path], ...]

    def prove(self, core: Path) -> str:
        """Why a changed core in the folder `core` is the same design for all these parameters; "" if no proof is found.

        Registers are told apart by their names alone, and may hold anything: what is proved holds from any state in
        which both cores are alike, reset or not.
        """
        how = SAME
        for given, gold in self.golden:
            gate = core.parent / gold.name
            try:
                _write_netlist(core, self.top, given, gate)
                if _text(gate) == _text(gold):
                    continue
                run_yosys(_compared(gold, gate), timeout=_SECONDS)
            except BadInput:  # another set of ports or registers, a counterexample, no time: no proof
                return ""
            how = PROVED
        return how


def prover(core: Path, top: str, parameters: Sequence[Mapping[str, int]], folder: Path) -> Prover:
    """What proves mutants of the sources in `core`; its netlists are written into the existing `folder`.

    Raises:
        BadInput: Yosys is not installed, or cannot read the sources.
    """
    golden = []
    for number, given in enumerate(parameters):
        path = folder / f"{number}.il"
        _write_netlist(core, top, given, path)
        golden.append((given, path))
    return Prover(top, tuple(golden))


def _write_netlist(core: Path, top: str, given: Mapping[str, int], path: Path) -> None:
    # Memories as registers, and enables and resets as logic before them: then a state is compared bit by bit.
    flat = ["proc", "flatten", "opt", "memory_map", "opt", "dffunmap", "opt_clean", "setattr -unset src */*"]
    name = f"rename {top} design" if not given else "rename -top design"
    run_yosys([*read_design(core.glob("*.sv"), top, given), *flat, name, f"write_rtlil {quoted(path)}"], _SECONDS)


def _text(path: Path) -> str:
    """A netlist without what is no part of the design: where the files lay, and Yosys' next number."""
    text = re.sub(r"^(#|autoidx|  *attribute \\src|attribute \\src).*\n", "", path.read_text(), flags=re.M)
    return re.sub(r"\S*/core/(\w+\.sv)", r"\1", text)


def _compared(gold: Path, gate: Path) -> list[str]:
    """Registers' next states become outputs, their states inputs: what is left is a question for a SAT solver."""
    load = []
    for name, path in (("gold", gold), ("gate", gate)):
        load += [f"read_rtlil {quoted(path)}", f"rename design {name}"]
    # What both have in common becomes one, and an output compared with itself nothing at all.
    merge = ["opt_expr", "opt_merge", "opt_expr", "opt_merge"]
    alone = ["chtype -set $eq t:$eqx", "opt_expr -fine", "opt_clean"]
    return [
        *load,
        "expose -evert-dff -shared gold gate",
        "miter -equiv -flatten gold gate miter",
        "hierarchy -top miter",
        *merge,
        *alone,
        "sat -verify -prove trigger 0 -timeout 20",
    ]
