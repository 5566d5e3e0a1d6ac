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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.histories import Bools, Ints, fit, hold, hold_flags, latched, safe
from systolith.array.mapping import Mapping
from systolith.array.spec import ArraySpec
from systolith.array.timing import Contract, Schedule, contract
from systolith.formats import least_signed_bits
from systolith.network.graph import require_act

NOTHING, LOAD, STREAM = 0, 1, 2
"""What enters row 0 of the array in a clock."""
REGISTERS = ("weight", "loaded", "load", "stream", "code", "psum")
"""Those of a processing element: `load`, `stream` and `code` go on to the east, `psum` to the south."""
BLOCK = 1 << 17
"""Clocks of a block times the rows: its histories stay in the cache."""

Clocks = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """What was seen in some clocks, one after another. Clock 0: the first weight beat enters row 0.

    Attributes:
        begin: the first of these clocks; before the first weight beat they are negative.
        beats: int8 (clock,), NOTHING, LOAD or STREAM: what enters row 0.
        last: the latest clock in which the bottom row's last column added a product, or None.
        psum: int64 (n,), when a word left the OFIFO.
        psums: (n, col), those words.
        read, write: int64 (m,), when the psum memory was read and written.
        out: int64 (k,), when an output left the SFP.
        outs: int64 (k, col), those outputs, before ReLU.
        act_reads, weight_reads: words read from the two memories.
        overruns: clocks in which a full queue was pushed.
        hazards: psums added to a sum that was not written yet.
        l0, ofifo: the most words that a queue held.
        registers: with `trace`, each of REGISTERS: (row, col, clock), what it holds during the clock; and "sums",
            int64 (m, col), the words written to the psum memory. Else empty.
    """

    begin: int
    beats: NDArray[np.int8]
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
        act: activation codes (C, H, W), unpadded.
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
    require_act(mapping.conv, act)
    rules = rules or contract(mapping.spec)
    carrier = _Carrier.of(mapping)
    control = _Control(mapping, act, schedule, rules, carrier, block or max(1, BLOCK // rules.rows))
    memories, l0 = _Memories(rules.rows), _Queues(1, rules.l0_depth, passing=False)
    array, ofifo = _Array(mapping.spec, carrier), _Queues(rules.cols, rules.ofifo_depth, passing=True)
    sfp = _Sfp(mapping, schedule)
    base: int | None = None
    clock = 0
    for kinds, words in control.clocks():
        count = len(kinds)
        pushed = memories.step(kinds, words)
        push = pushed[0] != NOTHING
        popped, queued = l0.step(push[None], [np.column_stack(pushed)[push]])
        beats = np.zeros(count, dtype=np.int8)
        beats[popped] = queued[0][:, 0]
        codes = np.zeros((count, rules.rows), dtype=words.dtype)
        codes[popped] = queued[0][:, 1:]
        if base is None and popped.any():
            base = clock + int(np.argmax(popped))
        registers: dict[str, Ints] = {}
        valid, psums = array.step(beats, codes, registers if trace else None)
        left, leaving = ofifo.step(valid, [p[v, None] for p, v in zip(psums, valid, strict=True)])
        begin = clock - (base or 0)
        at = np.flatnonzero(left) + begin
        words_out = np.concatenate(leaving, axis=1)
        read, write, out, outs, hazards = sfp.step(at, words_out, registers if trace else None)
        added = np.flatnonzero(array.adds)
        yield Block(
            *(begin, beats, begin + int(added[-1]) if added.size else None, at, words_out, read, write, out, outs),
            *(int((kinds == STREAM).sum()), int((kinds == LOAD).sum()), l0.overruns + ofifo.overruns, hazards),
            *(l0.most, ofifo.most, registers),
        )
        clock += count


@dataclass(frozen=True)
class _Carrier:
    """The integers of the array.

    Attributes:
        dtype: the narrowest that hold the codes and whatever a processing element adds up.
        narrow: some sum of a pass could leave the psum register; otherwise there is nothing to wrap or saturate.
    """

    dtype: Any
    narrow: bool

    @classmethod
    def of(cls, mapping: Mapping) -> _Carrier:
        spec, (lo, hi) = mapping.spec, mapping.pass_bounds()
        narrow = not safe(spec.psum_format, lo, hi)
        codes = max(spec.act_bits + 1, spec.weight_bits)
        added = max(spec.psum_bits, spec.act_bits + 1 + spec.weight_bits) + 1 if narrow else least_signed_bits(lo, hi)
        bits = max(codes, added)
        return cls(np.int16 if bits <= 16 else np.int32 if bits <= 32 else np.int64, narrow)


class _Control:
    """The state machine: each pass its weights, the turnaround, its positions, and (drained) the wait."""

    def __init__(
        self,
        mapping: Mapping,
        act: NDArray[np.integer],
        schedule: Schedule,
        rules: Contract,
        carrier: _Carrier,
        block: int,
    ) -> None:
        self.mapping, self.schedule, self.rules, self.block = mapping, schedule, rules, block
        self.dtype = carrier.dtype
        self.act = mapping.act_tiles(act)
        self.weight = mapping.weight_tiles()

    def clocks(self) -> Iterator[tuple[NDArray[np.int8], Ints]]:
        """(clock,): what is read; (clock, row): the word at that address."""
        mapping, rules = self.mapping, self.rules
        positions = mapping.windows() if self.schedule.useful else np.arange(mapping.nijs)[None]
        first = rules.load_beats + rules.turnaround
        streamed = positions.shape[1]
        wait = rules.crossing if self.schedule.drained else 0
        pattern = np.zeros(first + streamed + wait, dtype=np.int8)
        pattern[: rules.load_beats] = LOAD
        pattern[first : first + streamed] = STREAM
        step = max(1, self.block // len(pattern))
        for begin in range(0, mapping.passes, step):
            oc_tile, kij, ic_tile = mapping.order[begin : begin + step].T
            words = np.zeros((len(kij), len(pattern), rules.rows), dtype=self.dtype)
            words[:, : rules.load_beats] = self.weight[ic_tile, oc_tile, kij]
            where = positions[kij if self.schedule.useful else np.zeros_like(kij)]
            words[:, first : first + streamed] = self.act[ic_tile[:, None], where]
            yield np.tile(pattern, len(kij)), words.reshape(-1, rules.rows)
        # Until everything has come out: as long again as anything could be on its way.
        last = rules.crossing + rules.cols + 16
        yield np.zeros(last, dtype=np.int8), np.zeros((last, rules.rows), dtype=self.dtype)


class _Memories:
    """The output registers of the activation and weight memories, and of what they are pushed as."""

    def __init__(self, rows: int) -> None:
        self.kind = np.zeros(1, dtype=np.int8)
        self.word = np.zeros((1, rows), dtype=np.int8)

    def step(self, kinds: NDArray[np.int8], words: Ints) -> tuple[NDArray[np.int8], Ints]:
        kind, word = np.concatenate([self.kind, kinds]), np.concatenate([self.word, words])
        self.kind, self.word = kind[-1:], word[-1:]
        return kind[:-1], word[:-1]


class _Queues:
    """Queues popped together as soon as each has a word; one pushed in a clock can be popped in the next one.

    A full one that is popped takes a word in the same clock if it is `passing`.
    """

    def __init__(self, count: int, depth: int, passing: bool) -> None:
        self.depth, self.passing = depth, passing
        self.waiting: list[Ints] = [np.zeros((0, 0), dtype=np.int8)] * count
        self.overruns = self.most = 0

    def step(self, push: Bools, words: list[Ints]) -> tuple[Bools, list[Ints]]:
        """(queue, clock): what is pushed, and those words, (n, lane) a queue; to (clock,): popped, and those words."""
        count = push.shape[1]
        held = [np.concatenate([w, n]) if len(w) else n for w, n in zip(self.waiting, words, strict=True)]
        # Words that a queue has been given before each clock.
        given = np.empty((len(held), count + 1), dtype=np.int64)
        given[:, 0] = [len(w) for w in self.waiting]
        np.cumsum(push, axis=1, out=given[:, 1:])
        given[:, 1:] += given[:, :1]
        # pops[t+1] = min(pops[t] + 1, what the emptiest queue was given): less t, a running minimum.
        clock = np.arange(count + 1)
        pops = np.zeros(count + 1, dtype=np.int64)
        np.minimum.accumulate(given.min(axis=0)[:-1] - clock[1:], out=pops[1:])
        pops[1:] = np.minimum(pops[1:], 0)
        pops += clock
        popped = pops[1:] > pops[:-1]
        holds = given[:, :-1] - pops[:-1]
        self.most = int(holds.max(initial=0))
        self.overruns = int(((holds >= self.depth) & push & ~(popped & self.passing)).any(axis=0).sum())
        total = int(pops[-1])
        self.waiting = [w[total:] for w in held]
        return popped, [w[:total] for w in held]


class _Array:
    """The processing elements: a column's histories at a time, (row, clock) each."""

    def __init__(self, spec: ArraySpec, carrier: _Carrier) -> None:
        self.spec, self.dtype, self.narrow = spec, carrier.dtype, carrier.narrow
        flags = dict.fromkeys(("loaded", "load", "stream"), np.bool_)
        shape = (self.spec.cols, self.spec.rows)
        self.state: dict[str, Any] = {name: np.zeros(shape, dtype=flags.get(name, self.dtype)) for name in REGISTERS}
        # The skew: row r has r registers before it.
        self.beats = np.zeros(self.spec.rows - 1, dtype=np.int8)
        self.codes = np.zeros((self.spec.rows - 1, self.spec.rows), dtype=self.dtype)
        self.adds = np.zeros(0, dtype=np.bool_)

    def step(self, beats: NDArray[np.int8], codes: Ints, trace: dict[str, Ints] | None) -> tuple[Bools, list[Ints]]:
        """What leaves the bottom row, (col, clock) valid and psums, for the beats that leave the L0.

        Args:
            beats: (clock,), for row 0.
            codes: (clock, row), before the skew.
            trace: takes the registers' histories.
        """
        rows, count = self.spec.rows, len(beats)
        late_beats, late_codes = np.concatenate([self.beats, beats]), np.concatenate([self.codes, codes])
        self.beats, self.codes = late_beats[count:], late_codes[count:]
        begins = [rows - 1 - r for r in range(rows)]
        kind = np.stack([late_beats[b : b + count] for b in begins])
        load, stream = kind == LOAD, kind == STREAM
        code = np.stack([late_codes[b : b + count, r] for r, b in enumerate(begins)])
        valid = np.empty((self.spec.cols, count), dtype=np.bool_)
        psums = []
        traced: dict[str, list[Ints]] = {name: [] for name in REGISTERS}
        for col in range(self.spec.cols):
            self.adds = stream[-1]
            history = self._column(col, load, stream, code, trace is not None)
            for name in REGISTERS:
                self.state[name][col] = history[name][:, -1]
                if trace is not None:
                    traced[name].append(history[name][:, :-1].copy())
            load, stream, code = (history[name][:, :-1] for name in ("load", "stream", "code"))
            valid[col] = stream[-1]
            psums.append(history["psum"][-1, :-1])
        if trace is not None:
            trace |= {name: np.stack(histories, axis=1) for name, histories in traced.items()}
        return valid, psums

    def _column(self, col: int, load: Bools, stream: Bools, code: Ints, trace: bool) -> dict[str, Any]:
        """The registers of a column, (row, clock + 1): what they hold before each clock and after the last.

        A psum is read in the clock after it was written, if the row below streams then only (as the skew has it; looked
        at here). What the register holds until the next one is seen by a trace alone: without, it is left out.
        """
        shape = load.shape[0], load.shape[1] + 1
        history = {name: np.empty(shape, dtype=self.state[name].dtype) for name in REGISTERS if name != "weight"}
        for name, values in history.items():
            values[:, 0] = self.state[name][col]
        history["code"][:, 1:], history["stream"][:, 1:] = code, stream
        loaded, psum = history["loaded"], history["psum"]
        loaded[:, 1:] = load
        hold_flags(loaded, load | stream)
        east_load, keeps = history["load"], np.zeros(load.shape, dtype=np.bool_)
        np.logical_and(load, loaded[:, :-1], out=east_load[:, 1:])
        np.greater(load, loaded[:, :-1], out=keeps)
        history["weight"] = weight = latched(self.state["weight"][col], code, keeps)
        np.multiply(code, weight[:, :-1], out=psum[:, 1:])
        east_stream = history["stream"]
        holds = trace or bool((stream[1:] > east_stream[:-1, :-1]).any())
        for row in range(len(psum)):
            if row:
                psum[row, 1:] += psum[row - 1, :-1]
            if self.narrow:
                psum[row, 1:] = fit(psum[row, 1:], self.spec.psum_format, self.spec.overflow)
            if holds:
                hold(psum[row : row + 1], stream[row : row + 1])
        return history


class _Sfp:
    """Accumulation in place: read, add and write back in the next clock, then two registers to the output.

    Words wait here until their pass is whole: a sum's history over the passes is one array, as a register's is.
    """

    def __init__(self, mapping: Mapping, schedule: Schedule) -> None:
        self.mapping, self.useful = mapping, schedule.useful
        self.windows = mapping.windows()
        self.vectors = schedule.vectors(mapping)
        self.at = np.zeros(0, dtype=np.int64)
        self.words = np.zeros((0, mapping.spec.cols), dtype=np.int64)
        self.done = 0
        self.begins = np.isin(np.arange(mapping.passes + 1), mapping.begins)
        lo, hi = mapping.conv.bounds()
        self.narrow = not safe(mapping.spec.psum_format, int(lo.min()), int(hi.max()))
        self.sums = np.zeros((mapping.onijs, mapping.spec.cols), dtype=np.int64)
        self.written = np.full((1, mapping.onijs), np.iinfo(np.int64).min)

    def step(
        self, at: Clocks, words: Ints, trace: dict[str, Ints] | None
    ) -> tuple[Clocks, Clocks, Clocks, NDArray[np.int64], int]:
        """Words that left the OFIFO to: reads, writes, output clocks, outputs (k, col), hazards."""
        mapping = self.mapping
        at, words = np.concatenate([self.at, at]), np.concatenate([self.words, words])
        passes = len(at) // self.vectors
        whole = passes * self.vectors
        self.at, self.words = at[whole:], words[whole:]
        number = np.arange(self.done, self.done + passes)
        self.done += passes
        read = at[:whole].reshape(passes, self.vectors)
        psum = words[:whole].reshape(passes, self.vectors, mapping.spec.cols)
        if not self.useful:
            where = self.windows[mapping.order[number, 1]]
            each = np.arange(passes)[:, None]
            read, psum = read[each, where], psum[each, where]
        write = read + 1
        history = np.concatenate([self.written, write])
        hazards = int((read <= history[:-1]).sum())
        self.written = history[-1:]
        outs, out, held = [], [], []
        for one, writes, sums in zip(number, write, psum, strict=True):
            if self.begins[one]:
                self.sums[:] = 0
            self.sums += sums
            if self.narrow:
                self.sums = fit(self.sums, mapping.spec.psum_format, mapping.spec.overflow)
            if trace is not None:
                held.append(self.sums.copy())
            if self.begins[one + 1]:
                out.append(writes + 2)
                outs.append(self.sums.copy())
        if trace is not None:
            trace["sums"] = np.concatenate([self.sums[:0], *held])
        return (
            *(read.reshape(-1), write.reshape(-1), np.concatenate([np.zeros(0, dtype=np.int64), *out])),
            *(np.concatenate([self.sums[:0], *outs]), hazards),
        )
