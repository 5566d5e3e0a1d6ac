"""The register-level machine against the closed form and the psums: every word, and the clock of every event."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.psums import iter_psums, leaving
from systolith.array.sfp import accumulate
from systolith.equality import Equality, compare
from systolith.timing.account import (
    Depths,
    Port,
    Split,
    Traffic,
    memory_words,
    require_capacity,
    sfp_clocks,
    split,
    traffic,
)
from systolith.timing.machine import LOAD, NOTHING, STREAM, Block, machine
from systolith.timing.schedule import Contract, Events, Schedule, contract, load_lanes_of

CLOCKS = {
    "load": "clocks of weight beats = predicted",
    "stream": "clocks of activation beats = predicted",
    "psum": "clocks of psum words = predicted",
    "read": "clocks of psum memory reads = predicted",
    "write": "clocks of psum memory writes = predicted",
    "out": "clocks of output words = predicted",
}
VALUES = {"psums": "psums of the machine = integer products", "outs": "outputs of the machine = the array's"}


@dataclass(frozen=True)
class Observation:
    """What the machine did with a layer, and whether that is what was predicted.

    Attributes:
        clocks: from the first weight beat entering the array to the last bottom-row psum registered.
        stepped: clocks that the machine was stepped, from the first address to the last output.
        split: what entered in each of `clocks`, counted.
        traffic: words that the memories read and wrote, counted; what the host wrote before is its size.
        sfp: clocks after `clocks` until the last output.
        overruns: clocks in which a full queue was pushed.
        hazards: psums added to a sum that was not written yet.
        l0, ofifo: the most words that a queue held.
        equalities: values, clocks of events, and totals.
    """

    clocks: int
    stepped: int
    split: Split
    traffic: Traffic
    sfp: int
    overruns: int
    hazards: int
    l0: int
    ofifo: int
    equalities: tuple[Equality, ...]

    @property
    def holds(self) -> bool:
        """Everything is equal, and no queue overran."""
        return all(e.holds for e in self.equalities) and not self.overruns and not self.hazards


def observe(
    mapping: Mapping,
    act: NDArray[np.integer],
    schedule: Schedule,
    depths: Depths | None = None,
    rules: Contract | None = None,
) -> Observation:
    """Step the machine through a layer and compare it, with memory for the psums of one oc_tile.

    Args:
        mapping, act, schedule: as `machine` takes them.
        depths: those of the queues and memories.
        rules: what the machine does, not what it is compared with; by default the core's.

    Raises:
        BadInput: what does not fit a queue, a memory or the core's descriptor; activations that are not the layer's;
            under overflow "error", a value that does not fit.
    """
    depths, rules = depths or Depths(), rules or contract(mapping.spec, schedule.double)
    require_capacity(mapping, schedule, depths)
    rules = replace(rules, l0_depth=depths.l0 or rules.l0_depth, ofifo_depth=depths.ofifo or rules.ofifo_depth)
    expected = _Expected(mapping, act, schedule)
    count = _Count(mapping, schedule)
    for block in machine(mapping, act, schedule, rules):
        count.add(block)
        at = np.arange(len(block.beats)) + block.begin
        expected.compare("load", block.load)
        expected.compare("stream", at[block.beats == STREAM])
        for name in ("psum", "read", "write", "out", *VALUES):
            expected.compare(name, getattr(block, name))
    found, moved, sfp = count.split(), count.traffic(), count.sfp()
    lead, clocks = contract(mapping.spec).lead + schedule.first(mapping) - 1, schedule.clocks(mapping)
    totals = (
        compare(
            "clocks before, by parts, in all, and after = predicted",
            np.array([lead, *_numbers(split(mapping, schedule)), clocks, sfp_clocks(mapping, schedule)]),
            np.array([count.lead, *_numbers(found), count.last + 1, sfp]),
        ),
        compare(
            "words read and written = predicted",
            np.array(_numbers(traffic(mapping, schedule))),
            np.array(_numbers(moved)),
        ),
    )
    return Observation(
        *(count.last + 1, count.stepped, found, moved, sfp, count.overruns, count.hazards, count.l0, count.ofifo),
        (*expected.finish(), *totals),
    )


def _numbers(value: Any) -> list[int]:
    """The integers of a dataclass of them."""
    if isinstance(value, int):
        return [value]
    return [n for field in fields(value) for n in _numbers(getattr(value, field.name))]


class _Expected:
    """What should come, one oc_tile after another, as it is needed: a queue for each kind of event and value."""

    def __init__(self, mapping: Mapping, act: NDArray[np.integer], schedule: Schedule) -> None:
        self.names, self.stationary = {**VALUES, **CLOCKS}, mapping.stationary
        self.waiting: dict[str, deque[Any]] = {name: deque() for name in self.names}
        self.tiles = _tiles(mapping, act, schedule)
        self.compared = dict.fromkeys(self.names, 0)
        self.different = dict.fromkeys(self.names, 0)
        self.first = dict.fromkeys(self.names, "")
        self.at = dict.fromkeys(self.names, 0)

    def compare(self, name: str, found: NDArray[Any]) -> None:
        """What came next."""
        while len(found):
            expected = self._next(name)
            if expected is None:
                self._differ(name, found.size, f"[{self.at[name]}] nothing was expected, found {found[0]}")
                return
            count = min(len(expected), len(found))
            if count < len(expected):
                self.waiting[name].appendleft(expected[count:])
            unequal = expected[:count] != found[:count]
            if unequal.any():
                place = tuple(int(i) for i in np.unravel_index(int(np.argmax(unequal)), unequal.shape))
                where = ", ".join(map(str, (self.at[name] + place[0], *place[1:])))
                text = f"[{where}] expected {expected[place]}, found {found[place]}"
                self._differ(name, int(np.count_nonzero(unequal)), text)
            self.compared[name] += unequal.size
            self.at[name] += count
            found = found[count:]

    def finish(self) -> Iterator[Equality]:
        """The comparisons; what never came is different."""
        for name, text in self.names.items():
            if self.stationary and name in ("read", "write"):
                continue  # there is no psum memory
            while (missing := self._next(name)) is not None:
                self.compared[name] += missing.size
                self._differ(name, missing.size, f"[{self.at[name]}] expected {missing[0]}, found nothing")
            yield Equality(text, self.compared[name], self.different[name], self.first[name])

    def _differ(self, name: str, count: int, text: str) -> None:
        self.different[name] += count
        self.first[name] = self.first[name] or text

    def _next(self, name: str) -> NDArray[Any] | None:
        if not self.waiting[name]:
            tile = next(self.tiles, None)
            if tile is None:
                return None
            for key, values in tile.items():
                self.waiting[key].append(values)
        return self.waiting[name].popleft()


def _tiles(mapping: Mapping, act: NDArray[np.integer], schedule: Schedule) -> Iterator[dict[str, NDArray[Any]]]:
    """Values and clocks of each oc_tile, in the order of events."""
    cols = mapping.spec.cols
    for oc_tile, block in enumerate(iter_psums(mapping, act)):
        outs = np.zeros((mapping.onijs, cols), dtype=np.int64)
        sums = accumulate(mapping, block, oc_tile)
        outs[:, : len(sums)] = sums.T
        events = schedule.events(mapping, oc_tile)
        clocks = {field.name: getattr(events, field.name) for field in fields(Events)}
        yield {"psums": leaving(mapping, block, schedule.useful), "outs": outs, **clocks}


class _Count:
    """What happened, from blocks one after another."""

    def __init__(self, mapping: Mapping, schedule: Schedule) -> None:
        self.mapping, self.schedule = mapping, schedule
        self.turns, self.wait = schedule.rules(mapping).turnaround, schedule.gap(mapping)
        # Output stationary, clocks between folds that are long enough for sums to leave.
        self.idle = max(0, schedule.least(mapping) - schedule.span(mapping)) if mapping.stationary else 0
        self.beats = {LOAD: 0, STREAM: 0}
        self.turnaround = self.drain = self.stalls = 0
        self.before: tuple[int, int] | None = None  # the last beat: its clock and what it was
        self.last = self.last_out = self.lead = 0
        self.act_reads = self.weight_reads = self.reads = self.writes = self.outs = 0
        self.stepped = self.overruns = self.hazards = self.l0 = self.ofifo = 0

    def add(self, block: Block) -> None:
        """Count one block more."""
        if self.before is None:
            self.lead = -block.begin
        beats = block.beats.copy()  # and weights alone
        loads = block.load - block.begin
        beats[loads] = np.where(beats[loads] == NOTHING, LOAD, beats[loads])
        at = np.flatnonzero(beats != NOTHING)
        if at.size:
            kinds, clocks = beats[at].astype(np.int64), at + block.begin
            for kind in self.beats:
                self.beats[kind] += int((kinds == kind).sum())
            before = self.before or (int(clocks[0]) - 1, LOAD)
            self._gaps(np.concatenate([[before[0]], clocks]), np.concatenate([[before[1]], kinds]))
            self.before = int(clocks[-1]), int(kinds[-1])
        self.last = block.last if block.last is not None else self.last
        self.last_out = int(block.out[-1]) if len(block.out) else self.last_out
        self.act_reads, self.weight_reads = self.act_reads + block.act_reads, self.weight_reads + block.weight_reads
        self.reads, self.writes = self.reads + len(block.read), self.writes + len(block.write)
        self.outs += len(block.out)
        self.stepped += len(block.beats)
        self.overruns, self.hazards = self.overruns + block.overruns, self.hazards + block.hazards
        self.l0, self.ofifo = max(self.l0, block.l0), max(self.ofifo, block.ofifo)

    def _gaps(self, clocks: NDArray[np.int64], kinds: NDArray[np.int64]) -> None:
        """Clocks between beats: what the contract gives; what is more than that are stalls."""
        gap, left, right = np.diff(clocks) - 1, kinds[:-1], kinds[1:]
        given = np.zeros_like(gap)
        given[(left == LOAD) & (right == STREAM)] = self.turns
        turned = int(np.minimum(gap, given).sum())
        given[(left == STREAM) & (right == LOAD)] = self.wait
        if self.idle:  # before the first step of a fold
            number = self.beats[STREAM] - int((right == STREAM).sum()) + np.cumsum(right == STREAM) - 1
            given[(left == STREAM) & (right == STREAM) & (number % self.mapping.steps == 0)] = self.idle
        planned = int(np.minimum(gap, given).sum())
        self.turnaround += turned
        self.drain += planned - turned
        self.stalls += int(gap.sum()) - planned

    def split(self) -> Split:
        assert self.before is not None
        drain = self.drain + self.last - self.before[0]
        useful = self.beats[STREAM] if self.mapping.stationary else self.writes
        return Split(self.beats[LOAD], useful, self.beats[STREAM] - useful, self.turnaround, drain, self.stalls)

    def sfp(self) -> int:
        return max(0, self.last_out - self.last)

    def traffic(self) -> Traffic:
        spec, words = self.mapping.spec, memory_words(self.mapping, self.schedule)
        lanes = load_lanes_of(self.mapping.spec, self.schedule.double) * self.mapping.simd
        return Traffic(
            Port(self.act_reads, words["act"], spec.rows * spec.act_bits),
            Port(self.weight_reads, words["weight"], lanes * spec.weight_bits),
            Port(self.reads, self.writes, spec.cols * spec.psum_bits),
            Port(0, self.outs, spec.cols * spec.psum_bits),
        )
