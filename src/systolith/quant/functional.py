"""The quantizers as functions: codes (the contract, fp32) and fake quantization with LSQ gradients.

Source of the gradients: Esser et al., "Learned Step Size Quantization", ICLR 2020, section 2.1, with the
clip value alpha in place of the step. Weight normalization by the tensor's own mean and deviation as in
Li et al., "Additive Powers-of-Two Quantization", ICLR 2020, section 2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from systolith.quant import fused

ALPHA_MIN = 1e-3


def largest_weight_code(bits: int) -> int:
    """L of narrow signed weights: 2^(bits-1) - 1, so 7 for 4 bits (codes -7..7)."""
    return (1 << (bits - 1)) - 1


def largest_act_code(bits: int, signed: bool = False) -> int:
    """L of unsigned activations: 2^bits - 1, so 15 for 4 bits (codes 0..15); signed ones are narrow, as weights are."""
    return largest_weight_code(bits) if signed else (1 << bits) - 1


class _LowerBound(torch.autograd.Function):
    """max(x, bound); the gradient still passes where a step down it would raise x above the bound again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        (grad,) = grads
        return torch.where((x >= ctx.bound) | (grad < 0), grad, torch.zeros_like(grad)), None


def positive(alpha: Tensor) -> Tensor:
    """Alpha kept >= 1e-3 by construction: a negative one would invert codes, a zero give NaN."""
    return _LowerBound.apply(alpha, ALPHA_MIN)


def power_of_two(alpha: Tensor, largest: int) -> Tensor:
    """The clip value nearest to alpha, in its logarithm, whose step `alpha/largest` is a power of two.

    Its logarithm has alpha's own gradient (straight through the rounding), so its own is `clip/alpha` of alpha's.
    """
    with torch.no_grad():
        # frexp is exact; the last bit of a logarithm would be the machine's.
        mantissa, exponent = torch.frexp(alpha.double() / largest)
        exponent = exponent - 1 + (mantissa * mantissa >= 0.5)
        clip = largest * torch.exp2(exponent.double()).float()
        ratio = clip / alpha
    free = alpha * ratio
    return clip + (free - free.detach())


def half_up(x: Tensor) -> Tensor:
    """`floor(x + 1/2)`, exactly: that sum is not always a number of its dtype, `x - round(x)` is."""
    nearest = x.round()
    return nearest + (x - nearest == 0.5)


def normalize_weight(weight: Tensor, per_channel: bool) -> Tensor:
    """(w - mean) / std in fp32; statistics over the tensor, or over each output channel, detached.

    They are accumulated in float64 and rounded to fp32 once: fp32 sums change with layout and threads.
    A tensor without spread (std 0, or a single value) is only centred.
    """
    wide = weight.detach().to(torch.float64, copy=True)  # our own, also of float64 weights: it is centred in place
    dims = list(range(1 if per_channel else 0, weight.ndim))
    middle = wide.mean(dims, keepdim=True)
    mean = middle.float()
    count = (wide[0] if per_channel else wide).numel()
    # In place, as new memory takes longer than the arithmetic.
    std = (torch.linalg.vector_norm(wide.sub_(middle), dim=dims, keepdim=True) / max(1, count - 1) ** 0.5).float()
    std = torch.where(std > 0, std, torch.ones_like(std))
    return (weight.float() - mean).div_(std)


def weight_codes(weight: Tensor, alpha: Tensor, bits: int, per_channel: bool, normalize: bool = True) -> Tensor:
    """`rint(clamp((w - mean)/std/alpha, -1, 1) * L)` as whole fp32 numbers, shape of `weight`.

    Args:
        weight: fp32 (O, ...).
        alpha: fp32, one element, or O of them when `per_channel`.
        bits: 2 to 8.
        normalize: without, the mean counts as 0 and the deviation as 1.
    """
    clip = alpha.reshape(-1, *[1] * (weight.ndim - 1))
    ratio = (normalize_weight(weight, per_channel) if normalize else weight.float()) / clip
    return (ratio.clamp(-1, 1) * largest_weight_code(bits)).round()


def weight_scale(alpha: Tensor, bits: int) -> Tensor:
    """`s_w = fp32(alpha / L)`, the division in float64."""
    return (alpha.double() / largest_weight_code(bits)).float()


def act_codes(x: Tensor, alpha: Tensor, bits: int, signed: bool = False, rounding: str = "even") -> Tensor:
    """`rint(clamp(fp32(x*q), 0, L))` with `q = fp32(L/alpha)`, as whole fp32 numbers; from -L where `signed`.

    The order matters: `x/alpha*L` gives other codes at ties. `rounding` "up" rounds ties up instead of to even.
    """
    largest = largest_act_code(bits, signed)
    q = (largest / alpha.double()).float()
    clamped = (x.float() * q).clamp(-largest if signed else 0, largest)
    return half_up(clamped) if rounding == "up" else clamped.round()


def act_scale(alpha: Tensor, bits: int, signed: bool = False) -> Tensor:
    """`s_a = fp32(alpha / L)`, the division in float64."""
    return (alpha.double() / largest_act_code(bits, signed)).float()


class _FakeQuant(torch.autograd.Function):
    """`alpha/L * rint(clamp(x/alpha, low, 1) * L)` with straight-through and LSQ gradients.

    d/dx: 1 inside [low, 1] (ends included, as torch's clamp has it), 0 outside. At the 0 of unsigned codes it is 0, as
    ReLU has it: a ReLU in front changes nothing, and training leaves it out (`quantizers.ClampedReLU`).
    d/dalpha: inside `code/L - x/alpha`; above 1; below `low` (so -1 for weights, 0 for activations).
    """

    # Elementwise passes over large maps are what this costs without a compiler: few of them, none wider than x.

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, largest: int, low: float, rounding: str = "even") -> Tensor:
        q, step = (largest / alpha).to(x.dtype), (alpha / largest).to(x.dtype)
        if rounding == "up":
            y = half_up((x * q).clamp(low * largest, largest)) * step
        elif (
            torch.compiler.is_compiling()
        ):  # torch 2.11 compiles what is done in place here to wrong gradients (#180642)
            y = (x * q).clamp(low * largest, largest).round() * step
        else:
            y = (x * q).clamp_(low * largest, largest).round_().mul_(step)
        ctx.save_for_backward(x, alpha, y)
        ctx.low = low
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, alpha, y = ctx.saved_tensors
        (grad,) = grads
        keep = _inside(x, ctx.low, alpha.to(x.dtype))
        # Inside code/L - x/alpha is (y - x)/alpha; outside y is alpha or low*alpha: (y - 0)/alpha is the gradient.
        d_alpha = keep(x).sub_(y).mul_(grad)  # with the sign turned: in place
        # A bf16 sum runs in fp32 inside and is rounded once; asking for an fp32 result is ten times slower.
        total = d_alpha.sum_to_size(alpha.shape) if alpha.numel() > 1 else d_alpha.sum()
        return keep(grad), (total.to(alpha.dtype) / -alpha).reshape(alpha.shape), None, None, None


def _inside(x: Tensor, low: float, clip: Tensor) -> Callable[[Tensor], Tensor]:
    """The function that keeps a tensor's elements where `low*clip <= x <= clip`, or `0 < x`, and zeroes the others."""
    if x.device.type == "cpu" and clip.numel() == 1 and not torch.compiler.is_compiling():
        # hardtanh's gradient does it in one vectorized pass; comparing and selecting take three slow ones. It leaves
        # the ends out, so those that count are moved by one step of the dtype.
        far = torch.full_like(clip, torch.inf)
        below, above = torch.nextafter(low * clip, -far).item() if low else 0.0, torch.nextafter(clip, far).item()
        return lambda t: torch.ops.aten.hardtanh_backward(t, x, below, above)
    inside = x == torch.minimum(torch.maximum(x, low * clip), clip) if low else (x > 0) & (x <= clip)
    return lambda t: torch.where(inside, t, 0)


def fake_quant_weight(weight: Tensor, alpha: Tensor, bits: int, per_channel: bool, normalize: bool = True) -> Tensor:
    """What training multiplies with: codes times scale, differentiable; fp32, rounded to autocast's dtype under it."""
    device, largest = weight.device.type, largest_weight_code(bits)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    with torch.autocast(device, enabled=False):
        if fused.takes(weight, dtype, normalize):
            return fused.FusedQuant.apply(weight, alpha, largest, -1.0, "even", dtype, normalize)
        clip = alpha.reshape(-1, *[1] * (weight.ndim - 1))
        normal = normalize_weight(weight, per_channel) if normalize else weight.float()
        return _FakeQuant.apply(normal, clip, largest, -1.0).to(dtype)


def fake_quant_act(x: Tensor, alpha: Tensor, bits: int, signed: bool = False, rounding: str = "even") -> Tensor:
    """Codes times scale, differentiable, in the dtype of `x` (bf16 under autocast: training only)."""
    largest, low = largest_act_code(bits, signed), -1.0 if signed else 0.0
    if fused.takes(x, x.dtype):
        return fused.FusedQuant.apply(x, alpha, largest, low, rounding, x.dtype, False)
    return _FakeQuant.apply(x, alpha, largest, low, rounding)


def best_clip(x: Tensor, largest: int, low: float, po2: bool = False) -> Tensor:
    """The clip value with the least squared error on `x`, out of 64 fractions of its largest magnitude.

    Args:
        x: any shape; at most 65,536 evenly spaced elements are looked at.
        largest: L.
        low: -1 (weights) or 0 (activations: what is below 0 counts as 0).
        po2: out of those near them whose step is a power of two.
    """
    flat = x.detach().reshape(-1)
    flat = flat[:: max(1, flat.numel() // 65536)].float()
    flat = flat if low else flat.clamp(min=0)
    peak = flat.abs().max().clamp(min=ALPHA_MIN)
    candidates = peak * torch.arange(1, 65, device=x.device) / 64
    if po2:
        candidates = power_of_two(candidates.clamp(min=ALPHA_MIN), largest).unique()
    errors = torch.stack(
        [((flat / a).clamp(low, 1).mul(largest).round() * (a / largest) - flat).square().mean() for a in candidates]
    )
    return candidates[errors.argmin()].clamp(min=ALPHA_MIN)
