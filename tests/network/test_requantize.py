from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systolith.formats import BadInput
from systolith.network.requantize import (
    Thresholds,
    find_thresholds,
    prove_thresholds,
    to_fixed_point,
)


def batch_norm_epilogue(
    scale: float, gain: np.ndarray, offset: np.ndarray, q: float, levels: int, low: int = 0
) -> object:
    """scale, batch norm, (ReLU by the clamp), quantizer: fp32 and float64 as the contract has them."""

    def epilogue(acc: np.ndarray) -> np.ndarray:
        y = acc.astype(np.float32) * np.float32(scale)
        z = (y.astype(np.float64) * gain[:, None] + offset[:, None]).astype(np.float32)
        codes: np.ndarray = np.rint(np.clip(z * np.float32(q), np.float32(low), np.float32(levels + low)))
        return codes.astype(np.int64)

    return epilogue


@st.composite
def cases(draw: st.DrawFn) -> tuple[object, np.ndarray, np.ndarray, np.ndarray, int, int]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, levels = 4, draw(st.sampled_from([3, 7, 15]))
    low = draw(st.sampled_from([0, -(levels // 2)]))
    gain = rng.normal(0, 1, channels).astype(np.float32).astype(np.float64)
    gain[rng.integers(channels)] *= draw(st.sampled_from([0, 1]))  # zero gains too
    reach = draw(st.integers(0, 900))
    lo, hi = -rng.integers(0, reach + 1, channels), rng.integers(0, reach + 1, channels)
    epilogue = batch_norm_epilogue(0.0173, gain, rng.normal(0, 3, channels), levels / 4.3, levels, low)
    return epilogue, lo, hi, np.where(gain < 0, -1, 1).astype(np.int8), levels, low


@given(cases())
def test_thresholds_are_the_epilogue_at_every_accumulator(case: tuple) -> None:
    epilogue, lo, hi, sign, levels, low = case
    t = find_thresholds(epilogue, lo, hi, sign, levels, low)
    mirrored_lo, mirrored_hi = t.mirrored_range()
    assert (np.diff(t.values, axis=1) >= 0).all()
    assert ((t.values >= mirrored_lo[:, None]) & (t.values <= mirrored_hi[:, None] + 1)).all()
    assert prove_thresholds("layer", t, epilogue).different == 0
    for o in range(len(lo)):
        every = np.arange(lo[o], hi[o] + 1)
        acc = np.zeros((len(lo), len(every)), dtype=np.int64)
        acc[o] = every
        assert (t.apply(acc[None])[0, o] == epilogue(acc)[o]).all()


@given(cases(), st.integers(0, 3), st.data())
def test_a_threshold_off_by_one_is_found_and_located(case: tuple, channel: int, data: st.DataObject) -> None:
    epilogue, lo, hi, sign, levels, low = case
    t = find_thresholds(epilogue, lo, hi, sign, levels, low)
    k = data.draw(st.integers(0, levels - 1))
    step = data.draw(st.sampled_from([-1, 1]))
    mirrored_lo, mirrored_hi = (int(side[channel]) for side in t.mirrored_range())
    moved = int(t.values[channel, k]) + step
    # A move that changes no code (two at the same place, or outside the range) is no fault.
    changed = t.values.copy()
    changed[channel, k] = moved
    changed[channel].sort()
    every = np.arange(mirrored_lo, mirrored_hi + 1)
    same = (
        np.searchsorted(changed[channel], every, "right") == np.searchsorted(t.values[channel], every, "right")
    ).all()
    outcome = prove_thresholds("layer", Thresholds(changed, t.sign, t.lo, t.hi, t.low), epilogue)
    assert (outcome.different == 0) == bool(same)
    if not same:
        assert outcome.first.startswith(f"[channel {channel}, ")


@settings(max_examples=30)
@given(cases())
def test_fixed_point_is_exact_wherever_it_exists(case: tuple) -> None:
    epilogue, lo, hi, sign, levels, low = case
    t = find_thresholds(epilogue, lo, hi, sign, levels, low)
    try:
        form = to_fixed_point("layer", t)
    except BadInput:
        return  # refusals are checked against exhaustive search below
    for o in range(len(lo)):
        acc = np.zeros((len(lo), hi[o] - lo[o] + 1), dtype=np.int64)
        acc[o] = np.arange(lo[o], hi[o] + 1)
        assert (form.apply(acc[None])[0, o] == t.apply(acc[None])[0, o]).all()


def shifted(acc: np.ndarray, shift: int, rounding: str, low: int, high: int) -> np.ndarray:
    """`acc / 2^shift` rounded half up or half to even in Python's own integers, then clamped."""
    codes = []
    for a in acc.tolist():
        exact = Fraction(a) / Fraction(2) ** shift
        codes.append(math.floor(exact + Fraction(1, 2)) if rounding == "up" else round(exact))
    return np.clip(np.array(codes, dtype=np.int64), low, high)


@given(
    st.sampled_from(["up", "even"]),
    st.integers(-2, 9),
    st.sampled_from([(0, 3), (0, 15), (-7, 7), (-127, 127)]),
    st.integers(-2500, 0),
    st.integers(0, 2500),
    st.sampled_from([1, -1]),
)
def test_a_power_of_two_is_a_shift_at_every_accumulator(
    rounding: str, shift: int, codes: tuple[int, int], lo: int, hi: int, sign: int
) -> None:
    low, high = codes
    lo, hi = (lo, hi) if sign > 0 else (-hi, -lo)
    every = np.arange(lo, hi + 1)

    def epilogue(acc: np.ndarray) -> np.ndarray:
        return np.stack([shifted(sign * row, shift, rounding, low, high) for row in acc])

    ends = (np.array([lo]), np.array([hi]), np.array([sign], np.int8))
    t = find_thresholds(epilogue, *ends, high - low, low)
    form = to_fixed_point("layer", t)
    wanted = epilogue(every[None])[0]
    assert np.array_equal(t.apply(every[None, None])[0, 0], wanted)
    assert np.array_equal(form.apply(every[None, None])[0, 0], wanted)
    if sign > 0 and shift >= 0 and ((t.values > lo) & (t.values <= hi)).sum() >= 3:
        assert form.multiplier[0] == 1  # through fewer codes another line of a smaller shift may go
    if rounding == "up" and sign > 0:
        assert form.rounding == "floor"


def test_half_up_is_a_half_added_and_a_shift() -> None:
    row = lambda acc: np.stack([shifted(r, 4, "up", 0, 15) for r in acc])  # noqa: E731
    t = find_thresholds(row, np.array([-300]), np.array([300]), np.array([1], np.int8), 15)
    form = to_fixed_point("layer", t)
    assert (form.multiplier[0], form.bias[0], form.shift[0], form.rounding) == (1, 8, 4, "floor")


def test_a_relu_or_relu6_in_the_function_is_a_narrower_clamp() -> None:
    every = np.arange(-300, 301)

    def codes(acc: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(acc * np.float32(0.0731)), 0, 5).astype(np.int64)

    t = find_thresholds(codes, np.array([-300, -20]), np.array([300, 30]), np.array([1, 1], np.int8), 14, -7)
    form = to_fixed_point("layer", t)
    assert (form.low, form.least, form.levels, form.rounding) == (-7, 7, 12, "floor")
    for o, (lo, hi) in enumerate(((-300, 300), (-20, 30))):
        acc = np.zeros((1, 2, 601), dtype=np.int64)
        acc[0, o] = every.clip(lo, hi)
        assert np.array_equal(form.apply(acc)[0, o], codes(acc[0, o]))


def test_a_leaky_relu_is_no_line() -> None:
    def codes(acc: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(np.where(acc < 0, 0.02, 0.2) * acc), -7, 7).astype(np.int64)

    t = find_thresholds(codes, np.array([-300]), np.array([300]), np.array([1], np.int8), 14, -7)
    with pytest.raises(BadInput, match="layer, channel 0: no affine form"):
        to_fixed_point("layer", t)


def test_half_to_even_has_a_form_of_its_own_where_no_line_rounds_so() -> None:
    every = np.arange(-300, 301)
    for low, high in ((0, 15), (-7, 7)):
        t = find_thresholds(
            lambda acc, low=low, high=high: np.stack([shifted(row, 4, "even", low, high) for row in acc]),
            *(np.array([-300] * 2), np.array([300] * 2), np.array([1, 1], np.int8)),
            high - low,
            low,
        )
        form = to_fixed_point("layer", t)
        assert form.rounding == "even"
        assert form.multiplier.tolist() == [1, 1]
        assert form.bias.tolist() == [0, 0]
        assert form.shift.tolist() == [4, 4]
        both = np.stack([every, every])[None]
        assert np.array_equal(form.apply(both), t.apply(both))
        assert form.apply(np.array([[[8, 24, 40]] * 2])).tolist() == [[[0, 2, 2]] * 2]


@settings(max_examples=40)
@given(st.lists(st.integers(-6, 7), min_size=3, max_size=3).map(sorted), st.sampled_from([0, -1]))
def test_the_form_that_rounds_half_to_even_is_found_by_exhaustive_search_too(values: list[int], low: int) -> None:
    t = Thresholds(np.array([values]), np.array([1], np.int8), np.array([-6]), np.array([6]), low)
    every = np.arange(-6, 7)
    wanted = t.apply(every[None, None])[0, 0]
    m, b = np.arange(-20, 21)[:, None, None], np.arange(-100, 101)[None, :, None]

    def exists(rounding: str) -> bool:
        for shift in range(4):
            line = every * m + b
            if rounding == "floor":
                found = np.clip(line >> shift, 0, 3) + low
            else:
                found = np.clip(np.rint(line / 2**shift), low, low + 3)  # exact: far below 2^53
            if (found == wanted).all(2).any():
                return True
        return False

    try:
        form = to_fixed_point("layer", t)
    except BadInput:
        assert not exists("floor")
        assert not exists("even")
        return
    assert np.array_equal(form.apply(every[None, None])[0, 0], wanted)
    if form.rounding == "even":
        assert not exists("floor")


def one(values: list[int], lo: int, hi: int, sign: int = 1) -> Thresholds:
    return Thresholds(np.array([values]), np.array([sign], np.int8), np.array([lo]), np.array([hi]))


@settings(max_examples=60)
@given(st.lists(st.integers(-6, 7), min_size=3, max_size=3).map(sorted), st.sampled_from([1, -1]))
def test_fixed_point_is_the_smallest_by_exhaustive_search(values: list[int], sign: int) -> None:
    t = one(values, -6, 6, sign)
    every = np.arange(-6, 7)
    wanted = t.apply(every[None, None])[0, 0]

    m, b = np.arange(-40, 41)[:, None, None], np.arange(-200, 201)[None, :, None]

    def smallest() -> tuple[int, int, int] | None:
        for shift in range(5):
            fits = (np.clip((every * m + b) >> shift, 0, 3) == wanted).all(2)
            if fits.any():
                ms, bs = np.nonzero(fits)
                return (*min((abs(int(i) - 40), abs(int(j) - 200)) for i, j in zip(ms, bs, strict=True)), shift)
        return None

    expected = smallest()
    try:
        form = to_fixed_point("layer", t)
    except BadInput:
        assert expected is None
        return
    if expected is not None:
        assert (abs(form.multiplier[0]), abs(form.bias[0]), form.shift[0]) == expected


def test_by_hand() -> None:
    # Codes step at 2, 4, 6: (acc*1 + 0) >> 1.
    form = to_fixed_point("layer", one([2, 4, 6], -9, 9))
    assert (form.multiplier[0], form.bias[0], form.shift[0]) == (1, 0, 1)
    assert form.bits(np.array([-9]), np.array([9])) == (2, 1, 5)
    # A constant code 2: two thresholds at the bottom, one never reached.
    form = to_fixed_point("layer", one([-9, -9, 10], -9, 9))
    assert (form.multiplier[0], form.bias[0], form.shift[0]) == (0, 2, 0)
    # Uneven steps 1, 2, 100 are not a rounded line.
    with pytest.raises(BadInput, match="layer, channel 0: no affine form"):
        to_fixed_point("layer", one([1, 2, 100], -200, 200))
    with pytest.raises(BadInput, match="layer, channel 0: the multiplier needs"):
        to_fixed_point("layer", one([333, 667, 1000], -2000, 2000), multiplier_bits=3)
