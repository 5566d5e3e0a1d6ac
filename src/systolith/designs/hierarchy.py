"""On-chip memories of a given size: how a layer is cut to fit them, what another chip moves for it, and when.

**Chunks.** A layer whose three tensors, in bits as the core's memories hold them, do not all fit is cut along output
channels (`oc`, whole oc_tiles), input channels (`ic`, whole ic_tiles; only where psums of some of them exist: without
groups, neither packed nor output stationary) and `rows` of outputs (whole pictures, or rows of one; those of the input
overlap by the kernel's reach). A grouped layer's output channels are cut in whole groups, which take their input
channels with them. Each chunk is a layer of its own for the core, in the layer's schedule, with the layer's
accumulators (`chunks.py`).

**Fits.** A chunk of activations or weights fits if it takes at most half of its memory, because the next one comes
meanwhile, or if all chunks of the tensor fit together: each is then loaded once. Psums: the core works at an oc_tile
until it is finished, so without cut input channels the memory holds those of one; with them those of all oc_tiles of a
chunk; twice as many where a chunk's leave before they are finished and come back, unless all of the layer's fit.
Outputs leave through the SFP and take no room. A memory without a limit holds a whole tensor.

**Traffic.** Three loops, in any order, go over the chunks. A tensor's chunk depends on two of them and is fetched when
one of these steps, so as often as the product of the counts of all loops from the outermost down to the innermost one
with more than one step that the tensor depends on: as often as there are chunks of it if the third loop is inside of
that one, else the third loop's count times as often.

| tensor | depends on | third loop |
|---|---|---|
| activations | ic, rows (grouped: oc, rows) | oc |
| weights | oc, ic | rows |
| psums | oc, rows | ic |

Every chunk is visited equally often, so bits are that factor times the sum of the chunks' bits. Psums are written back
at each visit, the last time as outputs, and read back at each but the first. A layer that fits is not cut. Of all cuts
that fit and all orders the one with the least bits is taken, of these that with the fewest clocks, of these the first.
So bits never rise with a memory's size, of a layer without groups in one schedule; clocks may, where a layer that is
not cut waits for all of its data. (Of a layer in groups, chunks may leave out padding lanes that the whole one has.)

**Clocks.** While a chunk is computed the next one's data come and the psums of the one before leave (`overlap.py`).
Without a limit of bandwidth a layer takes the clocks of its chunks; a layer that fits exactly those of
`timing.mapper.choose`, with whatever its ports make it wait (`timing.memory`): a port's bandwidth is that between a
memory and the array, the other chip's that between it and the memories.

**Outputs that stay** (`outputs = "stay"`). A layer's outputs need not leave where the next layer reads them and nothing
else does, neither of the two is cut, and the activation memory holds the maps of both, as the core has them: then
they are written there instead, and the next layer's activations do not come. What stands between the two
(activation, pooling, requantization) is done on the way (`staying`).

**Schedule.** `auto` is, of all schedules that differ on the layer and that the memories can hold, the one with the
least clocks, or port traffic, all of this counted but outputs that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise, permutations

import numpy as np
from numpy.typing import NDArray

from systolith.designs.chunks import Cuts, Ints, cuts_of
from systolith.designs.overlap import Picks, ends, overlapped
from systolith.formats import BadInput
from systolith.timing.account import Port, Traffic, memory_words, traffic
from systolith.timing.mapper import Choice

MEMORIES = ("act", "weight", "psum")
LOOPS = ("oc", "ic", "rows")
ORDERS = tuple(permutations(range(3)))
"""Of `LOOPS`, the outermost first."""
KIB = 8192
"""Bits."""
_INNER = ORDERS.index((0, 2, 1))
"""The order whose psums need the least: input channels are the innermost loop."""
_BLOCK = 64  # cuts whose clocks are worked out at once
_NEVER = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class Hierarchy:
    """On-chip memories, and the way to another chip.

    Attributes:
        act, weight, psum: KiB; None: as large as a layer asks.
        dram: bits a clock, there and back together; None: as many as are asked for.
    """

    act: int | None = None
    weight: int | None = None
    psum: int | None = None
    dram: int | None = None

    def bits(self, name: str) -> int:
        """Of a memory; without a limit more than any layer has."""
        kib: int | None = getattr(self, name)
        return _NEVER if kib is None else kib * KIB


EVERYTHING = Hierarchy()
"""Without limits: each layer's data come once, and at once."""


@dataclass(frozen=True)
class OffChip:
    """Bits from another chip and to it: activations, weights, partial sums there and back, outputs."""

    act_read: int
    weight_read: int
    psum_read: int
    psum_written: int
    out_written: int

    @property
    def bits(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class Plan:
    """A layer in chunks.

    Attributes:
        counts: chunks of output channels, of input channels, of rows.
        order: the loops over them that have several steps, the outermost first, such as "oc, ic, rows".
        clocks: of the layer.
        computing: of all chunks, one after another.
        off_chip: bits from another chip and to it.
        traffic: of the ports: the sum over the chunks; a memory is written as often as it is filled.
        capacity: bits of the activation, weight and psum memory: as given, or as asked for.
    """

    counts: tuple[int, int, int]
    order: str
    clocks: int
    computing: int
    off_chip: OffChip
    traffic: Traffic
    capacity: tuple[int, int, int]

    @property
    def cut(self) -> bool:
        """Whether there is more than one chunk."""
        return self.counts != (1, 1, 1)


class TooSmall(BadInput):
    """A layer whose smallest chunk a memory cannot hold; `why` is the sentence without the layer."""

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(f"{layer}: {why}")
        self.why = why


def refetched(counts: tuple[Ints, Ints, Ints], order: tuple[int, ...], third: int) -> Ints:
    """How often each chunk of a tensor is fetched.

    Args:
        counts: of chunks along each axis, of shapes that go together.
        order: of `ORDERS`.
        third: the axis that the tensor does not depend on.
    """
    inside = order[order.index(third) + 1 :]
    again = np.logical_or.reduce(np.broadcast_arrays(False, *(counts[axis] > 1 for axis in inside)))
    return np.where(again, counts[third], 1)


def plan(choice: Choice, hierarchy: Hierarchy) -> Plan:
    """A layer on the core, in one schedule, behind memories of a given size.

    Raises:
        TooSmall: no cut fits; it names the memory, what the smallest chunk needs, and what there is.
    """
    needs, moved = _asked(choice)
    if _fits(needs, hierarchy):
        off_chip = OffChip(needs[0], needs[1], 0, 0, moved.out.writes * moved.out.bits)
        whole = Plan((1, 1, 1), "", choice.clocks, choice.clocks, off_chip, moved, _given(hierarchy, needs))
        return _timed(whole, hierarchy)
    return best(_cuts(choice), hierarchy, choice.mapping.conv.name)


def staying(plans: Sequence[Plan | None], follows: Sequence[bool], hierarchy: Hierarchy) -> list[Plan | None]:
    """The same layers where outputs stay on the chip if they can; a layer is in its place, None does not fit.

    Args:
        plans: of layers, one after another.
        follows: of each, whether it reads what the one before it leaves, and alone does.
        hierarchy: what they were planned for.
    """
    found = list(plans)
    for at, (one, other) in enumerate(pairwise(plans)):
        if not follows[at + 1] or one is None or other is None or one.cut or other.cut:
            continue
        both = one.off_chip.act_read + other.off_chip.act_read
        if both > hierarchy.bits("act"):
            continue
        left, taken = found[at] or one, found[at + 1] or other
        asked = max(left.capacity[0], both) if hierarchy.act is None else left.capacity[0]
        left = replace(left, off_chip=replace(left.off_chip, out_written=0), capacity=(asked, *left.capacity[1:]))
        taken = replace(taken, off_chip=replace(taken.off_chip, act_read=0))
        found[at], found[at + 1] = (_timed(plan, hierarchy) for plan in (left, taken))
    return found


def _timed(plan: Plan, hierarchy: Hierarchy) -> Plan:
    """A layer that is not cut: its data come before, its outputs leave behind."""
    if hierarchy.dram is None:
        return plan
    moved = plan.off_chip
    ends = -(-(moved.act_read + moved.weight_read) // hierarchy.dram) - (-moved.out_written // hierarchy.dram)
    return replace(plan, clocks=plan.computing + ends)


def floor(choice: Choice, hierarchy: Hierarchy) -> int:
    """Clocks that a layer takes at least, known before its best cut is."""
    return choice.clocks if _fits(_asked(choice)[0], hierarchy) else _least(choice)


def _asked(choice: Choice) -> tuple[list[int], Traffic]:
    """Bits that a whole layer asks of each memory, and what its ports move."""
    words, moved = memory_words(choice.mapping, choice.schedule), traffic(choice.mapping, choice.schedule)
    return [words[name] * getattr(moved, name).bits for name in MEMORIES], moved


def _fits(needs: Sequence[int], hierarchy: Hierarchy) -> bool:
    return all(need <= hierarchy.bits(name) for name, need in zip(MEMORIES, needs, strict=True))


@lru_cache(maxsize=512)
def _least(choice: Choice) -> int:
    return int(_cuts(choice).clocks().min())


@lru_cache(maxsize=512)
def _cuts(choice: Choice) -> Cuts:
    return cuts_of(choice.mapping, choice.schedule)


def _given(hierarchy: Hierarchy, asked: Sequence[int]) -> tuple[int, int, int]:
    """Bits of each memory: as given, else as asked for."""
    act, weight, psum = (
        bits if getattr(hierarchy, name) is None else hierarchy.bits(name)
        for name, bits in zip(MEMORIES, asked, strict=True)
    )
    return act, weight, psum


@dataclass(frozen=True, eq=False)
class Fit:
    """Which cuts fit which memories: of each array an element a cut, (oc, ic, rows), in shapes that go together.

    Attributes:
        counts: chunks along each axis.
        held: by tensor, whether all of its chunks fit together.
        needs: by tensor, bits that a memory must have; of psums, for each order of `ORDERS`.
        bits: of each order, off chip, outputs not counted; `_NEVER` where a cut does not fit, or where the loops are
            the same as in an order before.
        fetched: by tensor and order, words that come; of psums, those that come back.
    """

    counts: tuple[Ints, Ints, Ints]
    held: dict[str, NDArray[np.bool_]]
    needs: tuple[Ints, Ints, tuple[Ints, ...]]
    bits: Ints
    fetched: dict[str, list[Ints]]


def fit(cuts: Cuts, hierarchy: Hierarchy) -> Fit:
    """Of every cut and order, whether it fits and what it moves."""
    counts, third = cuts.counts(), 1 if cuts.grouped else 0
    act, weight, out = cuts.total("act", without=third), cuts.total("weight", without=2), cuts.total("out", without=1)
    whole, bits = cuts.whole(), (cuts.act_bits, cuts.weight_bits, cuts.psum_bits)
    sums = 0 if cuts.stationary else bits[2]
    held = {
        "act": whole * bits[0] <= hierarchy.bits("act"),
        "weight": weight * bits[1] <= hierarchy.bits("weight"),
        "out": out * sums <= hierarchy.bits("psum"),
    }
    needs = [
        np.where(held["act"], whole, 2 * cuts.most("act")) * bits[0],
        np.where(held["weight"], weight, 2 * cuts.most("weight")) * bits[1],
    ]
    one, tiles = cuts.most("one") * sums, cuts.most("out") * sums
    fits = (needs[0] <= hierarchy.bits("act")) & (needs[1] <= hierarchy.bits("weight"))
    pattern = sum(((count > 1) << axis for axis, count in enumerate(counts)), start=np.zeros((1, 1, 1), dtype=np.int64))
    fetched: dict[str, list[Ints]] = {"act": [], "weight": [], "out": []}
    moved, room = [], []
    for number, order in enumerate(ORDERS):
        again = {"act": third, "weight": 2, "out": 1}
        visits = {name: refetched(counts, order, axis) for name, axis in again.items()}
        often = {name: np.where(held[name], 1, visits[name]) for name in again}
        fetched["act"].append(np.where(held["act"], whole, often["act"] * act))
        fetched["weight"].append(often["weight"] * weight)
        fetched["out"].append((often["out"] - 1) * out)
        spilled = np.where(held["out"], out * sums, 2 * tiles)
        room.append(np.where(counts[1] == 1, one, np.where(visits["out"] == 1, tiles, spilled)))
        right = fits & (room[-1] <= hierarchy.bits("psum")) & _FIRST[number][pattern]
        comes = [fetched[name][-1] * width for name, width in zip(fetched, bits, strict=True)]
        moved.append(np.where(right, comes[0] + comes[1] + 2 * comes[2], _NEVER))
    return Fit(counts, held, (needs[0], needs[1], tuple(room)), np.stack(moved), fetched)


def _firsts() -> list[NDArray[np.bool_]]:
    """Of each order, by which axes are cut (a bit each): whether no order before goes over the chunks as it does."""
    found = []
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for order in ORDERS:
        loops = [(cut, tuple(axis for axis in order if cut >> axis & 1)) for cut in range(8)]
        found.append(np.array([one not in seen for one in loops]))
        seen |= set(loops)
    return found


_FIRST = _firsts()


def best(cuts: Cuts, hierarchy: Hierarchy, layer: str) -> Plan:
    """Of all cuts that fit and all orders the one with the least bits, then clocks, then the first.

    Raises:
        TooSmall: there is none.
    """
    found = fit(cuts, hierarchy)
    least = int(found.bits.min())
    if least == _NEVER:
        raise TooSmall(layer, _why(found, hierarchy))
    ties = np.argwhere(found.bits == least)
    compute = np.broadcast_to(cuts.clocks(), found.bits.shape[1:])
    clocks = compute[tuple(ties.T[1:])]
    if hierarchy.dram is None:
        pick = int(clocks.argmin())
        return _planned(cuts, hierarchy, found, ties[pick], int(clocks[pick]))
    pick, fewest = _soonest(cuts, hierarchy.dram, found, ties, clocks)
    return _planned(cuts, hierarchy, found, ties[pick], fewest)


def _soonest(cuts: Cuts, bandwidth: int, found: Fit, ties: Ints, computing: Ints) -> tuple[int, int]:
    """Of some cuts, int64 (cut, 4) of order and ways, the first one with the fewest clocks, and these.

    Those come first that can at best have the fewest, and those that cannot be better are left out.
    """
    shape = found.bits.shape[1:]
    orders, *ways = ties.T
    held = {name: np.broadcast_to(one, shape)[tuple(ways)] for name, one in found.held.items()}
    picks = Picks((ways[0], ways[1], ways[2]), held)
    least = computing + ends(cuts, picks, bandwidth)
    left = np.argsort(least, kind="stable")
    pick, fewest = -1, int(_NEVER)
    while len(left):
        block, left = left[:_BLOCK], left[_BLOCK:]
        for order in np.unique(orders[block]):
            some = block[orders[block] == order]
            for one, clocks in zip(some, overlapped(cuts, picks[some], ORDERS[order], bandwidth), strict=True):
                if (clocks, one) < (fewest, pick):
                    pick, fewest = int(one), int(clocks)
        left = left[least[left] <= fewest]
    return pick, fewest


def _planned(cuts: Cuts, hierarchy: Hierarchy, found: Fit, pick: Ints, clocks: int) -> Plan:
    order, *ways = (int(n) for n in pick)
    shape = found.bits.shape[1:]

    def at(values: Ints) -> int:
        return int(np.broadcast_to(values, shape)[tuple(ways)])

    outs, ins, rows = map(at, found.counts)
    act, weight, again = (at(words[order]) for words in found.fetched.values())
    bits, out = cuts.psum_bits, at(cuts.total("out", without=1))
    sums = at(cuts.total("rounds", "sums")) + again
    off_chip = OffChip(act * cuts.act_bits, weight * cuts.weight_bits, again * bits, again * bits, out * bits)
    moved = Traffic(
        act=Port(at(cuts.total("rounds", "act_reads")), act, cuts.act_bits),
        weight=Port(at(cuts.total("rounds", "weight_reads")), weight, cuts.weight_bits),
        psum=Port(sums, sums, bits),
        out=Port(0, out, bits),
    )
    needs = [at(found.needs[0]), at(found.needs[1]), at(found.needs[2][order])]
    computing, given = at(cuts.clocks()), _given(hierarchy, needs)
    counts = outs, ins, rows
    named = ", ".join(LOOPS[axis] for axis in ORDERS[order] if counts[axis] > 1)
    return Plan(counts, named, clocks, computing, off_chip, moved, given)


def _why(found: Fit, hierarchy: Hierarchy) -> str:
    """What the smallest chunk needs and the memories do not have."""
    needs = [*found.needs[:2], found.needs[2][_INNER]]
    for name, what, need in zip(MEMORIES, ("activation", "weight", "psum"), needs, strict=True):
        smallest = int(np.broadcast_to(need, found.bits.shape[1:])[-1, -1, -1])
        if smallest > hierarchy.bits(name):
            half = "" if name == "psum" else ", two of them at once"
            return (
                f"its smallest chunk needs {smallest / KIB:,.2f} KiB of the {what} memory{half}, "
                f"and there are {getattr(hierarchy, name):,} ({name}_kib)"
            )
    raise AssertionError("the smallest chunk fits")
