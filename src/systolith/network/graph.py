"""The integer network's nodes: frozen, integers only, no float anywhere.

A node says what it computes; what it is wired to, and whether all of it fits together, is `integer.py`'s.
Codes are what a quantizer produces, accumulators are sums of products of codes; only `Requantize` goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, require_fit
from systolith.network.requantize import Thresholds

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]
"""Top, bottom, left, right."""


BIAS = IntFormat(32, signed=True)


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution of integer codes, and an integer bias where it has one.

    Attributes:
        name: the layer it came from.
        weight: integer codes (O, C/groups, KH, KW).
        act_format, weight_format: what the codes fit in.
        stride, dilation: (vertical, horizontal).
        padding: (vertical, horizontal), or of each side: top, bottom, left, right. Padding is code 0.
        groups: output channels `g*O/groups ...` take the input channels `g*C/groups ...` alone.
        bias: int64 (O,), added to the accumulator, or None. An array adds products alone (`product`).

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
    padding: Pair | Sides = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        weight: NDArray[np.integer],
        act_bits: int = 4,
        weight_bits: int = 4,
        *,
        signed: bool = False,
        stride: int | Pair = 1,
        padding: int | Pair | Sides = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        name: str = "layer",
    ) -> Conv:
        """A convolution of your own integers, weights (O, C/groups, KH, KW), activations unsigned unless `signed`."""
        formats = IntFormat(act_bits, signed), IntFormat(weight_bits, True)
        steps, steps_in = ((n, n) if isinstance(n, int) else n for n in (stride, dilation))
        around = (padding, padding) if isinstance(padding, int) else padding
        return cls(name, np.asarray(weight), *formats, steps, around, steps_in, groups)

    def __post_init__(self) -> None:
        if self.weight.ndim != 4 or self.weight.size == 0:
            raise BadInput(f"{self.name}: expected weights of shape (O, C, KH, KW), found {self.weight.shape}")
        object.__setattr__(self, "padding", paired(self.name, self.padding))
        if self.groups < 1 or self.out_channels % self.groups:
            raise BadInput(
                f"{self.name}: expected groups that divide the {self.out_channels} output channels, found {self.groups}"
            )
        if self.bias is not None:
            if self.bias.shape != (self.out_channels,):
                raise BadInput(f"{self.name}: expected a bias of shape ({self.out_channels},), found {self.bias.shape}")
            require_fit(f"{self.name} bias", self.bias, BIAS, ("oc",))
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
        return int(self.weight.shape[1]) * self.groups

    @property
    def pads(self) -> Sides:
        """Top, bottom, left, right."""
        return sides(self.padding)

    @property
    def dense(self) -> NDArray[np.integer]:
        """(O, C, KH, KW): the weights of the same convolution without groups, zero outside the diagonal's blocks."""
        if self.groups == 1:
            return self.weight
        whole = np.zeros((self.out_channels, self.in_channels, *self.kernel), dtype=self.weight.dtype)
        outs, ins = self.out_channels // self.groups, self.weight.shape[1]
        for g in range(self.groups):
            rows = slice(g * outs, (g + 1) * outs)
            whole[rows, g * ins : (g + 1) * ins] = self.weight[rows]
        return whole

    def product(self) -> Conv:
        """The same without its bias: what an array computes."""
        return self if self.bias is None else replace(self, bias=None)

    @property
    def kernel(self) -> Pair:
        """(KH, KW)"""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    def padded_shape(self, height: int, width: int) -> Pair:
        """(Hp, Wp) of an input map of (height, width)."""
        top, bottom, left, right = self.pads
        return height + top + bottom, width + left + right

    def output_shape(self, height: int, width: int) -> Pair:
        """(OH, OW); `BadInput` if the kernel is larger than the padded map."""
        size = self.padded_shape(height, width)
        extent = reach(self.kernel, self.dilation)
        if extent[0] > size[0] or extent[1] > size[1]:
            raise BadInput(f"{self.name}: a kernel of reach {extent} does not fit the padded map {size}")
        return (size[0] - extent[0]) // self.stride[0] + 1, (size[1] - extent[1]) // self.stride[1] + 1

    def bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(lo, hi), int64 (O,): what the accumulator of each output channel can reach over all inputs, bias included.

        Without a bias 0 is within, and so is every partial sum in any order.
        """
        lo, hi = sum_bounds(self.weight.astype(np.int64).reshape(self.out_channels, -1), self.act_format)
        return (lo, hi) if self.bias is None else (lo + self.bias, hi + self.bias)


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
        require_fit(f"{self.name} bias", self.bias, BIAS, ("o",))

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
        size: (H, W) of the picture; () of a vector of C bytes.
    """

    name: str
    table: NDArray[np.integer]
    format: IntFormat
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if (
            self.table.ndim != 2
            or self.table.shape[0] < 1
            or self.table.shape[1] != 256
            or min(self.size, default=1) < 1
        ):
            raise BadInput(f"{self.name}: expected a table (C, 256) and a size, found {self.table.shape}, {self.size}")
        require_fit(f"{self.name} table", self.table, self.format, ("channel", "pixel"))


@dataclass(frozen=True, eq=False)
class Requantize:
    """Accumulators, or codes of another quantizer, to codes by thresholds.

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
    """The largest code of each window; outside the map counts as the smallest code.

    `padding`: (vertical, horizontal), or top, bottom, left, right. No window lies in the padding alone.
    """

    name: str
    kernel: Pair
    stride: Pair
    padding: Pair | Sides = (0, 0)
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", paired(self.name, self.padding))
        if min(*self.kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise BadInput(
                f"{self.name}: expected a kernel, stride and dilation of at least 1 and no negative padding, "
                f"found {self.kernel}, {self.stride}, {self.dilation}, {self.padding}"
            )

    @property
    def reach(self) -> Pair:
        """(vertical, horizontal) extent of a window."""
        return reach(self.kernel, self.dilation)

    def output_shape(self, height: int, width: int) -> Pair:
        """(OH, OW), rounded down."""
        top, bottom, left, right = sides(self.padding)
        shape = pooled_shape(self.name, (height + top + bottom, width + left + right), self.reach, self.stride)
        axes = zip((height, width), (top, left), shape, self.stride, self.kernel, self.dilation, strict=True)
        for size, before, count, stride, kernel, dilation in axes:
            taken = np.arange(count)[:, None] * stride + np.arange(kernel)[None, :] * dilation - before
            if not ((taken >= 0) & (taken < size)).any(axis=1).all():
                raise BadInput(f"{self.name}: a window lies in the padding {self.padding} alone")
        return shape


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
    """The sum of two maps of codes, each times its gain: an accumulator.

    `gains`: positive. Operands of one format and scale have gains (1, 1); of others, such that the sum has one scale.
    """

    name: str
    gains: Pair = (1, 1)

    def __post_init__(self) -> None:
        if min(self.gains) < 1:
            raise BadInput(f"{self.name}: expected gains of at least 1, found {self.gains}")


@dataclass(frozen=True)
class Concat:
    """Codes of one format and scale, one operand's channels after another's."""

    name: str


@dataclass(frozen=True)
class Upsample:
    """Every position of a map `factor` times downwards and to the right: the nearest neighbour."""

    name: str
    factor: Pair

    def __post_init__(self) -> None:
        if min(self.factor) < 1:
            raise BadInput(f"{self.name}: expected factors of at least 1, found {self.factor}")


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) codes to (C*H*W,), channel outermost."""

    name: str


@dataclass(frozen=True)
class Argmax:
    """The index of the largest accumulator (or code); the first of equals."""

    name: str


Node = Input | Conv | Linear | Requantize | MaxPool | AvgPool | Add | Concat | Upsample | Flatten | Argmax


def sides(padding: Pair | Sides) -> Sides:
    """Top, bottom, left, right of (vertical, horizontal), or of all four."""
    return padding if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])


def paired(name: str, padding: tuple[int, ...]) -> Pair | Sides:
    """(vertical, horizontal) where opposite sides are equal, else all four; `BadInput` for another number of them."""
    if len(padding) not in (2, 4):
        raise BadInput(f"{name}: expected a padding of 2 or 4 numbers, found {padding}")
    top, bottom, left, right = sides(tuple(map(int, padding)))  # type: ignore[arg-type]
    return (top, left) if (top, left) == (bottom, right) else (top, bottom, left, right)


def reach(kernel: Pair, dilation: Pair) -> Pair:
    """(vertical, horizontal) extent of a dilated kernel."""
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


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
