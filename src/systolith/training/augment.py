"""Augmentation of whole uint8 batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def crop(images: Tensor, shifts: Tensor, pad: int = 4) -> Tensor:
    """Reflect-pad by `pad` and cut one window of the original size out of each picture.

    Args:
        images: uint8 (N, C, H, W).
        shifts: int64 (N, 2), row and column of each window's corner, 0..2*pad.
    """
    n, c, h, w = images.shape
    # Reflection padding wants a float dtype; fp32 carries 0..255 exactly.
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").to(images.dtype)
    rows = shifts[:, 0, None] + torch.arange(h, device=images.device)
    cols = shifts[:, 1, None] + torch.arange(w, device=images.device)
    index = (rows[:, :, None] * padded.shape[3] + cols[:, None, :]).reshape(n, 1, h * w).expand(n, c, h * w)
    return padded.reshape(n, c, -1).gather(2, index).reshape(n, c, h, w)


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Mirror left-right the pictures where `which` (bool, N) is true."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, centres: Tensor, size: int) -> Tensor:
    """Black out a `size` x `size` square of each picture (DeVries, Taylor, "Cutout", 2017), less what lies outside.

    Args:
        images: uint8 (N, C, H, W).
        centres: int64 (N, 2), row and column in the square's middle (of an even size: the first behind it).
    """
    return images.masked_fill(_squares(images, centres, torch.full_like(centres[:, 0], size))[:, None], 0)


def cutmix(images: Tensor, labels: Tensor, centres: Tensor, sizes: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Give each picture a square of the next one in the batch, and of its class what it has of its pixels.

    Source: Yun et al., "CutMix", ICCV 2019, with a square for every picture instead of one for the batch.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        centres: int64 (N, 2), row and column in the square's middle; what lies outside is not mixed.
        sizes: int64 (N,), the squares' sides; 0 leaves a picture as it is.

    Returns:
        The pictures, and their classes' shares, fp32 (N, classes).
    """
    square = _squares(images, centres, sizes)
    given = square.float().mean((1, 2))[:, None]
    own = F.one_hot(labels, classes).float()
    mixed = torch.where(square[:, None], images.roll(-1, 0), images)
    return mixed, own * (1 - given) + own.roll(-1, 0) * given


def _squares(images: Tensor, centres: Tensor, sizes: Tensor) -> Tensor:
    """Which positions lie in each picture's square, bool (N, H, W)."""
    first = centres - (sizes // 2)[:, None]
    rows = torch.arange(images.shape[2], device=images.device) - first[:, 0, None]
    cols = torch.arange(images.shape[3], device=images.device) - first[:, 1, None]
    row_in, col_in = (rows >= 0) & (rows < sizes[:, None]), (cols >= 0) & (cols < sizes[:, None])
    return row_in[:, :, None] & col_in[:, None, :]
