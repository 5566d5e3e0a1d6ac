"""A layer as a design sees it: its shape, its formats, and what of its values matters. Plain, small, and hashable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from systolith.formats import IntFormat, least_signed_bits, least_sum_bits
from systolith.network.graph import Conv, Pair, Sides
from systolith.topologies import Layer


@dataclass(frozen=True)
class Work:
    """A layer to run.

    Attributes:
        name: of the layer.
        channels: in, out.
        size: (H, W) of the unpadded input map.
        kernel, stride, dilation, pads, groups: as the layer's.
        act, weight: its formats; None where it is a shape alone, which takes those of the design.
        signed: of a shape alone, whether its activations are.
        least_bits: of accumulators that cannot overflow with its weights; None where it has none.
        count: how often the network has it.
        live: share of its products of which neither operand is 0, counted on real pictures; None: not known.
        follows: it reads what the layer before it leaves, and alone does (`topologies.Layer.follows`).
    """

    name: str
    channels: Pair
    size: Pair
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pads: Sides = (0, 0, 0, 0)
    groups: int = 1
    act: IntFormat | None = None
    weight: IntFormat | None = None
    signed: bool = False
    least_bits: int | None = None
    count: int = 1
    live: float | None = None
    follows: bool = False

    @classmethod
    def of(cls, layer: Layer, live: float | None = None) -> Work:
        """Of a topology's layer; one without memory behind its weights is a shape alone."""
        conv, real = layer.conv, not layer.is_shape
        formats = (conv.act_format, conv.weight_format) if real else (None, None)
        least = None
        if real:
            lo, hi = conv.bounds()
            least = max(2, least_signed_bits(int(lo.min()), int(hi.max())))
        channels, size = (conv.in_channels, conv.out_channels), (layer.height, layer.width)
        found = cls(conv.name, channels, size, conv.kernel, conv.stride, conv.dilation, conv.pads, conv.groups)
        found = replace(found, act=formats[0], weight=formats[1], signed=not real and conv.act_format.signed)
        return replace(found, least_bits=least, count=layer.count, live=live, follows=layer.follows)

    def formats(self, act_bits: int, weight_bits: int) -> tuple[IntFormat, IntFormat]:
        """Its own, or as wide as a design's lanes."""
        return self.act or IntFormat(act_bits, self.signed), self.weight or IntFormat(weight_bits, True)

    def conv(self, act_bits: int, weight_bits: int) -> Conv:
        """The convolution, all its weights one 0."""
        shape = self.channels[1], self.channels[0] // self.groups, *self.kernel
        act, weight = self.formats(act_bits, weight_bits)
        window = self.stride, self.pads, self.dilation, self.groups
        return Conv(self.name, np.broadcast_to(np.int8(0), shape), act, weight, *window)

    @cached_property
    def terms(self) -> int:
        """Products of an output."""
        return self.channels[0] // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a picture, once."""
        return self.channels[1] * self.terms * prod(self.conv(8, 8).output_shape(*self.size))

    def psum_bits(self, act_bits: int, weight_bits: int) -> int:
        """Of accumulators that cannot overflow: with its weights, or with any."""
        if self.least_bits is not None:
            return self.least_bits
        act, weight = self.formats(act_bits, weight_bits)
        return least_sum_bits(self.terms, (act.lo, act.hi), (weight.lo, weight.hi))
