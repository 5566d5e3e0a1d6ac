"""How a convolution is cut into tiles and passes, weight stationary, in kij order.

A pass is one (oc_tile, ic_tile, kij) with its weight tile resident; the padded input map streams through it. With
`nij = i*Wp + j` and `kij = ki*KW + kj`:

    psum[ic_tile, oc_tile, kij][nij, col] = sum over row of a[ic_tile][row, nij] * w[oc_tile, ic_tile, kij][col, row]
    out[oc, onij] = sum over kij, ic_tile of psum[...][(oi*stride + ki*dil)*Wp + oj*stride + kj*dil, col]

A grouped convolution is a dense one with block-diagonal weights: passes whose tile is zero by structure are not made,
so groups narrower than the array share a pass on its diagonal.

Of a batch, `nij` and `onij` count the positions of all pictures, picture outermost: the weights stay for all of them.
Packed into rows, or output stationary, the reduction is one axis (`flat`): the kernel positions are rows or steps too,
and what streams are the output positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.flat import Flat, channels_read
from systolith.array.spec import ArraySpec, require_lanes
from systolith.formats import BadInput, IntFormat, least_signed_bits
from systolith.network.graph import Conv, Pair, require_act, sum_bounds


@dataclass(frozen=True, eq=False)
class Mapping:
    """A layer without a bias on an array, for input maps of (height, width).

    Attributes:
        conv, spec: the layer, the array.
        height, width: of a map, unpadded.
        batch: pictures.
        packed: kernel positions are packed into rows.

    Raises:
        BadInput: formats wider than the lanes, a kernel larger than the padded map, or a bias.
    """

    conv: Conv
    spec: ArraySpec
    height: int
    width: int
    batch: int = 1
    packed: bool = False

    def __post_init__(self) -> None:
        require_lanes(self.conv, self.spec)
        if self.conv.bias is not None:
            raise BadInput(f"{self.conv.name}: an array adds products alone: expected no bias (`product()` is without)")
        self.conv.output_shape(self.height, self.width)
        if self.batch < 1:
            raise BadInput(f"{self.conv.name}: a batch of {self.batch} pictures: expected at least 1")

    @cached_property
    def simd(self) -> int:
        """Codes of a lane: as many as the array takes in one and the layer's are narrow enough for."""
        return self.spec.simd_of(self.conv)

    @cached_property
    def lanes(self) -> int:
        """Codes of a word of activations."""
        return self.spec.rows * self.simd

    @property
    def code_format(self) -> IntFormat:
        """Of a code in its lane, with the sign of the layer's."""
        return IntFormat(self.spec.act_bits // self.simd, self.conv.act_format.signed)

    @property
    def stationary(self) -> bool:
        """Whether outputs are stationary: a processing element owns one, and its steps are the reduction."""
        return self.spec.dataflow == "os"

    @cached_property
    def flat(self) -> Flat | None:
        """The reduction as one axis, where kernel positions are packed into rows or are steps."""
        if not (self.packed or self.stationary):
            return None
        return Flat(self.conv, self.spec.cols, self.simd, None if self.stationary else self.spec.rows)

    @cached_property
    def ic_tiles(self) -> int:
        if self.flat is not None:
            return len(self.flat.bands) * self.flat.tiles
        return -(-self.conv.in_channels // self.lanes)

    @property
    def oc_tiles(self) -> int:
        return -(-self.conv.out_channels // self.spec.cols)

    @property
    def kijs(self) -> int:
        """Kernel positions that take passes of their own."""
        return 1 if self.flat is not None else self.taps

    @cached_property
    def taps(self) -> int:
        """Kernel positions."""
        return self.conv.kernel[0] * self.conv.kernel[1]

    @property
    def padded_shape(self) -> Pair:
        return self.conv.padded_shape(self.height, self.width)

    @property
    def output_shape(self) -> Pair:
        return self.conv.output_shape(self.height, self.width)

    @property
    def map_size(self) -> int:
        """Positions in a picture's padded input map."""
        return self.padded_shape[0] * self.padded_shape[1]

    @property
    def nijs(self) -> int:
        """Positions in the padded input maps; those that need not be streamed are left out where the axis is flat."""
        return self.onijs if self.flat is not None else self.batch * self.map_size

    @cached_property
    def onijs(self) -> int:
        """Positions in the output maps."""
        return self.batch * self.output_shape[0] * self.output_shape[1]

    @cached_property
    def ic_ranges(self) -> list[range]:
        """Of each oc_tile, the ic_tiles whose passes are made: those that the groups of its output channels read."""
        if self.flat is not None:
            tiles = self.flat.tiles
            return [range(band * tiles, (band + 1) * tiles) for band in self.flat.band]
        reads = channels_read(self.conv, self.spec.cols)
        found = {read: range(read[0] // self.lanes, -(-read[1] // self.lanes)) for read in set(reads)}
        return [found[read] for read in reads]

    def ic_range(self, oc_tile: int) -> range:
        """`ic_ranges` of one."""
        return self.ic_ranges[oc_tile]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """int64 (pass, 3): the oc_tile, kij and ic_tile of each pass that is made, one after another."""
        tiles = [
            np.array(np.meshgrid(t, range(self.kijs), self.ic_range(t), indexing="ij")) for t in range(self.oc_tiles)
        ]
        return np.concatenate([one.reshape(3, -1) for one in tiles], axis=1).T

    @cached_property
    def begins(self) -> NDArray[np.int64]:
        """int64 (oc_tile + 1,): the number of an oc_tile's first pass; the last is that of all passes."""
        return np.cumsum([0, *(len(tiles) * self.kijs for tiles in self.ic_ranges)])

    @cached_property
    def passes(self) -> int:
        return sum(map(len, self.ic_ranges)) * self.kijs

    @property
    def slots(self) -> int:
        """Maps of a picture that the activation memory holds a row: each row those of the channels that it reads."""
        if self.flat is None:
            return self.ic_tiles
        return len(self.flat.bands) * self.flat.groups // self.apart

    @property
    def apart(self) -> int:
        """Lanes from a row's map to its next one. Other rows have those between; where it is 1 each row has all."""
        if self.flat is None:
            return self.spec.rows
        return 1 if self.stationary else gcd(self.spec.rows, self.flat.groups)

    @cached_property
    def steps(self) -> int:
        """Beats of a fold, output stationary."""
        assert self.flat is not None
        return self.flat.length

    @property
    def folds(self) -> int:
        """Output stationary: how often all rows take positions, for one oc_tile."""
        return -(-self.onijs // self.spec.rows)

    @property
    def rounds(self) -> int:
        """How often the array is filled: passes, or output stationary the folds of all oc_tiles."""
        return self.oc_tiles * self.folds if self.stationary else self.passes

    @property
    def most_tiles(self) -> int:
        """The most ic_tiles that an oc_tile takes."""
        return max(map(len, self.ic_ranges))

    @cached_property
    def made(self) -> NDArray[np.bool_]:
        """bool (ic_tile, oc_tile): whether passes are made."""
        made = np.zeros((self.ic_tiles, self.oc_tiles), dtype=np.bool_)
        for oc_tile in range(self.oc_tiles):
            made[self.ic_range(oc_tile), oc_tile] = True
        return made

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates: those of the real channels, each in its group, at the output positions."""
        return self.conv.weight.size * self.onijs

    def windows(self) -> NDArray[np.int64]:
        """int64 (kij, onij): the nij whose psum belongs to output position onij under kij."""
        return np.arange(self.onijs)[None] if self.flat is not None else self.positions()

    def positions(self) -> NDArray[np.int64]:
        """int64 (tap, onij): the position in the padded maps that each output takes under each kernel position."""
        conv, (oh, ow) = self.conv, self.output_shape
        picture = (np.arange(self.batch) * self.map_size)[:, None, None]
        i = (np.arange(oh) * conv.stride[0])[:, None]
        j = (np.arange(ow) * conv.stride[1])[None, :]
        start = (picture + i * self.padded_shape[1] + j).reshape(1, -1)
        ki = (np.arange(conv.kernel[0]) * conv.dilation[0])[:, None]
        kj = (np.arange(conv.kernel[1]) * conv.dilation[1])[None, :]
        return start + (ki * self.padded_shape[1] + kj).reshape(-1, 1)

    def padded(self, act: NDArray[np.integer], channels: int) -> NDArray[np.integer]:
        """(C, H, W), of a batch (picture, C, H, W), to (channels, position): padded with code 0, missing ones zero."""
        top, _, left, _ = self.conv.pads
        maps = np.zeros((channels, self.batch, *self.padded_shape), dtype=act.dtype)
        pictures = act.reshape(self.batch, -1, self.height, self.width).swapaxes(0, 1)
        maps[: len(pictures), :, top : top + self.height, left : left + self.width] = pictures
        return maps.reshape(channels, -1)

    def require(self, act: NDArray[np.integer]) -> None:
        """Raise `BadInput` unless these are the layer's codes: (C, H, W), of a batch (picture, C, H, W)."""
        pictures = act if act.ndim == 4 else act[None]
        if len(pictures) != self.batch or pictures.shape[2:] != (self.height, self.width):
            expected = f"{self.batch} pictures of {self.height}x{self.width}"
            raise BadInput(f"{self.conv.name} activations: expected {expected}, found shape {act.shape}")
        for picture in pictures:
            require_act(self.conv, picture)

    def act_tiles(self, act: NDArray[np.integer]) -> NDArray[np.integer]:
        """(C, H, W), of a batch (picture, C, H, W), to (ic_tile, nij, row): missing channels are zero lanes."""
        if self.flat is not None:
            return self.flat.act_tiles(self.padded(act, self.conv.in_channels), self.positions())
        padded = self.padded(act, self.ic_tiles * self.lanes)
        return np.ascontiguousarray(padded.reshape(self.ic_tiles, self.lanes, self.nijs).swapaxes(1, 2))

    def weight_tiles(self) -> NDArray[np.integer]:
        """(ic_tile, oc_tile, kij, col, row): missing channels are zero lanes."""
        return self.weight_tiles_of(self.conv.weight)

    def weight_tiles_of(self, weight: NDArray[np.integer]) -> NDArray[np.integer]:
        """The same of other integers in the place of the weights, (O, C/groups, KH, KW)."""
        lanes, cols, dense = self.lanes, self.spec.cols, on_diagonal(weight, self.conv.groups)
        if self.flat is not None:
            return self.flat.weight_tiles(dense)
        o, c = dense.shape[:2]
        padded = np.zeros((self.oc_tiles * cols, self.ic_tiles * lanes, *self.conv.kernel), dtype=weight.dtype)
        padded[:o, :c] = dense
        tiles = padded.reshape(self.oc_tiles, cols, self.ic_tiles, lanes, self.kijs)
        return np.ascontiguousarray(tiles.transpose(2, 0, 4, 1, 3))

    def pass_bounds(self) -> tuple[int, int]:
        """(lo, hi): what any psum of any pass can reach, over all inputs."""
        lo, hi = sum_bounds(self.weight_tiles().astype(np.int64), self.conv.act_format)
        return int(lo.min()), int(hi.max())

    def least_psum_bits(self) -> tuple[int, int]:
        """The least safe signed widths: of one pass, and of the accumulated output."""
        lo, hi = self.conv.bounds()
        return least_signed_bits(*self.pass_bounds()), least_signed_bits(int(lo.min()), int(hi.max()))

    def bound_warning(self) -> str | None:
        """One sentence if some channel's bound does not fit psum_bits, naming the worst channel."""
        lo, hi = self.conv.bounds()
        fmt = self.spec.psum_format
        misfit = (lo < fmt.lo) | (hi > fmt.hi)
        if not misfit.any():
            return None
        worst = int(np.argmax(np.where(misfit, np.maximum(hi, -lo), -1)))
        return (
            f"{self.conv.name}: {int(misfit.sum())} of {self.conv.out_channels} output channels could exceed "
            f"{fmt.bits} psum bits; channel {worst} is bounded by {int(lo[worst])}..{int(hi[worst])}, "
            f"{least_signed_bits(int(lo.min()), int(hi.max()))} bits are safe for all"
        )


def by_channel(maps: NDArray[Any]) -> NDArray[Any]:
    """(n, ...), of a batch (picture, n, H, W), to (n, position), picture outermost."""
    if maps.ndim < 4:
        return maps.reshape(len(maps), -1)
    return maps.swapaxes(0, 1).reshape(maps.shape[1], -1)


def read_by(outs: int, ins: int, groups: int) -> NDArray[np.int64]:
    """int64 (O, C/groups): the input channel that each weight multiplies, of O output and C input channels."""
    return np.arange(outs)[:, None] // (outs // groups) * (ins // groups) + np.arange(ins // groups)


def on_diagonal(values: NDArray[Any], groups: int) -> NDArray[Any]:
    """(O, C/groups, ...) to (O, C, ...): a value for each weight, and 0 from one group to another."""
    outs, ins = values.shape[0], values.shape[1] * groups
    dense = np.zeros((outs, ins, *values.shape[2:]), dtype=values.dtype)
    dense[np.arange(outs)[:, None], read_by(outs, ins, groups)] = values
    return dense
