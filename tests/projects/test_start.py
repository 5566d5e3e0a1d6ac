"""`project start`, `check` and `new`: a start that passes, files compared, a project file proposed."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from conftest import Find
from projects.styles import STYLES, write
from systolith.formats import BadInput
from systolith.hardware.cosim import cosim
from systolith.hardware.project import project_check, project_new, project_start
from systolith.projects.bus import cocotb_runner
from systolith.projects.testbench import read_testbench

BOTH = ["icarus", pytest.param("verilator", marks=pytest.mark.slow)]
# Of a processing element, and what it is not.
PRODUCT, SUM = "* PRODUCT'($signed(factor", "+ PRODUCT'($signed(factor"


@pytest.mark.parametrize("sim", BOTH)
def test_a_start_passes_with_layers_of_a_network_and_made_up_ones(sim: str, tmp_path: Path, simulator: Find) -> None:
    simulator(sim)
    assert project_start(tmp_path / "mine").holds
    one = cosim(project=tmp_path / "mine" / "core.toml", sim=sim)
    assert one.holds
    assert {kind: looked.noticed for kind, looked in one.controls.items()} == dict.fromkeys(
        ("act", "weight", "psum", "out"), 3
    )
    many = cosim(project=tmp_path / "mine", sim=sim, stimulus="random:2,all-max", control=False)
    assert many.holds
    assert [run.name for run in many.runs] == ["random, seed 0", "random, seed 1", "all-max"]


def test_a_bug_in_the_copy_is_found_and_no_layout_excuses_it(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    project_start(tmp_path / "mine")
    tile = tmp_path / "mine" / "rtl" / "mac_tile.sv"
    text = tile.read_text()
    assert PRODUCT in text
    tile.write_text(text.replace(PRODUCT, SUM))
    report = cosim(project=tmp_path / "mine", sim="icarus")
    assert not report.holds
    assert report.runs[0].end == "failed"
    assert report.runs[0].lines[0].startswith("TEST FAILED")
    assert report.tried
    assert report.hints == ()


@pytest.mark.parametrize("sim", BOTH)
def test_the_cocotb_test_of_the_start_passes_and_sees_a_wrong_word(
    sim: str, tmp_path: Path, simulator: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator(sim)
    from systolith.flows.vectors import vectors

    project_start(tmp_path / "mine")
    folder = tmp_path / "mine"
    vectors(layer="features.27", out=folder / "vectors", force=True)
    sources = sorted((folder / "rtl").glob("*.sv"))
    sizes = {"ACT_DEPTH": 36, "WEIGHT_DEPTH": 72, "PSUM_DEPTH": 16}
    cocotb_runner(sim, sources, "core", sizes, "test_core", folder)
    if sim == "icarus":  # the same with a product that is a sum
        tile = folder / "rtl" / "mac_tile.sv"
        tile.write_text(tile.read_text().replace(PRODUCT, SUM))
        with pytest.raises(RuntimeError, match="cocotb tests of test_core failed"):
            cocotb_runner(sim, sources, "core", sizes, "test_core", folder)


def test_check_compares_what_is_opened_with_what_is_placed(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    good = project_check(write(STYLES["course"], tmp_path / "good"))
    assert good.holds
    assert {(one.name, one.found) for one in good.opened} == {
        ("activation_tile0.txt", "ours"),
        ("weight_itile0_otile0_kij%0d.txt", "ours"),
        ("psum_itile0_otile0_kij%0d.txt", "ours"),
        ("out.txt", "ours"),
    }
    bad = project_check(write(STYLES["course"], tmp_path / "bad", layout=STYLES["seed"].layout))
    assert not bad.holds
    assert bad.problems[0].endswith("opens activation_tile0.txt, which no file of the layout is called")


# What stands in each testbench: name, header, words (None: not to be found), bits.
INPUTS = {("act.txt", 0, 25, 16), ("weight%0d.txt", 0, 4, 16)}
PLAIN = {*INPUTS, ("psum%0d.txt", 0, 25, 64), ("out.txt", 0, 9, 64)}
READ: dict[str, set[tuple[str, int, int | None, int | None]]] = {
    "course": {
        ("activation_tile0.txt", 3, 25, 16),
        ("weight_itile0_otile0_kij%0d.txt", 3, 4, 16),
        ("psum_itile0_otile0_kij%0d.txt", 3, 25, 64),
        ("out.txt", 3, 9, 64),
    },
    "seed": {
        ("activation.txt", 3, 25, 16),
        *((f"weight_{kij}.txt", 3, 4, 16) for kij in range(9)),
        ("psum.txt", 3, 225, 64),
        ("output.txt", 3, 9, 64),
    },
    "no header": PLAIN,
    "readmemb, unpadded": {
        ("image.mem", 0, 9, 16),
        ("weights.mem", 0, 36, 16),
        ("psum%0d.txt", 0, 25, 64),
        ("out.txt", 0, 9, 64),
    },
    "readmemh with addresses": {(name.replace("txt", "hex"), *more) for name, *more in PLAIN},
    "hexadecimal words": PLAIN,
    "decimal lanes": {*INPUTS, ("out.txt", 0, 36, 32)},  # a lane a read, into an integer
    "lines and lanes reversed": PLAIN,
    "free header lines": {(name, 2, words, bits) for name, _, words, bits in PLAIN},
    "two tiles counted from one": {
        ("data/act_%0d.txt", 0, 25, 16),
        ("data/weight_%0d_%0d_%0d.txt", 0, 4, 16),
        ("data/psum_%0d_%0d_%0d.txt", 0, 25, 64),
    },
    "a wide word for two tiles": {("act.txt", 0, 25, 32), ("weight.txt", 0, 36, 32), ("out.txt", 0, 9, 64)},
    "psums of outputs alone, before ReLU": {*INPUTS, ("psum%0d.txt", 0, 9, 64), ("out.txt", 0, 9, 64)},
    "accumulation addresses": {*INPUTS, ("acc_address.txt", 0, 81, 11), ("out.txt", 0, 9, 64)},
    "output stationary": {
        ("act_os.txt", 0, 108, 16),
        ("weight_os.txt", 0, 36, 16),
        ("out.txt", 0, 9, 64),
    },
    "a dump for check": {*INPUTS, ("dump/out.txt", 0, None, None)},  # which it writes
    "a folder by plusarg": {
        ("none/act.txt", 0, 25, 16),  # where no plusarg is given
        ("none/weight%0d.txt", 0, 4, 16),
        ("golden/out.txt", 0, 9, 64),
    },
}


RADIX = {"readmemh with addresses": {"hex"}, "hexadecimal words": {"hex"}, "decimal lanes": {"bin", "dec"}}


@pytest.mark.parametrize("name", STYLES)
def test_what_a_testbench_reads_is_found_in_its_syntax_tree(name: str, tmp_path: Path) -> None:
    write(STYLES[name], tmp_path / "p")
    found = read_testbench((tmp_path / "p" / "tb.v").read_text(), "tb.v").opened
    assert {(one.name, one.header, one.words, one.width) for one in found} == READ[name]
    assert {one.radix for one in found if one.reads} == RADIX.get(name, {"bin"})


@pytest.mark.parametrize("name", STYLES)
def test_a_project_is_proposed_for_every_style(name: str, tmp_path: Path) -> None:
    """The names of the files, as patterns of the layout; and a sentence for everything that no call shows."""
    write(STYLES[name], tmp_path / "p")
    (tmp_path / "p" / "core.toml").unlink()
    shutil.move(tmp_path / "p" / "rtl" / "dot.v", tmp_path / "p" / "dot.v")
    report = project_new(tmp_path / "p" / "tb.v", out=tmp_path / "p" / "core.toml")
    entry = tomllib.loads((tmp_path / "p" / "core.toml").read_text())
    assert entry["rtl"] == {"sources": ["dot.v", "tb.v"], "top": "tb"}
    mine = {re.sub(r"\{[^}]*\}|\d", "#", one["name"]) for one in STYLES[name].layout}
    known = {one.name for one in report.opened if one.tensor not in ("", "(written)")}
    for file in entry["vectors"]["layout"]["files"]:
        assert re.sub(r"\{[^}]*\}|\d", "#", file["name"]) in mine
    for one in report.opened:
        told = any(one.name and Path(one.name).name in text for text in report.missing)
        assert one.tensor or told or not one.name, one
        if one.tensor not in ("", "(written)"):
            assert one.name in known
            assert one.width != "?" or told
            assert one.words != "?" or told
    assert any("order of lines and lanes" in text for text in report.missing)


def test_a_proposal_for_the_course_runs_as_it_stands(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    write(STYLES["course"], tmp_path / "p")
    project_new(tmp_path / "p" / "tb.v", sources=["rtl/dot.v"], out=tmp_path / "p" / "core.toml", force=True)
    report = cosim(project=tmp_path / "p", sim="icarus")
    # The one thing that no call shows: that the outputs are after ReLU.
    assert not report.holds
    assert report.hints == ("outputs after ReLU",)
    assert report.edits == ("out.txt: relu = true",)


def test_what_cannot_be_proposed(tmp_path: Path) -> None:
    (tmp_path / "tb.v").write_text("module tb; initial $finish; endmodule\n")
    with pytest.raises(BadInput, match="opens no file for reading"):
        project_new(tmp_path / "tb.v", out=tmp_path / "core.toml")
    assert not (tmp_path / "core.toml").exists()
    with pytest.raises(BadInput, match=r"none\.v: cannot be read"):
        project_new(tmp_path / "none.v", out=tmp_path / "core.toml")
