"""`systolith synth`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.calling import call, one_object, refuse
from synthesis.small import LIBRARY, SMALL


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small.sv").write_text(SMALL)
    return tmp_path / "small.sv"


def test_our_core_of_two_sizes_side_by_side() -> None:
    value = one_object(call("synth", "--sizes", "1x1,1x2", "--json", "--frequency", "100"))
    one, two = value["rows"]
    assert [row["parameters"]["COLS"] for row in value["rows"]] == [1, 2]
    assert one["parameters"]["PSUM_BITS"] == 16
    assert (one["operations"], two["operations"]) == (2, 4)
    # A column more is a multiplier of the array, and those of (M, B, S) more.
    assert 0 < one["dsps"] < two["dsps"]
    assert 0 < one["luts"] < two["luts"]
    assert one["luts"] == one["cells"]["LUT4"]
    assert one["tops"] == 2 * 100e6 / 1e12
    # 1x1 makes every product in a clock of its own: utilisation is what the weight beats leave.
    assert one["clocks"] > two["clocks"]
    assert one["pictures_per_s"] == 100e6 / one["clocks"]
    assert 0.5 < one["utilisation"] < 1
    assert value["tool"].startswith("Yosys ")
    assert "estimate" in value["verdict"]


def test_a_design_of_the_users_in_several_targets(small: Path) -> None:
    given = ("synth", "--sources", small, "--top", "small", "--parameter", "W=6", "--operations", "2")
    lines = call(*given, "--target", "generic,ecp5,ice40", "--frequency", "50").stdout.splitlines()
    assert lines[0].split("  ")[0] == "design"
    assert lines[0].split()[1:] == ["target", "gates", "LUTs", "FFs", "DSPs", "RAMs", "ops", "a", "clock", "TOPS"]
    rows = [line.split() for line in lines[1:4]]
    assert [row[1] for row in rows] == ["generic", "ecp5", "ice40"]
    assert rows[0][2:] == ["12", "12", "2", "0.0001"]
    assert rows[1][2:] == ["12", "12", "0", "0", "2", "0.0001"]
    assert lines[-1].startswith("verdict ")


def test_area_and_power_of_a_library(small: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.lib").write_text(LIBRARY)
    given = ("synth", "--sources", small, "--top", "small", "--parameter", "W=2", "--liberty", tmp_path / "tiny.lib")
    (row,) = one_object(
        call(*given, "--operations", "4", "--frequency", "250", "--power", "2", "--area", "0.5", "--json")
    )["rows"]
    assert row["target"] == "liberty"
    assert row["cells"]["DFF"] == 4
    areas = {"BUF": 2, "INV": 1, "NAND": 2, "NOR": 2, "DFF": 6}
    assert row["area"] == sum(number * areas[name] for name, number in row["cells"].items())
    assert row["tops"] == pytest.approx(1e-3, abs=0)
    assert row["tops_per_w"] == row["tops"] / 2e-3
    assert row["tops_per_mm2"] == row["tops"] / 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--target", "asic"), "--target asic: expected some of generic, ecp5"),
        (("--target", "liberty"), "or --liberty FILE"),
        (("--liberty", "none.lib"), "--liberty none.lib: no such file"),
        (("--sizes", "8by8"), "8by8"),
        (("--bits", "4,9"), "--bits '9': expected widths of 1 to 8"),
        (("--top", "m"), "our core (no --sources) goes without --top"),
        (("--sources", "none.sv"), "expected --top with it"),
        (("--sources", "none.sv", "--top", "m"), "--sources none.sv: no such file"),
        (("--sources", "none.sv", "--top", "m", "--sizes", "8x8"), "goes without --sizes"),
        (("--frequency", "0"), "--frequency 0: expected more than 0"),
        (("--power", "3"), "without --frequency it goes without --power"),
        (("--frequency", "1", "--area", "3", "--bits", "2,4"), "expected one size, width and target"),
        (("--jobs", "0"), "--jobs 0: expected at least 1"),
    ],
)
def test_refusals_of_synth(given: tuple[str, ...], said: str, tmp_path: Path) -> None:
    refuse(call("synth", *given, cwd=tmp_path), said)


def test_refusals_of_a_design(small: Path) -> None:
    given = ("synth", "--sources", small, "--top")
    refuse(call(*given, "small", "--parameter", "W"), "--parameter 'W': expected NAME=VALUE, a whole number")
    refuse(call(*given, "large"), "Yosys: Module `large' not found!")
    small.write_text("module small;\n  assign y = ;\nendmodule")
    refuse(call(*given, "small"), "small.sv:2: syntax error")


def test_without_yosys() -> None:
    code = (
        "import importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'pyosys' else f(n, *a)\n"
        "from systolith.cli.main import main; main()"
    )
    refuse(call("synth", code=code), "`synth` needs pyosys", "pip install 'systolith[synth]'")
