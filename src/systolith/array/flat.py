"""The reduction of a layer as one axis: kernel positions and input channels together, cut into tiles.

Packed into rows it is `kij*width + ic`, cut into tiles of as many codes as the array's rows take, so that three input
channels leave no row idle. Output stationary it is `ic*KH*KW + kij`, and one tile: a processing element takes it all.

Of a grouped layer each oc_tile has its own channels: a *band*, as wide as the widest oc_tile needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.network.graph import Conv


def channels_read(conv: Conv, cols: int) -> list[tuple[int, int]]:
    """Of each oc_tile of `cols` columns, the first input channel that its groups read, and the one behind the last."""
    tiles, outs = -(-conv.out_channels // cols), conv.out_channels // conv.groups
    if conv.groups == 1:
        return [(0, conv.in_channels)] * tiles
    ins = conv.in_channels // conv.groups
    lasts = (min((tile + 1) * cols, conv.out_channels) - 1 for tile in range(tiles))
    return [(tile * cols // outs * ins, (last // outs + 1) * ins) for tile, last in enumerate(lasts)]


@dataclass(frozen=True, eq=False)
class Flat:
    """A layer's reduction as one axis.

    Attributes:
        conv: the layer.
        cols: output channels of an oc_tile.
        simd: codes of a lane; a lane's are of one kernel position.
        rows: lanes of a tile; None: one tile of all.
    """

    conv: Conv
    cols: int
    simd: int
    rows: int | None

    @cached_property
    def reads(self) -> list[tuple[int, int]]:
        """`channels_read` of each oc_tile."""
        return channels_read(self.conv, self.cols)

    @cached_property
    def bands(self) -> list[int]:
        """The first channel of each band."""
        return sorted({begin for begin, _ in self.reads})

    @cached_property
    def band(self) -> list[int]:
        """Of each oc_tile, its band."""
        number = {begin: number for number, begin in enumerate(self.bands)}
        return [number[begin] for begin, _ in self.reads]

    @cached_property
    def width(self) -> int:
        """Input channels of a band."""
        return max(end - begin for begin, end in self.reads)

    @cached_property
    def groups(self) -> int:
        """Lanes that a band's channels take at one kernel position."""
        return -(-self.width // self.simd)

    @cached_property
    def length(self) -> int:
        """Lanes of the whole axis."""
        return self.groups * self.conv.kernel[0] * self.conv.kernel[1]

    @cached_property
    def depth(self) -> int:
        """Codes of a tile."""
        return (self.rows or self.length) * self.simd

    @cached_property
    def tiles(self) -> int:
        """Tiles of a band."""
        return -(-self.length * self.simd // self.depth)

    @cached_property
    def axis(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """int64 (tiles*depth,): of each code its channel in a band, and its kij; where there is none, -1 and 0."""
        kijs = self.conv.kernel[0] * self.conv.kernel[1]
        lane = np.arange(self.tiles * self.depth // self.simd)
        kij, group = np.divmod(lane, self.groups) if self.rows else np.divmod(lane, kijs)[::-1]
        channel = group[:, None] * self.simd + np.arange(self.simd)
        there = (lane < self.length)[:, None] & (channel < self.width)
        return np.where(there, channel, -1).reshape(-1), np.repeat(np.where(lane < self.length, kij, 0), self.simd)

    def channels(self, band: int) -> NDArray[np.int64]:
        """int64 (tiles*depth,): the layer's channel of each code of a band, C where there is none."""
        channel, _ = self.axis
        found = self.bands[band] + channel
        return np.where((channel < 0) | (found >= self.conv.in_channels), self.conv.in_channels, found)

    def act_tiles(self, padded: NDArray[Any], windows: NDArray[np.int64]) -> NDArray[Any]:
        """Padded maps (C, nij) to (band*tile, onij, code); `windows` are (kij, onij)."""
        spare = np.concatenate([padded, np.zeros((1, padded.shape[1]), padded.dtype)])
        _, kij = self.axis
        bands = [spare[self.channels(band)[:, None], windows[kij]] for band in range(len(self.bands))]
        tiled = np.stack(bands).reshape(len(bands) * self.tiles, self.depth, -1)
        return np.ascontiguousarray(tiled.swapaxes(1, 2))

    def weight_tiles(self, dense: NDArray[Any]) -> NDArray[Any]:
        """Weights (O, C, KH, KW) to (band*tile, oc_tile, 1, col, code)."""
        o, c = dense.shape[:2]
        spare = np.zeros((len(self.reads) * self.cols, c + 1, dense[0, 0].size), dtype=dense.dtype)
        spare[:o, :c] = dense.reshape(o, c, -1)
        made = np.zeros((len(self.bands), self.tiles, len(self.reads), 1, self.cols, self.depth), dtype=dense.dtype)
        _, kij = self.axis
        for oc_tile, band in enumerate(self.band):
            taken = spare[oc_tile * self.cols : (oc_tile + 1) * self.cols, self.channels(band), kij]
            made[band, :, oc_tile, 0] = taken.reshape(self.cols, self.tiles, self.depth).swapaxes(0, 1)
        return made.reshape(-1, *made.shape[2:])
