"""Convolutions and products of codes whose every accumulator is a whole number, exactly.

fp32 carries integers up to 2^24; the functions here take it only where the layer's bound is proved to be
below, and float64 otherwise. Winograd kernels break this (they multiply by fractions), so NNPACK, which
torch falls back to silently without oneDNN, is switched off around each call, and `check_exact` tests the kernels
that are really there. cuDNN chooses kernels by shape (on an H200 one layer of VGG16, 8 channels on 4x4 maps, differed
from the CPU, all others were equal), so on CUDA a convolution runs in float64, where the error of fractions is far
below the half that rounding removes.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FP32_LIMIT = 1 << 24


def accumulator_bound(codes: Tensor, act_lo: int, act_hi: int) -> int:
    """The largest magnitude any partial sum of any output channel can take.

    Args:
        codes: weight codes (O, ...), whole numbers.
        act_lo, act_hi: smallest and largest activation code.
    """
    flat = codes.double().flatten(1)
    positive, negative = flat.clamp(min=0).sum(1), flat.clamp(max=0).sum(1)
    hi = act_hi * positive + act_lo * negative
    lo = act_lo * positive + act_hi * negative
    return int(torch.maximum(hi, -lo).max())


def carrier(bound: int) -> torch.dtype:
    """float32 where it is exact in any order of summation, else float64."""
    return torch.float32 if bound <= FP32_LIMIT else torch.float64


def exact_conv2d(
    act: Tensor,
    codes: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    bound: int,
    groups: int = 1,
) -> Tensor:
    """Convolution of codes: whole numbers in `carrier(bound)`, never under autocast.

    `padding`: (vertical, horizontal), or top, bottom, left, right.
    """
    dtype = carrier(bound)
    inside = torch.float64 if act.is_cuda else dtype
    act, padding = pad_sides(act, padding)
    with torch.autocast(act.device.type, enabled=False), torch.backends.nnpack.flags(enabled=False):
        acc = F.conv2d(act.to(inside), codes.to(inside), None, stride, padding, dilation, groups)
    return acc.round().to(dtype) if act.is_cuda else acc


def pad_sides(x: Tensor, padding: Any) -> tuple[Tensor, Any]:
    """Zeros around (N, C, H, W) where the four sides differ; what torch's convolution is still to pad with."""
    if isinstance(padding, str) or len(padding) != 4:
        return x, padding
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom)), (0, 0)


def exact_linear(act: Tensor, codes: Tensor, bound: int) -> Tensor:
    """Product of codes: whole numbers in `carrier(bound)`, never under autocast."""
    dtype = carrier(bound)
    with torch.autocast(act.device.type, enabled=False):
        return F.linear(act.to(dtype), codes.to(dtype))


@functools.cache
def check_exact(device: str = "cpu") -> int:
    """Run the device's own convolution on random 4-bit codes against torch's int64 arithmetic.

    Returns:
        The number of accumulators compared.

    Raises:
        RuntimeError: if one differs (a Winograd, TF32 or bf16 kernel is in the way).
    """
    gen = torch.Generator().manual_seed(0)
    compared = wrong = 0
    for channels, side in ((16, 8), (8, 4)):
        act = torch.randint(0, 16, (16, channels, side, side), generator=gen)
        codes = torch.randint(-7, 8, (channels, channels, 3, 3), generator=gen)
        bound = accumulator_bound(codes, 0, 15)
        got = exact_conv2d(act.to(device).float(), codes.to(device).float(), (1, 1), (1, 1), (1, 1), bound)
        padded = F.pad(act, (1, 1, 1, 1))
        want = sum(
            torch.einsum("nchw,oc->nohw", padded[:, :, ki : ki + side, kj : kj + side], codes[:, :, ki, kj])
            for ki in range(3)
            for kj in range(3)
        )
        assert isinstance(want, Tensor)
        wrong += int((got.cpu().double() != want.double()).sum())
        compared += want.numel()
    if wrong:
        raise RuntimeError(
            f"this torch's convolution on {device} is not exact on integers: {wrong} of {compared} "
            "accumulators differ (a Winograd, TF32 or bf16 kernel); reset torch's precision settings"
        )
    return compared
