"""A layer without its integers: what stimulus is made for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArraySpec, Mapping
from systolith.array.mapping import read_by
from systolith.formats import BadInput, IntFormat, least_sum_bits
from systolith.network import Conv
from systolith.network.graph import Pair, Sides, sides

MOST = 1 << 28  # activations or weights of a case: 1 GiB of int32


@dataclass(frozen=True)
class Shape:
    """A layer without its integers.

    Attributes:
        in_channels, out_channels: as the layer's.
        size: (H, W) of the unpadded input map.
        kernel, padding, stride, dilation: (vertical, horizontal); padding perhaps of top, bottom, left, right.
        act_format, weight_format: the lanes; weights are signed.
        act_range, weight_range: the smallest and the largest code of every case, 0 among them. Unless given, the whole
            activation lane, and weights symmetric about 0 as trained ones are: -7..7 in 4 bits, never -8.
        groups: as the layer's.

    Raises:
        BadInput: no such layer, or a range that leaves its lane or holds nothing but 0.
    """

    in_channels: int
    out_channels: int
    size: Pair
    kernel: Pair = (3, 3)
    padding: Pair | Sides = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    act_format: IntFormat = IntFormat(4, signed=False)  # noqa: RUF009 (frozen)
    weight_format: IntFormat = IntFormat(4, signed=True)  # noqa: RUF009 (frozen)
    act_range: Pair | None = None
    weight_range: Pair | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        if min(self.in_channels, self.out_channels, *self.size, *self.kernel) < 1:
            raise BadInput(
                f"expected channels, a map and a kernel of at least 1, found {self.in_channels}x{self.out_channels}, "
                f"{self.size[0]}x{self.size[1]} and {self.kernel[0]}x{self.kernel[1]}"
            )
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            raise BadInput(
                f"{self.groups} groups: expected a number that divides the channels, "
                f"{self.in_channels}x{self.out_channels}"
            )
        weights = self.out_channels * self.group[0] * self.kernel[0] * self.kernel[1]
        acts = self.in_channels * self.size[0] * self.size[1]
        if max(weights, acts) > MOST:
            raise BadInput(f"{acts:,} activations and {weights:,} weights: expected at most {MOST:,} of each")
        for name, (lo, hi), fmt in (
            ("activation", self.acts, self.act_format),
            ("weight", self.weights, self.weight_format),
        ):
            if not fmt.lo <= lo <= 0 <= hi <= fmt.hi or lo == hi:
                raise BadInput(
                    f"{name} range {lo}..{hi}: expected one within {fmt.lo}..{fmt.hi} that holds 0 and more (padding "
                    "and empty lanes are 0)"
                )
        self.conv("stimulus", np.broadcast_to(np.int8(0), self.weight_shape)).output_shape(*self.size)

    @property
    def acts(self) -> Pair:
        """The smallest and the largest activation code."""
        return self.act_range or (self.act_format.lo, self.act_format.hi)

    @property
    def weights(self) -> Pair:
        """The smallest and the largest weight code."""
        hi = self.weight_format.hi
        return self.weight_range or (-hi if hi else self.weight_format.lo, hi)

    @property
    def group(self) -> Pair:
        """Input and output channels of a group."""
        return self.in_channels // self.groups, self.out_channels // self.groups

    @property
    def reads(self) -> NDArray[np.int64]:
        """int64 (O, C/groups): the input channel that each weight multiplies."""
        return read_by(self.out_channels, self.in_channels, self.groups)

    @property
    def act_shape(self) -> tuple[int, int, int]:
        return (self.in_channels, *self.size)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.out_channels, self.group[0], *self.kernel)

    def conv(self, name: str, weight: NDArray[np.integer]) -> Conv:
        """The layer with these weights (O, C/groups, KH, KW)."""
        windows = self.stride, self.padding, self.dilation
        return Conv(name, weight, self.act_format, self.weight_format, *windows, self.groups)

    @classmethod
    def of(cls, mapping: Mapping) -> Shape:
        """That of a layer on an array, with the array's lanes, or as many bits as each code of several in one has."""
        conv, spec = mapping.conv, mapping.spec
        channels, size = (conv.in_channels, conv.out_channels), (mapping.height, mapping.width)
        formats = mapping.code_format, spec.weight_format
        windows = conv.stride, conv.dilation
        return cls(*channels, size, conv.kernel, conv.padding, *windows, *formats, groups=conv.groups)

    def least_psum_bits(self) -> int:
        """The least accumulator width (at least 2) that no integers of this shape and these ranges overflow."""
        return least_sum_bits(self.group[0] * self.kernel[0] * self.kernel[1], self.acts, self.weights)

    def windows(self, spec: ArraySpec) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Row and column of the unpadded map that each output takes under each kij, (kij, onij), and if that is inside
        the map and not its padding."""
        mapping = Mapping(self.conv("stimulus", np.broadcast_to(np.int8(0), self.weight_shape)), spec, *self.size)
        i, j = np.divmod(mapping.positions(), mapping.padded_shape[1])
        top, _, left, _ = sides(self.padding)
        i, j = i - top, j - left
        return i, j, (i >= 0) & (i < self.size[0]) & (j >= 0) & (j < self.size[1])
