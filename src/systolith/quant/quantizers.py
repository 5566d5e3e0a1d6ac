"""Quantizer modules: weights and activations to codes, and what stands in their place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systolith.formats import BadInput, IntFormat
from systolith.quant import functional as Q


def _check_bits(bits: int) -> int:
    if not 2 <= bits <= 8:
        raise BadInput(f"a quantizer has 2 to 8 bits, not {bits}")
    return bits


class ActQuantizer(nn.Module):
    """Activations with a learned clip value alpha (fp32 scalar): codes 0..2^bits-1, or -L..L where `signed`."""

    alpha: nn.Parameter

    def __init__(self, bits: int, signed: bool = False) -> None:
        super().__init__()
        self.bits, self.signed = _check_bits(bits), signed
        self.alpha = nn.Parameter(torch.tensor(4.0))

    @property
    def format(self) -> IntFormat:
        return IntFormat(self.bits, self.signed)

    @property
    def code_range(self) -> tuple[int, int]:
        """The smallest and the largest code: (0, L), or (-L, L)."""
        largest = Q.largest_act_code(self.bits, self.signed)
        return (-largest if self.signed else 0), largest

    def codes(self, x: Tensor) -> Tensor:
        """Whole fp32 numbers, shape of `x`: the contract's activation codes."""
        return Q.act_codes(x, Q.positive(self.alpha), self.bits, self.signed)

    def scale(self) -> Tensor:
        """fp32 scalar `s_a`."""
        return Q.act_scale(Q.positive(self.alpha), self.bits, self.signed)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set alpha to the clip of least squared error on `x`."""
        largest = Q.largest_act_code(self.bits, self.signed)
        self.alpha.copy_(Q.best_clip(x, largest, -1.0 if self.signed else 0.0))

    def forward(self, x: Tensor) -> Tensor:
        return Q.fake_quant_act(x, Q.positive(self.alpha), self.bits, self.signed)

    def extra_repr(self) -> str:
        return f"{self.format}, alpha={self.alpha.item():.4g}"


class ClampedReLU(nn.ReLU):
    """A ReLU behind which unsigned quantizers come and nothing but max pools lies between: they clamp at 0 themselves.

    Training, where a pass over the maps and one over their gradients cost, leaves the ReLU to them: the same values and
    gradients, bit for bit.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else super().forward(x)


class PixelCodes(nn.Module):
    """8-bit pixels as they are: code = pixel - offset, scale 1 (the batch norm behind absorbs it)."""

    def __init__(self, offset: int = 0) -> None:
        super().__init__()
        if offset not in (0, 128):
            raise BadInput(f"the pixel offset is 0 (unsigned codes) or 128 (signed codes), not {offset}")
        self.bits, self.offset = 8, offset

    @property
    def format(self) -> IntFormat:
        return IntFormat(8, signed=self.offset > 0)

    def codes(self, x: Tensor) -> Tensor:
        """uint8 pixels (or whole numbers 0..255) to whole fp32 numbers."""
        return x.to(torch.float32) - self.offset

    def scale(self) -> Tensor:
        return torch.tensor(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.codes(x)

    def extra_repr(self) -> str:
        return f"{self.format}, pixel - {self.offset}" if self.offset else f"{self.format}, pixel"


class WeightQuantizer(nn.Module):
    """Narrow signed weights, codes -L..L with L = 2^(bits-1)-1, of a tensor normalized by its own statistics.

    `alpha` is fp32 of shape (1,), or (O,) per output channel.
    """

    alpha: nn.Parameter

    def __init__(self, bits: int, weight: Tensor, per_channel: bool = False) -> None:
        super().__init__()
        self.bits, self.per_channel = _check_bits(bits), per_channel
        self.alpha = nn.Parameter(torch.ones(weight.shape[0] if per_channel else 1))
        self.initialize(weight)

    @property
    def format(self) -> IntFormat:
        return IntFormat(self.bits, signed=True)

    def codes(self, weight: Tensor) -> Tensor:
        return Q.weight_codes(weight, Q.positive(self.alpha), self.bits, self.per_channel)

    def scale(self) -> Tensor:
        """fp32 `s_w`, shape (1,) or (O,)."""
        return Q.weight_scale(Q.positive(self.alpha), self.bits)

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> None:
        """Set alpha to the clip of least squared error for these weights."""
        normal = Q.normalize_weight(weight, self.per_channel)
        groups = normal if self.per_channel else [normal]
        self.alpha.copy_(torch.stack([Q.best_clip(g, Q.largest_weight_code(self.bits), -1.0) for g in groups]))

    def forward(self, weight: Tensor) -> Tensor:
        return Q.fake_quant_weight(weight, Q.positive(self.alpha), self.bits, self.per_channel)

    def extra_repr(self) -> str:
        how = "per channel" if self.per_channel else "per tensor"
        return f"{self.format}, {how}, alpha={self.alpha.mean().item():.4g}"


class FrozenWeight(nn.Module):
    """Integer codes loaded from a model file. They are never quantized again.

    `codes`: int8 (O, ...); `scale`: fp32 (1,) or (O,).
    """

    codes: Tensor
    weight_scale: Tensor

    def __init__(self, bits: int, codes: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.bits, self.per_channel = _check_bits(bits), scale.numel() > 1
        self.register_buffer("codes", codes)
        self.register_buffer("weight_scale", scale)

    @property
    def format(self) -> IntFormat:
        return IntFormat(self.bits, signed=True)

    def scale(self) -> Tensor:
        return self.weight_scale

    def extra_repr(self) -> str:
        return f"{self.format}, frozen codes"
