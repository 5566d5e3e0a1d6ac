"""Faults that no integers can show, and why: a sentence only where the code has established it.

Weights and activations are free within the formats of the array's lanes; the layer's shape, the array and what the
golden files show are given. Under overflow "error" integers that overflow are no golden vectors. Three ways of proof:

- a fault of one PE is a function of what enters it: equal to the right one at every value that can enter;
- an address or an order that is wrong reaches, everywhere, what it should, or another place that is always 0: what the
  fault reroutes is numbered, and the right and the wrong numbers compared;
- a register's bound: it never holds a value that the fault treats differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.array.mapping import read_by
from systolith.faults import bounds
from systolith.faults.addresses import owned, psum_addresses, row_of, stuck_address
from systolith.faults.element import LOCAL
from systolith.faults.faults import KEPT_WRONG, Fault
from systolith.faults.faulty import columns_of
from systolith.faults.lattice import Ints, held
from systolith.faults.operands import Entering, Operands, made, rerouted
from systolith.vectors.tensors import picked

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
    stays = mapping.stationary and fault.kind not in ("neighbouring rows swapped", "weight passing south bit")
    if stays and mapping.spec.rows - 1 - int(at.get("row", mapping.spec.rows - 1)) >= mapping.onijs:
        return "the row has no position: nothing that it adds up is an output"
    if fault.kind in LOCAL:
        return bounds.element(fault, mapping)
    if "row" in at and not mapping.stationary and not bounds.live_weights(mapping)[:, :, int(at["row"])].any():
        return "the row has no channel: its activations and weights are always 0"
    if fault.kind in ("sum bit", "carry of the sum dropped", "sum register", "ReLU"):
        return bounds.lane(fault, mapping, bool(seen.out.any()))
    if fault.kind == "drain register bit":
        return bounds.lane(fault, mapping, bool(seen.out.any() or seen.psum.any()))
    if fault.kind == "weight passing south bit":
        below = any(_passing(fault, *shown) for shown in _shown(fault, mapping, seen))
        return "" if below else "below it no weight meets an activation in what a golden file shows"
    if int(at.get("col", 0)) >= mapping.conv.out_channels:
        return "the column has no channel: its psums and sums are always 0"
    if fault.kind == KEPT_WRONG:
        return _kept_wrong(fault, mapping, seen)
    return _global(fault, mapping, seen)


Shown = tuple[Operands, int, int, NDArray[np.bool_]]
"""Numbered operands, an oc_tile, a column, and bool (ic_tile, kij, nij), which psums some golden word comes from."""


def _shown(fault: Fault, mapping: Mapping, seen: Seen) -> Iterator[Shown]:
    """What the fault can touch, column by column."""
    kij, windows = np.arange(mapping.kijs)[:, None], mapping.windows()
    for o in range(mapping.oc_tiles):
        for c in columns_of(fault, mapping):
            needed = seen.psum[o, c, made(mapping, o)] != 0
            needed[:, kij, windows[:, (seen.out[o, c] | seen.after[o, c]) != 0]] = True
            yield _numbered(mapping), o, c, needed


@lru_cache(maxsize=2)
def _numbered(mapping: Mapping) -> Operands:
    """Every activation and every weight another number, from 1; so 0 is what is always 0."""
    shape = mapping.batch, mapping.conv.in_channels, mapping.height, mapping.width
    weights = mapping.conv.weight.shape
    act, weight = (np.arange(1, np.prod(one) + 1).reshape(one) for one in (shape, weights))
    return Operands(mapping, act, weight)


def _meet(entering: Entering) -> Iterator[tuple[Ints, Ints]]:
    """By ic_tile, codes (1, nij, stage, code) and weights (kij, 1, stage, code), each 0 where the other always is."""
    for acts, weights in zip(*entering, strict=True):
        yield acts[None] * (weights[:, None] != 0), weights[:, None] * (acts[None] != 0)


def _reroutes(fault: Fault, numbered: Operands, o: int, c: int, needed: NDArray[np.bool_]) -> bool | None:
    """Whether other operands, not always 0, meet in something that shows; None where nothing is rerouted."""
    if fault.kind == "shadow weight" and fault["how"] == "not in the first position":
        fault = replace(fault, at=(*fault.at[:-1], ("how", "not taken")))
        kij, first = np.arange(needed.shape[1]), numbered.mapping.windows()[:, 0]
        needed = needed & (np.arange(needed.shape[2]) == first[kij, None])
    wrong = rerouted(numbered, fault, o, c)
    if wrong is None:
        return None
    for right, other, here in zip(_meet(numbered.entering(o, c)), _meet(wrong), needed, strict=True):
        different = (right[0] != other[0]) | (right[1] != other[1])
        if different.any((2, 3))[here].any():
            return True
    return False


def _passing(fault: Fault, numbered: Operands, o: int, c: int, needed: NDArray[np.bool_]) -> bool:
    """Whether a weight that passes the register could show with its bit stuck."""
    mapping, (acts, weights) = numbered.mapping, numbered.entering(o, c)
    row, code = fault.number("row"), fault.number("bit") // mapping.spec.weight_bits
    acts, weights = acts[:, None, ..., code] != 0, (weights[:, :, None, :, code] != 0) | bool(fault["stuck at"])
    met = acts & weights  # (ic_tile, kij, nij, stage)
    shows = met.any(3) & (row_of(mapping) > row) if mapping.stationary else met[..., row + 1 :].any(3)
    return bool((shows & needed).any())


def _kept_wrong(fault: Fault, mapping: Mapping, seen: Seen) -> str:
    mine, how, left = owned(mapping, fault.number("row")), fault["how"], False
    for numbered, o, c, needed in _shown(fault, mapping, seen):
        ((acts, _),) = _meet(numbered.entering(o, c))
        adds, here = acts[0, mine].any(2), needed[0, 0, mine]  # (position, step)
        if how == "not begun anew":
            before = np.maximum.accumulate([left, *adds.any(1)])
            left, lost = bool(before[-1]), before[:-1]
        else:
            lost = adds[:, -1] if how == "without the last step" else adds[:, :-1].any(1)
        if (lost & here).any():
            return ""
    if how == "not begun anew":
        return "nothing has been added up before that could show"
    return f"where it shows, {'the last step adds' if how == 'without the last step' else 'all others add'} 0 alone"


def _global(fault: Fault, mapping: Mapping, seen: Seen) -> str:
    """Of a fault of streams, orders and addresses: by where each value comes from, 0 for what is always 0."""
    kind, at, conv = fault.kind, dict(fault.at), mapping.conv
    inside: NDArray[np.bool_] = np.asarray(bounds.fed_codes(mapping).any((0, 2, 3)))
    live = np.where(inside, np.arange(mapping.nijs) + 1, 0)  # what streams at each position
    windows, outputs = mapping.windows(), seen.outputs().any((0, 1))
    needed = (seen.psum != 0).any((0, 1, 2))
    for kij in range(mapping.kijs):
        needed[kij, windows[kij, outputs]] = True
    same = "everywhere that a golden file shows, it finds what it should, or another 0 of the padding"
    for shown in _shown(fault, mapping, seen):
        moves = _reroutes(fault, *shown)
        if moves is None:
            break
        if moves:
            return ""
    else:
        alike = (
            at.get("how") == "rows for columns in the weights" and conv.in_channels == conv.out_channels == conv.groups
        )
        return "row and column of every weight are the same" if alike else same
    if kind == "skew of a column":
        found = np.arange(mapping.nijs) + (1 if at["how"] == "one position early" else -1)
        return same if (picked(live, found, 0) == live)[needed.any(0)].all() else ""
    if kind == "stale psum" and at["how"] == "added from the position before":
        return "" if inside[:-1][needed[:, 1:].any(0)].any() else "no position before one that shows is in the map"
    if kind == "stale psum" and at["how"] == "added from the pass before" and mapping.passes == 1:
        return "there is one pass"
    if kind == "stale sum" and mapping.onijs == 1:
        return "" if at["how"] != "of the position before" else "there is one output position"
    if kind == "pass of kij":
        return "" if inside[windows[int(at["kij"])][outputs]].any() else "its psums are all of the padding"
    if kind == "pass of ic_tile":
        adds = any(_adds(int(at["ic_tile"]), seen, *shown) for shown in _shown(fault, mapping, seen))
        return "" if adds else "its psums are all of the padding"
    if kind == "output address bit":
        right = np.where(inside[windows].any(0), np.arange(mapping.onijs) + 1, 0)
        left, addresses = np.zeros_like(right), stuck_address(np.arange(mapping.onijs), fault)
        kept = addresses < mapping.onijs
        left[addresses[kept]] = right[kept]
        return same if (left == right)[outputs].all() else ""
    terms, products = conv.weight[0].size, bounds.products(mapping)
    fits = bounds.kept(terms * int(products[0]), terms * int(products[-1]), mapping, "wraps")
    commutes = held(mapping.spec).overflow == "wrap" or fits
    if kind == "order of passes":
        if commutes:
            return "the order of additions does not matter: they wrap, or never overflow"
        tiles = read_by(conv.out_channels, conv.in_channels, conv.groups) // mapping.lanes
        one_each = (tiles == tiles[:, :1]).all()
        return "each output channel reads one ic_tile, and takes 0 from the others" if one_each else ""
    if kind in ("psum address", "psum address bit"):
        memory = np.where(np.tile(inside, mapping.kijs), np.arange(mapping.kijs * mapping.nijs) + 1, 0)
        right = memory[windows + np.arange(mapping.kijs)[:, None] * mapping.nijs][:, outputs]
        left = picked(memory, psum_addresses(mapping, fault), 0)[:, outputs]
        return same if (_summands(left, commutes) == _summands(right, commutes)).all() else ""
    return ""


def _adds(tile: int, seen: Seen, numbered: Operands, o: int, c: int, needed: NDArray[np.bool_]) -> bool:
    """Whether the passes of an ic_tile add anything to an output that shows."""
    tiles, windows = numbered.mapping.ic_range(o), numbered.mapping.windows()
    if tile not in tiles:
        return False
    acts, _ = list(_meet(numbered.entering(o, c)))[tile - tiles.start]
    met = acts.any((2, 3))  # (kij, nij)
    return bool(np.take_along_axis(met, windows, 1)[:, seen.outputs()[o, c]].any())


def _summands(tokens: Ints, commutes: bool) -> Ints:
    """What is added up for each output (kij, onij), zeros last; in any order if that does not matter."""
    if commutes:
        return np.sort(tokens, axis=0)[::-1]
    return np.take_along_axis(tokens, np.argsort(tokens == 0, axis=0, kind="stable"), axis=0)
