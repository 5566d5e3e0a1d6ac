"""Narrow accumulators of a batch against the array, picture by picture, and against the naive loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import naive_output

from conftest import INT4, UINT4, layers
from systolith.array import ArraySpec, overflow, run_layer
from systolith.array.overflow import narrow_accumulators
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.network.reference import conv2d

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
BITS = st.integers(4, 10)
WIDE = st.sampled_from([*range(4, 11), 24])
NARROW = st.sampled_from(["wrap", "saturate"])


def batch_of(act: np.ndarray) -> np.ndarray:
    """Three pictures of the same codes, none like another."""
    return np.stack([act, act[::-1], act[:, ::-1, ::-1]])


@given(layers(), SIZES, BITS, NARROW)
def test_a_batch_is_what_the_array_leaves_of_each_picture(
    case: tuple[Conv, np.ndarray], size: tuple[int, int], bits: int, kind: str
) -> None:
    conv, act = case[0], batch_of(case[1])
    spec = ArraySpec(*size, psum_bits=bits, overflow=kind)
    exact = conv2d(conv, act)
    given_acc = exact.copy()
    found = narrow_accumulators(conv, act, exact, spec)
    assert found.dtype == np.int64
    assert not np.shares_memory(found, exact)
    assert (exact == given_acc).all()
    assert (found == np.stack([run_layer(conv, picture, spec).out for picture in act])).all()


@given(layers(), SIZES, WIDE, NARROW, st.sampled_from(["", "packed", "os"]), st.sampled_from([1, 2, 4]))
def test_in_every_order_of_adding(
    case: tuple[Conv, np.ndarray], size: tuple[int, int], bits: int, kind: str, how: str, simd: int
) -> None:
    conv, act, packed = case[0], batch_of(case[1]), how == "packed"
    lanes = ArraySpec(*size, act_bits=4 * simd, psum_bits=bits, overflow=kind, simd=simd)
    spec = replace(lanes, dataflow="os" if how == "os" else "ws")
    found = narrow_accumulators(conv, act, conv2d(conv, act), spec, packed)
    assert (found == np.stack([run_layer(conv, picture, spec, packed).out for picture in act])).all()


@given(layers(max_map=5), SIZES, BITS, st.integers(1, 4))
def test_chunks_of_input_channels_one_after_another(
    case: tuple[Conv, np.ndarray], size: tuple[int, int], bits: int, parts: int
) -> None:
    conv, act = replace(case[0], weight=case[0].dense, groups=1), case[1]
    spec = ArraySpec(*size, psum_bits=bits, overflow="saturate")
    found = narrow_accumulators(conv, act[None], conv2d(conv, act[None]), spec, parts=parts)[0]
    lo, hi, rows = spec.psum_format.lo, spec.psum_format.hi, spec.rows
    tiles = -(-conv.in_channels // rows)
    each = -(-tiles // parts)
    top, bottom, left, right = conv.pads
    padded = np.pad(act, ((0, 0), (top, bottom), (left, right)))
    for oc, oi, oj in np.ndindex(*found.shape):
        total = 0
        for first in range(0, tiles, each):
            for ki, kj in np.ndindex(*conv.kernel):
                i = oi * conv.stride[0] + ki * conv.dilation[0]
                j = oj * conv.stride[1] + kj * conv.dilation[1]
                for tile in range(first, min(first + each, tiles)):
                    psum = 0
                    for ic in range(tile * rows, min((tile + 1) * rows, conv.in_channels)):
                        psum = min(max(psum + int(padded[ic, i, j]) * int(conv.weight[oc, ic, ki, kj]), lo), hi)
                    total = min(max(total + psum, lo), hi)
        assert found[oc, oi, oj] == total


@given(layers(max_channels=6, max_map=5), SIZES, BITS, NARROW)
def test_a_batch_against_loops_of_integers(
    case: tuple[Conv, np.ndarray], size: tuple[int, int], bits: int, kind: str
) -> None:
    conv, act = case[0], case[1][None]
    spec = ArraySpec(*size, psum_bits=bits, overflow=kind)
    found = narrow_accumulators(conv, act, conv2d(conv, act), spec)
    for oc, oi, oj in np.ndindex(*found.shape[1:]):
        assert found[0, oc, oi, oj] == naive_output(conv, act[0], spec, oc, oi, oj)


@pytest.mark.parametrize("kind", ["wrap", "saturate"])
def test_a_bias_is_added_behind_the_array(kind: str) -> None:
    rng = np.random.default_rng(0)
    conv = Conv("layer", rng.integers(-7, 8, (6, 2, 3, 3)), UINT4, INT4, groups=3, bias=rng.integers(-900, 900, 6))
    act, spec = rng.integers(0, 16, (2, 6, 5, 5)), ArraySpec(psum_bits=7, overflow=kind)
    found = narrow_accumulators(conv, act, conv2d(conv, act), spec)
    without = np.stack([run_layer(conv.product(), picture, spec).out for picture in act])
    assert (found == without + conv.bias[:, None, None]).all()


def saturating_layer(act_format: IntFormat) -> tuple[Conv, np.ndarray]:
    """A layer and five pictures; its last channels are too weak to overflow 8 bits."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-7, 8, (13, 21, 3, 2))
    weight[10:] = 0
    weight[10:, 3] = 1
    act = rng.integers(act_format.lo, act_format.hi + 1, (5, 21, 6, 7))
    return Conv("layer", weight, act_format, INT4, padding=(1, 2), stride=(1, 2)), act


@pytest.mark.parametrize("act_format", [UINT4, INT4])
@pytest.mark.parametrize("rows", [1, 4, 21, 30])
@pytest.mark.parametrize(("most_outputs", "most_products"), [(1 << 15, 1 << 18), (300, 1000), (1, 1)])
def test_saturation_happens_and_blocks_do_not_matter(
    act_format: IntFormat, rows: int, most_outputs: int, most_products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, act = saturating_layer(act_format)
    spec = ArraySpec(rows, 3, psum_bits=8, overflow="saturate")
    exact = conv2d(conv, act)
    lo, hi = spec.psum_format.lo, spec.psum_format.hi
    monkeypatch.setattr(overflow, "MOST_OUTPUTS", most_outputs)
    monkeypatch.setattr(overflow, "MOST_PRODUCTS", most_products)
    found = narrow_accumulators(conv, act, exact, spec)
    assert (found == np.stack([run_layer(conv, picture, spec).out for picture in act])).all()
    # Not merely the exact sums clipped at the end, and nothing in the channels that fit.
    assert (found[:, :10] != np.clip(exact[:, :10], lo, hi)).mean() > 0.3
    assert (found[:, 10:] == exact[:, 10:]).all()


def test_the_order_of_saturation_by_hand() -> None:
    # Five bits: -16..15. One output of four input channels with activation 3; products 9, 9, -9, -9: exactly 0.
    conv = Conv("layer", np.array([3, 3, -3, -3]).reshape(1, 4, 1, 1), UINT4, INT4)
    act = np.full((1, 4, 1, 1), 3)

    def left(rows: int, kind: str = "saturate") -> int:
        found = narrow_accumulators(conv, act, conv2d(conv, act), ArraySpec(rows, 1, psum_bits=5, overflow=kind))
        return int(found[0, 0, 0, 0])

    # One pass, within it: 9, 18 -> 15, 6, -3.
    assert left(4) == -3
    # Passes of 9 + 9 = 18 -> 15 and -9 - 9 = -18 -> -16: 0 + 15 = 15, 15 - 16 = -1.
    assert left(2) == -1
    # Four passes, between them: 9, 18 -> 15, 6, -3.
    assert left(1) == -3
    # Passes of 9, 18 -> 15, 6 and of -9: 6, -3.
    assert left(3) == -3
    # Wrapping: 9, 18 -> -14, -23 -> 9, 0. The final sum is right whatever the partial sums did.
    assert [left(rows, "wrap") for rows in (1, 2, 3, 4)] == [0, 0, 0, 0]


def test_kij_is_the_outer_loop() -> None:
    # Five bits, one row, two input channels, a 1x2 kernel; products by (kij, ic_tile): (0, 0) 14, (0, 1) 14,
    # (1, 0) -16, (1, 1) 8. In this order 14, 28 -> 15, -1, 7; with ic_tile outside 14, -2, 12, 20 -> 15.
    conv = Conv("layer", np.array([[[[7, -8]], [[7, 4]]]]), UINT4, INT4)
    act = np.full((1, 2, 1, 2), 2)
    assert narrow_accumulators(conv, act, conv2d(conv, act), ArraySpec(1, 1, psum_bits=5, overflow="saturate")) == 7


def test_wide_sums_leave_fp32() -> None:
    # One product is up to 65535*32767 = 2147385345 > 2^24, and two of them exceed 2^31 - 1 = 2147483647.
    weight = np.array([32767, 32767, -32767, 1]).reshape(1, 4, 1, 1)
    conv = Conv("wide", weight, IntFormat(16, False), IntFormat(16, True))
    act = np.full((1, 4, 1, 1), 65535)
    spec = ArraySpec(2, 2, 16, 16, psum_bits=32, overflow="saturate")
    # The passes: 2147483647, saturated, and -2147385345 + 65535 = -2147319810.
    assert narrow_accumulators(conv, act, conv2d(conv, act), spec) == 2147483647 - 2147319810


def test_what_is_refused() -> None:
    conv = Conv("layer", np.ones((1, 2, 1, 1), int), UINT4, INT4)
    act = np.ones((1, 2, 3, 3), int)
    exact = conv2d(conv, act)
    with pytest.raises(BadInput, match="layer: narrow accumulators need overflow 'wrap' or 'saturate', found 'error'"):
        narrow_accumulators(conv, act, exact, ArraySpec())
    with pytest.raises(BadInput, match="layer has 4-bit activations and 4-bit weights, wider than the array's lanes"):
        narrow_accumulators(conv, act, exact, ArraySpec(act_bits=3, overflow="wrap"))
    with pytest.raises(BadInput, match=r"layer activations\[ic 0, i 0, j 0\] is 16, outside the range 0..15"):
        narrow_accumulators(conv, act * 16, exact, ArraySpec(overflow="saturate"))
    with pytest.raises(BadInput, match=r"expected shape \(2, H, W\), found \(3, 3\)"):
        narrow_accumulators(conv, act[0], exact, ArraySpec(overflow="saturate"))
