"""The core, register by register: what each one holds in each clock, and when words really come out.

Nothing here knows the closed form. The control's beats (`Contract`) go through the memories' output registers, the L0,
the skew, and every processing element; psums come out of the bottom row, through the OFIFO, into the special function
processor, and clocks are those at which that happens.

A NumPy call a clock would take microseconds a clock. Instead a register's whole history over a block of clocks is one
array, computed from the histories of what feeds it: registers that only pass on are their neighbour's, one clock later;
those that hold are filled from the last clock that wrote them. Feedback is inside single registers only, so columns go
west to east, rows north to south, and what a block leaves in each register begins the next block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.timing.elements import LOAD, NOTHING, REGISTERS, STREAM, Beats, Carrier, Elements
from systolith.timing.histories import Bools, Ints
from systolith.timing.memory import Port
from systolith.timing.queues import Delayed, Queues
from systolith.timing.schedule import Contract, Schedule, contract
from systolith.timing.sums import Sums

__all__ = ["LOAD", "NOTHING", "REGISTERS", "STREAM", "Block", "machine"]
BLOCK = 1 << 17
"""Clocks of a block times the rows: its histories stay in the cache."""

Clocks = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """What was seen in some clocks, one after another. Clock 0: the first weight beat enters row 0.

    Attributes:
        begin: the first of these clocks; before the first weight beat they are negative.
        beats: int8 (clock,), NOTHING, LOAD or STREAM: what enters row 0.
        load: int64, when a weight beat entered the array.
        last: the latest clock in which the bottom row's last column took a psum, or None.
        psum: int64 (n,), when a word left the OFIFO.
        psums: (n, col), those words.
        read, write: int64 (m,), when the psum memory was read and written.
        out: int64 (k,), when an output left the SFP.
        outs: int64 (k, col), those outputs, before ReLU.
        act_reads, weight_reads: words read from the two memories.
        overruns: clocks in which a full queue was pushed.
        hazards: psums added to a sum that was not written yet.
        l0, ofifo: the most words that a queue held.
        registers: with `trace`, each of `elements.registers_of`: (row, col, clock), what it holds during the clock; and
            "sums", int64 (m, col), the words written to the psum memory. Else empty.
    """

    begin: int
    beats: NDArray[np.int8]
    load: Clocks
    last: int | None
    psum: Clocks
    psums: Ints
    read: Clocks
    write: Clocks
    out: Clocks
    outs: NDArray[np.int64]
    act_reads: int
    weight_reads: int
    overruns: int
    hazards: int
    l0: int
    ofifo: int
    registers: dict[str, Ints]


def machine(
    mapping: Mapping,
    act: NDArray[np.integer],
    schedule: Schedule,
    rules: Contract | None = None,
    block: int | None = None,
    trace: bool = False,
) -> Iterator[Block]:
    """Step the core through a layer.

    Args:
        mapping: the layer on the array. An array whose overflow is "error" wraps, as its hardware does.
        act: activation codes (C, H, W), of a batch (picture, C, H, W), unpadded.
        schedule: what is streamed, and when the next pass begins.
        rules: of the control (beats, turnaround, wait) and the queues' depths; by default the core's. Its latencies are
            not read: they are what the registers below take.
        block: clocks of a block, rounded to whole passes.
        trace: keep the processing elements' registers, and the sums.

    Yields:
        Blocks of clocks, until the last output has left.

    Raises:
        BadInput: activations that are not the layer's.
    """
    mapping.require(act)
    double = schedule.double and not mapping.stationary
    rules, carrier = rules or contract(mapping.spec, double), Carrier.of(mapping)
    control = _Control(mapping, act, schedule, rules, carrier, block or max(1, BLOCK // rules.rows))
    # From a memory's output register a word is queued, from the queue it enters the array.
    west, north = (_Port(rules.l0_depth) for _ in range(2))
    array, ofifo = Elements(mapping, carrier, double), Queues(rules.cols, rules.ofifo_depth, passing=True)
    sfp = Sums(mapping, schedule)
    base: int | None = None
    clock = 0
    for read in control.clocks():
        count = len(read.kinds)
        kinds, flags = read.kinds.astype(carrier.dtype), np.column_stack([read.fresh, read.last])
        words = west.step(read.kinds != NOTHING, np.column_stack([kinds, flags, read.codes.reshape(count, -1)]))
        given = north.step(read.weighs, np.column_stack([read.north, read.weights.reshape(count, -1)]))
        beats = Beats(
            kinds=words[:, 0].astype(np.int8),
            fresh=words[:, 1].astype(bool),
            last=words[:, 2].astype(bool),
            codes=words[:, 3:].reshape(read.codes.shape),
            north=given[:, 0].astype(bool),
            weights=given[:, 1:].reshape(read.weights.shape),
        )
        loads = north.popped if double or mapping.stationary else beats.kinds == LOAD
        if base is None and (loads.any() or west.popped.any()):
            base = clock + int(np.argmax(loads | west.popped))
        registers: dict[str, Ints] = {}
        valid, psums = array.step(beats, registers if trace else None)
        left, leaving = ofifo.step(valid, [p[v, None] for p, v in zip(psums, valid, strict=True)])
        begin = clock - (base or 0)
        at = np.flatnonzero(left) + begin
        words_out = np.concatenate(leaving, axis=1)
        placed, write, out, outs, hazards = sfp.step(at, words_out, registers if trace else None)
        added = np.flatnonzero(array.adds)
        weights = int((read.kinds == LOAD).sum()) + int(read.weighs.sum())
        overruns = west.queue.overruns + north.queue.overruns + ofifo.overruns
        yield Block(
            *(begin, beats.kinds, begin + np.flatnonzero(loads), begin + int(added[-1]) if added.size else None),
            *(at, words_out, placed, write, out, outs),
            *(int((read.kinds == STREAM).sum()), weights, overruns, hazards),
            *(max(west.queue.most, north.queue.most), ofifo.most, registers),
        )
        clock += count


class _Port:
    """A memory's output register, and the queue between it and an edge of the array."""

    def __init__(self, depth: int) -> None:
        self.memory, self.queue = Delayed(1), Queues(1, depth, passing=False)
        self.popped = np.zeros(0, dtype=np.bool_)

    def step(self, reads: Bools, words: Ints) -> Ints:
        """(clock,) whether a word is read, (clock, ...) that word; to what enters the array, 0 where nothing does."""
        late = self.memory.step(np.column_stack([reads, words]))
        push = late[:, 0] != 0
        self.popped, queued = self.queue.step(push[None], [late[push, 1:]])
        entering = np.zeros_like(words)
        entering[self.popped] = queued[0]
        return entering


@dataclass(frozen=True)
class _Read(Beats):
    """What is read in each clock: as it will enter, and whether a word of weights is read for the north."""

    weighs: Bools


def _joined(one: _Read, other: _Read) -> _Read:
    """What is read in the clocks of the one, and then in those of the other."""
    return _Read(*(np.concatenate([getattr(one, f.name), getattr(other, f.name)]) for f in fields(_Read)))


def _burst(ports: Sequence[Port], words: int) -> tuple[int, NDArray[np.int64]]:
    """A burst of words, each from all of these ports, clock by clock: how long it takes, when each word is there."""
    clock, taken = 0, list[int]()
    waited = [0] * len(ports)
    while len(taken) < words:
        waited = [clocks + 1 for clocks in waited]
        if all(w >= p.every + (0 if taken else p.late) for w, p in zip(waited, ports, strict=True)):
            taken.append(clock)
            waited = [0] * len(ports)
        clock += 1
    return clock, np.array(taken)


class _Control:
    """The state machine: each pass its weights, the turnaround, its positions, and (drained) the wait.

    Double-buffered, the next pass's weights beside the positions; output stationary, fold after fold, a step a clock.
    """

    def __init__(
        self,
        mapping: Mapping,
        act: NDArray[np.integer],
        schedule: Schedule,
        rules: Contract,
        carrier: Carrier,
        block: int,
    ) -> None:
        self.mapping, self.schedule, self.rules, self.block = mapping, schedule, rules, block
        self.dtype, self.ports = carrier.dtype, schedule.ports(mapping)
        self.act = mapping.act_tiles(act)
        self.weight = mapping.weight_tiles()

    def clocks(self) -> Iterator[_Read]:
        """Block after block; in the first one something enters the array."""
        short: _Read | None = None
        begun = False
        for read in self._reads():
            read = _joined(short, read) if short is not None else read
            begun = begun or len(read.kinds) > self.rules.lead + self.schedule.first(self.mapping)
            short = None if begun else read
            if begun:
                yield read

    def _reads(self) -> Iterator[_Read]:
        """Until everything has come out: at the end as long again as anything could be on its way."""
        if self.mapping.stationary:
            yield from self._folds()
        elif self.schedule.double:
            yield from self._beside()
        else:
            yield from self._alternating()
        yield self._nothing(self.rules.crossing + self.rules.rows + self.rules.cols + 16)

    def _nothing(self, count: int) -> _Read:
        none, simd = np.zeros(count, dtype=np.bool_), self.mapping.simd
        kinds = np.zeros(count, dtype=np.int8)
        codes, weights = (np.zeros((count, n, simd), self.dtype) for n in (self.rules.rows, self.rules.cols))
        return _Read(kinds, none, none.copy(), codes, none.copy(), weights, none.copy())

    def _positions(self, kij: NDArray[np.int64]) -> NDArray[np.int64]:
        """(pass, position): where the activations of passes lie."""
        if self.schedule.useful:
            return self.mapping.windows()[kij]
        return np.broadcast_to(np.arange(self.mapping.nijs), (len(kij), self.mapping.nijs))

    def _alternating(self) -> Iterator[_Read]:
        rules, streamed = self.rules, self.schedule.vectors(self.mapping)
        clock, loads = _burst(self.ports[1:2], rules.load_beats)
        end, streams = _burst((self.ports[0], self.ports[2]), streamed)
        streams += clock + rules.turnaround
        period = clock + rules.turnaround + end + (rules.crossing if self.schedule.drained else 0)
        for oc_tile, kij, ic_tile in self._blocks(period):
            read = self._nothing(len(kij) * period)
            kinds = read.kinds.reshape(-1, period)
            kinds[:, loads], kinds[:, streams] = LOAD, STREAM
            codes = read.codes.reshape(len(kij), period, -1)
            codes[:, loads] = self.weight[ic_tile, oc_tile, kij]
            codes[:, streams] = self.act[ic_tile[:, None], self._positions(kij)]
            yield read

    def _beside(self) -> Iterator[_Read]:
        mapping, rules, streamed = self.mapping, self.rules, self.schedule.vectors(self.mapping)
        beats, words = rules.load_beats, mapping.order.T
        clock, first = _burst(self.ports[1:2], beats)
        end, streams = _burst((self.ports[0], self.ports[2]), streamed)
        loads = first + streams[0]  # asked for with the first position
        period = max(end, int(loads[-1]) + 1, int(streams[0]) + max(rules.rows, 2))

        def weights(passes: NDArray[np.int64]) -> Ints:
            """(pass, beat, col, code), of passes by their numbers."""
            oc_tile, kij, ic_tile = words[:, passes]
            taken = self.weight[ic_tile, oc_tile, kij].reshape(len(passes), rules.cols, beats, mapping.simd)
            return taken.swapaxes(1, 2)

        read = self._nothing(clock)
        read.north[first], read.weighs[first], read.weights[first] = True, True, weights(np.arange(1))[0]
        yield read
        done = 0
        for _, kij, ic_tile in self._blocks(period):
            count = len(kij)
            read = self._nothing(count * period)
            kinds, north = read.kinds.reshape(count, period), read.north.reshape(count, period)
            kinds[:, streams] = STREAM
            read.fresh.reshape(count, period)[:, streams[0]] = True
            codes = read.codes.reshape(count, period, -1)
            codes[:, streams] = self.act[ic_tile[:, None], self._positions(kij)]
            following = np.arange(done + 1, min(done + 1 + count, mapping.passes))
            north[: len(following), loads] = True
            read.weights.reshape(count, period, rules.cols, mapping.simd)[: len(following), loads] = weights(following)
            read.weighs[:] = read.north
            done += count
            yield read

    def _folds(self) -> Iterator[_Read]:
        mapping, rules, steps, flat = self.mapping, self.rules, self.mapping.steps, self.mapping.flat
        assert flat is not None
        end, streams = _burst(self.ports[:2], steps)
        period = max(end, int(streams[0]) + max(rules.rows, 2))
        step = max(1, self.block // period)
        for oc_tile in range(mapping.oc_tiles):
            band = flat.band[oc_tile]
            weights = self.weight[band, oc_tile, 0].reshape(rules.cols, steps, -1).swapaxes(0, 1)
            for begin in range(0, mapping.folds, step):
                count = min(step, mapping.folds - begin)
                read = self._nothing(count * period)
                read.kinds.reshape(count, period)[:, streams] = STREAM
                read.fresh.reshape(count, period)[:, streams[0]] = True
                read.last.reshape(count, period)[:, streams[-1]] = True
                acts = np.zeros((count * rules.rows, steps, mapping.simd), self.dtype)
                taken = self.act[band, begin * rules.rows : (begin + count) * rules.rows]
                acts[: len(taken)] = taken.reshape(len(taken), steps, -1)
                # The bottom row has a fold's first position.
                turned = acts.reshape(count, rules.rows, steps, -1)[:, ::-1].swapaxes(1, 2)
                read.codes.reshape(count, period, rules.rows, -1)[:, streams] = turned
                read.weights.reshape(count, period, rules.cols, -1)[:, streams] = weights
                read.weighs[:] = read.kinds == STREAM
                yield read

    def _blocks(self, period: int) -> Iterator[NDArray[np.int64]]:
        """oc_tile, kij and ic_tile of some passes, (3, pass), one block after another."""
        step = max(1, self.block // period)
        for begin in range(0, self.mapping.passes, step):
            yield self.mapping.order[begin : begin + step].T
