"""From accumulators to codes in integers only: thresholds, and fixed point for hardware without threshold memories.

A layer's epilogue (scale, batch norm, ReLU, the next quantizer) is a monotone map from accumulator to code. It is
stored as the accumulators where the code changes, found by bisecting that very function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from systolith.equality import Equality
from systolith.formats import BadInput, least_signed_bits

Epilogue = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Accumulators (O, n) of O channels to codes of the same shape, monotone along each row."""

MOST_SHIFT = 40


class _NoForm(BadInput):
    """The thresholds are not those of a line rounded in the way asked for."""


@dataclass(frozen=True, eq=False)
class Thresholds:
    """`code = low + #{k : sign*acc >= values[k-1]}`.

    Attributes:
        values: int64 (O, L), nondecreasing rows, each in `[lo, hi+1]` of `sign*acc`; `hi+1` is never reached.
        sign: int8 (O,), 1 or -1: -1 where a larger accumulator gives a smaller code.
        lo, hi: int64 (O,), what the accumulator can reach.
        low: the smallest code, 0 or -L.
    """

    values: NDArray[np.int64]
    sign: NDArray[np.int8]
    lo: NDArray[np.int64]
    hi: NDArray[np.int64]
    low: int = 0

    def mirrored_range(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(lo, hi) of `sign*acc`."""
        positive = self.sign > 0
        return np.where(positive, self.lo, -self.hi), np.where(positive, self.hi, -self.lo)

    def apply(self, acc: NDArray[np.integer]) -> NDArray[np.int64]:
        """Codes of accumulators (N, O, ...)."""
        codes = np.empty(acc.shape, dtype=np.int64)
        for o, (row, sign) in enumerate(zip(self.values, self.sign, strict=True)):
            codes[:, o] = np.searchsorted(row, int(sign) * acc[:, o].astype(np.int64), side="right")
        return codes + self.low


def find_thresholds(
    epilogue: Epilogue,
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    sign: NDArray[np.int8],
    levels: int,
    low: int = 0,
) -> Thresholds:
    """Bisect `epilogue` for the least `sign*acc` of every code.

    Args:
        epilogue: the layer's own.
        lo, hi: int64 (O,), the accumulator's range; 0 is within.
        sign: (O,), of the gain; either for a zero gain, whose constant gives thresholds at the ends only.
        levels: L, the number of codes less one.
        low: the smallest code.
    """
    wide = sign.astype(np.int64)[:, None]
    start = np.where(sign > 0, lo, -hi)[:, None]
    end = np.where(sign > 0, hi, -lo)[:, None]
    wanted = low + np.arange(1, levels + 1)[None, :]
    left = np.repeat(start, levels, axis=1)
    right = np.repeat(end + 1, levels, axis=1)
    while (left < right).any():
        middle = (left + right) >> 1
        # Where left == right the middle may be hi+1, outside the range: evaluate inside, change nothing.
        reached = epilogue(wide * np.clip(middle, start, end)) >= wanted
        open_ = left < right
        right = np.where(open_ & reached, middle, right)
        left = np.where(open_ & ~reached, middle + 1, left)
    return Thresholds(left, sign.astype(np.int8), lo, hi, low)


def prove_thresholds(name: str, thresholds: Thresholds, epilogue: Epilogue) -> Equality:
    """Compare thresholds and epilogue at every reachable one among `T[k]-1` and `T[k]`, of every channel and k, and at
    both ends of the range.

    Both are monotone, so equality there is equality at every accumulator.
    """
    t = thresholds
    lo, hi = (side[:, None] for side in t.mirrored_range())
    points = np.concatenate([t.values - 1, t.values, lo, hi], axis=1)
    reachable = (points >= lo) & (points <= hi)
    acc = t.sign.astype(np.int64)[:, None] * np.clip(points, lo, hi)
    expected = epilogue(acc)
    found = t.apply(acc[None])[0]
    wrong = (expected != found) & reachable
    first = ""
    if wrong.any():
        o, at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        first = f"[channel {o}, accumulator {acc[o, at]}] expected {expected[o, at]}, found {found[o, at]}"
    return Equality(name, int(reachable.sum()), int(wrong.sum()), first)


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """`code = low + clamp((acc*multiplier + bias) >> shift, least, levels)` per channel (arithmetic shift).

    With `rounding` "even" in place of "floor": `code = clamp(rint((acc*multiplier + bias) / 2^shift), low + least,
    low + levels)`, half to even.

    Attributes:
        multiplier, bias, shift: int64 (O,); the multiplier is negative for a negative gain, 0 for a constant.
        levels: the number of codes less one; fewer where the layer's own function (ReLU6) stops below the last.
        low: the smallest code of the format, 0 or -L.
        rounding: "floor" or "even".
        least: 0; more where the layer's own function (ReLU, in front of a signed quantizer) stops above the first.
    """

    multiplier: NDArray[np.int64]
    bias: NDArray[np.int64]
    shift: NDArray[np.int64]
    levels: int
    low: int = 0
    rounding: str = "floor"
    least: int = 0

    def apply(self, acc: NDArray[np.integer]) -> NDArray[np.int64]:
        """Codes of accumulators (N, O, ...)."""
        shape = (1, -1, *[1] * (acc.ndim - 2))
        m, b, s = (a.reshape(shape) for a in (self.multiplier, self.bias, self.shift))
        line = acc.astype(np.int64) * m + b
        codes: NDArray[np.int64] = line >> s
        if self.rounding == "even":
            # What the shift drops, twice, against the divisor: more than half rounds up, half only to an even code.
            twice, whole = 2 * (line - (codes << s)), np.int64(1) << s
            codes += (twice > whole) | ((twice == whole) & (codes % 2 == 1))
            return np.clip(codes, self.low + self.least, self.low + self.levels)
        return np.clip(codes, self.least, self.levels) + self.low

    def bits(self, lo: NDArray[np.int64], hi: NDArray[np.int64]) -> tuple[int, int, int]:
        """Signed widths of the multiplier, the bias, and `acc*multiplier + bias` over the accumulator's range."""
        ends = np.stack([lo * self.multiplier, hi * self.multiplier]) + self.bias
        return (
            least_signed_bits(int(self.multiplier.min()), int(self.multiplier.max())),
            least_signed_bits(int(self.bias.min()), int(self.bias.max())),
            least_signed_bits(int(ends.min()), int(ends.max())),
        )


def to_fixed_point(name: str, thresholds: Thresholds, multiplier_bits: int = 32) -> FixedPoint:
    """The smallest exact (M, B, S) of every channel: least S, then |M|, then |B|.

    For a given S, `M*T[k] + B >= k<<S` (where T[k] is reached) and `M*(T[k]-1) + B < k<<S` (where it is not reached at
    once) bound B from below and above; each pair of them bounds M, so only S is searched. Where a channel has no such
    form, all are clamped to the codes that there are (a ReLU or ReLU6 in the function), and where that is not enough
    (half to even at exact ties, as power-of-two scales make them) rounded half to even.

    Raises:
        BadInput: naming the channel, where M needs more than `multiplier_bits` signed bits, or no form exists.
    """
    t, levels, refusal = thresholds, thresholds.values.shape[1], ""
    lo, hi = (side[:, None] for side in t.mirrored_range())
    least, most = int((t.values <= lo).sum(1).min()), int((t.values <= hi).sum(1).max())
    for rounding, clamp in (("floor", (0, levels)), ("floor", (least, most)), ("even", (least, most))):
        try:
            found = [_channel(name, o, t, multiplier_bits, rounding, *clamp) for o in range(len(t.values))]
        except _NoForm as error:
            refusal = refusal or str(error)
            continue
        m, b, s = (np.array(column, dtype=np.int64) for column in zip(*found, strict=True))
        return FixedPoint(m, b, s, clamp[1], t.low, rounding, clamp[0])
    raise BadInput(refusal)


def requantize(
    name: str,
    epilogue: Epilogue,
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    sign: NDArray[np.int8],
    levels: int,
    low: int = 0,
    *,
    form: str = "thresholds",
    multiplier_bits: int = 32,
) -> Thresholds | FixedPoint:
    """`epilogue` in integers: its thresholds, proved, or (form "fixed-point") the smallest exact (M, B, S).

    Args:
        name: of the layer, for messages; the others as in `find_thresholds` and `to_fixed_point`.

    Raises:
        BadInput: an epilogue that is not monotone as `sign` says, or no (M, B, S), naming the channel.
    """
    if form not in ("thresholds", "fixed-point"):
        raise BadInput(f"{name}: form {form!r}: expected thresholds or fixed-point")
    thresholds = find_thresholds(epilogue, lo, hi, sign, levels, low)
    proof = prove_thresholds(name, thresholds, epilogue)
    if not proof.holds:
        raise BadInput(f"{name}: not a monotone function of the accumulator ({proof.first})")
    return thresholds if form == "thresholds" else to_fixed_point(name, thresholds, multiplier_bits)


def _channel(
    name: str, channel: int, thresholds: Thresholds, multiplier_bits: int, rounding: str, least: int, most: int
) -> tuple[int, int, int]:
    sign, t = int(thresholds.sign[channel]), thresholds.values[channel][least:most]
    lo, hi = (int(side[channel]) for side in thresholds.mirrored_range())
    # Where T[k] is reached, M*T[k] + B is at least its height plus `up`; where it is not at once, M*(T[k]-1) + B is at
    # most that plus `down`. A shift: height k<<S, all below rounds down. Half to even: (2k - 1)<<(S - 1), the tie
    # between k - 1 and k, which goes to the even one of them. `level` is the height in halves of 1<<S.
    k = np.arange(least + 1, most + 1, dtype=np.int64)
    if rounding == "floor":
        level, up, down = 2 * k, np.zeros_like(k), np.full_like(k, -1)
    else:
        odd = (k + thresholds.low) % 2
        level, up, down = 2 * (k + thresholds.low) - 1, odd, odd - 1
    at_least, below = t <= hi, t > lo
    up_t, up_k, up_c = _hull(t[at_least], level[at_least], up[at_least], 1)
    down_t, down_k, down_c = _hull(t[below] - 1, level[below], down[below], -1)

    def height(halves: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
        return (halves << shift) >> 1  # exact: halves are even, or the shift is at least 1

    # Every pair of one of each bounds M: M*slope <= height(rise) + spare.
    slope, rise, spare = (
        (one[:, None] - other[None, :]).reshape(-1) for one, other in ((down_t, up_t), (down_k, up_k), (down_c, up_c))
    )
    flat, rising, falling = slope == 0, slope > 0, slope < 0
    never = flat & ((rise < 0) | ((rise == 0) & (spare < 0)))
    if never.any() or not _has_slope(slope, rise, spare):
        raise _NoForm(f"{name}, channel {channel}: no affine form, its thresholds are not those of a rounded line")
    for shift in range(0 if rounding == "floor" else 1, MOST_SHIFT + 1):
        room = height(rise, shift) + spare
        if (room[flat] < 0).any():
            continue
        steepest = min((room[rising] // slope[rising]).tolist(), default=None)
        flattest = max((-(room[falling] // -slope[falling])).tolist(), default=None)
        if steepest is not None and flattest is not None and flattest > steepest:
            continue
        m = max(0, flattest or 0) if flattest is not None else min(0, steepest or 0)
        if steepest is not None and m > steepest:
            m = steepest
        b_least = max((height(up_k, shift) + up_c - m * up_t).tolist(), default=None)
        b_most = min((height(down_k, shift) + down_c - m * down_t).tolist(), default=None)
        b = max(0, b_least) if b_least is not None and b_least > 0 else 0
        if b_most is not None and b > b_most:
            b = b_most
        bits = least_signed_bits(min(sign * m, 0), max(sign * m, 0))
        if bits > multiplier_bits:
            raise BadInput(f"{name}, channel {channel}: the multiplier needs {bits} bits, given {multiplier_bits}")
        return sign * m, b, shift
    raise BadInput(f"{name}, channel {channel}: needs a shift of more than {MOST_SHIFT} bits")


def _hull(
    t: NDArray[np.int64], level: NDArray[np.int64], extra: NDArray[np.int64], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The vertices of the upper (side 1) or lower (-1) hull of the points (t, level) of each `extra`, t ascending.

    For every M and S the largest of `(level<<S) - M*t` (the smallest, for the lower hull) is at one of them, so the
    others of the same `extra` bound nothing.
    """
    kept: list[tuple[int, int, int]] = []
    for c in sorted({*extra.tolist()}):
        start = len(kept)
        for x, y in zip(t[extra == c].tolist(), level[extra == c].tolist(), strict=True):
            if len(kept) > start and kept[-1][0] == x:
                if side * (y - kept[-1][1]) <= 0:
                    continue
                kept.pop()
            while len(kept) > start + 1:
                (x0, y0, _), (x1, y1, _) = kept[-2:]
                if side * ((y1 - y0) * (x - x0) - (y - y0) * (x1 - x0)) > 0:
                    break
                kept.pop()
            kept.append((x, y, c))
    points = np.array(kept, dtype=np.int64).reshape(-1, 3)
    return points[:, 0], points[:, 1], points[:, 2]


def _has_slope(slope: NDArray[np.int64], rise: NDArray[np.int64], spare: NDArray[np.int64]) -> bool:
    """Whether some real m has m*slope < rise for every pair, or = rise where there is something to spare: the limit of
    the integer conditions for large S."""
    upper = [(Fraction(int(r), int(c)), int(e)) for r, c, e in zip(rise, slope, spare, strict=True) if c > 0]
    lower = [(Fraction(int(r), int(c)), int(e)) for r, c, e in zip(rise, slope, spare, strict=True) if c < 0]
    if not upper or not lower:
        return True
    # The strictest of the bounds at the same place counts.
    (most, above), (least, under) = min(upper), max(lower, key=lambda bound: (bound[0], -bound[1]))
    return least < most or (least == most and above >= 0 and under >= 0)
