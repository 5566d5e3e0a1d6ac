"""What a design becomes in the cells of a target, as Yosys counts them: an estimate, before placing and routing."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.formats import BadInput
from systolith.synthesis.yosys import Source, quoted, run_yosys


@dataclass(frozen=True)
class Target:
    """What to synthesize for.

    Attributes:
        command: Yosys' own script for it.
        luts, ffs, dsps, rams: what its cells of each kind are called, as patterns. Of `generic`, `luts` are gates;
            `rams` are blocks, not memories of LUTs.
    """

    command: str
    luts: str
    ffs: str
    dsps: str
    rams: str


_NEVER = r"(?!)"
TARGETS = {
    # Memories become flip-flops, multipliers gates.
    "generic": Target("synth -flatten", r"\$_(?!.*DFF|.*DLATCH|.*SR_).*_", r"\$_.*DFF.*_", _NEVER, _NEVER),
    "ecp5": Target("synth_ecp5", r"LUT4", r"TRELLIS_FF", r"MULT18X18D", r"DP16KD"),
    "ice40": Target("synth_ice40 -dsp", r"SB_LUT4", r"SB_DFF.*", r"SB_MAC16", r"SB_RAM40_4K.*"),
    "cyclone4": Target("synth_intel -family cycloneiv", r"cycloneiv_lcell_comb", r"dffeas", r".*mult.*", r".*ram.*"),
    "cyclone5": Target(
        "synth_intel_alm -family cyclonev", r"MISTRAL_ALUT.*", r"MISTRAL_FF", r"MISTRAL_MUL.*", r"MISTRAL_M10K"
    ),
}
LIBERTY = "liberty"
"""The target that a liberty file describes."""


@dataclass(frozen=True)
class Area:
    """What a design takes of a target.

    Attributes:
        luts, ffs, dsps, rams: cells of each kind, see `Target`; none of a liberty file's.
        cells: of every type, how many.
        area: in the unit of the liberty file, None without one.
    """

    luts: int
    ffs: int
    dsps: int
    rams: int
    cells: Mapping[str, int]
    area: float | None = None


def synthesize(
    source: Source,
    target: str,
    liberty: Path | None = None,
    timeout: float | None = None,
) -> Area:
    """The cells of a design.

    Args:
        source: the design.
        target: of `TARGETS`, or `LIBERTY`.
        liberty: the file of that.
        timeout: seconds.

    Raises:
        BadInput: no such target, or Yosys is not installed, refuses the design or takes too long.
    """
    if target not in (*TARGETS, LIBERTY) or (target == LIBERTY) != (liberty is not None):
        raise BadInput(f"target {target!r}: expected {', '.join(TARGETS)}, or {LIBERTY} with a liberty file")
    with tempfile.TemporaryDirectory(prefix="systolith-synth-") as folder:
        counts = Path(folder) / "counts.json"
        commands = (
            _cells_of(liberty, source.top) if liberty is not None else [f"{TARGETS[target].command} -top {source.top}"]
        )
        stat = "stat -json" if liberty is None else f"stat -json -liberty {quoted(liberty)}"
        run_yosys([*source.commands(), *commands, f"tee -q -o {quoted(counts)} {stat}"], timeout)
        return _area(json.loads(counts.read_text())["design"], target)


def _cells_of(liberty: Path, top: str) -> Sequence[str]:
    library = quoted(liberty)
    return [f"synth -flatten -top {top}", f"dfflibmap -liberty {library}", f"abc -liberty {library}", "opt_clean"]


def _area(counts: Mapping[str, object], target: str) -> Area:
    by_type = counts["num_cells_by_type"]
    if not isinstance(by_type, dict):
        raise BadInput("Yosys counted no cells: is this another version of it?")
    cells = {name: int(number) for name, number in sorted(by_type.items()) if name != "$scopeinfo"}
    if target == LIBERTY:
        return Area(0, 0, 0, 0, cells, float(str(counts.get("area", 0))))
    kinds = TARGETS[target]
    luts, ffs, dsps, rams = (
        sum(number for name, number in cells.items() if re.fullmatch(pattern, name))
        for pattern in (kinds.luts, kinds.ffs, kinds.dsps, kinds.rams)
    )
    return Area(luts, ffs, dsps, rams, cells)
