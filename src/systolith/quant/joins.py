"""Layers without weights that make sums: the residual add and average pooling, of codes, exactly."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.quant.exact import FP32_LIMIT
from systolith.quant.quantizers import ActQuantizer, is_po2


class QuantAdd(nn.Module):
    """The residual add: both operands by one shared learned signed quantizer, and the sum of their codes.

    Two scales could not be added in integers; one quantizer for both gives one scale, and a sum of -2L..2L.

    Args:
        bits: 2 to 8.
        scale, rounding: as `QuantConv2d` has them.
    """

    def __init__(self, bits: int = 8, *, scale: str = "learned", rounding: str = "even") -> None:
        super().__init__()
        self.act_quant = ActQuantizer(bits, signed=True, po2=is_po2(scale), rounding=rounding)

    def scale(self) -> Tensor:
        """fp32 scalar: what a sum is multiplied by."""
        return self.act_quant.scale()

    def dequantize(self, acc: Tensor) -> Tensor:
        """`y = fp32(acc*s)`."""
        return acc.float() * self.scale()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two real tensors of the same shape to their sum, fp32 in eval."""
        if x.shape != y.shape:
            raise BadInput(f"QuantAdd: expected operands of one shape, found {tuple(x.shape)} and {tuple(y.shape)}")
        if self.training:
            return self.act_quant(x) + self.act_quant(y)
        return self.dequantize(self.act_quant.codes(x) + self.act_quant.codes(y))


class QuantAvgPool2d(nn.Module):
    """Average pooling that quantizes its input and sums the codes; the division is in the scale.

    Args:
        kernel_size: the window, or None for the whole map (global average pooling). No padding.
        stride: as the window unless given.
        act_bits: 2 to 8.
        signed: whether the input can be negative (no ReLU before it).
        scale, rounding: as `QuantConv2d` has them; the division keeps a power of two where the window has as many
            positions.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] | None = None,
        *,
        act_bits: int = 8,
        signed: bool = False,
        scale: str = "learned",
        rounding: str = "even",
    ) -> None:
        super().__init__()
        if kernel_size is None and stride is not None:
            raise BadInput("QuantAvgPool2d: the pooling of a whole map has no stride")
        self.kernel_size = _pair(kernel_size) if kernel_size is not None else None
        self.stride = _pair(stride) if stride is not None else self.kernel_size
        self.act_quant = ActQuantizer(act_bits, signed, po2=is_po2(scale), rounding=rounding)

    def scale(self, window: tuple[int, int]) -> Tensor:
        """fp32 scalar `s_a/(kh*kw)`, the division in float64."""
        return (self.act_quant.scale().double() / (window[0] * window[1])).float()

    def dequantize(self, acc: Tensor, window: tuple[int, int]) -> Tensor:
        """`y = fp32(acc*s)`."""
        return acc.float() * self.scale(window)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, OH, OW), or (N, C, 1, 1); fp32 in eval."""
        window = self.kernel_size or (int(x.shape[2]), int(x.shape[3]))
        stride = self.stride or window
        if self.training:
            return F.avg_pool2d(self.act_quant(x), window, stride)
        largest = self.act_quant.code_range[1]
        if largest * window[0] * window[1] > FP32_LIMIT:
            raise BadInput(f"QuantAvgPool2d: a window of {window[0]}x{window[1]} is too large to be summed exactly")
        sums = F.avg_pool2d(self.act_quant.codes(x), window, stride, divisor_override=1)
        return self.dequantize(sums, window)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size or 'the whole map'}, stride={self.stride}"


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < 1:
        raise BadInput(f"QuantAvgPool2d: expected a window and stride of at least 1, found {value}")
    return pair
