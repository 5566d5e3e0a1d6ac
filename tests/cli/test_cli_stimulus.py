"""`vectors --stimulus`, as a user types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cli.calling import NO_TORCH, call, one_object, refuse
from systolith import verify_bundle

SQUEEZED = ("--array", "8x8", "--input", "4x4", "--channels", "8x8")
CORNER = {
    *(
        "all-zero",
        "all-max",
        "all-min",
        "alternating",
        "checkerboard",
        "one-hot",
        "walk-0",
        "walk-1",
        "walk-2",
        "walk-3",
    ),
    *("cancel", "stairs-max", "stairs-min", "out-plus-one", "out-minus-one", "acc-dip"),
    *("worst-max", "worst-min", "sparse", "repeated", "ramp"),
}
EXTREMES = {f"{what}-{name}" for what in ("acc", "pass") for name in ("max", "min", "above-max", "below-min")}
TURN = "acc-turn"  # as far as the extremes, and back


def vectors(*args: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    return call("vectors", *args, code=code)


def folders(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()}


def tensors(path: Path) -> dict[str, np.ndarray]:
    with np.load(path / "tensors.npz") as t:
        return {name: t[name] for name in t.files}


def test_corner_writes_a_bundle_a_case_and_names_those_left_out(tmp_path: Path) -> None:
    result = vectors("--stimulus", "corner", *SQUEEZED, "--out", tmp_path / "d", code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    assert folders(tmp_path / "d") == CORNER
    assert all(e.holds for name in CORNER for e in verify_bundle(tmp_path / "d" / name))
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines[:-1]} == CORNER
    assert lines[-1].startswith(f"21 bundles in {tmp_path / 'd'}, cases left out: 9; 462 files")
    assert len(lines[-1]) < 200
    notes = result.stderr.splitlines()
    assert {note.split()[3].rstrip(":") for note in notes} == {*EXTREMES, TURN}
    assert "systolith: left out acc-max: 32767 is out of reach: 72 products reach 7560" in notes
    t = tensors(tmp_path / "d" / "all-max")
    assert (t["rows"], t["cols"], t["act_bits"], t["weight_bits"], t["psum_bits"]) == (8, 8, 4, 4, 16)
    assert (t["padding"].tolist(), t["stride"].tolist(), t["weight"].shape) == ([1, 1], [1, 1], (8, 8, 3, 3))
    assert t["out"].max() == 72 * 105


def test_extremes_and_one_beyond_where_the_geometry_reaches_them(tmp_path: Path) -> None:
    args = ("--stimulus", "corner", "--input", "4x4", "--channels", "64x8", "--most-negative")
    value = one_object(vectors(*args, "--overflow", "wrap", "--out", tmp_path / "w", "--json"))
    assert {case["name"] for case in value["cases"]} == folders(tmp_path / "w")
    left = {left["name"] for left in value["left_out"]}
    assert left == {TURN, *(name for name in EXTREMES if name.startswith("pass"))}
    out = {name: tensors(tmp_path / "w" / name)["out"] for name in sorted(EXTREMES) if name.startswith("acc")}
    assert out["acc-max"].max() == out["acc-below-min"].max() == 32767
    assert out["acc-min"].min() == out["acc-above-max"].min() == -32768
    assert tensors(tmp_path / "w" / "all-min")["weight"].min() == -8
    # What would overflow is left out, and the others are the same.
    strict = one_object(vectors(*args, "--out", tmp_path / "e", "--json"))
    reasons = {case["name"]: case["reason"] for case in strict["left_out"]}
    assert reasons["acc-above-max"] == "32768 does not fit 16 bits; --overflow wrap or saturate takes it"
    assert (
        "outside the range -32768..32767 of 16 signed bits; --overflow wrap or saturate takes it" in reasons["all-max"]
    )
    assert tensors(tmp_path / "e" / "acc-max")["out"].max() == 32767
    auto = one_object(vectors(*args, "--psum-bits", "auto", "--out", tmp_path / "a", "--json"))
    assert auto["psum_bits"] == 18  # 64*9*15*8 = 69,120
    assert {left["name"] for left in auto["left_out"]} == {*EXTREMES, TURN}


def test_any_geometry_by_name_and_the_whole_value(tmp_path: Path) -> None:
    args = ("--array", "4x16", "--input", "5x7", "--channels", "6x20", "--kernel", "3x2", "--stride", "2x1")
    more = ("--padding", "0x1", "--dilation", 2, "--act-bits", 3, "--weight-bits", 2, "--signed-act", "--seed", 9)
    value = one_object(vectors("--stimulus", "random", *args, *more, "--out", tmp_path / "d", "--json"))
    assert {key: value[key] for key in ("folder", "stimulus", "seed", "layout", "psum_bits", "left_out")} == {
        "folder": str(tmp_path / "d"),
        "stimulus": "random",
        "seed": 9,
        "layout": "course",
        "psum_bits": 16,
        "left_out": [],
    }
    (case,) = value["cases"]
    assert (case["name"], case["folder"]) == ("random", str(tmp_path / "d" / "random"))
    assert (case["files"], case["words"], case["bytes"]) == (value["files"], value["words"], value["bytes"])
    assert case["bytes"] == sum(p.stat().st_size for p in (tmp_path / "d" / "random").iterdir())
    t = tensors(tmp_path / "d" / "random")
    assert (t["act"].shape, t["weight"].shape, t["out"].shape) == ((6, 5, 7), (20, 6, 3, 2), (20, 1, 7))
    assert (t["stride"].tolist(), t["padding"].tolist(), t["dilation"].tolist()) == ([2, 1], [0, 1], [2, 2])
    assert (t["act"].min(), t["act"].max(), t["weight"].min(), t["weight"].max()) == (-4, 3, -1, 1)
    manifest = json.loads((tmp_path / "d" / "random" / "manifest.json").read_text())
    assert manifest["formats"]["act"] == "int3"
    assert manifest["layer"]["name"] == "random"
    vectors("--stimulus", "random", *args, *more, "--out", tmp_path / "again")
    for path in (tmp_path / "d" / "random").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "random" / path.name).read_bytes()


def test_one_case_by_name_with_density_and_ranges(tmp_path: Path) -> None:
    ranges = ("--act-range", "0..3", "--weight-range", "-3..3")
    args = ("--stimulus", "sparse", *SQUEEZED, "--density", 0.5, *ranges, "--layout", "seed")
    assert vectors(*args, "--out", tmp_path / "d").returncode == 0
    assert folders(tmp_path / "d") == {"sparse"}
    t = tensors(tmp_path / "d" / "sparse")
    assert np.count_nonzero(t["act"]) == 64
    assert (t["act"].max(), t["weight"].min(), t["weight"].max()) == (3, -3, 3)
    assert (tmp_path / "d" / "sparse" / "weight_8.txt").exists()
    refuse(vectors(*args, "--out", tmp_path / "d"), "exists already; --force replaces it")
    (tmp_path / "d" / "mine").write_text("old")
    assert vectors("--stimulus", "walk", *SQUEEZED, "--out", tmp_path / "d", "--force").returncode == 0
    assert folders(tmp_path / "d") == {f"walk-{n}" for n in range(4)}


BAD = [
    (
        ("--stimulus", "corner", "--tensors", "my.npz", *SQUEEZED),
        "--stimulus makes its own layer: it goes without --tensors",
    ),
    (("--stimulus", "corner", "--model", "m", "--index", 1), "goes without --model, --index"),
    (("--stimulus", "corner"), "expected --channels INxOUT and --input HxW with it"),
    (("--stimulus", "corner", "--input", "4x4"), "expected --channels INxOUT with it"),
    (("--channels", "8x8", "--seed", 0), "no --stimulus given) goes without --channels, --seed"),
    (("--tensors", "my.npz", "--most-negative"), "goes without --most-negative"),
    (("--stimulus", "nonsense", *SQUEEZED), "no stimulus 'nonsense': expected one of corner, random"),
    (("--stimulus", "random", *SQUEEZED, "--channels", "8"), "--channels '8': expected INxOUT"),
    (("--stimulus", "random", *SQUEEZED, "--channels", "0x8"), "at least 1, found 0x8"),
    (("--stimulus", "random", *SQUEEZED, "--input", "4by4"), "--input '4by4': expected HxW"),
    (("--stimulus", "random", *SQUEEZED, "--kernel", "3x3x3"), "--kernel '3x3x3': expected a number or AxB"),
    (("--stimulus", "random", *SQUEEZED, "--kernel", "9"), "does not fit the padded map"),
    (("--stimulus", "random", *SQUEEZED, "--stride", "0"), "expected stride and dilation of 1"),
    (("--stimulus", "random", *SQUEEZED, "--act-range", "3"), "--act-range '3': expected LO..HI"),
    (("--stimulus", "random", *SQUEEZED, "--act-range", "0..16"), "activation range 0..16"),
    (("--stimulus", "random", *SQUEEZED, "--weight-range", "-3..3", "--most-negative"), "goes without --weight-range"),
    (("--stimulus", "random", *SQUEEZED, "--seed", "-1"), "seed -1"),
    (("--stimulus", "sparse", *SQUEEZED, "--density", "2"), "density 2: expected 0 to 1"),
    (("--stimulus", "random", *SQUEEZED, "--density", "0.5"), "--density is for --stimulus sparse"),
    (("--stimulus", "all-max", *SQUEEZED, "--psum-bits", "8"), "nothing to write: all-max: all-max psum of oc_tile 0"),
    (("--stimulus", "acc-max", *SQUEEZED), "nothing to write: acc-max: 32767 is out of reach"),
    (
        ("--stimulus", "corner", *SQUEEZED, "--channels", "9x8", "--layout", "seed"),
        "layout seed: act: holds one itile",
    ),
    (("--stimulus", "random", *SQUEEZED, "--channels", "99999x99999"), "expected at most 268,435,456"),
]


@pytest.mark.parametrize(("args", "part"), BAD, ids=[" ".join(map(str, args[-2:])) for args, _ in BAD])
def test_bad_combinations_are_one_sentence(tmp_path: Path, args: tuple[object, ...], part: str) -> None:
    refuse(vectors(*args, "--out", tmp_path / "d"), part)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    limited += "from systolith.cli.main import main; main()"
    args = ("vectors", "--stimulus", "corner", "--input", "30x30", "--channels", "3x3", "--out", tmp_path / "d")
    refuse(call(*args, code=limited), f"{tmp_path / 'd' / 'all-zero'}: cannot be written (File too large)")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_is_cut_for_a_schedule_codes_of_a_lane_and_a_batch(tmp_path: Path) -> None:
    shape = ("--stimulus", "random", "--channels", "6x5", "--input", "4x3", "--array", "4x4")
    vectors(*shape, "--schedule", "packed", "--batch", 2, "--simd", 2, "--out", tmp_path / "p", code=NO_TORCH)
    t = tensors(tmp_path / "p" / "random")
    # 3x3 kernel positions of 3 lanes of two codes: 27 lanes in 7 tiles of 4 rows; 2 pictures of 12 positions.
    assert (t["act"].shape, t["act"].max(), t["psum"].shape) == ((2, 6, 4, 3), 3, (7, 2, 1, 24, 4))
    assert (t["act"][1] == np.roll(t["act"][0], 1, (0, 1, 2))).all()
    vectors(*shape, "--schedule", "os", "--layout", "course-os", "--out", tmp_path / "o")
    assert (tmp_path / "o" / "random" / "activation_fold2.txt").exists()  # 12 positions in folds of 4
    for name in ("p", "o"):
        assert all(equality.holds for equality in verify_bundle(tmp_path / name / "random"))
        out = tmp_path / name / "random"
        assert call("check", out, "--against", out).returncode == 0


def test_a_cut_that_makes_no_sense_gets_one_sentence(tmp_path: Path) -> None:
    shape = ("--stimulus", "random", "--channels", "6x5", "--input", "4x3", "--out", tmp_path / "x")
    refuse(vectors(*shape, "--schedule", "os"), "output stationary it is act_os")
    refuse(vectors(*shape, "--schedule", "fast"), "expected useful, whole")
    refuse(vectors(*shape, "--batch", 0), "expected 1 to 1024 pictures")
    refuse(vectors(*shape, "--simd", 3), "simd 3: expected 1, 2, 4 or 8")
    data = "--index", "0-3", "--data", "x", "--out", tmp_path / "x"
    refuse(vectors("--batch", 2, *data), "expected one picture, the first")
    assert not (tmp_path / "x").exists()
