"""Proofs by Yosys that a mutant is the same design: one netlist, or registers and outputs that no input tells apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from systolith.formats import BadInput
from systolith.synthesis.yosys import Source, quoted, run_yosys

SAME = "the same netlist"
PROVED = "no state and input give another next state or output (SAT)"
_SECONDS = 60


@dataclass(frozen=True)
class Prover:
    """The netlists that mutants are compared with.

    Attributes:
        golden: each as it is read, and the file of its netlist.
        core: the folder that the sources are in.
    """

    golden: tuple[tuple[Source, Path], ...]
    core: Path

    def prove(self, core: Path) -> str:
        """Why a changed copy `core` of the folder is the same design for all these; "" if no proof is found.

        Registers are told apart by their names alone, and may hold anything: what is proved holds from any state in
        which both are alike, reset or not.
        """
        how = SAME
        for source, gold in self.golden:
            gate = core.parent / gold.name
            try:
                _write_netlist(_moved(source, self.core, core), gate)
                if _text(gate) == _text(gold):
                    continue
                run_yosys(_compared(gold, gate), timeout=_SECONDS)
            except BadInput:  # another set of ports or registers, a counterexample, no time: no proof
                return ""
            how = PROVED
        return how


def prover(sources: Iterable[Source], core: Path, folder: Path) -> Prover:
    """What proves mutants of designs with files in `core`; netlists are written into the existing `folder`.

    Raises:
        BadInput: Yosys is not installed, or cannot read the sources.
    """
    golden = []
    for number, source in enumerate(sources):
        path = folder / f"{number}.il"
        _write_netlist(source, path)
        golden.append((source, path))
    return Prover(tuple(golden), core)


def _moved(source: Source, core: Path, to: Path) -> Source:
    def moved(paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(to / path.relative_to(core) if path.is_relative_to(core) else path for path in paths)

    return replace(source, files=moved(source.files), include=moved(source.include))


def _write_netlist(source: Source, path: Path) -> None:
    # Memories as registers, and enables and resets as logic before them: then a state is compared bit by bit.
    flat = ["proc", "flatten", "opt", "memory_map", "opt", "dffunmap", "opt_clean", "setattr -unset src */*"]
    name = f"rename {source.top} design" if not source.parameters else "rename -top design"
    run_yosys([*source.commands(), *flat, name, f"write_rtlil {quoted(path)}"], _SECONDS)


def _text(path: Path) -> str:
    """A netlist without what is no part of the design: where the files lay, and Yosys' next number."""
    text = re.sub(r"^(#|autoidx|  *attribute \\src|attribute \\src).*\n", "", path.read_text(), flags=re.M)
    return re.sub(r"(?:/[^\s/]+)+/([\w.-]+\.s?v)\b", r"\1", text)


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
