"""What the host tells the core of a layer: addresses to step through, where each row begins, what the memories hold.

The core steps through digits (`walk.sv`, `taps.sv`) and knows nothing of layers. Weight stationary, positions are the
inner digits and the reduction the outer ones, which a pass steps by as many lanes as there are rows. Output stationary
it is the other way round: a fold steps the positions by as many as there are rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.timing import Schedule, contract

Digits = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(count, addresses apart) of three digits of a number, the least significant first."""


@dataclass(frozen=True)
class Walk:
    """The numbers of `walk.sv`.

    Attributes:
        useful: only the inner digits' positions are stepped through, not all of `whole` addresses.
        counts: oc_tiles, and of the inner digits, the most significant first.
        strides: `whole`, and the inner digits' addresses apart, the most significant first.
        digits: of the outer ones: the first's step; limit, step and unit of the second, and of the third.
    """

    useful: bool
    counts: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    digits: tuple[int, int, int, int, int, int, int]

    def numbers(self) -> list[int]:
        """All of them, in the order of the testbench's file."""
        return [int(self.useful), *self.counts, *self.strides, *self.digits]

    def word(self) -> int:
        """The core's port: the first of them in the highest place."""
        word = int(self.useful)
        for bits, numbers in ((16, self.counts), (32, self.strides), (32, self.digits)):
            for number in numbers:
                word = word << bits | number
        return word


def _apart(mapping: Mapping) -> tuple[Digits, Digits]:
    """Positions (column, row, picture), and the kernel's part of the reduction (column, row; slots in the middle).

    What is never stepped over is 1 apart, whatever its stride or dilation.
    """
    conv, (oh, ow), (kh, kw) = mapping.conv, mapping.output_shape, mapping.conv.kernel
    line = mapping.padded_shape[1]

    def by(number: int, count: int) -> int:
        return number if count > 1 else 1

    positions = (ow, by(conv.stride[1], ow)), (oh, line * by(conv.stride[0], oh)), (mapping.batch, mapping.map_size)
    slots = mapping.batch * mapping.map_size
    kernel = (kw, by(conv.dilation[1], kw)), (kh, line * by(conv.dilation[0], kh)), (_band(mapping), slots)
    return positions, kernel


def _band(mapping: Mapping) -> int:
    """Slots of a row that an oc_tile reads at one kernel position, at most."""
    return mapping.flat.groups // mapping.apart if mapping.flat is not None else mapping.most_tiles


def _at(mapping: Mapping, lane: int) -> tuple[int, int, int]:
    """Where the outer digits are after `lane` steps of one, in addresses; beyond its end, the last digit's limit."""
    (columns, rows, last) = _outer(mapping)
    if not mapping.stationary:
        if mapping.flat is None:
            return (columns[1] if lane else 0), 0, 0
        lane, slot = divmod(lane, mapping.flat.groups)
        slot //= mapping.apart
    else:
        lane, slot = divmod(lane, columns[0])
    more, middle = divmod(lane, rows[0])
    return slot * columns[1], middle * rows[1], min(more, last[0]) * last[1]


def _outer(mapping: Mapping) -> Digits:
    """The digits that a pass steps, or a fold."""
    positions, (kw, kh, slots) = _apart(mapping)
    return positions if mapping.stationary else (slots, kw, kh)


def reading(mapping: Mapping, schedule: Schedule) -> Walk:
    """What is read from the activation memory."""
    positions, kernel = _apart(mapping)
    inner = kernel if mapping.stationary else positions
    _, second, third = _outer(mapping)
    steps = _at(mapping, mapping.spec.rows)
    return Walk(
        schedule.useful or mapping.flat is not None,
        (mapping.oc_tiles, inner[2][0], inner[1][0], inner[0][0]),
        (mapping.batch * mapping.map_size, inner[2][1], inner[1][1], inner[0][1]),
        (steps[0], second[0] * second[1], steps[1], second[1], third[0] * third[1], steps[2], third[1]),
    )


def placing(mapping: Mapping, schedule: Schedule) -> Walk:
    """Where words go that leave the array: as they were read; of folds, one after another, less those of idle rows."""
    if not mapping.stationary:
        return reading(mapping, schedule)
    oh, ow = mapping.output_shape
    words = mapping.folds * mapping.spec.rows
    return Walk(False, (mapping.oc_tiles, mapping.batch, oh, ow), (words, oh * ow, ow, 1), (0, 1, 0, 0, 1, 1, 0))


def ranges(mapping: Mapping) -> list[tuple[int, int]]:
    """Of each oc_tile, where its maps begin, and the limit of the first outer digit."""
    (count, apart), _, _ = _outer(mapping)
    slots, band = mapping.batch * mapping.map_size, _band(mapping)
    found = []
    for oc_tile in range(mapping.oc_tiles):
        tiles = mapping.ic_range(oc_tile)
        begin = tiles.start if mapping.flat is None else mapping.flat.band[oc_tile] * band
        limit = count if mapping.flat is not None else len(tiles)
        found.append((begin * slots, limit * apart))
    return found


def starts(mapping: Mapping) -> list[tuple[int, int, int]]:
    """Of each row, where its outer digits begin. Output stationary the bottom row, which gives first, has the first."""
    rows = mapping.spec.rows
    if mapping.flat is None:
        return [(0, 0, 0)] * rows
    return [_at(mapping, rows - 1 - row if mapping.stationary else row) for row in range(rows)]


def act_words(mapping: Mapping, act: NDArray[Any]) -> NDArray[Any]:
    """(word, code): what the activation memory holds, of each slot all positions; a word has a lane for each row."""
    flat, rows, simd = mapping.flat, mapping.spec.rows, mapping.simd
    if flat is None:
        return mapping.act_tiles(act).reshape(-1, mapping.lanes)
    channels = mapping.conv.in_channels
    padded = mapping.padded(act, channels + 1)
    group = np.arange(_band(mapping))[:, None] * mapping.apart + np.arange(rows) % mapping.apart
    code = (group[:, :, None] * simd + np.arange(simd)).reshape(len(group), -1)  # (slot, code)
    found = [np.where((code < flat.width) & (begin + code < channels), begin + code, channels) for begin in flat.bands]
    return np.ascontiguousarray(padded[np.concatenate(found)].swapaxes(1, 2)).reshape(-1, mapping.lanes)


def weight_words(mapping: Mapping, schedule: Schedule) -> NDArray[Any]:
    """(word, lane, code): what the weight memory holds; a lane has room for all codes that the array can take."""
    tiles, (oc_tile, kij, ic_tile) = mapping.weight_tiles(), mapping.order.T
    passes = tiles[ic_tile, oc_tile, kij]  # (pass, col, code)
    if contract(mapping.spec, schedule.double).load_port == "north":  # a word of columns for each row or step
        depth = mapping.spec.rows if not mapping.stationary else mapping.steps
        words = passes.reshape(len(passes), -1, depth, mapping.simd).swapaxes(1, 2)
    else:
        words = passes.reshape(*passes.shape[:2], mapping.spec.rows, mapping.simd)
    words = words.reshape(-1, *words.shape[2:])
    return np.pad(words, ((0, 0), (0, 0), (0, mapping.spec.simd - mapping.simd)))
