"""The integer network's nodes: frozen, integers only, no float anywhere.

A node says what it computes; what it is wired to, and whether all of it fits together, is `integer.py`'s.
Codes are what a quantizer produces, accumulators are sums of products of codes; only `Requantize` goes back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, require_fit
from systolith.network.requantize import Thresholds

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution of integer codes, without bias.

    Attributes:
        name: the layer it came from.
        weight: integer codes (O, C, KH, KW).
        act_format, weight_format: what the codes fit in.
        stride, padding, dilation: (vertical, horizontal); padding is code 0.

    Examples:
        >>> import numpy as np, systolith as sl
        >>> sl.Conv.of(np.ones((8, 3, 3, 3), int), padding=1).output_shape(4, 6)
        (4, 6)
    """

    name: str
    weight: NDArray[np.integer]
    act_format: IntFormat
    weight_format: IntFormat
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @classmethod
    def of(
        cls,
        weight: NDArray[np.integer],
        act_bits: int = 4,
        weight_bits: int = 4,
        *,
        signed: bool = False,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        name: str = "layer",
    ) -> Conv:
        """A convolution of your own integers, weights (O, C, KH, KW), activations unsigned unless `signed`."""
        pairs = [(n, n) if isinstance(n, int) else n for n in (stride, padding, dilation)]
        return cls(name, np.asarray(weight), IntFormat(act_bits, signed), IntFormat(weight_bits, True), *pairs)

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


@dataclass(frozen=True, eq=False)
class Linear:
    """A matrix product of integer codes plus an integer bias.

    Attributes:
        name: the layer it came from.
        weight: integer codes (O, I).
        bias: int64 (O,), added to the accumulator.
        act_format, weight_format: what the codes fit in.
    """

    name: str
    weight: NDArray[np.integer]
    bias: NDArray[np.int64]
    act_format: IntFormat
    weight_format: IntFormat

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.weight.size == 0 or self.bias.shape != self.weight.shape[:1]:
            raise BadInput(
                f"{self.name}: expected weights of shape (O, I) and bias (O,), "
                f"found {self.weight.shape} and {self.bias.shape}"
            )
        require_fit(f"{self.name} weight", self.weight, self.weight_format, ("o", "i"))
        require_fit(f"{self.name} bias", self.bias, IntFormat(32, signed=True), ("o",))

    def as_conv(self) -> Conv:
        """The product alone, as a 1x1 convolution of a 1x1 map: how an array sees it."""
        return Conv(self.name, self.weight[:, :, None, None], self.act_format, self.weight_format)

    def bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(lo, hi), int64 (O,): what the accumulator can reach over all inputs, bias included."""
        lo, hi = sum_bounds(self.weight.astype(np.int64), self.act_format)
        return lo + self.bias, hi + self.bias


@dataclass(frozen=True, eq=False)
class Input:
    """The picture's pixels to codes: `code = table[channel, pixel]`.

    Attributes:
        name: of the picture, "input".
        table: int16 (C, 256).
        format: what the codes fit in.
        size: (H, W) of the picture.
    """

    name: str
    table: NDArray[np.integer]
    format: IntFormat
    size: Pair

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.table.shape[0] < 1 or self.table.shape[1] != 256 or min(self.size) < 1:
            raise BadInput(f"{self.name}: expected a table (C, 256) and a size, found {self.table.shape}, {self.size}")
        require_fit(f"{self.name} table", self.table, self.format, ("channel", "pixel"))


@dataclass(frozen=True, eq=False)
class Requantize:
    """Accumulators to codes by thresholds.

    Attributes:
        name: "producer>consumer", by the names of the layers.
        thresholds: one row a channel.
        format: what the codes fit in.
        folded: the layers between the two that the thresholds hold (batch norm, ReLU).
    """

    name: str
    thresholds: Thresholds
    format: IntFormat
    folded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        t = self.thresholds
        codes = np.array([t.low, t.low + t.values.shape[1]])
        require_fit(f"{self.name} codes", codes, self.format)
        falls = (np.diff(t.values, axis=1) < 0).any(1)
        if falls.any():
            channel = int(np.argmax(falls))
            raise BadInput(
                f"{self.name}, channel {channel}: expected ascending thresholds, found {t.values[channel].tolist()}"
            )

    @property
    def code_range(self) -> tuple[int, int]:
        """The smallest and the largest code."""
        return self.thresholds.low, self.thresholds.low + int(self.thresholds.values.shape[1])


@dataclass(frozen=True)
class MaxPool:
    """The largest code of each window; outside the map counts as the smallest code."""

    name: str
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.stride) < 1 or any(
            not 0 <= 2 * p <= k for p, k in zip(self.padding, self.kernel, strict=True)
        ):
            raise BadInput(
                f"{self.name}: expected a kernel and stride of at least 1 and at most half a kernel of padding, "
                f"found {self.kernel}, {self.stride}, {self.padding}"
            )

    def output_shape(self, height: int, width: int) -> Pair:
        """(OH, OW), rounded down."""
        return pooled_shape(
            self.name, (height + 2 * self.padding[0], width + 2 * self.padding[1]), self.kernel, self.stride
        )


@dataclass(frozen=True)
class AvgPool:
    """The sum of the codes of each window: an accumulator (the division is in the scale, so in the thresholds)."""

    name: str
    kernel: Pair
    stride: Pair

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.stride) < 1:
            raise BadInput(
                f"{self.name}: expected a kernel and stride of at least 1, found {self.kernel}, {self.stride}"
            )

    def output_shape(self, height: int, width: int) -> Pair:
        """(OH, OW), rounded down."""
        return pooled_shape(self.name, (height, width), self.kernel, self.stride)


@dataclass(frozen=True)
class Add:
    """The sum of two maps of codes with one format and scale: an accumulator."""

    name: str


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) codes to (C*H*W,), channel outermost."""

    name: str


@dataclass(frozen=True)
class Argmax:
    """The index of the largest accumulator; the first of equals."""

    name: str


Node = Input | Conv | Linear | Requantize | MaxPool | AvgPool | Add | Flatten | Argmax


def pooled_shape(name: str, size: Pair, kernel: Pair, stride: Pair) -> Pair:
    """(OH, OW) of a window over a map of `size`; `BadInput` if it does not fit."""
    if kernel[0] > size[0] or kernel[1] > size[1]:
        raise BadInput(f"{name}: a window of {kernel} does not fit the map {size}")
    return (size[0] - kernel[0]) // stride[0] + 1, (size[1] - kernel[1]) // stride[1] + 1


def sum_bounds(weight: NDArray[np.int64], act: IntFormat) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(lo, hi) of the sum over the last axis of activation times weight, over all activations."""
    positive, negative = np.maximum(weight, 0).sum(-1), np.minimum(weight, 0).sum(-1)
    return act.hi * negative + act.lo * positive, act.hi * positive + act.lo * negative


def require_act(conv: Conv, act: NDArray) -> None:
    """Raise `BadInput` unless `act` is an integer map (C, H, W) of the layer's channels and format."""
    if act.ndim != 3 or act.shape[0] != conv.in_channels or act.size == 0:
        raise BadInput(f"{conv.name} activations: expected shape ({conv.in_channels}, H, W), found {act.shape}")
    require_fit(f"{conv.name} activations", act, conv.act_format, ("ic", "i", "j"))
