"""Clocks of a layer in chunks: while one is computed, the next one's data come, and the psums of the one before leave.

    clocks = first data + sum over chunks of max(its clocks, ceil((next data + psums of the one before) / bandwidth))
             + last outputs

Exactly, without a walk: what happens beside a chunk depends on where each loop stands only by whether that is its first
step, its last or last but one, or one between. So each loop has four kinds of steps with how often they occur, and the
sum is over the kinds of all loops together, for many cuts at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.designs.chunks import Cuts, Ints

Bools = NDArray[np.bool_]
_AXIS = (0, 1, 2, 2)
"""Of each of four loops: output channels, input channels, pictures, a picture's rows."""
DEPENDS = {"act": (1, 2, 3), "weight": (0, 1), "out": (0, 2, 3)}
"""By tensor the loops that it depends on; of activations in groups the first one too, and there is one step of ic."""


@dataclass(frozen=True, eq=False)
class Picks:
    """Some ways to cut a layer.

    Attributes:
        ways: int64 (pick,) of each axis: of output channels, input channels, rows.
        held: by "act", "weight", "out": bool (pick,): whether all chunks stay in the memory.
    """

    ways: tuple[Ints, Ints, Ints]
    held: Mapping[str, Bools]

    def __len__(self) -> int:
        return len(self.ways[0])

    def __getitem__(self, some: Ints) -> Picks:
        outs, ins, rows = (way[some] for way in self.ways)
        return Picks((outs, ins, rows), {name: held[some] for name, held in self.held.items()})


@dataclass(frozen=True, eq=False)
class _Steps:
    """Where each of four loops stands: int64 that go together, the first axis the pick."""

    cuts: Cuts
    picks: Picks
    counts: Sequence[Ints]
    at: Sequence[Ints]

    def of(self, axis: int, name: str) -> Ints | int:
        """An axis' factor of the chunk."""
        found = self.cuts.axes[axis].factors.get(name)
        if found is None:
            return 1
        kind = np.zeros((1,), dtype=np.int64)
        for one, at, count in zip(_AXIS, self.at, self.counts, strict=True):
            if one == axis:
                kind = 2 * kind + (at == count - 1)
        values: Ints = found[self.picks.ways[axis].reshape(-1, 1, 1, 1, 1), kind]
        return values

    def chunk(self, name: str) -> Ints | int:
        """The product of the three."""
        return self.of(0, name) * self.of(1, name) * self.of(2, name)

    def clocks(self) -> Ints | int:
        return (self.chunk("rounds") - 1) * self.chunk("period") + self.chunk("tail")

    def loads(self, changed: Mapping[str, Bools | bool]) -> Ints:
        """Bits that come for the chunk, of those tensors that another step has changed."""
        cuts, (out, inner, picture, row) = self.cuts, self.at
        held = {name: one.reshape(-1, 1, 1, 1, 1) for name, one in self.picks.held.items()}
        maps = np.where(held["act"] & (row > 0), self.of(2, "fresh"), self.of(2, "act"))
        act = self.of(0, "act") * self.of(1, "act") * maps * cuts.act_bits
        first = (out == 0) | cuts.grouped
        found = np.where(changed["act"] & (first | ~held["act"]), act, 0)
        weight, first = self.chunk("weight") * cuts.weight_bits, (picture == 0) & (row == 0)
        found = found + np.where(changed["weight"] & (first | ~held["weight"]), weight, 0)
        sums = self.chunk("out") * cuts.psum_bits
        return found + np.where(changed["out"] & (inner > 0) & ~held["out"], sums, 0)

    def leaves(self, changed: Bools | bool) -> Ints:
        """Bits that leave behind the chunk, if another step has changed its psums."""
        finished = self.at[1] == self.counts[1] - 1
        held = self.picks.held["out"].reshape(-1, 1, 1, 1, 1)
        return np.where(changed & (finished | ~held), self.chunk("out") * self.cuts.psum_bits, 0)


def overlapped(cuts: Cuts, picks: Picks, order: Sequence[int], bandwidth: int) -> Ints:
    """Clocks of each of some ways to cut a layer, its loops in one order.

    Args:
        cuts: every way.
        picks: of them.
        order: of the axes, the outermost loop first.
        bandwidth: bits a clock to and from another chip.

    Returns:
        int64 (pick,).
    """
    loops = [loop for axis in order for loop in range(4) if _AXIS[loop] == axis]
    counts, here, times = _kinds(cuts, picks)
    step = np.True_
    after, before = list(here), list(here)
    back = step
    for loop in reversed(loops):
        at, last = here[loop], counts[loop] - 1
        after[loop] = np.where(step, np.where(at == last, 0, at + 1), at)
        before[loop] = np.where(back, np.where(at == 0, last, at - 1), at)
        step, back = step & (at == last), back & (at == 0)
    this = _Steps(cuts, picks, counts, here)
    coming = _Steps(cuts, picks, counts, after).loads(_changed(cuts, here, after))
    leaving = _Steps(cuts, picks, counts, before).leaves(_changed(cuts, before, here)["out"])
    moved = np.where(step, 0, coming) + np.where(back, 0, leaving)
    each = times * np.maximum(this.clocks(), -(-moved // bandwidth))
    return each.reshape(len(picks), -1).sum(axis=1) + ends(cuts, picks, bandwidth)


def ends(cuts: Cuts, picks: Picks, bandwidth: int) -> Ints:
    """Clocks of the first data and of the last outputs, beside which nothing is computed: int64 (pick,)."""
    counts = _counts(cuts, picks)
    zeros = [np.zeros_like(count) for count in counts]
    first = _Steps(cuts, picks, counts, zeros).loads(dict.fromkeys(DEPENDS, True))
    last = _Steps(cuts, picks, counts, [count - 1 for count in counts]).leaves(True)
    return (-(-first // bandwidth) - (-last // bandwidth)).reshape(-1)


def _counts(cuts: Cuts, picks: Picks) -> list[Ints]:
    """Steps of each loop, int64 (pick, 1, 1, 1, 1)."""
    found = [cuts.axes[axis].counts[picks.ways[axis]] for axis in range(3)]
    return [one.reshape(-1, 1, 1, 1, 1) for axis in found for one in axis.T]


def _kinds(cuts: Cuts, picks: Picks) -> tuple[list[Ints], list[Ints], Ints]:
    """Of each loop its steps, and one step of each kind: the first, one between, the last but one, the last; how often
    each of all loops' kinds together occurs."""
    counts, here = _counts(cuts, picks), []
    times: Ints = np.ones((len(picks), 1, 1, 1, 1), dtype=np.int64)
    for loop, count in enumerate(counts):
        n = count.reshape(-1)
        at = np.stack([0 * n, np.minimum(1, n - 1), np.maximum(0, n - 2), n - 1])
        often = np.stack([n > 0, np.maximum(0, n - 3), n > 2, n > 1])
        kinds = often.any(axis=1)
        shape = [len(picks), 1, 1, 1, 1]
        shape[loop + 1] = int(kinds.sum())
        here.append(at[kinds].T.reshape(shape))
        times = times * often[kinds].T.reshape(shape)
    return counts, here, times


def _changed(cuts: Cuts, one: Sequence[Ints], other: Sequence[Ints]) -> dict[str, Bools]:
    """By tensor whether its chunk is another."""
    steps = [a != b for a, b in zip(one, other, strict=True)]
    found = {}
    for name, loops in DEPENDS.items():
        loops = (0, *loops) if name == "act" and cuts.grouped else loops
        some = steps[loops[0]]
        for loop in loops[1:]:
            some = some | steps[loop]
        found[name] = some
    return found
