"""Every way in which a project can fail has its own name, the tool's own words, and what to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Find
from projects.styles import CORE, STYLES, write
from systolith.formats import BadInput
from systolith.hardware.cosim import cosim
from systolith.projects.failures import KINDS

PLAIN = STYLES["no header"]
PSUMS = 'n < NIJ; n = n + 1) begin\n        got = $fscanf(fd, "%b", word);'
BIAS = 'fd = $fopen("bias.txt", "r");\n    got = $fscanf(fd, "%b", word);\n    if (got != 1) wrong = 1;'
HANG = "forever #5 n = n + 1;"
# What is changed, how it ends, what is said, what to change.
FAILURES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "does not compile": ({"core": "module dot; nonsense endmodule\n"}, "compile", "rtl/dot.v:1", "source at that line"),
    "a module is missing": ({"sources": ("tb.v",)}, "compile", "Unknown module type: dot", "file of that module"),
    "no such top": ({"top": "bench"}, "compile", "bench", "no module of that name"),
    "an include is missing": ({"core": '`include "w.vh"\n' + CORE}, "compile", "w.vh", "folder of that file"),
    "a construct": (
        {"body": 'assert property (@(posedge a[0]) a == b);\n    $display("FAIL");'},
        "construct",
        "sorry",
        "another simulator",
    ),
    "hangs": ({"body": HANG, "time_limit": 0.5}, "hung", "no end in 0.5 s", "$finish"),
    "prints without end": (
        {"body": 'while (1) $display("%0d and so on and so on", n);'},
        "hung",
        "prints without end",
        "",
    ),
    "prints nothing": ({"body": "", "verdict": ""}, "silent", "printed nothing", "what the testbench prints"),
    "no verdict": ({"body": "", "verdict": '$display("done");'}, "no verdict", "done", "pass = under"),
    "all x": (
        {"body": '$display("out %h", made);', "verdict": '$display("FAIL: got %b", made);'},
        "all x",
        "xxxx",
        "nothing drives",
    ),
    "says FAIL": ({"core": CORE.replace("p = p + ", "p = p - ")}, "failed", "FAIL", ""),
    "ends with an error": ({"verdict": '$display("PASS"); $fatal(1);'}, "crashed", "PASS", ""),
    "an error first": ({"body": '$fatal(1, "no clock");'}, "crashed", "no clock", ""),
    "a file is called otherwise": (
        {"body": PLAIN.body.replace('"out.txt"', '"Out.txt"')},
        "no file",
        "Out.txt",
        "case counts",
    ),
    "a file that the layout does not write": (
        {"body": BIAS + PLAIN.body},
        "no file",
        "bias.txt",
        "the layout: it writes no bias.txt",
    ),
    "a file is elsewhere": (
        {"body": PLAIN.body.replace('"out.txt"', '"data/out.txt"')},
        "no file",
        "data/out.txt",
        "folder = or places =",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_has_its_name(name: str, tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    changed, kind, said, change = FAILURES[name]
    report = cosim(project=write(PLAIN, tmp_path / "p", **changed))
    (run,) = report.runs
    assert run.end == kind, run
    assert kind in KINDS
    assert said in run.said
    assert change in run.change
    assert not report.holds
    assert report.controls is None
    assert KINDS[kind] in report.verdict
    assert len(report.verdict) < 200


def test_a_testbench_that_cannot_fail_is_told(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    report = cosim(project=write(PLAIN, tmp_path / "p", verdict='$display("PASS");'))
    assert report.passed == 1
    assert not report.holds
    assert "cannot fail" in report.verdict


def test_a_kind_of_file_that_is_never_looked_at_is_told(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    body = PLAIN.body.partition('    for (k = 0; k < 9; k = k + 1) begin\n      $sformat(name, "psum')
    only_outputs = (
        body[0] + '    fd = $fopen("out.txt", "r");' + body[2].partition('    fd = $fopen("out.txt", "r");')[2]
    )
    report = cosim(project=write(PLAIN, tmp_path / "p", body=only_outputs))
    assert report.holds
    assert report.controls["psum"].said == "psum files are never compared"
    assert [kind for kind, one in report.controls.items() if one.noticed == 3] == ["act", "weight", "out"]
    assert "psum files are never compared" in report.verdict


def test_a_part_that_is_never_looked_at_is_told(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    report = cosim(project=write(PLAIN, tmp_path / "p", body=PLAIN.body.replace(PSUMS, PSUMS.replace("NIJ", "20"))))
    assert report.holds
    assert report.controls["psum"].noticed == 2
    assert report.controls["psum"].said.startswith("psum files are looked at in part: not psum8.txt, word 24")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sources": ("rtl/dots.v", "tb.v")}, "[rtl] sources: rtl/dots.v: no such file in"),
        ({"sources": ("rtl/*.sv",)}, "[rtl] sources 'rtl/*.sv': no such file in"),
        ({"rtl": ("colour = 3",)}, "[rtl]: unknown key 'colour'; expected sources, files, top"),
        ({"rtl": ("include = 3",)}, "[rtl]: include: expected a list of text, found 3"),
        ({"time_limit": 0}, "time_limit 0: expected seconds, more than 0"),
        ({"simulator": "spice"}, "no simulator 'spice': expected auto, icarus, verilator or a path"),
    ],
)
def test_a_wrong_project_is_one_sentence(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        cosim(project=write(PLAIN, tmp_path / "p", **change))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("style", "said"),
    [
        (replace(PLAIN, passes="(", fails=""), "[verdict] pass '(': no regular expression"),
        (replace(PLAIN, passes="", fails=""), "expected pass = a regular expression, or dump ="),
        (replace(PLAIN, vectors={"colour": 1}), "[vectors]: unknown key 'colour'"),
        (replace(PLAIN, parameters={"IT": "{tiles}"}), "IT = '{tiles}': expected names in braces of rows, cols"),
        (replace(PLAIN, places={"act.txt": "../act.txt"}), "expected a path inside"),
        (replace(PLAIN, folder="../x"), "folder '../x': expected a path inside"),
    ],
)
def test_a_wrong_part_of_it_too(style: Any, said: str, tmp_path: Path) -> None:
    if style.parameters:
        style = replace(style, parameters={"IT": "'{tiles}'"})
    with pytest.raises(BadInput) as caught:
        cosim(project=write(style, tmp_path / "p"))
    assert said in str(caught.value)


def test_nothing_of_the_users_is_touched(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    project = write(PLAIN, tmp_path / "p")
    (tmp_path / "p" / "out.txt").write_text("an old one\n")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "p").rglob("*")) if path.is_file()}
    report = cosim(project=project, stimulus="random:3,corner", jobs=2)
    assert report.holds
    assert len(report.runs) > 10
    assert [run.name for run in report.runs][:3] == [f"random, seed {n}" for n in range(3)]
    assert {path: path.read_bytes() for path in sorted((tmp_path / "p").rglob("*")) if path.is_file()} == before


def test_what_ran_is_kept_where_it_is_wanted(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    cosim(project=write(PLAIN, tmp_path / "p"), out=tmp_path / "kept")
    assert (tmp_path / "kept" / "runs" / "run-random" / "weight8.txt").is_file()
    assert (tmp_path / "kept" / "vectors" / "random0" / "random" / "manifest.json").is_file()
