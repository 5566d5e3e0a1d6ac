"""The core one clock at a time, in plain Python, straight from `rtl/core`; slow on purpose.

Each module below has the registers of the SystemVerilog module of its name: all read their inputs as they are during
the clock, then all are written. Codes of a lane are tuples; a lane of one code is one, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from naive import is_made, register, weight_at

from systolith.array import Mapping
from systolith.timing import Schedule
from systolith.timing.memory import Port

NOTHING, LOAD, STREAM = 0, 1, 2
Codes = tuple[int, ...]


@dataclass
class MacTile:
    weight: Codes
    code: Codes
    shadow: Codes
    south_weight: Codes
    loaded: bool = False
    load: bool = False
    stream: bool = False
    fresh: bool = False
    last: bool = False
    filled: bool = False
    south_load: bool = False
    psum: int = 0
    acc: int = 0


@dataclass(frozen=True)
class Read:
    """What the control reads in a clock: for the west, for the north; the place of the psum if an output needs it."""

    kind: int = NOTHING
    west: tuple[Codes, ...] = ()
    fresh: bool = False
    last: bool = False
    weighs: bool = False
    stays: bool = False
    north: tuple[Codes, ...] = ()
    place: tuple = ()


@dataclass(frozen=True)
class Pass:
    """A pass, or a fold: weights (col, row), and what streams: words and places.

    `weights` of a fold are (step, col).
    """

    weights: list[list[Codes]]
    words: list[tuple[Codes, ...]]
    places: list[tuple] = field(default_factory=list)


def layer(mapping: Mapping, act: np.ndarray, schedule: Schedule) -> Iterator[Pass]:
    """Every pass or fold, from the definitions."""
    conv, spec, simd = mapping.conv, mapping.spec, mapping.simd
    pictures = act if act.ndim == 4 else act[None]
    (hp, wp), (oh, ow), (kh, kw) = mapping.padded_shape, mapping.output_shape, conv.kernel

    def pixel(ic: int, picture: int, i: int, j: int) -> int:
        i, j = i - conv.pads[0], j - conv.pads[2]
        inside = ic < conv.in_channels and 0 <= i < mapping.height and 0 <= j < mapping.width
        return int(pictures[picture, ic, i, j]) if inside else 0

    def weight(oc: int, ic: int, ki: int, kj: int) -> int:
        return weight_at(conv, oc, ic, ki, kj) if oc < conv.out_channels and ic < conv.in_channels else 0

    def at(oi: int, oj: int, ki: int, kj: int) -> tuple[int, int]:
        return oi * conv.stride[0] + ki * conv.dilation[0], oj * conv.stride[1] + kj * conv.dilation[1]

    outs = [(b, oi, oj) for b in range(len(pictures)) for oi in range(oh) for oj in range(ow)]
    outs_a_group, ins_a_group = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    reads = []
    for oc_tile in range(mapping.oc_tiles):
        real = range(oc_tile * spec.cols, min(conv.out_channels, (oc_tile + 1) * spec.cols))
        channels = [
            ic for oc in real for ic in range(oc // outs_a_group * ins_a_group, (oc // outs_a_group + 1) * ins_a_group)
        ]
        reads.append((min(channels), max(channels) + 1))
    lanes = max(-(-(end - begin) // simd) for begin, end in reads)
    width = max(end - begin for begin, end in reads)
    Where = Callable[[int, int], tuple[int, int, int] | None]

    def one(ocs: range, where: Where, rows: range, first: bool, last: bool) -> Pass:
        """A pass whose row and code are the channel and kernel position `where` (None: nothing)."""
        weights = [
            [tuple(weight(oc, *w) if (w := where(r, k)) else 0 for k in range(simd)) for r in rows] for oc in ocs
        ]
        words, places = [], []
        if schedule.useful or mapping.packed:
            for onij, (b, oi, oj) in enumerate(outs):
                words.append(
                    tuple(
                        tuple(pixel(w[0], b, *at(oi, oj, *w[1:])) if (w := where(r, k)) else 0 for k in range(simd))
                        for r in rows
                    )
                )
                places.append((onij, first, last))
            return Pass(weights, words, places)
        ki, kj = where(0, 0)[1:]
        wanted = {(b, *at(oi, oj, ki, kj)): onij for onij, (b, oi, oj) in enumerate(outs)}
        for b in range(len(pictures)):
            for i in range(hp):
                for j in range(wp):
                    words.append(tuple(tuple(pixel(where(r, k)[0], b, i, j) for k in range(simd)) for r in rows))
                    places.append((wanted.get((b, i, j)), first, last))
        return Pass(weights, words, places)

    rows = range(spec.rows)
    for oc_tile in range(mapping.oc_tiles):
        ocs, begin = range(oc_tile * spec.cols, (oc_tile + 1) * spec.cols), reads[oc_tile][0]
        if mapping.stationary:
            steps = [(group, ki, kj) for group in range(lanes) for ki in range(kh) for kj in range(kw)]
            ics = [
                [begin + g * simd + k if g * simd + k < width else conv.in_channels for k in range(simd)]
                for g, _, _ in steps
            ]
            weights = [
                [tuple(weight(oc, ic, ki, kj) for ic in ics[s]) for oc in ocs] for s, (_, ki, kj) in enumerate(steps)
            ]
            for fold in range(0, len(outs), spec.rows):
                mine = outs[fold : fold + spec.rows]
                mine = [None] * (spec.rows - len(mine)) + mine[::-1]  # the first in the bottom row
                words = [
                    tuple(
                        (0,) * simd if o is None else tuple(pixel(ic, o[0], *at(*o[1:], ki, kj)) for ic in ics[s])
                        for o in mine
                    )
                    for s, (_, ki, kj) in enumerate(steps)
                ]
                places = [(n if n < len(outs) else None, True, True) for n in range(fold, fold + spec.rows)]
                yield Pass(weights, words, places)
        elif mapping.packed:
            tiles = -(-lanes * kh * kw // spec.rows)
            for tile in range(tiles):

                def where(row: int, k: int, tile: int = tile) -> tuple[int, int, int] | None:
                    kij, group = divmod(tile * spec.rows + row, lanes)
                    ic = group * simd + k
                    return (begin + ic, kij // kw, kij % kw) if kij < kh * kw and ic < width else None  # noqa: B023

                yield one(ocs, where, rows, tile == 0, tile == tiles - 1)
        else:
            virtual = replace(spec, rows=spec.rows * simd)
            made = [t for t in range(mapping.ic_tiles) if is_made(conv, virtual, oc_tile, t)]
            for kij in range(kh * kw):
                for tile in made:

                    def where(row: int, k: int, tile: int = tile, kij: int = kij) -> tuple[int, int, int] | None:
                        return (tile * spec.rows + row) * simd + k, kij // kw, kij % kw

                    first, last = (kij, tile) == (0, made[0]), (kij, tile) == (kh * kw - 1, made[-1])
                    yield one(ocs, where, rows, first, last)


def slow(ports: list[Port], words: int) -> list[int]:
    """When each word of a burst is there: each takes as long as the slowest port needs from when it is asked for."""
    found, clock = [], -1
    for word in range(words):
        clock += max(port.every + (port.late if word == 0 else 0) for port in ports)
        found.append(clock)
    return found


def control(mapping: Mapping, act: np.ndarray, schedule: Schedule) -> Iterator[tuple[Read, tuple]]:
    """What the state machine reads in each clock; and, output stationary, the places of a fold's words."""
    spec, every = mapping.spec, list(layer(mapping, act, schedule))
    act_port, weight_port, psum_port = schedule.ports(mapping)
    if mapping.stationary:
        for number, one in enumerate(every):
            times = slow([act_port, weight_port], len(one.words))
            length = max(times[-1] + 1, times[0] + max(spec.rows, 2))
            for clock in range(length):
                if clock not in times:
                    yield Read(), ()
                    continue
                step = times.index(clock)
                ends = step == len(times) - 1
                yield (
                    Read(STREAM, one.words[step], step == 0, ends, True, False, tuple(one.weights[step])),
                    tuple(one.places) if ends else (),
                )
            assert number < len(every)
        return
    if not schedule.double:
        for one in every:
            clock = 0
            for at, column in zip(slow([weight_port], spec.cols), one.weights, strict=True):
                yield from [(Read(), ())] * (at - clock)
                yield Read(LOAD, tuple(column)), ()
                clock = at + 1
            yield Read(), ()
            clock = 0
            for at, word, place in zip(slow([act_port, psum_port], len(one.words)), one.words, one.places, strict=True):
                yield from [(Read(), ())] * (at - clock)
                yield Read(STREAM, word, place=place), ()
                clock = at + 1
            if schedule.drained:
                yield from [(Read(), ())] * (spec.rows + spec.cols - 2)
        return

    def beats(one: Pass) -> list[Read]:
        return [
            Read(weighs=True, stays=True, north=tuple(column[row] for column in one.weights))
            for row in range(spec.rows)
        ]

    loads = slow([weight_port], spec.rows)
    for clock in range(loads[-1] + 1):
        yield beats(every[0])[loads.index(clock)] if clock in loads else Read(), ()
    for number, one in enumerate(every):
        times = slow([act_port, psum_port], len(one.words))
        following = beats(every[number + 1]) if number + 1 < len(every) else []
        late = [times[0] + at for at in loads][: len(following)]
        for clock in range(max(times[-1] + 1, times[0] + max(spec.rows, 2), late[-1] + 1 if late else 0)):
            read = following[late.index(clock)] if clock in late else Read()
            if clock in times:
                at = times.index(clock)
                read = replace(read, kind=STREAM, west=one.words[at], fresh=at == 0, place=one.places[at])
            yield read, ()


class Core:
    """Run a layer to its end; what happened is in the lists. Clock 0: the first weight beat enters the array.

    Attributes:
        registers: of each clock, the MacTiles' values by name, (row, col).
        psums, outs: (clock, word).
        reads: clocks; writes: (clock, word).
    """

    def __init__(self, mapping: Mapping, act: np.ndarray, schedule: Schedule) -> None:
        spec, simd, stationary = mapping.spec, mapping.simd, mapping.stationary
        rows, cols = spec.rows, spec.cols
        overflow = "saturate" if spec.overflow == "saturate" else "wrap"
        self.registers: list[list[list[dict]]] = []
        self.psums: list[tuple[int, list[int]]] = []
        self.outs: list[tuple[int, list[int]]] = []
        self.reads: list[int] = []
        self.writes: list[tuple[int, list[int]]] = []
        none = (0,) * simd
        tiles = [[MacTile(none, none, none, none) for _ in range(cols)] for _ in range(rows)]
        memory_out: Read = Read()
        l0: deque[Read] = deque()
        north_l0: deque[Read] = deque()
        ways = [deque([(Read(), none)] * r) for r in range(rows)]
        north_ways = [deque([(False, none)] * c) for c in range(cols)]
        ofifo: list[deque[int]] = [deque() for _ in range(cols)]
        places: deque[tuple] = deque()
        psum_memory: dict[int, list[int]] = {}
        left, drains = 0, [[[False] * cols for _ in range(rows)], [False] * cols]
        add = total = None
        out = None
        source = control(mapping, act, schedule)
        clock, quiet, self.base = 0, 0, -1
        while quiet < 2 * rows + 2 * cols + 16:
            step = next(source, None)
            read, folded = step if step is not None else (Read(), ())
            quiet = 0 if step is not None else quiet + 1
            # Wires.
            beat = l0.popleft() if l0 else Read()
            above = north_l0.popleft() if north_l0 else Read()
            if self.base < 0 and (beat.kind != NOTHING or above.weighs):
                self.base = clock
            west, north = [], []
            for r in range(rows):
                ways[r].append((beat, beat.west[r] if beat.west else none))
                west.append(ways[r].popleft())
            for c in range(cols):
                north_ways[c].append((above.stays, above.north[c] if above.north else none))
                north.append(north_ways[c].popleft())
            valid = all(ofifo)
            word = [queue.popleft() for queue in ofifo] if valid else []
            self.registers.append([[dict(vars(tile)) for tile in row] for row in tiles])
            # Output stationary, column 0 passes sums on for as many clocks as there are rows; the others a clock later.
            passing, leaving = drains
            for r in range(rows):
                passing[r] = [left > rows - r, *passing[r]][:cols]
            leaving = [left > 0, *leaving][:cols]
            # The array.
            after = [[MacTile(**vars(tile)) for tile in row] for row in tiles]
            for r in range(rows):
                for c in range(cols):
                    now, then = tiles[r][c], after[r][c]
                    west_beat, code = west[r]
                    load, stream = west_beat.kind == LOAD, west_beat.kind == STREAM
                    fresh, last = west_beat.fresh, west_beat.last
                    if c:
                        side = tiles[r][c - 1]
                        load, stream, fresh, last, code = side.load, side.stream, side.fresh, side.last, side.code
                    comes, weights = (tiles[r - 1][c].south_load, tiles[r - 1][c].south_weight) if r else north[c]
                    resident = now.shadow if fresh else now.weight
                    factor = weights if stationary else resident
                    product = sum(a * w for a, w in zip(code, factor, strict=True))
                    begin = (0 if fresh else now.acc) if stationary else tiles[r - 1][c].psum if r else 0
                    held = register(begin + product, spec.psum_bits, overflow)
                    if not stationary and fresh:
                        then.weight = now.shadow
                    elif load and not now.loaded:
                        then.weight = code
                    keeps = now.filled and not fresh
                    if comes and not keeps:
                        then.shadow = weights
                    then.filled, then.south_load, then.south_weight = keeps or comes, comes and keeps, weights
                    if stream:
                        then.acc = held
                    if stream and (not stationary or last):
                        then.psum = held
                    elif stationary and passing[r][c]:
                        then.psum = tiles[r - 1][c].psum if r else 0
                    then.loaded = (now.loaded or load) and not stream
                    then.load, then.stream, then.code = load and now.loaded, stream, code
                    then.fresh, then.last = fresh, last
            for c in range(cols):
                if leaving[c] if stationary else tiles[-1][c].stream:
                    ofifo[c].append(tiles[-1][c].psum)
            bottom = west[-1][0]
            left = rows if bottom.kind == STREAM and bottom.last else max(0, left - 1)
            drains = [passing, leaving]
            # The special function processor, its last register first.
            if out is not None:
                self.outs.append((clock, out))
            out, total_before, total = total, add, None
            if total_before is not None:
                held_sums, psum, place, first, last = total_before
                summed = [
                    register(p + (0 if first else h), spec.psum_bits, overflow)
                    for p, h in zip(psum, held_sums, strict=True)
                ]
                if not stationary:
                    self.writes.append((clock, summed))
                total = summed if last else None
            add = None
            if valid:
                self.psums.append((clock, word))
                place, first, last = places.popleft()
                if place is not None:
                    if not stationary:
                        self.reads.append(clock)
                    add = (psum_memory.get(place, [0] * cols), word, place, first, last)
            if total_before is not None and not stationary:
                psum_memory[total_before[2]] = self.writes[-1][1]
            # The memories and the queues.
            if memory_out.kind != NOTHING:
                l0.append(memory_out)
            if memory_out.weighs:
                north_l0.append(memory_out)
            memory_out = read
            if read.kind == STREAM:
                places.extend(folded if stationary else [read.place])
            tiles = after
            clock += 1

    def history(self, name: str, clocks: int, bits: int) -> np.ndarray:
        """(row, col, clock), a register in the first clocks; of several codes of so many bits their lane."""

        def number(value: Codes | int) -> int:
            if not isinstance(value, tuple):
                return int(value)
            if len(value) == 1:
                return value[0]
            return sum((code % (1 << bits)) << (n * bits) for n, code in enumerate(value))

        values = [[[number(tile[name]) for tile in row] for row in now] for now in self.registers[:clocks]]
        return np.array(values, dtype=np.int64).transpose(1, 2, 0)
