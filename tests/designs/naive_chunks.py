"""A layer in chunks in plain Python: every chunk a layer of its own, every row of it in a set, every step of the loops
taken, and a memory that holds one chunk of each tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations, product
from math import lcm

import numpy as np
from hypothesis import strategies as st

from conftest import layers
from systolith.array import ArraySpec, Mapping
from systolith.designs.hierarchy import KIB, Hierarchy
from systolith.timing.account import memory_words, traffic
from systolith.timing.mapper import WAYS, Choice, choose
from systolith.timing.memory import Memory

ORDERS = list(permutations(("oc", "ic", "rows")))
Row = tuple[int, int, int]
"""A picture, a row of its padded map, a tile of its channels."""


@dataclass(frozen=True)
class Chunk:
    """A chunk: its place in the loops, a layer of its own, its rows of activations, and the bits of a row."""

    at: tuple[int, int, int]
    layer: Choice
    rows: frozenset[Row]
    row_bits: int

    @property
    def act(self) -> int:
        return len(self.rows) * self.row_bits

    @property
    def weight(self) -> int:
        return memory_words(*self.how)["weight"] * traffic(*self.how).weight.bits

    @property
    def out(self) -> int:
        return traffic(*self.how).out.writes * traffic(*self.how).psum.bits

    @property
    def one(self) -> int:
        return memory_words(*self.how)["psum"] * traffic(*self.how).psum.bits

    @property
    def how(self) -> tuple[Mapping, object]:
        return self.layer.mapping, self.layer.schedule


def spans(count: int, size: int) -> list[range]:
    return [range(begin, min(begin + size, count)) for begin in range(0, count, size)]


@dataclass(frozen=True)
class Cut:
    """Sizes of chunks: units of output channels, input channel tiles, pictures, rows of outputs."""

    outs: int
    ins: int
    pictures: int
    rows: int


def whole(choice: Choice) -> Cut:
    mapping = choice.mapping
    return Cut(-(-mapping.conv.out_channels // unit(choice)), tiles(choice), mapping.batch, mapping.output_shape[0])


def unit(choice: Choice) -> int:
    conv, cols = choice.mapping.conv, choice.mapping.spec.cols
    return lcm(cols, conv.out_channels // conv.groups) if conv.groups > 1 else cols


def tiles(choice: Choice) -> int:
    mapping = choice.mapping
    return mapping.ic_tiles if mapping.conv.groups == 1 and mapping.flat is None else 1


def cuts(choice: Choice, sizes: object) -> list[Cut]:
    """Every cut, of the sizes that a function gives for a count; whole pictures, or rows of one."""
    full = whole(choice)
    ways = [(pictures, full.rows) for pictures in sizes(full.pictures)]  # type: ignore[operator]
    ways += [(1, rows) for rows in sizes(full.rows) if rows < full.rows]  # type: ignore[operator]
    return [Cut(o, i, *p) for o in sizes(full.outs) for i in sizes(full.ins) for p in ways]  # type: ignore[operator]


def chunks(choice: Choice, cut: Cut) -> list[Chunk]:
    mapping = choice.mapping
    conv, stride, high = mapping.conv, mapping.conv.stride[0], mapping.padded_shape[0]
    extent = (conv.kernel[0] - 1) * conv.dilation[0] + 1
    outs = spans(conv.out_channels, cut.outs * unit(choice))
    ins = spans(tiles(choice), cut.ins)
    places = []
    for pictures in spans(mapping.batch, cut.pictures):
        for rows in spans(mapping.output_shape[0], cut.rows):
            needed = {row * stride + k for row in rows for k in range(extent)}
            last = rows.stop == mapping.output_shape[0]
            # What no output needs goes with the rows before it, as in a whole map.
            needed |= set(range(rows.start * stride, high if last else rows.stop * stride))
            places.append((pictures, needed))
    found = []
    for (o, out), (i, tile), (p, (pictures, needed)) in product(enumerate(outs), enumerate(ins), enumerate(places)):
        layer = part(choice, len(out), (tile.start, tile.stop), len(pictures), len(needed))
        moved = traffic(layer.mapping, layer.schedule).act.bits
        slots = layer.mapping.slots
        held = frozenset((picture, row, tile.start) for picture in pictures for row in needed)
        found.append(Chunk((o, i, p), layer, held, slots * mapping.padded_shape[1] * moved))
    return found


@lru_cache(maxsize=100_000)
def part(choice: Choice, outs: int, ic: tuple[int, int], pictures: int, height: int) -> Choice:
    """A chunk as a layer: weights of its channels, maps of its rows, without a ring above and below."""
    mapping = choice.mapping
    conv = mapping.conv
    weight = conv.weight[:outs]
    groups = 1
    if conv.groups > 1:
        groups = outs // (conv.out_channels // conv.groups)
    elif mapping.flat is None:
        weight = weight[:, ic[0] * mapping.lanes : ic[1] * mapping.lanes]
    _, _, left, right = conv.pads
    cut = replace(conv, weight=np.zeros_like(weight), groups=groups, padding=(0, 0, left, right))
    return replace(choice, mapping=replace(mapping, conv=cut, height=height, batch=pictures), others=())


@dataclass(frozen=True)
class Step:
    """Of the loops: clocks of the chunk, bits that must be there before it, bits that leave behind it."""

    clocks: int
    loads: int
    leaves: int


@dataclass(frozen=True)
class Moved:
    """Bits from another chip and to it, by tensor, and every step."""

    act: int
    weight: int
    psum_read: int
    psum_written: int
    out: int
    steps: tuple[Step, ...]

    @property
    def bits(self) -> int:
        return self.act + self.weight + self.psum_read + self.psum_written + self.out


def walk(found: Sequence[Chunk], order: Sequence[str], held: dict[str, bool], grouped: bool) -> Moved:
    """Go over the chunks; a tensor that is held stays, of one that is not, the last chunk alone."""
    place = {name: n for n, name in enumerate(("oc", "ic", "rows"))}
    ordered = sorted(found, key=lambda chunk: [chunk.at[place[name]] for name in order])
    ins = 1 + max(chunk.at[1] for chunk in found)
    act_there: set[tuple[Row, int]] = set()
    weight_there: set[tuple[int, int]] = set()
    finished: dict[tuple[int, int], int] = {}
    act = weight = psum_read = psum_written = out = 0
    last_act = last_weight = last_sum = None
    loads: list[int] = []
    leaves: list[int] = [0] * len(ordered)
    before = None
    for number, chunk in enumerate(ordered):
        o, i, p = chunk.at
        come = 0
        if last_act != (o if grouped else i, p):
            last_act = o if grouped else i, p
            rows = {(row, o if grouped else 0) for row in chunk.rows}
            new = rows - act_there if held["act"] else rows
            act_there |= rows
            act += len(new) * chunk.row_bits
            come += len(new) * chunk.row_bits
        if last_weight != (o, i):
            last_weight = o, i
            if not (held["weight"] and (o, i) in weight_there):
                weight += chunk.weight
                come += chunk.weight
            weight_there.add((o, i))
        if last_sum != (o, p):
            if before is not None:
                leaves[number - 1] = _leave(before, finished, ins, held)
            last_sum = o, p
            if finished.get((o, p), 0) and not held["out"]:
                psum_read += chunk.out
                come += chunk.out
        finished[o, p] = finished.get((o, p), 0) + 1
        before = chunk
        loads.append(come)
    assert before is not None
    leaves[-1] = _leave(before, finished, ins, held)
    steps = tuple(Step(one.layer.clocks, *bits) for one, *bits in zip(ordered, loads, leaves, strict=True))
    out = sum(chunk.out for chunk in found if chunk.at[1] == 0)
    psum_written = sum(leaves) - out
    return Moved(act, weight, psum_read, psum_written, out, steps)


def _leave(chunk: Chunk, finished: dict[tuple[int, int], int], ins: int, held: dict[str, bool]) -> int:
    done = finished[chunk.at[0], chunk.at[2]] == ins
    return chunk.out if done or not held["out"] else 0


def clocks(moved: Moved, bandwidth: int | None) -> int:
    """The other chip moves what the next step needs and what the one before left, while a chunk is computed."""
    now = 0
    ready = _time(moved.steps[0].loads, bandwidth)
    for number, step in enumerate(moved.steps):
        now = max(now, ready)
        following = moved.steps[number + 1].loads if number + 1 < len(moved.steps) else 0
        left = moved.steps[number - 1].leaves if number else 0
        ready = now + _time(following + left, bandwidth)
        now += step.clocks
    return max(now, ready) + _time(moved.steps[-1].leaves, bandwidth)


def _time(bits: int, bandwidth: int | None) -> int:
    return 0 if bandwidth is None else -(-bits // bandwidth)


@dataclass(frozen=True)
class Sizes:
    """What a cut asks of the memories: bits of the largest chunk and of all chunks."""

    act: tuple[int, int]
    weight: tuple[int, int]
    out: tuple[int, int]
    one: int
    cut_ins: bool


def sizes_of(found: Sequence[Chunk], grouped: bool) -> Sizes:
    rows = {(row, chunk.at[0] if grouped else 0): chunk.row_bits for chunk in found for row in chunk.rows}
    spilled = not found[0].layer.mapping.stationary
    return Sizes(
        (max(chunk.act for chunk in found), sum(rows.values())),
        (max(chunk.weight for chunk in found), sum(chunk.weight for chunk in found if chunk.at[2] == 0)),
        (max(chunk.out for chunk in found) * spilled, sum(c.out for c in found if c.at[1] == 0) * spilled),
        max(chunk.one for chunk in found),
        any(chunk.at[1] for chunk in found),
    )


def plan(choice: Choice, cut: Cut, order: Sequence[str], memories: tuple[int, int, int]) -> Moved | None:
    """What moves if a cut fits, else None."""
    found, grouped = chunks(choice, cut), choice.mapping.conv.groups > 1
    sizes = sizes_of(found, grouped)
    act, weight, psum = memories
    held = {"act": sizes.act[1] <= act, "weight": sizes.weight[1] <= weight, "out": sizes.out[1] <= psum}
    if not (held["act"] or 2 * sizes.act[0] <= act) or not (held["weight"] or 2 * sizes.weight[0] <= weight):
        return None
    moved = walk(found, order, held, grouped)
    # Whether sums leave before they are finished, if nothing holds them.
    spills = walk(found, order, held | {"out": False}, grouped).psum_written > 0
    if not sizes.cut_ins:
        fits = sizes.one <= psum
    elif not spills:
        fits = sizes.out[0] <= psum
    else:
        fits = held["out"] or 2 * sizes.out[0] <= psum
    return moved if fits else None


def said(choice: Choice, cut: Cut, order: Sequence[str]) -> tuple[tuple[int, int, int], str]:
    """Chunks along each axis, and the loops that have several."""
    last = chunks(choice, cut)[-1].at
    counts = last[0] + 1, last[1] + 1, last[2] + 1
    several = {name for name, count in zip(("oc", "ic", "rows"), counts, strict=True) if count > 1}
    return counts, ", ".join(name for name in order if name in several)


def of_bits(act: int, weight: int, psum: int, dram: int | None = None) -> Hierarchy:
    """Memories smaller than a KiB, so that small layers do not fit them."""
    return Hierarchy(act / KIB, weight / KIB, psum / KIB, dram)  # type: ignore[arg-type]


@st.composite
def on_core(draw: st.DrawFn, ungrouped: bool = False, largest: int = 9) -> Choice:
    """A small layer on a small array in some schedule, its ports perhaps slow."""
    conv, act = draw(layers(max_channels=largest, max_map=6))
    if ungrouped:
        conv = replace(conv, weight=conv.dense, groups=1)
    spec = ArraySpec(draw(st.integers(1, 3)), draw(st.integers(1, 3)), psum_bits=draw(st.sampled_from([11, 16])))
    memory = draw(st.sampled_from([Memory(), Memory(3, 20, 9, 2), Memory(weight=2)]))
    mapping = Mapping(conv, spec, *act.shape[-2:], draw(st.integers(1, 3)))
    return choose(mapping, draw(st.sampled_from(list(WAYS))), memory=memory)


@st.composite
def memories(draw: st.DrawFn, choice: Choice) -> tuple[int, int, int]:
    """Bits of each, from too few for any chunk to enough for all."""
    words, moved = memory_words(choice.mapping, choice.schedule), traffic(choice.mapping, choice.schedule)
    sums = moved.out.writes * moved.psum.bits
    needs = [words["act"] * moved.act.bits, words["weight"] * moved.weight.bits, sums]
    found = [need if draw(st.booleans()) and draw(st.booleans()) else draw(st.integers(1, need)) for need in needs]
    return found[0], found[1], found[2]
