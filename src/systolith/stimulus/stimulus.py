"""Stimulus: seeded random integers and directed corner cases for a layer of any shape, without a network.

Activations are given unpadded, so the padding ring is zero whatever the case. Nothing is masked to fit: what the
shape's ranges cannot reach, or the case cannot show, is `LeftOut` with the reason.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArraySpec
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.network.graph import Pair, sides
from systolith.stimulus.products import sum_of_products
from systolith.vectors.shape import Shape

Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Case:
    """One stimulus.

    Attributes:
        name: of the case, also the folder's.
        conv: the layer, named as the case; weights int32.
        act: int32 codes (C, H, W), unpadded.
        note: what it shows, one clause.
    """

    name: str
    conv: Conv
    act: NDArray[np.int32]
    note: str


@dataclass(frozen=True)
class LeftOut:
    """A case that this shape or array cannot have, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class _Given:
    """What a case is made from; `rng` is the case's own, so no case depends on which others are made."""

    name: str
    shape: Shape
    spec: ArraySpec
    rng: np.random.Generator
    density: float

    def case(self, act: Ints, weight: Ints, note: str, name: str = "") -> Case:
        act, weight = (np.ascontiguousarray(t, dtype=np.int32) for t in (act, weight))
        return Case(name or self.name, self.shape.conv(name or self.name, weight), act, note)

    def uniform(self, shape: tuple[int, ...], span: Pair) -> Ints:
        return self.rng.integers(span[0], span[1] + 1, shape)


Made = Iterator[Case | LeftOut]


def batch_of(act: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """A case's activations for so many pictures, (picture, C, H, W); (C, H, W) of one.

    Each further picture is the one before it, moved by one along every axis, so that no two need be alike.
    """
    return act if count == 1 else np.stack([np.roll(act, picture, (0, 1, 2)) for picture in range(count)])


def _codes(span: Pair) -> Ints:
    """The codes of a range except 0, ascending."""
    return np.array([*range(span[0], 0), *range(1, span[1] + 1)])


def _steps(shape: tuple[int, ...]) -> Ints:
    """The sum of the indices, for every element: neighbours along any axis differ by one."""
    return reduce(np.add, np.indices(shape, sparse=True))


def _random(g: _Given) -> Made:
    s = g.shape
    yield g.case(g.uniform(s.act_shape, s.acts), g.uniform(s.weight_shape, s.weights), "uniform codes")


def _sparse(g: _Given) -> Made:
    def some(shape: tuple[int, ...], span: Pair) -> Ints:
        flat = np.zeros(int(np.prod(shape)), dtype=np.int32)
        chosen = g.rng.permutation(flat.size)[: round(g.density * flat.size)]
        flat[chosen] = g.rng.choice(_codes(span), chosen.size)
        return flat.reshape(shape)

    act, weight = some(g.shape.act_shape, g.shape.acts), some(g.shape.weight_shape, g.shape.weights)
    yield g.case(act, weight, f"a share of {g.density:g} of the activations and of the weights is not 0")


def _all_zero(g: _Given) -> Made:
    weight = g.uniform(g.shape.weight_shape, g.shape.weights)
    yield g.case(np.zeros(g.shape.act_shape, dtype=np.int32), weight, "activations 0, random weights: every psum is 0")


def _constant(g: _Given, act: int, weight: int) -> Case:
    note = f"every activation {act}, every weight {weight}"
    return g.case(np.full(g.shape.act_shape, act), np.full(g.shape.weight_shape, weight), note)


def _all_max(g: _Given) -> Made:
    yield _constant(g, g.shape.acts[1], g.shape.weights[1])


def _all_min(g: _Given) -> Made:
    # The least unsigned activation is 0, and then the weights would not show.
    yield _constant(g, g.shape.acts[0] or g.shape.acts[1], g.shape.weights[0])


def _repeated(g: _Given) -> Made:
    yield _constant(g, int(g.rng.choice(_codes(g.shape.acts))), int(g.rng.choice(_codes(g.shape.weights))))


def _ramp(g: _Given) -> Made:
    acts, weights = g.shape.acts, g.shape.weights
    positions = np.arange(g.shape.size[0] * g.shape.size[1]).reshape(g.shape.size)
    act = acts[0] + (np.arange(g.shape.in_channels)[:, None, None] + positions) % (acts[1] - acts[0] + 1)
    kijs = np.arange(g.shape.kernel[0] * g.shape.kernel[1]).reshape(g.shape.kernel)
    weight = weights[0] + (_steps(g.shape.weight_shape[:2])[..., None, None] + kijs) % (weights[1] - weights[0] + 1)
    yield g.case(act, weight, "codes count up along positions, kij and channels, and start again")


def _alternating(g: _Given) -> Made:
    acts, weights = g.shape.acts, g.shape.weights
    act = np.full(g.shape.act_shape, acts[1])
    if acts[0] < 0:
        act[:] = np.where(_steps(g.shape.size) % 2, *acts)
    weight = np.where(_steps(g.shape.weight_shape) % 2, *weights)
    yield g.case(act, weight, "products change sign from row to row, column to column, kij to kij")


def _checkerboard(g: _Given) -> Made:
    act, weight = (_steps(s) % 2 for s in (g.shape.act_shape, g.shape.weight_shape))
    note = "largest and smallest codes in turn along every axis"
    yield g.case(np.where(act, *g.shape.acts), np.where(weight, *g.shape.weights), note)


def _visits(g: _Given) -> list[NDArray[np.bool_]]:
    """Masks (C, H, W) with one row of the array at each position; together every row, for every kij, at a position
    whose psum reaches an output (for a kij that has any)."""
    s = g.shape
    steps, spans = [], []
    top, bottom, left, right = sides(s.padding)
    axes = zip(s.size, s.kernel, ((top, bottom), (left, right)), s.stride, s.dilation, strict=True)
    for size, kernel, (before, after), stride, dilation in axes:
        taken = np.arange(0, size + before + after - dilation * (kernel - 1), stride) - before
        counts = [int(((t >= 0) & (t < size)).sum()) for t in (taken + k * dilation for k in range(kernel))]
        # Under one kij the outputs take every stride-th position: consecutive steps, at least so many.
        fewest = min((n for n in counts if n), default=0)
        steps.append(np.arange(size) // (stride if fewest else 1))
        spans.append(fewest or size)
    # Any spans[0] x spans[1] window of steps holds each of these numbers.
    number = (steps[0][:, None] * spans[1] + steps[1]) % (spans[0] * spans[1])
    rows = np.arange(s.in_channels) % g.spec.rows
    firsts = range(0, min(s.in_channels, g.spec.rows), spans[0] * spans[1])
    return [rows[:, None, None] == first + number for first in firsts]


def _one_hot(g: _Given) -> Made:
    act, weight = (1 if span[1] else -1 for span in (g.shape.acts, g.shape.weights))
    visits = _visits(g)
    note = f"{act} x {weight} walks every PE: one row at each position, so each psum is one product"
    for n, visit in enumerate(visits):
        name = g.name if len(visits) == 1 else f"{g.name}-{n}"
        yield g.case(visit * act, np.full(g.shape.weight_shape, weight), note, name)


def _walk(g: _Given) -> Made:
    codes, places = _codes(g.shape.weights), np.arange(np.prod(g.shape.weight_shape)).reshape(g.shape.weight_shape)
    if codes.size < 2:
        yield LeftOut(g.name, "one weight code beside 0 cannot tell the weights apart")
        return
    base = codes.size
    digits = next(d for d in range(1, 64) if base**d >= places.size)
    acts = np.resize(_codes(g.shape.acts), g.shape.size)
    visits = _visits(g)
    # Any two weights differ in some digit; and in the last case each differs from the first, so none may be stuck.
    turns = [*((digit, 0) for digit in range(digits)), (0, 1)]
    for n, ((digit, shift), visit) in enumerate((turn, visit) for turn in turns for visit in visits):
        weight = codes[(places // base**digit + shift) % base]
        note = f"as one-hot, weights spell digit {digit}{' + 1' if shift else ''} of their place in base {base}"
        yield g.case(visit * acts, weight, note, f"{g.name}-{n}")


def _worst(g: _Given, sign: int) -> Made:
    s = g.shape
    ins, outs = s.group
    weight = g.uniform(s.weight_shape, s.weights).reshape(s.out_channels, ins, -1)
    best = np.where(sign * weight > 0, s.acts[1], s.acts[0])
    gain = sign * best * weight
    act = np.zeros(s.act_shape, dtype=np.int64)
    # Everywhere the largest pass of each ic_tile, of each group in it; then, in one output's window, what makes that
    # output largest.
    begins = sorted({*range(0, s.in_channels, g.spec.rows), *range(0, s.in_channels, ins)})
    for first, last in zip(begins, [*begins[1:], s.in_channels], strict=True):
        group = first // ins
        ocs, ics = slice(group * outs, (group + 1) * outs), slice(first - group * ins, last - group * ins)
        passes = gain[ocs, ics].sum(1)
        oc, kij = np.unravel_index(int(passes.argmax()), passes.shape)
        act[first:last] = best[ocs, ics][oc, :, kij, None, None]
    i, j, inside = s.windows(g.spec)
    outputs = gain.sum(1) @ inside.astype(np.int64)
    oc, onij = np.unravel_index(int(outputs.argmax()), outputs.shape)
    kijs = np.flatnonzero(inside[:, onij])
    act[s.reads[oc][:, None], i[kijs, onij], j[kijs, onij]] = best[oc, :, kijs].T
    note = f"random weights, activations chosen from them: output oc {oc}, onij {onij} is {sign * int(outputs.max())}"
    yield g.case(act, weight.reshape(s.weight_shape), note)


def _alike(g: _Given) -> str:
    """The output channels whose groups the tiles cut as they cut the first one, in words."""
    ins, outs = g.shape.group
    cut = g.shape.groups > 1 and ins % g.spec.rows and g.spec.rows % ins
    return f"output channels 0-{outs - 1}" if cut else "every channel"


def _extreme(g: _Given, one_pass: bool, sign: int, beyond: int) -> Made:
    s, fmt, ins = g.shape, g.spec.psum_format, g.shape.group[0]
    target = (fmt.hi if sign > 0 else fmt.lo) + sign * beyond
    a, w = max(((a, w) for a in s.acts for w in s.weights), key=lambda pair: sign * pair[0] * pair[1])
    i, j, inside = s.windows(g.spec)
    onij = int(inside.sum(0).argmax())
    kijs = np.flatnonzero(inside[:, onij])[: 1 if one_pass else None]
    channels = np.arange(min(ins, g.spec.rows) if one_pass else ins)  # of each group
    # Row by row, the passes in turn: an accumulated extreme comes about in the accumulation, not in one pass.
    channels = channels[np.lexsort((channels // g.spec.rows, channels % g.spec.rows))]
    places = [(ic, kij) for ic in channels for kij in kijs]
    reach = max(0, sign * a * w) * len(places)
    products = sum_of_products(abs(target), len(places), abs(a), abs(w)) if reach >= abs(target) else None
    if products is None:
        no_sum = f"found no sum of {len(places)} products of codes up to {abs(a)} and {abs(w)}"
        why = f"{len(places)} products reach {sign * reach}" if reach < abs(target) else no_sum
        yield LeftOut(g.name, f"{target} is out of reach: {why}")
        return
    if beyond and g.spec.overflow == "error":
        yield LeftOut(g.name, f"{target} does not fit {fmt.bits} bits; --overflow wrap or saturate takes it")
        return
    act = np.zeros(s.act_shape, dtype=np.int64)
    weight = np.zeros((*s.weight_shape[:2], inside.shape[0]), dtype=np.int64)
    for (ic, kij), (x, y) in zip(places, products, strict=False):
        act[ic::ins, i[kij, onij], j[kij, onij]] = x * np.sign(a)
        weight[:, ic, kij] = y * np.sign(w)
    what = "one pass's psum" if one_pass else "the sum over passes"
    yield g.case(act, weight.reshape(s.weight_shape), f"{what} is {target} in {_alike(g)} at onij {onij}")


def _cancel(g: _Given) -> Made:
    s = g.shape
    if s.groups > 1 and s.group[0] == 1:
        yield LeftOut(g.name, "a column adds one product a pass: there is nothing to cancel")
        return
    both = [span[0] < 0 < span[1] for span in (s.weights, s.acts)]
    if not any(both):
        yield LeftOut(g.name, "every product has the same sign")
        return
    row = np.arange(s.in_channels) % g.spec.rows
    turn, unit = 1 - 2 * (row % 2), [1 if span[1] else -1 for span in (s.acts, s.weights)]
    turned = (turn if both[0] else np.ones_like(turn))[s.reads, None, None] * unit[1]
    weight = np.broadcast_to(turned, s.weight_shape)
    visits = _visits(g)
    for n, visit in enumerate(visits):
        below = np.zeros_like(visit)
        below[1:] = visit[:-1] & (row[1:] > 0)[:, None, None]
        act = (visit | below) * (unit[0] if both[0] else turn[:, None, None])
        note = "1 in one row, -1 in the next: the sum 0 carries through every bit of the adder"
        yield g.case(act, weight, note, g.name if len(visits) == 1 else f"{g.name}-{n}")


def _stairs(g: _Given, sign: int) -> Made:
    s = g.shape
    act, weight = max(((a, w) for a in s.acts for w in s.weights), key=lambda pair: sign * pair[0] * pair[1])
    if sign * act * weight <= 0:
        yield LeftOut(g.name, f"no product is {'positive' if sign > 0 else 'negative'}")
        return
    rows = np.arange(s.in_channels)[:, None, None] % g.spec.rows
    visits = _visits(g)
    for n, visit in enumerate(visits):
        # At each position the rows down to one that `visit` names; where it names none, none.
        last = (visit * (rows + 1)).max(0)
        note = f"products {act * weight} down to one row, 0 below: each row's sum leaves the array"
        name = g.name if len(visits) == 1 else f"{g.name}-{n}"
        yield g.case((rows < last) * act, np.full(s.weight_shape, weight), note, name)


def _unit(g: _Given, sign: int) -> Made:
    s = g.shape
    pairs = [(a, sign * a) for a in (1, -1) if s.acts[0] <= a <= s.acts[1] and s.weights[0] <= sign * a <= s.weights[1]]
    if not pairs:
        yield LeftOut(g.name, f"no product of these codes is {sign}")
        return
    act, weight = np.zeros(s.act_shape, dtype=np.int64), np.zeros(s.weight_shape, dtype=np.int64)
    act[:: s.group[0]], kij = pairs[0][0], int(s.windows(g.spec)[2].sum(1).argmax())
    weight.reshape(*s.weight_shape[:2], -1)[:, 0, kij] = pairs[0][1]
    yield g.case(act, weight, f"every output is {sign} or 0: the thresholds of a ReLU")


def _turn(g: _Given, lowest: bool) -> Made:
    s, target, ins = g.shape, -g.spec.psum_format.lo if lowest else 1, g.shape.group[0]
    i, j, inside = s.windows(g.spec)
    onij = int(inside.sum(0).argmax())
    tiles = -(-ins // g.spec.rows)  # of each group
    passes = [(kij, tile) for kij in np.flatnonzero(inside[:, onij]) for tile in range(tiles)]
    half = len(passes) // 2
    act = np.zeros(s.act_shape, dtype=np.int64)
    weight = np.zeros((*s.weight_shape[:2], inside.shape[0]), dtype=np.int64)
    for sign, part, size in ((-1, passes[:half], target), (1, passes[half:], target + 1)):
        a, w = max(((a, w) for a in s.acts for w in s.weights), key=lambda pair: sign * pair[0] * pair[1])
        # Row by row, the passes in turn: none overflows by itself.
        lanes = ((row, kij, tile) for row in range(g.spec.rows) for kij, tile in part)
        places = [(ic, kij) for row, kij, tile in lanes if (ic := tile * g.spec.rows + row) < ins]
        reach = max(0, sign * a * w) * len(places)
        products = sum_of_products(size, len(places), abs(a), abs(w)) if reach >= size else None
        if products is None:
            yield LeftOut(g.name, f"{sign * size} is out of reach in half of the passes")
            return
        for (ic, kij), (x, y) in zip(places, products, strict=False):
            act[ic::ins, i[kij, onij], j[kij, onij]] = x * np.sign(a)
            weight[:, ic, kij] = y * np.sign(w)
    note = f"the sum over passes is {-target}, and then 1, in {_alike(g)} at onij {onij}"
    yield g.case(act, weight.reshape(s.weight_shape), note)


_MAKERS: dict[str, Callable[[_Given], Made]] = {
    "random": _random,
    "all-zero": _all_zero,
    "all-max": _all_max,
    "all-min": _all_min,
    "alternating": _alternating,
    "checkerboard": _checkerboard,
    "one-hot": _one_hot,
    "walk": _walk,
    "cancel": _cancel,
    "stairs-max": partial(_stairs, sign=1),
    "stairs-min": partial(_stairs, sign=-1),
    "out-plus-one": partial(_unit, sign=1),
    "out-minus-one": partial(_unit, sign=-1),
    "worst-max": partial(_worst, sign=1),
    "worst-min": partial(_worst, sign=-1),
    **{
        f"{what}-{name}": partial(_extreme, one_pass=what == "pass", sign=sign, beyond=beyond)
        for what in ("acc", "pass")
        for name, sign, beyond in (("max", 1, 0), ("min", -1, 0), ("above-max", 1, 1), ("below-min", -1, 1))
    },
    "acc-dip": partial(_turn, lowest=False),
    "acc-turn": partial(_turn, lowest=True),
    "sparse": _sparse,
    "repeated": _repeated,
    "ramp": _ramp,
}
STIMULI = ("corner", *_MAKERS)


def make_cases(stimulus: str, shape: Shape, spec: ArraySpec, seed: int = 0, density: float = 0.25) -> Made:
    """The cases of a stimulus, made one after another.

    Args:
        stimulus: one of `STIMULI`; "corner" is all of them but "random".
        seed: not negative; the same one gives the same integers, whatever other cases are made.
        density: of "sparse", 0 to 1.

    Raises:
        BadInput: no such stimulus, seed or density; at once.
    """
    if stimulus not in STIMULI:
        raise BadInput(f"no stimulus {stimulus!r}: expected one of {', '.join(STIMULI)}")
    if seed < 0:
        raise BadInput(f"seed {seed}: expected 0 or more")
    if not 0 <= density <= 1:
        raise BadInput(f"density {density:g}: expected 0 to 1")
    names = [name for name in _MAKERS if name != "random"] if stimulus == "corner" else [stimulus]
    given = (_Given(n, shape, spec, np.random.default_rng([seed, zlib.crc32(n.encode())]), density) for n in names)
    return (made for g in given for made in _MAKERS[g.name](g))
