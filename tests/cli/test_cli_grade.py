"""`grade`, as a user types it."""

from __future__ import annotations

import re
from pathlib import Path

from cli.test_cli import NO_TORCH, call, one_object, refuse

SQUEEZED = ("--array", "8x8", "--input", "4x4", "--channels", "8x8")


def write(out: Path, *options: object) -> None:
    result = call("vectors", *options, "--out", out, code=NO_TORCH)
    assert result.returncode == 0, result.stderr


def test_the_corner_set_reveals_every_detectable_fault_of_an_8x8_array(tmp_path: Path) -> None:
    write(tmp_path / "corner", "--stimulus", "corner", *SQUEEZED)
    result = call("grade", tmp_path / "corner", code=NO_TORCH)
    assert result.returncode == 0, result.stdout
    last = result.stdout.splitlines()[-1]
    match = re.search(r"reveals ([\d,]+) of ([\d,]+) detectable faults \((\d+) undetectable, 0 unknown\)$", last)
    assert match
    assert match[1] == match[2]
    assert int(match[1].replace(",", "")) >= 200


def test_one_picture_lets_faults_slip_and_says_which_and_what_would_reveal_them(tmp_path: Path) -> None:
    write(tmp_path / "one")
    result = call("grade", tmp_path / "one", code=NO_TORCH)
    assert result.returncode == 1
    survived = [line for line in result.stdout.splitlines() if line.startswith("survived")]
    assert survived
    assert all("--stimulus" in line and "reveals it" in line for line in survived)
    assert len(result.stdout.splitlines()[-1]) < 200


def test_json_says_the_same(tmp_path: Path) -> None:
    write(tmp_path / "ramp", "--stimulus", "ramp", "--array", "2x2", "--input", "3x3", "--channels", "2x2")
    plain = call("grade", tmp_path / "ramp" / "ramp", code=NO_TORCH)
    found = call("grade", tmp_path / "ramp" / "ramp", "--json", code=NO_TORCH)
    assert plain.returncode == found.returncode == 1
    found.returncode = 0
    assert one_object(found)


def test_bundles_of_two_geometries_are_refused(tmp_path: Path) -> None:
    for size in ("3x3", "4x4"):
        write(tmp_path / "d" / size, "--stimulus", "ramp", "--array", "2x2", "--input", size, "--channels", "2x2")
    (tmp_path / "d" / "a").mkdir()
    for size in ("3x3", "4x4"):
        (tmp_path / "d" / size / "ramp").rename(tmp_path / "d" / "a" / size)
    refuse(call("grade", tmp_path / "d" / "a", code=NO_TORCH), "4x4 and 3x3 are of different layers")
    refuse(call("grade", tmp_path / "nothing", code=NO_TORCH), "nothing")
