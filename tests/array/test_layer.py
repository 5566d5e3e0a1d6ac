"""Psums, accumulation and outputs against the naive loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import naive_output, naive_psums

from conftest import INT4, UINT4, layers
from systolith.array import ArraySpec, Mapping, run_layer
from systolith.array.psums import iter_psums
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(layers(), SIZES)
def test_psums_and_outputs_over_shapes(case: tuple[Conv, np.ndarray], size: tuple[int, int]) -> None:
    conv, act = case
    spec = ArraySpec(*size, psum_bits=20)
    result = run_layer(conv, act, spec)
    expected = naive_psums(conv, act, spec)
    assert np.issubdtype(result.psum.dtype, np.integer)
    assert result.psum.shape == expected.shape
    assert (result.psum == expected).all()
    assert result.check().holds
    assert result.check_psums().holds
    assert result.check_psums().compared == expected.size
    oc, oi, oj = (n - 1 for n in result.out.shape)
    assert result.out[oc, oi, oj] == naive_output(
        conv, act, ArraySpec(*size, psum_bits=20, overflow="wrap"), oc, oi, oj
    )


@given(layers(max_channels=6, max_map=5), SIZES, st.integers(4, 10), st.sampled_from(["wrap", "saturate"]))
def test_narrow_registers(case: tuple[Conv, np.ndarray], size: tuple[int, int], bits: int, overflow: str) -> None:
    conv, act = case
    spec = ArraySpec(*size, psum_bits=bits, overflow=overflow)
    out = run_layer(conv, act, spec).out
    for oc, oi, oj in np.ndindex(*out.shape):
        assert out[oc, oi, oj] == naive_output(conv, act, spec, oc, oi, oj)


@given(layers(), SIZES)
def test_the_least_width_is_safe_and_the_next_smaller_is_not_by_bound(
    case: tuple[Conv, np.ndarray], size: tuple[int, int]
) -> None:
    conv, act = case
    mapping = Mapping(conv, ArraySpec(*size, psum_bits=48), *act.shape[1:])
    width = max(2, *mapping.least_psum_bits())
    result = run_layer(conv, act, ArraySpec(*size, psum_bits=width))
    assert result.check().holds
    assert result.mapping.bound_warning() is None
    lo, hi = conv.bounds()
    smaller = IntFormat(width - 1, True) if width > 2 else None
    if smaller:
        assert lo.min() < smaller.lo or hi.max() > smaller.hi


def test_iterating_gives_the_same_blocks() -> None:
    rng = np.random.default_rng(0)
    conv = Conv("layer", rng.integers(-7, 8, (20, 11, 3, 3)), UINT4, INT4, padding=(1, 1))
    act = rng.integers(0, 16, (11, 6, 5))
    result = run_layer(conv, act, ArraySpec())
    blocks = list(iter_psums(result.mapping, act))
    assert len(blocks) == 3
    for oc_tile, block in enumerate(blocks):
        assert (result.psum[result.mapping.ic_range(oc_tile), oc_tile] == block).all()


def test_wide_sums_leave_fp32() -> None:
    # 16-bit codes: one product is up to 65535*32767 > 2^24.
    conv = Conv("wide", np.full((1, 4, 1, 1), 32767), IntFormat(16, False), IntFormat(16, True))
    act = np.full((4, 1, 1), 65535)
    spec = ArraySpec(2, 2, 16, 16, psum_bits=40)
    result = run_layer(conv, act, spec)
    assert result.out.tolist() == [[[4 * 65535 * 32767]]]
    assert result.psum.dtype == np.int64


def test_a_value_that_does_not_fit_is_an_error_and_a_bound_is_a_warning() -> None:
    weight = np.full((2, 2, 1, 1), 7)
    weight[0] = 1
    conv = Conv("layer", weight, UINT4, INT4)
    act = np.full((2, 1, 3), 15)
    # channel 1: 2*15*7 = 210 > 127; a bound of 210 needs 9 bits.
    with pytest.raises(BadInput, match=r"layer psum of oc_tile 0 after row 1\[ic_tile 0, kij 0, nij 0, col 1\] is 210"):
        run_layer(conv, act, ArraySpec(psum_bits=8))
    with pytest.raises(
        BadInput, match=r"layer output of oc_tile 0 after kij 0, ic_tile 1\[onij 0, col 1\] is 210, outside"
    ):
        run_layer(conv, act, ArraySpec(rows=1, psum_bits=8))
    small = run_layer(conv, np.ones((2, 1, 3), int), ArraySpec(psum_bits=8))
    assert small.out.max() == 14
    warning = small.mapping.bound_warning()
    assert warning is not None
    assert "1 of 2 output channels could exceed 8 psum bits; channel 1 is bounded by 0..210, 9 bits" in warning
    # -15..0 fits 5 bits and 0..15 too, 0..16 does not: the channel that is named is one that does not fit.
    one = Conv("layer", np.array([-16, 16]).reshape(2, 1, 1, 1), IntFormat(1, False), IntFormat(6, True))
    warning = Mapping(one, ArraySpec(weight_bits=6, psum_bits=5), 1, 1).bound_warning()
    assert warning is not None
    assert "1 of 2 output channels could exceed 5 psum bits; channel 1 is bounded by 0..16, 6 bits" in warning


def test_activations_must_be_what_the_layer_takes() -> None:
    conv = Conv("layer", np.ones((1, 2, 1, 1), int), UINT4, INT4)
    act = np.zeros((2, 3, 3), int)
    act[1, 2, 0] = 16
    with pytest.raises(BadInput, match=r"layer activations\[ic 1, i 2, j 0\] is 16, outside the range 0..15"):
        run_layer(conv, act, ArraySpec())
    with pytest.raises(BadInput, match=r"expected shape \(2, H, W\), found \(3, 3, 3\)"):
        run_layer(conv, np.zeros((3, 3, 3), int), ArraySpec())
    with pytest.raises(BadInput, match=r"expected shape \(2, H, W\), found \(2, 3\)"):
        run_layer(conv, np.zeros((2, 3), int), ArraySpec())
    with pytest.raises(BadInput, match=r"found \(2, 0, 3\)"):
        run_layer(conv, np.zeros((2, 0, 3), int), ArraySpec())
    with pytest.raises(BadInput, match="expected integers, found dtype float64"):
        run_layer(conv, np.zeros((2, 3, 3)), ArraySpec())


def test_the_check_sees_a_wrong_output() -> None:
    conv = Conv("layer", np.ones((1, 1, 1, 1), int), UINT4, INT4)
    result = run_layer(conv, np.ones((1, 2, 2), int), ArraySpec())
    result.out[0, 1, 0] += 1
    result.psum[0, 0, 0, 3, 5] = 9
    assert str(result.check_psums()) == (
        "31 of 32 equal; first difference: [ic_tile 0, oc_tile 0, kij 0, nij 3, col 5] expected 0, found 9"
    )
    assert str(result.check()) == "3 of 4 equal; first difference: [oc 0, oi 1, oj 0] expected 1, found 2"
