"""The core one clock at a time, in plain Python, straight from `rtl/core`; slow on purpose.

Each module below has the registers of the SystemVerilog module of its name: all read their inputs as they are during
the clock, then all are written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from naive import is_made, register, weight_at

from systolith.array import Mapping, Schedule

NOTHING, LOAD, STREAM = 0, 1, 2


@dataclass
class MacTile:
    weight: int = 0
    loaded: bool = False
    load: bool = False
    stream: bool = False
    code: int = 0
    psum: int = 0


def beats(mapping: Mapping, act: np.ndarray, schedule: Schedule) -> Iterator[tuple[int, list[int], tuple]]:
    """What the state machine reads in each clock: kind, the word, and the place of its psum if an output needs it."""
    conv, spec = mapping.conv, mapping.spec
    (hp, wp), (oh, ow), (kh, kw) = mapping.padded_shape, mapping.output_shape, conv.kernel

    def pixel(ic: int, i: int, j: int) -> int:
        i, j = i - conv.pads[0], j - conv.pads[2]
        inside = ic < conv.in_channels and 0 <= i < mapping.height and 0 <= j < mapping.width
        return int(act[ic, i, j]) if inside else 0

    for oc_tile in range(mapping.oc_tiles):
        for ki in range(kh):
            for kj in range(kw):
                wanted = {}
                for oi in range(oh):
                    for oj in range(ow):
                        i, j = oi * conv.stride[0] + ki * conv.dilation[0], oj * conv.stride[1] + kj * conv.dilation[1]
                        wanted[i, j] = oi * ow + oj
                tiles = [t for t in range(mapping.ic_tiles) if is_made(conv, spec, oc_tile, t)]
                for ic_tile in tiles:
                    channels = range(ic_tile * spec.rows, (ic_tile + 1) * spec.rows)
                    for oc in range(oc_tile * spec.cols, (oc_tile + 1) * spec.cols):
                        real = [oc < conv.out_channels and ic < conv.in_channels for ic in channels]
                        word = [weight_at(conv, oc, ic, ki, kj) if r else 0 for ic, r in zip(channels, real)]  # noqa: B905
                        yield LOAD, word, ()
                    yield NOTHING, [0] * spec.rows, ()
                    first, last = (
                        (ki, kj, ic_tile) == (0, 0, tiles[0]),
                        (ki, kj, ic_tile) == (kh - 1, kw - 1, tiles[-1]),
                    )
                    for i in range(hp):
                        for j in range(wp):
                            if (i, j) in wanted or not schedule.useful:
                                yield STREAM, [pixel(ic, i, j) for ic in channels], (wanted.get((i, j)), first, last)
                    if schedule.drained:
                        for _ in range(spec.rows + spec.cols - 2):
                            yield NOTHING, [0] * spec.rows, ()


class Core:
    """Run a layer to its end; what happened is in the lists. Clock 0: the first weight beat enters row 0.

    Attributes:
        registers: of each clock, the MacTiles' values, (row, col) of tuples.
        psums, outs: (clock, word).
        reads: clocks; writes: (clock, word).
    """

    def __init__(self, mapping: Mapping, act: np.ndarray, schedule: Schedule) -> None:
        spec = mapping.spec
        rows, cols = spec.rows, spec.cols
        overflow = "saturate" if spec.overflow == "saturate" else "wrap"
        self.registers: list[list[list[tuple]]] = []
        self.psums: list[tuple[int, list[int]]] = []
        self.outs: list[tuple[int, list[int]]] = []
        self.reads: list[int] = []
        self.writes: list[tuple[int, list[int]]] = []
        tiles = [[MacTile() for _ in range(cols)] for _ in range(rows)]
        nothing = (NOTHING, [0] * rows)
        memory_out, l0, ways = nothing, deque(), [deque([(NOTHING, 0)] * r) for r in range(rows)]
        ofifo: list[deque[int]] = [deque() for _ in range(cols)]
        places: deque[tuple] = deque()
        psum_memory: dict[int, list[int]] = {}
        add = total = None
        out = None
        source = beats(mapping, act, schedule)
        clock, quiet, self.base = 0, 0, -1
        while quiet < rows + 2 * cols + 16:
            read = next(source, None)
            quiet = 0 if read is not None else quiet + 1
            # Wires.
            beat = l0.popleft() if l0 else nothing
            if self.base < 0 and beat[0] == LOAD:
                self.base = clock
            west = []
            for r in range(rows):
                ways[r].append((beat[0], beat[1][r]))
                west.append(ways[r].popleft())
            valid = all(ofifo)
            word = [queue.popleft() for queue in ofifo] if valid else []
            self.registers.append([[tuple(vars(tile).values()) for tile in row] for row in tiles])
            # The array.
            after = [[MacTile(**vars(tile)) for tile in row] for row in tiles]
            for r in range(rows):
                for c in range(cols):
                    now, then = tiles[r][c], after[r][c]
                    left = tiles[r][c - 1]
                    load, stream, code = (
                        (left.load, left.stream, left.code)
                        if c
                        else (west[r][0] == LOAD, west[r][0] == STREAM, west[r][1])
                    )
                    if load and not now.loaded:
                        then.weight = code
                    if stream:
                        north = tiles[r - 1][c].psum if r else 0
                        then.psum = register(north + code * now.weight, spec.psum_bits, overflow)
                    then.loaded = (now.loaded or load) and not stream
                    then.load, then.stream, then.code = load and now.loaded, stream, code
            for c in range(cols):
                if tiles[-1][c].stream:
                    ofifo[c].append(tiles[-1][c].psum)
            # The special function processor, its last register first.
            if out is not None:
                self.outs.append((clock, out))
            out, total_before, total = total, add, None
            if total_before is not None:
                held, psum, place, first, last = total_before
                summed = [
                    register(p + (0 if first else h), spec.psum_bits, overflow) for p, h in zip(psum, held, strict=True)
                ]
                self.writes.append((clock, summed))
                total = summed if last else None
            add = None
            if valid:
                self.psums.append((clock, word))
                place, first, last = places.popleft()
                if place is not None:
                    self.reads.append(clock)
                    add = (psum_memory.get(place, [0] * cols), word, place, first, last)
            if total_before is not None:
                psum_memory[total_before[2]] = self.writes[-1][1]
            # The memories and the L0.
            if memory_out[0] != NOTHING:
                l0.append(memory_out)
            memory_out = read[:2] if read is not None else nothing
            if read is not None and read[0] == STREAM:
                places.append(read[2])
            tiles = after
            clock += 1
