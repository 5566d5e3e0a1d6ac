"""A streamed bundle is the bundle written from memory, byte for byte, and takes what was predicted."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, Mapping, run_layer
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.network.reference import conv2d
from systolith.vectors import find_layout, read_bundle, verify_bundle, write_bundle
from systolith.vectors.layout import FileSpec, Layout, vector_files
from systolith.vectors.stream import Psums, first_tiles, predict, stream_bundle
from systolith.vectors.text import Style, encode_file, encoded_size
from vectors.test_read import layouts, results

FRAME = 13 * 512  # what the prediction allows tensors.npz for its frame: 13 members


def tiled(seed: int = 0, spec: ArraySpec | None = None) -> ArrayResult:
    """5 -> 6 channels on 2x4: 3 input and 2 output tiles, a 3x2 kernel, stride 2 down, padding 1 sideways."""
    rng = np.random.default_rng(seed)
    conv = Conv("layer", rng.integers(-7, 8, (6, 5, 3, 2)), UINT4, INT4, (2, 1), (0, 1))
    return run_layer(conv, rng.integers(0, 16, (5, 6, 4)), spec or ArraySpec(2, 4))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@settings(max_examples=40)
@given(results(), layouts())
def test_streamed_is_written_byte_for_byte_as_predicted(result: ArrayResult, layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_bundle(result, Path(name) / "whole", layout)
        streamed = Path(name) / "streamed"
        streamed.mkdir()
        written = stream_bundle(result.mapping, result.act, streamed, layout)
        assert contents(streamed) == contents(Path(name) / "whole")
        size = predict(result.mapping, layout, act_dtype=result.act.dtype)
        assert size.files == written.files == len(contents(streamed))
        assert written.bytes == sum(map(len, contents(streamed).values())) <= size.bytes <= size.disk
        if all(spec.radix != "dec" or spec.container == "npy" for spec in layout.files):
            assert size.bytes - written.bytes <= FRAME
        text = {f.name: encoded_size(f.shape, f.fmt, f.header, f.style) for f in vector_files(result, layout)}
        for file, most in text.items():
            assert len(contents(streamed)[file]) <= most


@given(
    st.integers(1, 700),
    st.integers(1, 5),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from(
        [("bin", "text"), ("hex", "text"), ("bin", "readmem"), ("hex", "mif"), ("hex", "coe"), ("bin", "npy")]
    ),
)
def test_the_predicted_size_of_words_is_exact(
    count: int, lanes: int, bits: int, signed: bool, style: tuple[str, str]
) -> None:
    fmt, header = IntFormat(bits, signed), ("#a#", "#b#") if style[1] == "text" else ()
    words = np.full((count, lanes), fmt.lo)
    assert encoded_size((count, lanes), fmt, header, Style(*style)) == len(
        encode_file("w", words, fmt, header, Style(*style))
    )


@settings(max_examples=40)
@given(results(), layouts(("psum", "weight")), st.integers(1, 40))
def test_blocks_are_the_words_in_order(result: ArrayResult, layout: Layout, most: int) -> None:
    for file in vector_files(result, layout):
        blocks = list(file.blocks(most))
        assert all(len(block) <= most for block in blocks)
        assert (np.concatenate(blocks) == file.words).all()
        assert file.words.shape == file.shape


def test_without_psums_they_are_in_no_file_and_come_back(tmp_path: Path) -> None:
    r = tiled()
    stream_bundle(r.mapping, r.act, tmp_path, find_layout("course"), Psums(kept=False))
    assert not list(tmp_path.glob("psum*"))
    with np.load(tmp_path / "tensors.npz") as t:
        assert "psum" not in t.files
    assert [e.holds for e in verify_bundle(tmp_path)] == [True] * 3  # outputs, files, manifest
    back, manifest = read_bundle(tmp_path)
    assert (back.psum == r.psum).all()
    assert (back.out == r.out).all()
    assert "psum" not in manifest["tensors"]


def test_limited_psums_are_the_first_of_each_pass(tmp_path: Path) -> None:
    r = tiled()  # the padded map is 6 x 6: 36 nij
    stream_bundle(r.mapping, r.act, tmp_path, find_layout("course"), Psums(limit_nij=5))
    for path in tmp_path.glob("psum*"):
        assert len(path.read_text().splitlines()) == 3 + 5
    with np.load(tmp_path / "tensors.npz") as t:
        assert (t["psum"] == r.psum[:, :, :, :5]).all()
    assert all(e.holds for e in verify_bundle(tmp_path))
    assert (read_bundle(tmp_path)[0].psum == r.psum).all()


def test_a_changed_psum_of_a_limited_bundle_is_found(tmp_path: Path) -> None:
    r = tiled()
    stream_bundle(r.mapping, r.act, tmp_path, find_layout("course"), Psums(limit_nij=5))
    with np.load(tmp_path / "tensors.npz") as t:
        changed = dict(t)
    changed["psum"][2, 1, 5, 4, 3] += 1
    np.savez(tmp_path / "tensors.npz", **changed)
    psums = verify_bundle(tmp_path)[0]
    assert (psums.different, psums.compared) == (1, 3 * 2 * 6 * 5 * 4)
    changed["psum"] = changed["psum"][:2]
    np.savez(tmp_path / "tensors.npz", **changed)
    with pytest.raises(BadInput, match=r"psums of shape \(2, 2, 6, 5, 4\), expected \(3, 2, 6, 36, 4\)"):
        read_bundle(tmp_path)


def test_windowed_psums_are_limited_by_output_position(tmp_path: Path) -> None:
    r = tiled()
    spec = FileSpec("psum", "p_{itile}_{otile}_{kij}.txt", ("onij",), ("col",))
    stream_bundle(r.mapping, r.act, tmp_path, Layout("windowed", (spec,)), Psums(limit_nij=3))
    assert {len(p.read_text().splitlines()) for p in tmp_path.glob("p_*")} == {3}
    assert all(e.holds for e in verify_bundle(tmp_path))


def test_the_first_tiles_are_a_layer_of_their_own() -> None:
    r = tiled()
    conv, act = first_tiles(r.mapping.conv, r.act, 2, 4, (2, 1))
    assert conv.weight.shape == (4, 4, 3, 2)
    assert conv.name == "layer (channels 0-3 -> 0-3 of 5 -> 6)"
    part = run_layer(conv, act, r.mapping.spec)
    assert (part.psum == r.psum[:2, :1]).all()
    assert (part.out == conv2d(conv, act[None])[0]).all()
    same, _ = first_tiles(r.mapping.conv, r.act, 2, 4, (3, 2))
    assert same is r.mapping.conv
    with pytest.raises(BadInput, match="tiles 0x1: expected at least one"):
        first_tiles(r.mapping.conv, r.act, 2, 4, (0, 1))


def test_the_first_tiles_of_a_grouped_layer_are_whole_groups() -> None:
    rng = np.random.default_rng(0)
    conv = Conv("layer", rng.integers(-7, 8, (12, 4, 3, 3)), UINT4, INT4, groups=4)  # groups of 4 -> 3 channels
    act = rng.integers(0, 16, (16, 4, 4))
    whole = run_layer(conv, act, ArraySpec(4, 4))
    for tiles, groups, name in (
        ((2, 2), 2, "layer (channels 0-7 -> 0-5 of 16 -> 12)"),  # output channels 6 and 7 need another input tile
        ((4, 1), 1, "layer (channels 0-3 -> 0-2 of 16 -> 12)"),
    ):
        part, taken = first_tiles(conv, act, 4, 4, tiles)
        assert (part.groups, part.name, taken.shape[0]) == (groups, name, groups * 4)
        assert (run_layer(part, taken, ArraySpec(4, 4)).out == whole.out[: groups * 3]).all()
    # Of a group larger than that, a part.
    wide = Conv("layer", rng.integers(-7, 8, (12, 8, 1, 1)), UINT4, INT4, groups=2)
    part, taken = first_tiles(wide, act, 4, 4, (1, 1))
    assert (part.groups, part.weight.shape, taken.shape[0]) == (1, (4, 4, 1, 1), 4)
    assert (part.weight == wide.weight[:4, :4]).all()


def test_narrow_accumulators_wrap_and_saturate_as_in_memory(tmp_path: Path) -> None:
    for overflow in ("wrap", "saturate"):
        r = tiled(spec=ArraySpec(2, 4, psum_bits=7, overflow=overflow))
        write_bundle(r, tmp_path / overflow / "whole")
        (tmp_path / overflow / "streamed").mkdir()
        stream_bundle(r.mapping, r.act, tmp_path / overflow / "streamed", find_layout("course"))
        assert contents(tmp_path / overflow / "streamed") == contents(tmp_path / overflow / "whole")


MEMORY = """
import resource, sys, tempfile
from pathlib import Path
import numpy as np
from systolith.array import ArraySpec, Mapping
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.vectors.layout import FileSpec, Layout
from systolith.vectors.stream import stream_bundle

rng = np.random.default_rng(0)
conv = Conv("layer", rng.integers(-7, 8, (64, 32, 3, 3), dtype=np.int8), IntFormat(4, False), IntFormat(4, True))
act = rng.integers(0, 16, (32, 130, 130), dtype=np.int16)
mapping = Mapping(conv, ArraySpec(8, 4, psum_bits=16), 130, 130)
layout = Layout("one file", (FileSpec("psum", "psum.txt", ("otile", "kij", "itile", "onij"), ("col",)),))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
    written = stream_bundle(mapping, act, Path(folder), layout)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, written.bytes // 1024)
"""


def test_memory_is_bounded_by_one_output_tile(tmp_path: Path) -> None:
    """16 output tiles: their psums take 4 * 16 * 9 * 16,900 * 4 values of 4 bytes, 149 MiB, windowed nearly as many."""
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True)
    grown, written = map(int, done.stdout.split())
    assert written > 4 * 16 * 9 * 16_384 * (4 * 16 + 1) / 1024  # the text alone
    assert grown < 100 * 1024  # kB: one tile's in floating point, as integers, and windowed, are 28 MiB
    assert not list(tmp_path.iterdir())


def test_nothing_waits_on_the_disk_when_done(tmp_path: Path) -> None:
    r = tiled()
    stream_bundle(r.mapping, r.act, tmp_path, find_layout("npz"))
    assert {p.name for p in tmp_path.iterdir()} == {"tensors.npz", "manifest.json"}


def test_a_layer_of_wide_accumulators(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    conv = Conv("wide", rng.integers(-30000, 30000, (2, 3, 1, 1)), IntFormat(16, True), IntFormat(16, True))
    act = rng.integers(-32768, 32768, (3, 2, 2))
    mapping = Mapping(conv, ArraySpec(2, 2, 16, 16, 40), 2, 2)
    stream_bundle(mapping, act, tmp_path, find_layout("course"))
    back, _ = read_bundle(tmp_path)
    assert back.psum.dtype == np.int64
    assert (back.out == conv2d(conv, act[None])[0]).all()
