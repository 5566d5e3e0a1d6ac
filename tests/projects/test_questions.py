"""A failing testbench is asked which single change of the layout it would pass with."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Find
from projects.questions import answers
from projects.styles import STYLES, write
from systolith.hardware.cosim import cosim

ORDER = "lines in the order {} (the slowest first)"
# A wrong layout by its change from the right one, and the change back, in words.
ASKED = {
    "course": {
        "weights transposed": "weights transposed",
        "weight lanes reversed": "weight lanes reversed",
        "activations without padding": "activations with padding",
        "outputs: no header in front": "outputs: three words in front",
        "activations: 2 lines in front": "activations: three words in front",
    },
    "no header": {
        "activation lines reversed": "activation lines reversed",
        "outputs before ReLU": "outputs after ReLU",
        "psums: three words in front": "psums: no header in front",
        "psums: file names counted from 1": "psums: file names counted from 0",
    },
    "seed": {
        f"psums: {ORDER.format('nij, kij')}": f"psums: {ORDER.format('kij, nij')}",
        "weights transposed": "weights transposed",
        "psums: a file for each kij, psum{kij}.txt": "psums: one file for all kij, psum.txt, kij first",
    },
    "two tiles counted from one": {
        "weights: file names counted from 0": "weights: file names counted from 1",
        "activations: with an address before each word": "activations: without addresses",
    },
    "accumulation addresses": {"addresses with offset 8": "addresses with offset 7"},
    "psums of outputs alone, before ReLU": {"psums at every position": "psums only where an output needs them"},
}


FEW = ("course", "no header")
"""Of them those that are asked in `make test`; all, and every other single change, in `make test-slow`."""


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] * (one not in FEW)) for one in ASKED])
def test_the_change_back_is_named(name: str, tmp_path: Path, simulator: Find) -> None:
    found = {one.wrong: one for one in answers(name, tmp_path, simulator("icarus"), tuple(ASKED[name]))}
    assert set(found) == set(ASKED[name])
    for wrong, right in ASKED[name].items():
        assert found[wrong].named, found[wrong]
        assert right in found[wrong].hints


def test_a_file_name_is_taken_from_the_testbench(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    layout = [{**one, "name": one["name"].replace("weight", "kernel_")} for one in STYLES["no header"].layout]
    report = cosim(project=write(STYLES["no header"], tmp_path / "p", layout))
    assert not report.holds
    assert report.runs[0].end == "no file"
    assert "weight0.txt" in report.runs[0].said or "weight%0d.txt" in report.runs[0].said
    assert report.hints == ("weights: files called weight{kij}.txt",)
    assert report.verdict.endswith("passes with weights: files called weight{kij}.txt")


def test_a_pass_that_compares_nothing_with_nothing_is_no_hint(tmp_path: Path, simulator: Find) -> None:
    """Words that are no numbers leave x everywhere, and x is x: the testbench says PASS."""
    header = {"header": ["not a number"] * 3}
    layout = [{**one, **header} for one in STYLES["decimal lanes"].layout]
    report = cosim(project=write(STYLES["decimal lanes"], tmp_path / "p", layout))
    assert not report.holds
    assert report.hints == ("no header in every file",)
