"""`systolith explore`, as a user types it. None of it needs torch."""

from __future__ import annotations

import csv
from pathlib import Path

from cli.calling import NO_TORCH, call, one_object, refuse


def test_a_space_from_a_file(tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text('[axes]\nmodel = ["resnet18"]\narray = ["4x4", "8x8", "4x8"]\n')
    out = tmp_path / "out"
    result = call("explore", space, "--out", out, code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "model   resnet18: 19 layers, 1,814,073,344 multiply-accumulates"
    assert lines[-1].startswith("verdict ")
    assert lines[-1].endswith(f"on the front of clocks_per_picture and energy_high_pj_per_picture; tables in {out}")
    assert lines[2].startswith("area    an estimate: ")
    assert lines[4].split()[:2] == ["8", "8"]
    assert "systolith: 3 points" in result.stderr
    with (out / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rows"], row["cols"]) for row in rows] == [("4", "4"), ("8", "8"), ("4", "8")]
    assert len((out / "layers.csv").read_text().splitlines()) == 1 + 3 * 19
    facts = one_object(call("explore", space, "--out", out, "--json"))
    assert (facts["points"], facts["computed"], facts["models"]["resnet18"]["zero_products"]) == (3, 0, None)
    front = [row["clocks"] for row in facts["top"] if row["pareto"]]
    assert front == sorted(front)


def test_axes_on_the_command_line(tmp_path: Path) -> None:
    axes = ("--axis", "rows=2..8..3", "--axis", "cols=4", "--axis", "schedule=os,double", "--axis", "psum_bits=auto,20")
    facts = one_object(call("explore", *axes, "--points", 7, "--seed", 1, "--out", tmp_path / "out", "--json"))
    assert facts["points"] == 7  # of 3 * 2 * 2
    assert {row["rows"] for row in facts["top"]} <= {2, 5, 8}
    assert 0 < facts["models"]["vgg16-w4a4-s8"]["zero_products"] < 1


def test_what_is_refused(tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text("[axes]\nrows = [4]\n")
    for args, said in (
        ((space, "--array", "4x4"), "says what is explored: it goes without --array"),
        (("--axis", "rows"), "--axis 'rows': expected NAME=VALUES"),
        (("--axis", "rows=4", "--axis", "rows=8"), "each name once"),
        (("--axis", "rows=four"), "rows 'four': expected 1 to 1,024"),
        (("--energy", space), "dram: expected [least, most] in pJ"),
        (("--model", "none.csv"), "none.csv"),
    ):
        refuse(call("explore", *args, "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()
