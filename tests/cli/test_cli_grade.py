"""`systolith grade`, as a user types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cli.calling import NO_TORCH, call, one_object, refuse

SMALL = ("--array", "4x4", "--input", "3x3", "--channels", "4x4")


def grade(*args: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    return call("grade", *args, code=code)


def write(stimulus: str, out: Path, *args: object) -> Path:
    result = call("vectors", "--stimulus", stimulus, *(args or SMALL), "--out", out, code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("corner", tmp_path_factory.mktemp("grade") / "corner")


def test_the_corner_set_reveals_all(corner: Path) -> None:
    result = grade(corner, code=NO_TORCH)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["fault", "faults", "detected", "undetectable", "survived", "unknown"]
    assert lines[-1].startswith("verdict ")
    assert "detectable faults (" in lines[-1]
    assert lines[-1].endswith(" undetectable, 0 unknown)")
    assert len(lines[-1]) < 200
    assert not any(line.startswith(("survived", "unknown")) for line in lines)
    value = one_object(grade(corner, "--json"))
    assert value["holds"] is True
    assert value["detected"] + len(value["undetectable"]) == value["faults"] >= 200
    assert value["survivors"] == {}
    assert value["unknown"] == []
    assert value["count"] == len(list(corner.iterdir()))
    assert sum(kind["detected"] for kind in value["kinds"].values()) == value["detected"]


def test_one_bundle_lets_faults_through_and_they_are_listed(corner: Path) -> None:
    result = grade(corner / "sparse")
    assert result.returncode == 1, result.stderr
    survived = [line for line in result.stdout.splitlines() if line.startswith("survived")]
    assert any(" like it elsewhere" in line for line in survived)
    assert all("; --stimulus " in line and " reveals it" in line for line in survived)
    again = grade(corner / "sparse", "--json")
    assert again.returncode == 1
    value = json.loads(again.stdout)
    assert value["holds"] is False
    assert len(value["survivors"]) >= len(survived)
    assert all(by.startswith("--stimulus ") for by in value["survivors"].values())


def test_faults_can_be_drawn(corner: Path) -> None:
    values = [one_object(grade(corner, "--json", "--faults", 300, "--seed", seed)) for seed in (1, 1, 2)]
    assert values[0] == values[1]
    assert values[0]["faults"] <= 300
    assert set(values[0]["kinds"]) == set(values[2]["kinds"])
    assert values[0]["undetectable"] != values[2]["undetectable"]


def test_what_is_refused(corner: Path, tmp_path: Path) -> None:
    refuse(grade(tmp_path), "expected a bundle or a folder of bundles, found no manifest.json")
    refuse(grade(tmp_path / "none"), "found no manifest.json")
    refuse(grade(corner, "--faults", 3), "3 faults: expected at least")
    refuse(grade(corner, "--seed", -1), "seed -1: expected 0 or more")
    mixed = write("repeated", tmp_path / "mixed")
    write("ramp", tmp_path / "mixed" / "more", "--array", "4x4", "--input", "3x3", "--channels", "4x5")
    (mixed / "more" / "ramp").rename(mixed / "ramp")
    refuse(grade(mixed), "repeated and ramp are of different layers or arrays: grade those of one together")
    other = write("all-max", tmp_path / "layouts")
    write("ramp", tmp_path / "seed", *SMALL, "--layout", "seed")
    (tmp_path / "seed" / "ramp").rename(other / "ramp")
    refuse(grade(other), "are in different layouts")


def test_golden_files_that_are_wrong_are_not_graded(tmp_path: Path) -> None:
    folder = write("ramp", tmp_path / "d") / "ramp"
    with np.load(folder / "tensors.npz") as file:
        tensors = {name: file[name] for name in file.files}
    tensors["psum"][0, 0, 0, 7, 1] += 1
    np.savez(folder / "tensors.npz", **tensors)
    refuse(grade(folder), "ramp: its psums and outputs are not those of its activations and weights")


@pytest.mark.parametrize(
    ("cut", "options", "kind"),
    [
        ((), ("--double",), "shadow weight"),
        (("--schedule", "packed"), (), "place of a row"),
        (("--schedule", "packed-double", "--batch", "2"), ("--double",), "shadow weight"),
        (("--schedule", "os", "--layout", "course-os", "--input", "5x4"), (), "drain register bit"),
        (("--simd", "2"), (), "code of a lane"),
    ],
    ids=("double", "packed", "packed-double", "os", "simd"),
)
def test_the_corner_set_reveals_all_in_every_schedule(
    cut: tuple[str, ...], options: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    value = one_object(grade(write("corner", tmp_path / "c", *SMALL, *cut), *options, "--json"))
    assert value["holds"] is True
    assert (value["survivors"], value["unknown"]) == ({}, [])
    assert any(name.startswith(kind) and found["detected"] for name, found in value["kinds"].items()), value["kinds"]


def test_stationary_outputs_have_no_shadow(tmp_path: Path) -> None:
    folder = write("random", tmp_path / "o", *SMALL, "--schedule", "os", "--layout", "course-os")
    refuse(grade(folder, "--double"), "double")
