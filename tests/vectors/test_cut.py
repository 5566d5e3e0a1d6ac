"""Bundles of layers that are packed, output stationary, of a batch, or with several codes a lane."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import layers
from systolith.array import ArrayResult, ArraySpec, Mapping, run_mapped
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.vectors import find_layout, read_bundle, verify_bundle, write_bundle
from systolith.vectors.bundle import MANIFEST
from systolith.vectors.layout import FileSpec, Layout, vector_files
from systolith.vectors.stream import predict, stream_bundle


@st.composite
def cut(draw: st.DrawFn) -> ArrayResult:
    """A layer, cut in any way."""
    conv, act = draw(layers(max_channels=7, max_map=5))
    simd, batch, way = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 3)), draw(st.integers(0, 2))
    fmt = IntFormat(4 // simd, conv.act_format.signed)
    act = np.clip(act, fmt.lo, fmt.hi)
    if batch > 1:
        act = np.stack([np.roll(act, n, 2) for n in range(batch)])
    spec = ArraySpec(draw(st.integers(1, 5)), draw(st.integers(1, 4)), dataflow="os" if way == 2 else "ws", simd=simd)
    height, width = act.shape[-2:]
    return run_mapped(Mapping(replace(conv, act_format=fmt), spec, height, width, batch, packed=way == 1), act)


def layout_of(mapping: Mapping) -> Layout:
    return find_layout("course-os" if mapping.stationary else "course")


@settings(max_examples=60, deadline=None)
@given(cut())
def test_a_bundle_streamed_is_as_predicted_holds_and_is_read_back(result: ArrayResult) -> None:
    mapping, layout = result.mapping, layout_of(result.mapping)
    with tempfile.TemporaryDirectory() as name:
        whole, streamed = Path(name) / "whole", Path(name) / "streamed"
        streamed.mkdir()
        write_bundle(result, whole, layout)
        written = stream_bundle(mapping, result.act, streamed, layout)
        for path in whole.iterdir():
            assert path.read_bytes() == (streamed / path.name).read_bytes()
        size = predict(mapping, layout, act_dtype=result.act.dtype)
        assert (size.files, written.bytes <= size.bytes) == (written.files, True)
        assert all(equality.holds for equality in verify_bundle(whole))
        again, manifest = read_bundle(whole)
        found = again.mapping
        assert (found.batch, found.packed, found.simd, found.stationary) == (
            *(mapping.batch, mapping.packed, mapping.simd),
            mapping.stationary,
        )
        assert manifest["formats"]["act"] == str(mapping.code_format)
        assert (again.out == result.out).all()
        assert (again.psum == result.psum).all()


def packed() -> ArrayResult:
    """3 -> 2 channels on 3x3, a 2x2 kernel: 12 lanes in 3 tiles of 5 rows, two pictures."""
    rng = np.random.default_rng(0)
    conv = Conv.of(rng.integers(-8, 8, (2, 3, 2, 2)))
    mapping = Mapping(conv, ArraySpec(5, 2), 3, 3, batch=2, packed=True)
    return run_mapped(mapping, rng.integers(0, 16, (2, 3, 3, 3)))


def test_the_words_of_a_packed_layer_are_what_enters_the_rows(tmp_path: Path) -> None:
    result = packed()
    write_bundle(
        result, tmp_path / "b", Layout("plain", tuple(replace(f, tokens=()) for f in find_layout("course").files))
    )
    weight = result.mapping.conv.weight
    for tile in range(3):
        words = (tmp_path / "b" / f"activation_tile{tile}.txt").read_text().split()
        loads = (tmp_path / "b" / f"weight_itile{tile}_otile0_kij0.txt").read_text().split()
        assert (len(words), len(loads)) == (2 * 4, 2)  # positions of both pictures, columns
        for row in range(5):
            (ki, kj), ic = divmod((tile * 5 + row) // 3, 2), (tile * 5 + row) % 3
            there = tile * 5 + row < 12
            for nij, word in enumerate(words):
                picture, oi, oj = nij // 4, nij % 4 // 2, nij % 2
                code = int(word[::-1][row * 4 : row * 4 + 4][::-1], 2)
                assert code == (result.act[picture, ic, oi + ki, oj + kj] if there else 0)
            for col, word in enumerate(loads):
                code = int(word[::-1][row * 4 : row * 4 + 4][::-1], 2)
                assert code == (weight[col, ic, ki, kj] & 15 if there else 0)
    array = json.loads((tmp_path / "b" / MANIFEST).read_text())["array"]
    assert (array["packed"], array["batch"], array["passes"], "simd" in array) == (True, 2, 3, False)


def test_a_lane_of_two_codes_has_the_even_channel_in_its_low_bits() -> None:
    rng = np.random.default_rng(1)
    conv = replace(Conv.of(rng.integers(-8, 8, (2, 4, 1, 1))), act_format=IntFormat(2, False))
    result = run_mapped(Mapping(conv, ArraySpec(2, 2, simd=2), 2, 2), rng.integers(0, 4, (4, 2, 2)))
    act, weight = (f for f in vector_files(result, find_layout("course")) if f.spec.tensor in ("act", "weight"))
    assert (act.shape, act.fmt.bits, weight.shape) == ((4, 4), 2, (2, 4))
    assert (act.words == result.act.reshape(4, 4).T).all()  # lane 2*row + code
    assert (weight.words == conv.weight[:, :, 0, 0]).all()


@pytest.mark.parametrize(
    ("packed_rows", "dataflow", "spec", "said"),
    [
        (False, "os", FileSpec("act", "a", ("nij",), ("row",)), "act: output stationary it is act_os"),
        (False, "os", FileSpec("weight", "w", ("oc",), ("ic", "kij")), "weight: output stationary it is weight_os"),
        (True, "ws", FileSpec("act", "a", ("nij",), ("ic",)), "act: packed into rows it is by itile and row"),
        (
            True,
            "ws",
            FileSpec("weight", "w", ("kij", "oc"), ("ic",)),
            "weight: packed into rows it is by itile and row",
        ),
    ],
)
def test_axes_that_the_cut_does_not_have_get_a_sentence(
    packed_rows: bool, dataflow: str, spec: FileSpec, said: str
) -> None:
    conv = Conv.of(np.ones((2, 3, 2, 2), int))
    mapping = Mapping(conv, ArraySpec(5, 2, dataflow=dataflow), 3, 3, packed=packed_rows)
    result = run_mapped(mapping, np.ones((3, 3, 3), int))
    with pytest.raises(BadInput, match=said):
        list(vector_files(result, Layout("mine", (spec,))))
    maps = FileSpec("act", "maps", ("ij",), ("ic",))
    assert (next(vector_files(result, Layout("mine", (maps,)))).words == 1).all()
