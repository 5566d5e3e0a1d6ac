from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import INT4, UINT4, layers
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.vectors import bundle, find_layout, read_bundle, verify_bundle, write_bundle
from systolith.vectors.layout import FileSpec, Layout


def result(seed: int = 0, channels: int = 8) -> ArrayResult:
    rng = np.random.default_rng(seed)
    conv = Conv("layer", rng.integers(-7, 8, (8, channels, 3, 3)), UINT4, INT4, padding=(1, 1))
    return run_layer(conv, rng.integers(0, 16, (channels, 4, 4)), ArraySpec())


def test_tensors_are_as_documented(tmp_path: Path) -> None:
    r = result()
    write_bundle(r, tmp_path / "b")
    with np.load(tmp_path / "b" / "tensors.npz") as t:
        assert {n: t[n].shape for n in t.files} == {
            "act": (8, 4, 4),
            "weight": (8, 8, 3, 3),
            "psum": (1, 1, 9, 36, 8),
            "out": (8, 4, 4),
            **dict.fromkeys(("rows", "cols", "act_bits", "weight_bits", "psum_bits", "groups"), ()),
            **dict.fromkeys(("padding", "stride", "dilation"), (2,)),
        }
        assert all(np.issubdtype(t[n].dtype, np.integer) for n in t.files)
        assert (t["out"] == r.out).all()
        assert t["out"].min() < 0  # before ReLU


def grouped() -> ArrayResult:
    """Two groups of 6 -> 5 channels on 4x4: output tiles 0-3, 4-7, 8-9 read input channels 0-5, 0-11, 6-11."""
    rng = np.random.default_rng(5)
    conv = Conv("layer", rng.integers(-7, 8, (10, 6, 1, 2)), UINT4, INT4, padding=(0, 1, 2, 0), groups=2)
    return run_layer(conv, rng.integers(0, 16, (12, 3, 3)), ArraySpec(4, 4))


MADE = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2)]
"""Input and output tiles."""


def test_a_grouped_bundle_has_files_of_the_passes_that_are_made(tmp_path: Path) -> None:
    r = grouped()
    written = write_bundle(r, tmp_path / "b")
    for kind in ("weight", "psum"):
        names = {f"{kind}_itile{i}_otile{o}_kij{k}.txt" for i, o in MADE for k in (0, 1)}
        assert {path.name for path in (tmp_path / "b").glob(f"{kind}_*")} == names
    # 4 x 5 positions of 3 input tiles, 14 passes of 4 weights and 20 psums, 4 x 4 outputs of 3 output tiles.
    assert written.words == 3 * 20 + 14 * (4 + 20) + 3 * 16
    with np.load(tmp_path / "b" / "tensors.npz") as t:
        assert (t["weight"].shape, int(t["groups"]), t["padding"].tolist()) == ((10, 6, 1, 2), 2, [0, 1, 2, 0])
        assert t["psum"].shape == (3, 3, 2, 20, 4)
        assert not t["psum"][[0, 2], [2, 0]].any()
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert (manifest["layer"]["in_channels"], manifest["layer"]["groups"]) == (12, 2)
    assert (manifest["layer"]["padding"], manifest["array"]["passes"]) == ([0, 1, 2, 0], 14)
    again, _ = read_bundle(tmp_path / "b")
    assert (again.mapping.conv.groups, again.mapping.conv.pads) == (2, (0, 1, 2, 0))
    assert all(e.holds for e in verify_bundle(tmp_path / "b"))


def test_lines_of_passes_that_are_not_made_are_in_no_file(tmp_path: Path) -> None:
    files = (
        FileSpec("act", "act.txt", ("itile", "nij"), ("row",)),
        FileSpec("weight", "weight.txt", ("otile", "kij", "itile", "col"), ("row",)),
        FileSpec("psum", "psum_{otile}.txt", ("kij", "itile", "nij"), ("col",)),
        # A word of all input tiles side by side has zeros where no pass is made.
        FileSpec("weight", "wide.txt", ("otile", "kij", "col"), ("itile", "row")),
    )
    r = grouped()
    write_bundle(r, tmp_path / "b", Layout("mine", files))
    found = [(tmp_path / "b" / "weight.txt").read_text().split(), r.mapping.weight_tiles()]
    order = sorted((o, k, i) for i, o in MADE for k in (0, 1))
    words = [found[1][i, o, k, col] for o, k, i in order for col in range(4)]
    assert found[0] == ["".join(f"{int(code) & 15:04b}" for code in word[::-1]) for word in words]
    counts = [len((tmp_path / "b" / f"psum_{o}.txt").read_text().split()) for o in range(3)]
    assert counts == [2 * 2 * 20, 2 * 3 * 20, 2 * 2 * 20]
    wide = (tmp_path / "b" / "wide.txt").read_text().split()
    assert len(wide) == 3 * 2 * 4
    assert {word[:16] for word in wide[:8]} == {"0" * 16}  # of output tile 0, the lanes of input tile 2
    assert all(e.holds for e in verify_bundle(tmp_path / "b"))


def test_a_bundle_from_before_there_were_groups_reads_as_one(tmp_path: Path) -> None:
    write_bundle(result(), tmp_path / "b")
    with np.load(tmp_path / "b" / "tensors.npz") as t:
        arrays = {name: t[name] for name in t.files if name != "groups"}
    np.savez(tmp_path / "b" / "tensors.npz", **arrays)  # type: ignore[arg-type]
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    del manifest["layer"]["groups"]
    manifest["sha256"]["tensors.npz"] = hashlib.sha256((tmp_path / "b" / "tensors.npz").read_bytes()).hexdigest()
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    assert read_bundle(tmp_path / "b")[0].mapping.conv.groups == 1
    assert all(e.holds for e in verify_bundle(tmp_path / "b"))


def test_the_manifest_has_a_hash_of_every_file(tmp_path: Path) -> None:
    written = write_bundle(result(), tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    files = {p.name for p in (tmp_path / "b").iterdir()}
    assert set(manifest["sha256"]) == files - {"manifest.json"}
    for name, expected in manifest["sha256"].items():
        assert hashlib.sha256((tmp_path / "b" / name).read_bytes()).hexdigest() == expected
    assert written.files == len(files) == 22
    assert written.words == 36 + 9 * 8 + 9 * 36 + 16
    assert written.bytes == sum(p.stat().st_size for p in (tmp_path / "b").iterdir())
    assert manifest["layout"]["name"] == "course"
    assert manifest["orders"]["weight"] == {"files": ["itile", "otile", "kij"], "lines": ["col"], "lanes": ["row"]}
    assert manifest["formats"] == {"act": "uint4", "weight": "int4", "psum": "int16", "out": "int16"}


@pytest.mark.parametrize(("layout", "weight_lines"), [("course", 8), ("seed", 5)])
def test_sizes_of_the_words(tmp_path: Path, layout: str, weight_lines: int) -> None:
    rng = np.random.default_rng(0)
    conv = Conv("layer", rng.integers(-7, 8, (8, 5, 3, 3)), UINT4, INT4, padding=(1, 1))
    small = run_layer(conv, rng.integers(0, 16, (5, 4, 4)), ArraySpec(rows=5))
    write_bundle(small, tmp_path / "b", layout)
    for path in (tmp_path / "b").glob("*.txt"):
        lines = path.read_text().split("\n")
        assert lines.pop() == ""
        assert all(line.startswith("#") and " " not in line for line in lines[:3])
        lanes = {"a": 5 * 4, "w": {"course": 5 * 4, "seed": 8 * 4}[layout]}
        assert {len(line) for line in lines[3:]} == {lanes.get(path.name[0], 8 * 16)}
        if path.name.startswith("weight"):
            assert len(lines) - 3 == weight_lines
    if layout == "seed":
        assert len((tmp_path / "b" / "psum.txt").read_text().split()) - 3 == 9 * 36


def test_the_seed_bundle_of_the_squeezed_shape(tmp_path: Path) -> None:
    write_bundle(result(), tmp_path / "b", "seed")
    shapes = {}
    for path in (tmp_path / "b").glob("*.txt"):
        words = path.read_text().split()[3:]
        shapes[path.name] = (len(words), len(words[0]))
    weights = {f"weight_{kij}.txt": (8, 32) for kij in range(9)}
    assert shapes == {"activation.txt": (36, 32), "psum.txt": (9 * 36, 128), "output.txt": (16, 128), **weights}
    # The header of the weights says col0row7, although the lanes are columns.
    assert (tmp_path / "b" / "weight_0.txt").read_text().startswith("#col0row7[msb-lsb],col0row6")
    orders = json.loads((tmp_path / "b" / "manifest.json").read_text())["orders"]
    assert orders["weight"] == {"files": ["kij"], "lines": ["row"], "lanes": ["col"]}
    assert orders["psum"]["first"] == {"nij": 64}


def test_a_layout_of_your_own_travels_in_the_manifest(tmp_path: Path) -> None:
    mine = Layout("mine", (FileSpec("act", "a.txt", ("nij",), ("row",)), *find_layout("course").files[1:]))
    write_bundle(result(), tmp_path / "b", mine)
    assert (tmp_path / "b" / "a.txt").read_text()[0] in "01"
    assert all(e.holds for e in verify_bundle(tmp_path / "b"))


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_bundle(result(), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@given(layers(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from(["wrap", "saturate"]))
def test_what_is_written_can_be_read_and_holds(
    case: tuple[Conv, np.ndarray], size: tuple[int, int], overflow: str
) -> None:
    r = run_layer(case[0], case[1], ArraySpec(*size, psum_bits=12, overflow=overflow))
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(r, Path(folder) / "b")
        equalities = verify_bundle(Path(folder) / "b")
        again, _ = read_bundle(Path(folder) / "b")
    assert all(e.holds for e in equalities)
    assert [e.compared for e in equalities[:2]] == [r.psum.size, r.out.size]
    assert (again.act == r.act).all()
    assert (again.mapping.conv.weight == r.mapping.conv.weight).all()


def test_a_changed_word_is_found(tmp_path: Path) -> None:
    write_bundle(result(), tmp_path / "b")
    path = tmp_path / "b" / "psum_itile0_otile0_kij3.txt"
    lines = path.read_text().split("\n")
    lines[3 + 10] = lines[3 + 10][:-1] + ("1" if lines[3 + 10][-1] == "0" else "0")
    path.write_text("\n".join(lines))
    words = verify_bundle(tmp_path / "b")[2]
    assert (words.compared, words.different) == (8 * (36 + 9 * 8 + 9 * 36 + 16), 1)
    assert words.first.startswith("psum_itile0_otile0_kij3.txt [line 10, lane 0] expected")


def test_changed_tensors_are_found(tmp_path: Path) -> None:
    r = result()
    r.psum[0, 0, 4, 7, 2] += 1
    write_bundle(r, tmp_path / "b")
    psums = verify_bundle(tmp_path / "b")[0]
    assert psums.different == 1
    assert psums.first.startswith("[ic_tile 0, oc_tile 0, kij 4, nij 7, col 2] expected")


def test_damaged_bundles(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a readable bundle"):
        verify_bundle(tmp_path)
    b = tmp_path / "b"
    write_bundle(result(), b)
    whole = (b / "tensors.npz").read_bytes()
    for length in (2, 100, len(whole) // 2, len(whole) - 10):
        (b / "tensors.npz").write_bytes(whole[:length])
        with pytest.raises(BadInput, match="not a readable bundle"):
            verify_bundle(b)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (b / "tensors.npz").write_bytes(flipped)
    with pytest.raises(BadInput, match="not a readable bundle"):
        verify_bundle(b)
    (b / "tensors.npz").write_bytes(whole)
    with np.load(b / "tensors.npz") as t:
        floats = {n: t[n] for n in t.files} | {"psum": t["psum"].astype(float)}
    np.savez(b / "tensors.npz", **floats)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="psum: expected integers, found dtype float64"):
        verify_bundle(b)
    (b / "tensors.npz").write_bytes(whole)
    header = (b / "out.txt").read_text()
    (b / "out.txt").write_text(header.replace("#....", "# garbage ....", 1))
    with pytest.raises(BadInput, match=r"out.txt: line 3: expected a header without white space"):
        verify_bundle(b)
    (b / "out.txt").unlink()
    with pytest.raises(BadInput, match=r"out.txt: cannot be read"):
        verify_bundle(b)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("sha256", lambda m: m["sha256"].update({"out.txt": "0" * 64})),
        ("sha256", lambda m: m["sha256"].update({"more.txt": "0" * 64})),
        ("array", lambda m: m["array"].update({"passes": 10})),
        ("layer", lambda m: m["layer"].update({"kernel": [5, 5]})),
        ("formats", lambda m: m["formats"].update({"psum": "int20"})),
    ],
)
def test_a_manifest_that_says_otherwise_is_found(tmp_path: Path, key: str, change: Callable[[Any], None]) -> None:
    write_bundle(result(), tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    outcome = verify_bundle(tmp_path / "b")[3]
    assert not outcome.holds
    assert key in outcome.first
    manifest["formats"]["act"] = 4
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match="not a readable bundle"):
        verify_bundle(tmp_path / "b")


def test_a_value_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    r = result()
    r.psum[0, 0, 8, 35, 7] = 40000
    with pytest.raises(BadInput, match=r"psum_itile0_otile0_kij8.txt\[line 35, lane 7\] is 40000, outside"):
        write_bundle(r, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(result(), tmp_path / "b")
    before = {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "ZipFile", full)  # by then the text files are written
    for target, force in (("new", False), ("b", True)):
        with pytest.raises(BadInput, match="No space left on device"):
            write_bundle(result(1), tmp_path / target, force=force)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()} == before


def test_the_folder_is_readable_by_others(tmp_path: Path) -> None:
    os.umask(0o022)
    write_bundle(result(), tmp_path / "b")
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o755
    shutil.rmtree(tmp_path / "b")
