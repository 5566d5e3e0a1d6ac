"""Cells by Yosys: of a design whose cells are known, in every target."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthesis.small import LIBRARY, SMALL
from systolith.formats import BadInput
from systolith.synthesis.area import LIBERTY, TARGETS, synthesize
from systolith.synthesis.yosys import Source, quoted, run_yosys


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, ...]:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "small.sv").write_text(SMALL)
    return (folder / "small.sv",)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("width", [1, 6])
def test_a_gate_and_a_register_a_bit(target: str, width: int, sources: tuple[Path, ...]) -> None:
    """An AND and an XOR a bit, each with its register; no target has a cell that takes both gates and two outputs."""
    area = synthesize(Source(sources, "small", {"W": width}), target)
    assert (area.luts, area.ffs, area.dsps, area.rams, area.area) == (2 * width, 2 * width, 0, 0, None)


@pytest.mark.parametrize(
    ("target", "dsps", "rams"), [("generic", 0, 0), ("ecp5", 1, 1), ("ice40", 1, 2), ("cyclone5", 1, 1)]
)
def test_a_multiplier_and_a_memory(target: str, dsps: int, rams: int, tmp_path: Path) -> None:
    words = 32 if target == "generic" else 512  # which makes flip-flops of them
    source = tmp_path / "both.sv"
    source.write_text(
        "module both (input logic clk, w, input logic [8:0] at, input logic [15:0] a, b, output logic [31:0] p,\n"
        "    output logic [15:0] q);\n"
        f"  logic [15:0] words[{words}];\n"
        "  always_ff @(posedge clk) begin\n"
        "    p <= a * b;\n    q <= words[at];\n    if (w) words[at] <= a;\n  end\nendmodule\n"
    )
    area = synthesize(Source((source,), "both"), target)
    assert (area.dsps, area.rams) == (dsps, rams)
    assert (area.ffs > words * 16) == (target == "generic")


def test_a_library(sources: tuple[Path, ...], tmp_path: Path) -> None:
    liberty = tmp_path / "tiny.lib"
    liberty.write_text(LIBRARY)
    area = synthesize(Source(sources, "small", {"W": 3}), LIBERTY, liberty)
    assert area.cells["DFF"] == 6
    assert set(area.cells) <= {"BUF", "INV", "NAND", "NOR", "DFF"}
    sizes = {"BUF": 2, "INV": 1, "NAND": 2, "NOR": 2, "DFF": 6}
    assert area.area == sum(number * sizes[name] for name, number in area.cells.items())


def test_refusals_of_yosys(sources: tuple[Path, ...]) -> None:
    with pytest.raises(BadInput, match="target 'asic': expected generic"):
        synthesize(Source(sources, "small"), "asic")
    with pytest.raises(BadInput, match="target 'liberty'"):
        synthesize(Source(sources, "small"), LIBERTY)
    with pytest.raises(BadInput, match=r"^Yosys: Module `nothing' not found!$"):
        synthesize(Source(sources, "nothing"), "generic")
    with pytest.raises(BadInput, match=r"did not come to an end in 0\.01 s"):
        run_yosys(["help"], timeout=0.01)
    with pytest.raises(BadInput, match="quotation marks"):
        quoted(Path('a"b'))
