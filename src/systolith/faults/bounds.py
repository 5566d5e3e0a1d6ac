"""What registers can hold, over all integers of the formats: which faults of a PE or an SFP never change it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.array.sfp import fit, relu
from systolith.faults.addresses import owned
from systolith.faults.element import OPERAND, added, multiplied, overflowing, stuck
from systolith.faults.faults import KEPT, Fault, Value
from systolith.faults.faulty import columns_of, wrong_relu
from systolith.faults.lattice import Ints, held
from systolith.formats import IntFormat

MOST = 1 << 23  # combinations of values that are compared one by one
Flags = tuple[bool, ...]


def element(fault: Fault, mapping: Mapping) -> str:
    """Why no integers can show a fault of one PE; "" where that is not established."""
    rest = tuple(pair for pair in fault.at if pair[0] not in ("row", "col"))
    places = _places(mapping, fault.number("row"), columns_of(fault, mapping), fault.kind == KEPT)
    if not any(_differs(mapping, fault.kind, rest, *place) for place in places):
        return "it changes nothing, whatever can enter this PE: every case compared, or excluded by its bounds"
    if fault.number("col") >= mapping.conv.out_channels and not fault.kind.startswith("weight"):
        return "the column has no channel: what it leaves is the same for every stimulus, and no golden file shows it"
    return ""


Place = tuple[tuple[int, ...], Flags, Flags]
"""Of a PE in a pass or a step: products of each stage in front of it; which codes of its lane can be other than 0;
which have a weight."""


@lru_cache(maxsize=1024)  # keeps no layer for ever
def _places(mapping: Mapping, row: int, cols: range, behind_first: bool) -> set[Place]:
    """Those of a row's PEs in some columns, in every pass or step, perhaps without the first step."""
    found: set[Place] = set()
    for weights, codes in zip(live_weights(mapping), _fed(mapping, row if mapping.stationary else None), strict=True):
        for live in np.unique(weights[cols.start : cols.stop], axis=0):
            for fed in codes:
                counts = (live & fed).sum(1)
                stages = [row]
                if mapping.stationary:
                    # What can enter a step can enter every further one: of alike steps the last one tells of all.
                    alike = np.concatenate([fed, live], axis=1)
                    _, last = np.unique(alike[::-1], axis=0, return_index=True)
                    stages = [step for step in (len(live) - 1 - last).tolist() if step or not behind_first]
                for stage in stages:
                    found.add((_some(counts[:stage]), tuple(fed[stage].tolist()), tuple(live[stage].tolist())))
    return found


def _some(counts: Ints) -> tuple[int, ...]:
    return tuple(counts[counts > 0].tolist())


@lru_cache(maxsize=64)  # keeps no layer for ever
def live_weights(mapping: Mapping) -> NDArray[np.bool_]:
    """bool (pair of tiles, col, stage, code): where a weight is, in the passes of each pair of tiles, and not a lane
    without a channel or another group."""
    ones = mapping.weight_tiles_of(np.ones(mapping.conv.weight.shape, dtype=np.int8))[mapping.made]
    live: NDArray[np.bool_] = ones[:, 0].reshape(*ones[:, 0].shape[:-1], -1, mapping.simd) != 0
    return live


def fed_codes(mapping: Mapping) -> NDArray[np.bool_]:
    """bool (ic_tile, nij, stage, code): which codes are not always 0, for lack of a channel or in the padding."""
    shape = mapping.batch, mapping.conv.in_channels, mapping.height, mapping.width
    fed: NDArray[np.bool_] = mapping.act_tiles(np.ones(shape, dtype=np.int8)) != 0
    return fed.reshape(*fed.shape[:2], -1, mapping.simd)


@lru_cache(maxsize=64)  # keeps no layer for ever
def _fed(mapping: Mapping, row: int | None) -> list[NDArray[np.bool_]]:
    """Of each pair of tiles the different ones of `fed_codes`, at the positions of a row if one is given: bool (n,
    stage, code)."""
    fed = fed_codes(mapping)
    if row is not None:
        fed = fed[:, owned(mapping, row)]
    different = [np.unique(one, axis=0) for one in fed]
    return [different[tile] for tile in np.nonzero(mapping.made)[0]]


@lru_cache(maxsize=4096)  # keeps no layer for ever
def _differs(
    mapping: Mapping, kind: str, rest: tuple[tuple[str, Value], ...], above: tuple[int, ...], fed: Flags, live: Flags
) -> bool:
    """Whether a PE with the fault may ever hand on something else, at a `Place`."""
    spec, fault = held(mapping.spec), Fault(kind, rest)
    form = spec.psum_format
    pairs = _pairs(mapping, fault, fed, live)
    if pairs is None:
        return True
    lo, hi, entering = _sums(mapping, above)
    lo, hi = lo + int(pairs[0].min()), hi + int(pairs[0].max())
    if kind == "psum register" and kept(lo, hi, mapping, str(fault["how"])):
        return False
    if kind in OPERAND:  # the adder is right
        pairs = pairs[:, pairs[0] != pairs[1]]
    if entering is None or entering.size * pairs.shape[1] > MOST:
        return pairs.shape[1] > 0
    size = max(1, (1 << 16) // entering.size)
    for product, wrong in (pairs[:, n : n + size, None] for n in range(0, pairs.shape[1], size)):
        exact = entering + product
        different = fit(exact, spec, "", ()) != added(entering, wrong, fault, spec)
        if mapping.spec.overflow == "error":
            different &= (exact >= form.lo) & (exact <= form.hi)
        if different.any():
            return True
    return False


@lru_cache(maxsize=256)  # keeps no layer for ever
def _pairs(mapping: Mapping, fault: Fault, fed: Flags, live: Flags) -> Ints | None:
    """Every product of a lane and what the fault makes of it, (2, pair); None where there are too many to try."""
    zero = np.zeros(1, dtype=np.int64)
    acts = [_codes(mapping.code_format) if there else zero for there in fed]
    weights = [_codes(mapping.spec.weight_format) if there else zero for there in live]
    if np.prod([float(len(codes)) for codes in (*acts, *weights)]) > MOST:
        return None
    lanes = [
        np.stack([part.reshape(-1) for part in np.meshgrid(*codes, indexing="ij")], -1) for codes in (acts, weights)
    ]
    left, right = lanes[0][:, None], lanes[1][None]
    both = (left * right).sum(-1).reshape(-1), multiplied(left, right, fault, mapping).reshape(-1)
    return np.unique(np.stack(both), axis=1)


def _codes(fmt: IntFormat) -> Ints:
    return np.arange(fmt.lo, fmt.hi + 1)


@lru_cache(maxsize=64)  # keeps no layer for ever
def products(mapping: Mapping, codes: int = 1) -> Ints:
    """Every sum of so many products of codes, ascending; 0 is one of them."""
    single = np.unique(np.multiply.outer(_codes(mapping.code_format), _codes(mapping.spec.weight_format)))
    found = single
    for _ in range(codes - 1):
        found = np.unique(np.add.outer(found, single))
    return found


Reached = tuple[int, int, Ints | None]
"""The least and the greatest value, and all there are, ascending; None where they are too many to try."""


@lru_cache(maxsize=1024)  # keeps no layer for ever
def _sums(mapping: Mapping, counts: tuple[int, ...]) -> Reached:
    """What a register can hold after stages of so many products each; or, where those are too many to try, more."""
    form, spec = mapping.spec.psum_format, held(mapping.spec)
    found = np.zeros(1, dtype=np.int64)
    for count in counts:
        addends = products(mapping, count)
        if found.size * addends.size > MOST:
            lo, hi = (sum(counts) * int(products(mapping)[end]) for end in (0, -1))
            if lo < form.lo or hi > form.hi:
                lo, hi = form.lo, form.hi
            return lo, hi, np.arange(lo, hi + 1) if hi - lo < MOST else None
        first = int(found[0] + addends[0])
        reached = np.zeros(int(found[-1] + addends[-1]) - first + 1, dtype=np.bool_)
        for addend in addends:
            reached[found + (addend - first)] = True
        sums = np.flatnonzero(reached) + first
        if mapping.spec.overflow == "error":
            sums = sums[(sums >= form.lo) & (sums <= form.hi)]
        found = sums if sums[0] >= form.lo and sums[-1] <= form.hi else np.unique(fit(sums, spec, "", ()))
    return int(found[0]), int(found[-1]), found


def kept(lo: int, hi: int, mapping: Mapping, how: str) -> bool:
    """Whether a register that overflows in a wrong way leaves all of lo..hi as the right one does."""
    spec = held(mapping.spec)
    if mapping.spec.overflow == "error":
        lo, hi = max(lo, spec.psum_format.lo), min(hi, spec.psum_format.hi)
    # Every kind of register leaves what fits it, and 0 does: both ends kept is all kept.
    ends = np.array([lo, hi])
    return bool((overflowing(ends, spec, how) == ends).all() and (fit(ends, spec, "", ()) == ends).all())


def lane(fault: Fault, mapping: Mapping, before_relu: bool) -> str:
    """Of a fault of one column's SFP, or of a drain register in front of it.

    Args:
        before_relu: whether the golden files show what the fault touches before ReLU.
    """
    conv, spec, kind = mapping.conv, held(mapping.spec), fault.kind
    lo = hi = 0
    if fault.number("col") < conv.out_channels:
        # With 0 among the activations and the weights, these are also bounds of every part of a sum.
        codes, terms = products(mapping), conv.weight[0].size
        lo, hi = terms * int(codes[0]), terms * int(codes[-1])
    exact = lo, hi
    if lo < spec.psum_format.lo or hi > spec.psum_format.hi:
        lo, hi = spec.psum_format.lo, spec.psum_format.hi
    bound = f"the sum stays within {lo}..{hi}, where nothing changes"
    once = mapping.kijs * mapping.most_tiles == 1 or lo == hi == 0  # no sum but the last, or always the same
    if once:  # what is added to 0 has been in a register
        exact = lo, hi
    if kind == "carry of the sum dropped":
        return "one of the two operands is always 0: there is no carry" if once else ""
    if kind == "ReLU" and fault["how"] == "of partial sums":
        return bound if lo >= 0 else "there is one partial sum, the last" if once and not before_relu else ""
    if kind == "sum register" and kept(*exact, mapping, str(fault["how"])):
        return bound
    if kind != "ReLU":
        if hi - lo >= MOST or exact != (lo, hi):
            return ""
        values = np.arange(lo, hi + 1)
        if kind == "sum register":
            wrong = overflowing(values, spec, str(fault["how"]))
        else:
            wrong = stuck(values, fault.number("bit"), fault.number("stuck at"), spec.psum_format)
        if (wrong == values).all():
            return bound
        hidden = once and not before_relu and (relu(wrong) == relu(values)).all()
        return "it changes negative sums alone, and ReLU hides them" if hidden else ""
    # Every wrong ReLU that differs anywhere in lo..hi differs in -3..3 of it.
    values = np.arange(max(lo, -3), min(hi, 3) + 1)
    return bound if (wrong_relu(values, str(fault["how"])) == relu(values)).all() else ""
