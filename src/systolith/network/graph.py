"""The integer network's nodes: frozen, integers only, no float anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, require_fit

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution of integer codes; a linear layer is one with a 1x1 kernel on a 1x1 map.

    Attributes:
        name: the layer it came from.
        weight: integer codes (O, C, KH, KW).
        act_format, weight_format: what the codes fit in.
        stride, padding, dilation: (vertical, horizontal); padding is code 0.
    """

    name: str
    weight: NDArray[np.integer]
    act_format: IntFormat
    weight_format: IntFormat
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        if self.weight.ndim != 4 or self.weight.size == 0:
            raise BadInput(f"{self.name}: expected weights of shape (O, C, KH, KW), found {self.weight.shape}")
        require_fit(f"{self.name} weight", self.weight, self.weight_format, ("oc", "ic", "ki", "kj"))
        low, high = min(*self.stride, *self.dilation), max(*self.stride, *self.dilation, *self.padding)
        if low < 1 or min(self.padding) < 0 or high > 65535:
            raise BadInput(
                f"{self.name}: expected stride and dilation of 1 to 65535 and padding of 0 to 65535, "
                f"found {self.stride}, {self.dilation}, {self.padding}"
            )

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[1])

    @property
    def kernel(self) -> Pair:
        """(KH, KW)"""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    def padded_shape(self, height: int, width: int) -> Pair:
        """(Hp, Wp) of an input map of (height, width)."""
        return height + 2 * self.padding[0], width + 2 * self.padding[1]

    def output_shape(self, height: int, width: int) -> Pair:
        """(OH, OW); `BadInput` if the kernel is larger than the padded map."""
        size = self.padded_shape(height, width)
        reach = [self.dilation[d] * (self.kernel[d] - 1) + 1 for d in (0, 1)]
        if reach[0] > size[0] or reach[1] > size[1]:
            raise BadInput(f"{self.name}: a kernel of reach {tuple(reach)} does not fit the padded map {size}")
        return (size[0] - reach[0]) // self.stride[0] + 1, (size[1] - reach[1]) // self.stride[1] + 1

    def bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(lo, hi), int64 (O,): what the accumulator of each output channel can reach over all inputs.

        0 is within, and so is every partial sum in any order.
        """
        return sum_bounds(self.weight.astype(np.int64).reshape(self.out_channels, -1), self.act_format)


def sum_bounds(weight: NDArray[np.int64], act: IntFormat) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(lo, hi) of the sum over the last axis of activation times weight, over all activations."""
    positive, negative = np.maximum(weight, 0).sum(-1), np.minimum(weight, 0).sum(-1)
    return act.hi * negative + act.lo * positive, act.hi * positive + act.lo * negative


def require_act(conv: Conv, act: NDArray) -> None:
    """Raise `BadInput` unless `act` is an integer map (C, H, W) of the layer's channels and format."""
    if act.ndim != 3 or act.shape[0] != conv.in_channels or act.size == 0:
        raise BadInput(f"{conv.name} activations: expected shape ({conv.in_channels}, H, W), found {act.shape}")
    require_fit(f"{conv.name} activations", act, conv.act_format, ("ic", "i", "j"))
