"""Quantizers and layers of other people's files, as torch modules: any scale, zero point and range.

A code is stored less its zero point, so that 0 is what padding is; its format is widened to hold that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.formats import BadInput, IntFormat, least_signed_bits
from systolith.quant.layers import QuantConv2d, QuantIdentity, QuantLinear

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


def _half_up(x: Tensor) -> Tensor:
    return torch.where(x >= 0, torch.floor(x + 0.5), torch.ceil(x - 0.5))


def _half_down(x: Tensor) -> Tensor:
    return torch.where(x >= 0, torch.ceil(x - 0.5), torch.floor(x + 0.5))


ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "ROUND": torch.round,
    "HALF_EVEN": torch.round,
    "CEIL": torch.ceil,
    "FLOOR": torch.floor,
    "DOWN": torch.trunc,
    "ROUND_TO_ZERO": torch.trunc,
    "UP": lambda x: torch.where(x >= 0, torch.ceil(x), torch.floor(x)),
    "HALF_UP": _half_up,
    "HALF_DOWN": _half_down,
}
"""By the names that QONNX gives them. HALF_UP and HALF_DOWN are away from 0 and towards it. All are nondecreasing."""


def format_of(low: int, high: int) -> IntFormat:
    """The least format that holds both: unsigned where neither is negative."""
    return IntFormat(least_signed_bits(low, high), True) if low < 0 else IntFormat(max(1, high.bit_length()), False)


class ScaledAct(nn.Module):
    """A quantizer of activations: `code = clamp(round(x/scale + zero), low, high) - zero`.

    Args:
        scale: fp32 scalar.
        zero: the zero point.
        low, high: of the codes before the zero point is taken off.
        rounding: of ROUNDINGS.
        late_zero: the zero point is added behind the rounding, as QuantizeLinear does it; before it, as Quant does it.
    """

    scale_value: Tensor

    def __init__(
        self, scale: Tensor, zero: int, low: int, high: int, rounding: str = "ROUND", late_zero: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("scale_value", scale.float().reshape(()))
        self.zero, self.low, self.high, self.rounding, self.late_zero = zero, low, high, rounding, late_zero

    @property
    def format(self) -> IntFormat:
        return format_of(*self.code_range)

    @property
    def code_range(self) -> tuple[int, int]:
        """The smallest and the largest code, less the zero point."""
        return self.low - self.zero, self.high - self.zero

    @property
    def key(self) -> tuple[Any, ...]:
        """What is equal for quantizers that make the same codes."""
        return float(self.scale_value), self.zero, self.low, self.high, self.rounding, self.late_zero

    def scale(self) -> Tensor:
        """fp32 scalar: what a code, less the zero point, is multiplied by."""
        return self.scale_value

    def codes(self, x: Tensor) -> Tensor:
        """Whole fp32 numbers, shape of `x`: codes less the zero point."""
        ratio = x.float() / self.scale_value
        rounded = ROUNDINGS[self.rounding](ratio if self.late_zero else ratio + self.zero)
        return (rounded + self.zero if self.late_zero else rounded).clamp(self.low, self.high) - self.zero

    def extra_repr(self) -> str:
        return f"{self.format}, scale={float(self.scale_value):.4g}, zero point {self.zero}"


class ReadBack(ScaledAct):
    """The codes of what a `ScaledAct` has quantized, whatever its rounding: `code = rint(x/scale)`."""

    @classmethod
    def of(cls, quantizer: ScaledAct) -> ReadBack:
        return cls(quantizer.scale_value, *quantizer.key[1:])

    def codes(self, x: Tensor) -> Tensor:
        return (x / self.scale_value).round()


class Quantize(QuantIdentity):
    """A `ScaledAct` on its own."""

    def __init__(self, quantizer: ScaledAct) -> None:
        super().__init__()
        self.act_quant = quantizer  # type: ignore[assignment]


class ScaledAdd(nn.Module):
    """The sum of two tensors of codes, each of its own quantizer: `y = fp32(code*s + other*t)`, rounded once.

    Both scales are whole multiples of one power of two, so the sum is a whole number too: `gains` are the multiples.
    """

    def __init__(self, one: ScaledAct, two: ScaledAct) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList([ReadBack.of(one), ReadBack.of(two)])
        (m, e), (n, f) = (torch.frexp(q.scale_value.double()) for q in (one, two))
        # A 24-bit significand is whole after 24 places.
        places = int(min(e, f)) - 24
        gains = int(torch.ldexp(m, e - places)), int(torch.ldexp(n, f - places))
        while not gains[0] % 2 and not gains[1] % 2:
            gains, places = (gains[0] // 2, gains[1] // 2), places + 1
        if max(gains) >= 1 << 40:
            raise BadInput(
                f"scales of {float(one.scale_value):g} and {float(two.scale_value):g} are too far apart to add"
            )
        self.gains: Pair = gains
        self.unit = 2.0**places

    def dequantize(self, acc: Tensor) -> Tensor:
        """`y = fp32(acc*unit)`; the product is exact in float64."""
        return (acc.double() * self.unit).float()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two tensors of the same shape to their sum."""
        one, two = (q.codes(v).double() * g for q, v, g in zip(self.quantizers, (x, y), self.gains, strict=True))  # type: ignore[operator]
        return self.dequantize(one + two)


class SidedMaxPool2d(nn.Module):
    """A max pool whose four sides are padded as they are said to be: top, bottom, left, right."""

    def __init__(self, kernel: Pair, stride: Pair, pads: Sides, dilation: Pair = (1, 1)) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads, self.dilation = kernel, stride, pads, dilation

    def forward(self, x: Tensor) -> Tensor:
        top, bottom, left, right = self.pads
        around = F.pad(x, (left, right, top, bottom), value=-torch.inf)
        return F.max_pool2d(around, self.kernel, self.stride, 0, self.dilation)


class Normalize(nn.Module):
    """Pixels to what a network takes: `(pixel/255 - mean)/std`, fp32, a channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to fp32."""
        return (x.float() / 255 - self.mean) / self.std


def frozen_conv(
    codes: Tensor,
    scale: Tensor,
    quantizer: ScaledAct,
    stride: Pair,
    pads: Sides,
    dilation: Pair,
    groups: int,
    bits: int,
    bias: Tensor | None,
) -> QuantConv2d:
    """A convolution of integer weight codes int8 (O, C/groups, KH, KW), of what `quantizer` has quantized.

    Args:
        scale: fp32 (1,) or (O,).
        bias: integers (O,), or None.
    """
    outs, ins, *kernel = codes.shape
    layer = QuantConv2d(ins * groups, outs, tuple(kernel), stride, pads, dilation, groups)  # type: ignore[arg-type]
    return _frozen(layer, codes, scale, quantizer, bits, bias)


def frozen_linear(codes: Tensor, scale: Tensor, quantizer: ScaledAct, bits: int, bias: Tensor | None) -> QuantLinear:
    """A matrix product with integer weight codes int8 (O, I); otherwise as `frozen_conv`."""
    layer = QuantLinear(codes.shape[1], codes.shape[0], bias=False)
    return _frozen(layer, codes, scale, quantizer, bits, bias)


def _frozen(layer: Any, codes: Tensor, scale: Tensor, quantizer: ScaledAct, bits: int, bias: Tensor | None) -> Any:
    layer.act_quant = ReadBack.of(quantizer)
    layer.freeze(codes.to(torch.int8), scale.float().reshape(-1), bits, bias)
    return layer
