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


def is_po2(scale: str) -> bool:
    """What a layer's `scale` says: "learned", or "po2", whose steps are powers of two."""
    if scale not in ("learned", "po2"):
        raise BadInput(f"scale: expected learned or po2, found {scale!r}")
    return scale == "po2"


class ActQuantizer(nn.Module):
    """Activations with a learned clip value alpha (fp32 scalar): codes 0..2^bits-1, or -L..L where `signed`.

    Args:
        bits: 2 to 8.
        signed: the input can be negative.
        po2: the step `alpha/L` that counts is the power of two next to the learned one.
        rounding: of ties: "even" (half to even), or "up" (half up), which a shift with an added half computes.
    """

    alpha: nn.Parameter

    def __init__(self, bits: int, signed: bool = False, *, po2: bool = False, rounding: str = "even") -> None:
        super().__init__()
        if rounding not in ("even", "up"):
            raise BadInput(f"rounding: expected even or up, found {rounding!r}")
        self.bits, self.signed, self.po2, self.rounding = _check_bits(bits), signed, po2, rounding
        self.alpha = nn.Parameter(torch.tensor(4.0))

    @property
    def format(self) -> IntFormat:
        return IntFormat(self.bits, self.signed)

    @property
    def code_range(self) -> tuple[int, int]:
        """The smallest and the largest code: (0, L), or (-L, L)."""
        largest = Q.largest_act_code(self.bits, self.signed)
        return (-largest if self.signed else 0), largest

    def clip(self) -> Tensor:
        """fp32 scalar: the clip value that counts, positive."""
        alpha = Q.positive(self.alpha)
        return Q.power_of_two(alpha, self.code_range[1]) if self.po2 else alpha

    def codes(self, x: Tensor) -> Tensor:
        """Whole fp32 numbers, shape of `x`: the contract's activation codes."""
        return Q.act_codes(x, self.clip(), self.bits, self.signed, self.rounding)

    def scale(self) -> Tensor:
        """fp32 scalar `s_a`; a power of two, exactly, where `po2`."""
        return Q.act_scale(self.clip(), self.bits, self.signed)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set alpha to the clip of least squared error on `x`."""
        largest = Q.largest_act_code(self.bits, self.signed)
        self.alpha.copy_(Q.best_clip(x, largest, -1.0 if self.signed else 0.0, self.po2))

    def forward(self, x: Tensor) -> Tensor:
        return Q.fake_quant_act(x, self.clip(), self.bits, self.signed, self.rounding)

    def extra_repr(self) -> str:
        how = (", po2" if self.po2 else "") + (", half up" if self.rounding == "up" else "")
        return f"{self.format}{how}, alpha={self.alpha.item():.4g}"


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

    Args:
        bits: 2 to 8.
        weight: fp32 (O, ...), to start from.
        per_channel: an alpha, and statistics, of each output channel.
        po2: the step `alpha/L` that counts is the power of two next to the learned one.
        normalize: without, the weights are taken as they are (mean 0, deviation 1): codes times scale are near them.
    """

    alpha: nn.Parameter

    def __init__(
        self, bits: int, weight: Tensor, per_channel: bool = False, *, po2: bool = False, normalize: bool = True
    ) -> None:
        super().__init__()
        self.bits, self.per_channel, self.po2, self.normalize = _check_bits(bits), per_channel, po2, normalize
        self.alpha = nn.Parameter(torch.ones(weight.shape[0] if per_channel else 1))
        self.initialize(weight)

    @property
    def format(self) -> IntFormat:
        return IntFormat(self.bits, signed=True)

    def clip(self) -> Tensor:
        """fp32 (1,) or (O,): the clip value that counts, positive."""
        alpha = Q.positive(self.alpha)
        return Q.power_of_two(alpha, Q.largest_weight_code(self.bits)) if self.po2 else alpha

    def codes(self, weight: Tensor) -> Tensor:
        return Q.weight_codes(weight, self.clip(), self.bits, self.per_channel, self.normalize)

    def scale(self) -> Tensor:
        """fp32 `s_w`, shape (1,) or (O,); powers of two, exactly, where `po2`."""
        return Q.weight_scale(self.clip(), self.bits)

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> None:
        """Set alpha to the clip of least squared error for these weights."""
        normal = Q.normalize_weight(weight, self.per_channel) if self.normalize else weight.float()
        groups, largest = normal if self.per_channel else [normal], Q.largest_weight_code(self.bits)
        self.alpha.copy_(torch.stack([Q.best_clip(g, largest, -1.0, self.po2) for g in groups]))

    def forward(self, weight: Tensor) -> Tensor:
        return Q.fake_quant_weight(weight, self.clip(), self.bits, self.per_channel, self.normalize)

    def extra_repr(self) -> str:
        how = ("per channel" if self.per_channel else "per tensor") + (", po2" if self.po2 else "")
        how += "" if self.normalize else ", not normalized"
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
