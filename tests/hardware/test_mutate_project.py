"""`mutate --project` and `synth --project`: somebody's design, judged by its own testbench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.calling import call, one_object, refuse
from projects.styles import STYLES, write
from systolith.hardware.project import project_start
from systolith.hardware.testbenches import trials_of
from systolith.projects.dut import Dut, dut_of
from systolith.projects.project import Project, read_project
from systolith.requests.verbs import CosimRequest
from systolith.rtl.simulators import Simulator

PARTED = """\
`include "sizes.vh"
module pe #(parameter N = 4, parameter real SCALE = 0.5) (
    input [N*`LANE-1:0] a, input [N*`LANE-1:0] b, output [15:0] p);
  dot #(.N(N)) inner (.a(a), .b(b), .p(p));
endmodule
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A testbench whose core is a dot product: `p = p + $signed({1'b0, a}) * $signed(b)`, summed from 0."""
    return write(STYLES["course"], tmp_path / "a course").parent


def test_the_design_is_all_that_is_not_the_testbench(course: Path, tmp_path: Path) -> None:
    def dut(place: Path) -> tuple[Project, Dut]:
        project = read_project(place)
        trial = next(
            trials_of(project, CosimRequest(project=place), tmp_path / f"vectors {len(list(tmp_path.iterdir()))}")
        )
        return project, dut_of(project, trial.result.mapping)

    project, found = dut(course)
    assert found.sources == ("rtl/dot.v",)
    assert found.only(project) == ("dot", {"N": 4, "AB": 4, "WB": 4, "PB": 16})
    (course / "rtl" / "sizes.vh").write_text("`define LANE 4\n")
    (course / "rtl" / "pe.v").write_text(PARTED)
    bench = (course / "tb.v").read_text()
    assert "dot #(.N(R)) core" in bench
    (course / "tb.v").write_text(bench.replace("dot #(.N(R)) core", "pe #(.N(R)) core"))
    entry = (course / "core.toml").read_text()
    assert "rtl/dot.v" in entry
    (course / "core.toml").write_text(
        entry.replace("rtl/dot.v", "rtl/*.v").replace("[rtl]", '[rtl]\ninclude = ["rtl"]')
    )
    project, found = dut(course)
    assert set(found.sources) == {"rtl/dot.v", "rtl/pe.v"}
    assert found.tops == (("pe", {"N": 4}),)
    assert found.text == ("SCALE",)
    _, ours = dut(_started(tmp_path))
    assert len(ours.sources) == 14
    ((top, sizes),) = ours.tops
    assert top == "core"
    assert sizes["ROWS"] == sizes["COLS"] == 8
    assert "IDLE" not in sizes  # a localparam


def _started(tmp_path: Path) -> Path:
    project_start(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.slow
def test_a_testbench_judges_the_mutants_of_its_design(course: Path, icarus: Simulator) -> None:
    result = call("mutate", "--project", course, "--limit", "14", "--json")
    value = json.loads(result.stdout)
    assert result.returncode == (1 if value["survivors"] else 0)
    assert list(value["modules"]) == ["rtl/dot.v"]
    counts = value["modules"]["rtl/dot.v"]
    assert counts["killed"] > 7
    assert counts["mutants"] == sum(counts.values()) - counts["mutants"]
    # The default of N, which the testbench gives.
    assert "4 -> 3" in {place["change"] for place in value["equivalents"]}
    # A sum of four products of 4 bits needs 10 of the 16 bits; the simulator extends the sign of a port.
    assert {place["change"] for place in value["survivors"]} <= {"PB-1 -> (PB-1) - 1"}
    assert not list(course.glob("**/*.jsonl"))


@pytest.mark.slow
def test_what_would_reveal_a_survivor_is_named(course: Path, icarus: Simulator, tmp_path: Path) -> None:
    """All activations 0: nothing that the core does with them shows, but a random layer would show it."""
    entry = course / "core.toml"
    assert "[vectors]\n" in entry.read_text()
    given = ("mutate", "--project", course, "--stimulus", "all-zero", "--limit", "9", "--out", tmp_path / "out")
    result = call(*given)
    assert result.returncode == 1
    survived = [line for line in result.stdout.splitlines() if line.startswith("survived")]
    assert any("operator: + -> -" in line and line.endswith(" reveals it") for line in survived), result.stdout
    assert call(*given).stdout.splitlines()[:-2] == result.stdout.splitlines()[:-2]  # resumed: the same


def test_synth_finds_the_design_and_its_parameters(course: Path, tmp_path: Path) -> None:
    other = write(STYLES["seed"], tmp_path / "another")
    value = one_object(call("synth", "--project", course, "--project", other, "--target", "ice40", "--json"))
    toy, same = value["rows"]
    assert toy["design"] == "a course: dot"
    assert toy["parameters"] == {"N": 4, "AB": 4, "WB": 4, "PB": 16}
    assert toy["luts"] > 0 == toy["ffs"]
    assert same["design"] == "another: dot"
    assert same["cells"] == toy["cells"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("mutate", "--project", "{}", "--core", "x"), "--project brings its own design"),
        (("mutate", "--project", "{}", "--modules", "tb"), "no module 'tb'"),
        (("mutate", "--project", "nowhere.toml"), "nowhere.toml: no such project file"),
        (("mutate", "--stimulus", "random"), "--stimulus"),
        (("synth", "--project", "{}", "--sizes", "8x8"), "--sizes"),
        (("synth", "--project", "{}", "--top", "dot"), "--project names its own design"),
    ],
)
def test_refusals_of_projects(given: tuple[str, ...], said: str, course: Path) -> None:
    refuse(call(*(text.format(course) for text in given)), said)


def test_a_design_that_does_not_pass_has_no_mutants(course: Path, icarus: Simulator) -> None:
    core = course / "rtl" / "dot.v"
    core.write_text(core.read_text().replace("p = p +", "p = p -"))
    refuse(call("mutate", "--project", course), "does not pass without any change", "cosim --project")


def test_a_design_in_the_testbenchs_own_file(course: Path, icarus: Simulator) -> None:
    core, bench = course / "rtl" / "dot.v", course / "tb.v"
    bench.write_text(core.read_text() + bench.read_text())
    core.write_text("")
    refuse(call("mutate", "--project", course), "expected a design in files of its own")
