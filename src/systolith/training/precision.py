"""bf16 or fp32: what a training step runs in."""

from __future__ import annotations

import functools

import torch

from systolith.training.recipes import Recipe


@functools.cache
def has_bf16(device: str) -> bool:
    """Whether the device computes in bf16; where it does not, torch's bf16 products take a hundred times longer."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # builds without oneDNN have none
    return check is not None and bool(check())


def precision(recipe: Recipe, device: str) -> str:
    """What the step runs in, "bf16" or "fp32"."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if has_bf16(device) else "fp32"
