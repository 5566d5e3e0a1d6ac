"""Faults that no integers can show, and why: a sentence only where the code has established it.

Weights and activations are free within the formats of the array's lanes; the layer's shape, the array and what the
golden files show are given. Under overflow "error" integers that overflow are no golden vectors. Three ways of proof:

- a fault of one PE is a function of what enters it: equal to the right one at every value that can enter;
- an address or an order that is wrong reaches, everywhere, what it should, or another place that is always 0;
- a register's bound: it never holds a value that the fault treats differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.array.mapping import read_by
from systolith.array.sfp import fit, relu
from systolith.faults.faults import Fault, Value
from systolith.faults.faulty import (
    LOCAL,
    act_addresses,
    added,
    columns_of,
    kij_addresses,
    multiplied,
    overflowing,
    psum_addresses,
    stuck,
    stuck_address,
    wrong_relu,
)
from systolith.faults.lattice import Ints, held
from systolith.formats import IntFormat
from systolith.vectors.tensors import picked

MOST = 1 << 23  # combinations of values that are compared one by one
SUMS = ("neighbouring columns swapped", "order of lanes reversed")
BEHIND = (
    *("sum bit", "carry of the sum dropped", "sum register", "stale sum", "ReLU", "pass of kij", "pass of ic_tile"),
    *("order of passes", "psum address bit", "psum address", "output address bit"),
)
"""Kinds of fault behind the psums: they touch outputs alone; those of `SUMS` if it is the sums that they touch."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The bits of each psum and output that golden files show, as masks; 0 where none does.

    Attributes:
        psum: int64 (oc_tile, col, ic_tile, kij, nij).
        out, after: int64 (oc_tile, col, onij), before and after ReLU.
    """

    psum: Ints
    out: Ints
    after: Ints

    def outputs(self) -> NDArray[np.bool_]:
        """bool (oc_tile, col, onij)"""
        found: NDArray[np.bool_] = (self.out | self.after) != 0
        return found


def proof(fault: Fault, mapping: Mapping, seen: Seen) -> str:
    """Why no stimulus can show the fault in the golden files; "" where that is not established.

    Args:
        fault: one that some stimulus was simulated with and did not reveal.
    """
    cols, at = list(columns_of(fault, mapping)), dict(fault.at)
    behind = fault.kind in BEHIND or (fault.kind in SUMS and at["how"] == "sums")
    if not seen.outputs()[:, cols].any() and (behind or not seen.psum[:, cols].any()):
        return "no golden file shows what it touches"
    if fault.kind in LOCAL:
        return _local(fault, mapping)
    if int(at.get("row", 0)) >= mapping.conv.in_channels:
        return "the row has no channel: its activations and weights are always 0"
    if fault.kind in ("sum bit", "carry of the sum dropped", "sum register", "ReLU"):
        return _lane(fault, mapping, bool(seen.out.any()))
    if int(at.get("col", 0)) >= mapping.conv.out_channels:
        return "the column has no channel: its psums and sums are always 0"
    return _global(fault, mapping, seen)


def _local(fault: Fault, mapping: Mapping) -> str:
    """Of a fault of one PE."""
    row, col, conv = fault.number("row"), fault.number("col"), mapping.conv
    rest = tuple(pair for pair in fault.at if pair[0] not in ("row", "col"))
    live = _live(mapping)[:, columns_of(fault, mapping)]
    places = {(int(one[:row].sum()), bool(one[row])) for one in live.reshape(-1, live.shape[2])}
    if not any(_differs(mapping, fault.kind, rest, above, row < conv.in_channels, here) for above, here in places):
        return "it changes nothing, whatever can enter this PE: every case compared, or excluded by its bounds"
    if col >= conv.out_channels and not fault.kind.startswith("weight"):
        return "the column has no channel: what it leaves is the same for every stimulus, and no golden file shows it"
    return ""


@lru_cache(maxsize=1024)  # keeps no layer for ever
def _live(mapping: Mapping) -> NDArray[np.bool_]:
    """bool (pass, col, row): where a weight is, in the passes of each pair of tiles, and not a lane without a channel
    or another group."""
    ones = mapping.weight_tiles_of(np.ones(mapping.conv.weight.shape, dtype=np.int8))
    live: NDArray[np.bool_] = ones[mapping.made][:, 0] != 0
    return live


@lru_cache(maxsize=1024)  # keeps no layer for ever
def _differs(
    mapping: Mapping, kind: str, rest: tuple[tuple[str, Value], ...], above: int, row: bool, weighs: bool
) -> bool:
    """Whether a PE with the fault may ever hand on something else.

    Args:
        above: rows above it that have a weight in its column.
        row: whether its own has a channel.
        weighs: whether it has a weight.
    """
    spec, conv = held(mapping.spec), mapping.conv
    fault, form = Fault(kind, rest), spec.psum_format
    acts = _codes(spec.act_format(conv)) if row else np.zeros(1, dtype=np.int64)
    weights = _codes(spec.weight_format) if weighs else np.zeros(1, dtype=np.int64)
    left, right = (part.reshape(-1) for part in np.meshgrid(acts, weights))
    pairs = np.unique(np.stack([left * right, multiplied(left, right, fault, mapping)]), axis=1)
    entering = _sums(mapping, above)
    lo, hi = (int(entering[0]) + int(pairs[0].min()), int(entering[-1]) + int(pairs[0].max()))
    if kind == "psum register" and _kept(lo, hi, mapping, str(fault["how"])):
        return False
    if entering.size * pairs.shape[1] > MOST:
        return True
    product, wrong = pairs[:, None, :]
    exact = entering[:, None] + product
    different = fit(exact, spec, "", ()) != added(entering[:, None], wrong, fault, spec)
    if mapping.spec.overflow == "error":
        different &= (exact >= form.lo) & (exact <= form.hi)
    return bool(different.any())


def _codes(fmt: IntFormat) -> Ints:
    return np.arange(fmt.lo, fmt.hi + 1)


def _products(mapping: Mapping) -> Ints:
    """Every product of codes, ascending; 0 is one of them."""
    spec = mapping.spec
    return np.unique(np.multiply.outer(_codes(spec.act_format(mapping.conv)), _codes(spec.weight_format)))


@lru_cache(maxsize=1024)  # keeps no layer for ever
def _sums(mapping: Mapping, count: int) -> Ints:
    """What a register can hold after `count` products, ascending; or, where those are too many to try, more."""
    form, spec, products = mapping.spec.psum_format, held(mapping.spec), _products(mapping)
    found = np.zeros(1, dtype=np.int64)
    for _ in range(count):
        if found.size * products.size > MOST:
            lo, hi = count * int(products[0]), count * int(products[-1])
            if lo < form.lo or hi > form.hi:
                lo, hi = form.lo, form.hi
            return np.arange(lo, hi + 1) if hi - lo < MOST else np.array([lo, hi])
        sums = (found[:, None] + products).reshape(-1)
        if mapping.spec.overflow == "error":
            sums = sums[(sums >= form.lo) & (sums <= form.hi)]
        found = np.unique(fit(sums, spec, "", ()))
    return found


def _kept(lo: int, hi: int, mapping: Mapping, how: str) -> bool:
    """Whether a register that overflows in a wrong way leaves all of lo..hi as the right one does."""
    spec = held(mapping.spec)
    if mapping.spec.overflow == "error":
        lo, hi = max(lo, spec.psum_format.lo), min(hi, spec.psum_format.hi)
    # Every kind of register leaves what fits it, and 0 does: both ends kept is all kept.
    ends = np.array([lo, hi])
    return bool((overflowing(ends, spec, how) == ends).all() and (fit(ends, spec, "", ()) == ends).all())


def _lane(fault: Fault, mapping: Mapping, before_relu: bool) -> str:
    """Of a fault of one column's SFP."""
    conv, spec, kind = mapping.conv, held(mapping.spec), fault.kind
    lo = hi = 0
    if fault.number("col") < conv.out_channels:
        # With 0 among the activations and the weights, these are also bounds of every part of a sum.
        products, terms = _products(mapping), conv.weight[0].size
        lo, hi = terms * int(products[0]), terms * int(products[-1])
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
    if kind == "sum register" and _kept(*exact, mapping, str(fault["how"])):
        return bound
    if kind != "ReLU":
        if hi - lo >= MOST or exact != (lo, hi):
            return ""
        values = np.arange(lo, hi + 1)
        if kind == "sum bit":
            wrong = stuck(values, fault.number("bit"), fault.number("stuck at"), spec.psum_format)
        else:
            wrong = overflowing(values, spec, str(fault["how"]))
        if (wrong == values).all():
            return bound
        hidden = once and not before_relu and (relu(wrong) == relu(values)).all()
        return "it changes negative sums alone, and ReLU hides them" if hidden else ""
    # Every wrong ReLU that differs anywhere in lo..hi differs in -3..3 of it.
    values = np.arange(max(lo, -3), min(hi, 3) + 1)
    return bound if (wrong_relu(values, str(fault["how"])) == relu(values)).all() else ""


def _global(fault: Fault, mapping: Mapping, seen: Seen) -> str:
    """Of a fault of streams, orders and addresses: by where each value comes from, 0 for what is always 0."""
    kind, at = fault.kind, dict(fault.at)
    inside = _inside(mapping)
    live = np.where(inside, np.arange(mapping.nijs) + 1, 0)  # what streams at each position
    windows, outputs = mapping.windows(), seen.outputs().any((0, 1))
    needed = (seen.psum != 0).any((0, 1, 2))
    for kij in range(mapping.kijs):
        needed[kij, windows[kij, outputs]] = True
    same = "everywhere that a golden file shows, it finds what it should, or another 0 of the padding"
    if kind in ("skew of a row", "skew of a column", "activation address", "activation address bit"):
        step = 1 if at.get("how") == "one position early" else -1
        found = act_addresses(mapping, fault) if "address" in kind else np.arange(mapping.nijs) + step
        return same if (picked(live, found, 0) == live)[needed.any(0)].all() else ""
    conv = mapping.conv
    if at.get("how") == "rows for columns in the weights" and conv.in_channels == conv.out_channels == conv.groups:
        return "row and column of every weight are the same"
    if kind == "stale psum" and at["how"] == "added from the position before":
        return "" if inside[:-1][needed[:, 1:].any(0)].any() else "no position before one that shows is in the map"
    if kind == "stale psum" and at["how"] == "added from the pass before" and mapping.passes == 1:
        return "there is one pass"
    if kind == "stale sum" and mapping.onijs == 1:
        return "" if at["how"] != "of the position before" else "there is one output position"
    if kind in ("weight address bit", "weights of another kij"):
        wrong = kij_addresses(mapping, fault) != np.arange(mapping.kijs)
        return "" if (wrong[:, None] & needed & inside).any() else same
    if kind == "pass of kij":
        return "" if inside[windows[int(at["kij"])][outputs]].any() else "its psums are all of the padding"
    if kind == "output address bit":
        right = np.where(inside[windows].any(0), np.arange(mapping.onijs) + 1, 0)
        left, addresses = np.zeros_like(right), stuck_address(np.arange(mapping.onijs), fault)
        kept = addresses < mapping.onijs
        left[addresses[kept]] = right[kept]
        return same if (left == right)[outputs].all() else ""
    terms, products = conv.weight[0].size, _products(mapping)
    fits = _kept(terms * int(products[0]), terms * int(products[-1]), mapping, "wraps")
    commutes = held(mapping.spec).overflow == "wrap" or fits
    if kind == "order of passes":
        if commutes:
            return "the order of additions does not matter: they wrap, or never overflow"
        tiles = read_by(conv.out_channels, conv.in_channels, conv.groups) // mapping.spec.rows
        one_each = (tiles == tiles[:, :1]).all()
        return "each output channel reads one ic_tile, and takes 0 from the others" if one_each else ""
    if kind in ("psum address", "psum address bit"):
        memory = np.where(np.tile(inside, mapping.kijs), np.arange(mapping.kijs * mapping.nijs) + 1, 0)
        right = memory[windows + np.arange(mapping.kijs)[:, None] * mapping.nijs][:, outputs]
        left = picked(memory, psum_addresses(mapping, fault), 0)[:, outputs]
        return same if (_summands(left, commutes) == _summands(right, commutes)).all() else ""
    return ""


def _inside(mapping: Mapping) -> NDArray[np.bool_]:
    """bool (nij,): the positions in the map, and not in its padding."""
    one = np.ones((mapping.conv.in_channels, mapping.height, mapping.width), dtype=np.int64)
    inside: NDArray[np.bool_] = mapping.act_tiles(one)[0, :, 0] != 0
    return inside


def _summands(tokens: Ints, commutes: bool) -> Ints:
    """What is added up for each output (kij, onij), zeros last; in any order if that does not matter."""
    if commutes:
        return np.sort(tokens, axis=0)[::-1]
    return np.take_along_axis(tokens, np.argsort(tokens == 0, axis=0, kind="stable"), axis=0)
