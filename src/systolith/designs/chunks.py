"""A layer cut into chunks: every way to cut it, and what a chunk takes, as products of one factor an axis.

Each chunk is a layer of its own on the core. Of its words, rounds and clocks each is a product of a factor of its
output channels, one of its input channels and one of its rows, so all chunks of all ways need only the factors of each
axis: `Axis.factors`, by these names, 1 where an axis has none.

| name | product |
|---|---|
| `act` | words of the activation memory: maps, zeros of the padding ring among them |
| `fresh` | of rows alone: those that are not in the chunk before, in the place of `act` |
| `weight` | words of weights |
| `out` | words of accumulators, which leave as outputs; `one`: those of one oc_tile |
| `rounds` | passes, or folds of all oc_tiles; clocks are `rounds*period - period + tail` |
| `act_reads`, `weight_reads`, `sums` | words of a round that the ports read, and that are added to |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm, prod

import numpy as np
from numpy.typing import NDArray

from systolith.array import mapping as mappings
from systolith.network.graph import reach
from systolith.timing.account import memory_words, traffic
from systolith.timing.schedule import Schedule

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Axis:
    """Every way to cut an axis.

    Attributes:
        counts: int64 (way, loop): chunks; of rows, of pictures and of a picture's rows. The first way does not cut.
        factors: by name int64 (way, kind). Kinds of a loop: all its chunks but the last one, the last one; of two
            loops, of the first each with both of the second.
    """

    counts: Ints
    factors: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def often(self) -> Ints:
        """int64 (way, kind): chunks of each kind."""
        found = np.ones((len(self), 1), dtype=np.int64)
        for count in self.counts.T:
            found = (found[:, :, None] * np.stack([count - 1, np.ones_like(count)], axis=1)[:, None]).reshape(
                len(self), -1
            )
        return found

    def total(self, *names: str) -> Ints:
        """int64 (way,): the sum over all chunks of the product of these factors."""
        return prod((self.factors[name] for name in names if name in self.factors), start=self.often).sum(axis=1)

    def most(self, name: str) -> Ints:
        """int64 (way,): the largest chunk's."""
        return self.factors[name].max(axis=1)


@dataclass(frozen=True, eq=False)
class Cuts:
    """Every way to cut a layer.

    Attributes:
        axes: output channels, input channels, rows.
        act_bits, weight_bits, psum_bits: of a word of each memory.
        grouped: whether activations are cut with the output channels, in whole groups, not with the input channels.
        stationary: whether sums need no memory.
        positions: of all padded maps.
    """

    axes: tuple[Axis, Axis, Axis]
    act_bits: int
    weight_bits: int
    psum_bits: int
    grouped: bool
    stationary: bool
    positions: int

    def total(self, *names: str, without: int | None = None) -> Ints:
        """int64 (way of oc, way of ic, way of rows): the sum over all chunks.

        Args:
            names: of factors.
            without: the axis that a tensor does not depend on: the sum over its own chunks, 1 long along this axis.
        """
        return _grid([None if n == without else axis.total(*names) for n, axis in enumerate(self.axes)])

    def most(self, name: str) -> Ints:
        """The same of the largest chunk, 1 long along axes without this factor."""
        return _grid([axis.most(name) if name in axis.factors else None for axis in self.axes])

    def whole(self) -> Ints:
        """The same of words of activations that are there once, however many chunks' rows overlap."""
        outs, ins, _ = self.axes
        return _grid([outs.total("act") if self.grouped else None, ins.total("act"), None]) * self.positions

    def clocks(self) -> Ints:
        """The same: the clocks of all chunks."""
        return self.total("rounds", "period") - self.total("period") + self.total("tail")

    def counts(self) -> tuple[Ints, Ints, Ints]:
        """Chunks along each axis, in shapes that go together."""
        outs, ins, rows = (axis.counts.prod(axis=1) for axis in self.axes)
        return outs[:, None, None], ins[:, None], rows


def _grid(parts: Sequence[Ints | None]) -> Ints:
    """The product of parts along axes of their own."""
    found = np.ones((1, 1, 1), dtype=np.int64)
    for axis, part in enumerate(parts):
        if part is not None:
            found = found * part.reshape([-1 if axis == n else 1 for n in range(3)])
    return found


def sizes(count: int) -> list[int]:
    """The sizes of chunks worth a look, the largest first: the least size for each number of chunks.

    Examples:
        >>> sizes(10)
        [10, 5, 4, 3, 2, 1]
    """
    return sorted({-(-count // chunks) for chunks in range(1, count + 1)}, reverse=True)


def cuts_of(mapping: mappings.Mapping, schedule: Schedule) -> Cuts:
    """Every way to cut a layer, for one schedule."""
    moved = traffic(mapping, schedule)
    axes = _outs(mapping, schedule), _ins(mapping, schedule), _rows(mapping, schedule)
    bits = moved.act.bits, moved.weight.bits, moved.psum.bits
    return Cuts(axes, *bits, mapping.conv.groups > 1, mapping.stationary, mapping.batch * mapping.map_size)


def _outs(mapping: mappings.Mapping, schedule: Schedule) -> Axis:
    """Whole oc_tiles; of a layer in groups, those that are whole groups too."""
    conv, cols = mapping.conv, mapping.spec.cols
    unit = lcm(cols, conv.out_channels // conv.groups) if conv.groups > 1 else cols
    counts, channels = _parts(conv.out_channels, sizes(-(-conv.out_channels // unit)), unit)
    if conv.groups == 1:
        return Axis(counts, dict.fromkeys(("weight", "out", "rounds"), -(-channels // cols)))
    known = {size: _in_groups(groups_of(mapping, size), schedule) for size in np.unique(channels).tolist()}
    names = next(iter(known.values()))
    each = {name: [[known[size][name] for size in both] for both in channels.tolist()] for name in names}
    return Axis(counts, {name: np.array(values, dtype=np.int64) for name, values in each.items()})


def groups_of(mapping: mappings.Mapping, channels: int) -> mappings.Mapping:
    """The part of a layer in groups that has so many output channels, whole groups."""
    conv = mapping.conv
    weight = np.broadcast_to(np.int8(0), (channels, *conv.weight.shape[1:]))
    part = replace(conv, weight=weight, groups=channels * conv.groups // conv.out_channels)
    return replace(mapping, conv=part)


def _in_groups(part: mappings.Mapping, schedule: Schedule) -> dict[str, int]:
    found = {"act": part.slots, "weight": memory_words(part, schedule)["weight"], "out": part.oc_tiles}
    if not part.stationary:
        return found | {"rounds": part.passes}
    times = _times(part, schedule, np.array(part.steps))
    return found | {"rounds": part.oc_tiles} | {name: int(value) for name, value in times.items()}


def _ins(mapping: mappings.Mapping, schedule: Schedule) -> Axis:
    """Whole ic_tiles, where there are sums of some of them; else the axis is whole."""
    tiles, outs = mapping.ic_tiles, mapping.oc_tiles
    if mapping.conv.groups > 1:
        return Axis(np.ones((1, 1), dtype=np.int64), {})
    counts, part = _parts(tiles, sizes(tiles) if mapping.flat is None else [tiles])
    words, rounds = memory_words(mapping, schedule)["weight"], outs if mapping.stationary else mapping.passes
    named = {"act": mapping.slots, "weight": words // outs, "rounds": rounds // outs}
    return Axis(counts, {name: part * whole // tiles for name, whole in named.items()})


def _rows(mapping: mappings.Mapping, schedule: Schedule) -> Axis:
    """Whole pictures, or rows of one picture."""
    (outs, width), batch, stride = mapping.output_shape, mapping.batch, mapping.conv.stride[0]
    some, pictures = _parts(batch, sizes(batch))
    chunks, rows = _parts(outs, sizes(outs)[1:])
    one = np.ones_like(chunks)
    counts = np.concatenate([np.hstack([some, np.ones_like(some)]), np.hstack([batch * one, chunks])])
    pictures = np.concatenate([pictures, np.ones_like(rows)])[:, :, None]
    rows = np.concatenate([np.full((len(some), 2), outs), rows])
    height = np.array([heights(mapping, int(size), int(n)) for size, n in zip(rows[:, 0], counts[:, 1], strict=True)])
    there = np.where(counts[:, 1] > 1, height[:, 0] - rows[:, 0] * stride, 0)[:, None]
    maps = pictures * (height * mapping.padded_shape[1])[:, None]
    sums = (pictures * (rows * width)[:, None]).reshape(-1, 4)
    found = {
        "act": maps.reshape(-1, 4),
        "fresh": (pictures * ((height - there) * mapping.padded_shape[1])[:, None]).reshape(-1, 4),
        "out": sums,
        "one": sums,
        "rounds": -(-sums // mapping.spec.rows) if mapping.stationary else np.ones_like(sums),
        "sums": np.zeros_like(sums) if mapping.stationary else sums,
    }
    if mapping.stationary and mapping.conv.groups > 1:  # a fold's steps are of the groups
        return Axis(counts, found)
    beats = sums if schedule.useful or mapping.flat is not None else found["act"]
    beats = np.full_like(sums, mapping.steps) if mapping.stationary else beats
    least = rows_of(mapping, 1, reach(mapping.conv.kernel, mapping.conv.dilation)[0])
    return Axis(counts, found | _times(least, schedule, beats))


def heights(mapping: mappings.Mapping, rows: int, chunks: int) -> tuple[int, int]:
    """Rows of the padded map that a chunk of so many rows of outputs has, and the last one: (all but the last, last).

    From its first output's window to its last one's, or to the next chunk's first row where that is behind it: rows
    that no output needs are stored in a whole layer too. The last chunk has all that are left.
    """
    height, stride = mapping.padded_shape[0], mapping.conv.stride[0]
    if chunks == 1:
        return height, height
    extent = reach(mapping.conv.kernel, mapping.conv.dilation)[0]
    return max((rows - 1) * stride + extent, rows * stride), height - (chunks - 1) * rows * stride


def rows_of(mapping: mappings.Mapping, pictures: int, height: int) -> mappings.Mapping:
    """The part of a layer that has so many pictures, and of each so many rows, those of the padding ring among them."""
    conv = replace(mapping.conv, padding=(0, 0, *mapping.conv.pads[2:]))
    return replace(mapping, conv=conv, height=height, batch=pictures)


def _times(part: mappings.Mapping, schedule: Schedule, beats: Ints) -> dict[str, Ints]:
    """Clocks and reads of rounds of so many beats, no fewer than those of `part`, which is otherwise alike.

    They depend on one axis alone: rows, or where a fold's steps do, the groups. Each beat more takes `every` clocks
    more; double-buffered the first of them none, while weights take longer.
    """
    beat, period = schedule.beat(part), schedule.period(part)
    more = (beats - schedule.beats(part)) * beat.every
    slack = period - schedule.span(part) - (beat.burst(1) - 1) if schedule.double else 0
    loads = np.full_like(beats, part.steps if part.stationary else schedule.rules(part).load_beats)
    return {
        "period": period + np.maximum(0, more - slack),
        "tail": schedule.clocks(part) - (part.rounds - 1) * period + more,
        "act_reads": beats,
        "weight_reads": loads,
    }


def _parts(count: int, at_most: Sequence[int], unit: int = 1) -> tuple[Ints, Ints]:
    """Chunks of at most so many units: int64 (way, 1) how many, (way, 2) what all but the last have, and the last."""
    size = np.array(at_most, dtype=np.int64).reshape(-1, 1) * unit
    chunks = -(-count // size)
    return chunks, np.hstack([np.minimum(size, count), count - (chunks - 1) * size])
