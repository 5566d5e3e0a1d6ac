"""Convolution of small maps as matrix products, for training on a CPU.

oneDNN's kernels split a convolution over the positions of the map. Where there are 4 of them and 512 channels, most of
a processor idles, in the weights' gradient above all; one matrix product forward and two backward take a third of the
time. With AMX, whose bf16 products are faster still, so it is with 16 positions too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from systolith.quant.exact import pad_sides

LEAST_CHANNELS = 64  # fewer were not measured: they stay with oneDNN
# Of larger maps oneDNN's own kernels are as fast, and there the copy below costs.
MOST_POSITIONS = {torch.bfloat16: 16, torch.float32: 4}


def train_conv2d(
    x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: Any, dilation: tuple[int, ...], groups: int = 1
) -> Tensor:
    """`F.conv2d` as training runs it, (N, C, H, W) and (O, C/groups, KH, KW) to (N, O, OH, OW): not for exact integers.

    `padding` may be of four sides.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    x, padding = pad_sides(x, padding)
    if groups != 1 or not _pays(x, weight, stride, padding, dilation, MOST_POSITIONS.get(dtype, 0)):
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return _SmallMaps.apply(x.to(dtype), weight.to(dtype))


def _pays(
    x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: Any, dilation: tuple[int, ...], positions: int
) -> bool:
    kh, kw = weight.shape[2:]
    return (
        x.device.type == "cpu"
        and x.shape[2] * x.shape[3] <= positions
        and min(weight.shape[:2]) >= LEAST_CHANNELS
        and (kh % 2, kw % 2) == (1, 1)
        and tuple(stride) == tuple(dilation) == (1, 1)
        and tuple(padding) == (kh // 2, kw // 2)
    )


def _columns(x: Tensor, kh: int, kw: int) -> Tensor:
    """(N, C, H, W) to the (N*H*W, KH*KW*C) matrix of each position's window, zeros around the map."""
    n, c, h, w = x.shape
    rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, kw // 2, kw // 2, kh // 2, kh // 2)).contiguous()
    batch, row, col, _ = rows.stride()
    # KW neighbours with all their channels lie side by side: one long run a kernel row.
    return rows.as_strided((n, h, w, kh, kw * c), (batch, row, col, row, 1)).reshape(n * h * w, kh * kw * c)


def _maps(matrix: Tensor, n: int, h: int, w: int) -> Tensor:
    """(N*H*W, C) to (N, C, H, W), channels last in memory."""
    return matrix.view(n, h, w, -1).permute(0, 3, 1, 2)


class _SmallMaps(torch.autograd.Function):
    """Convolution of stride 1 with an odd kernel that keeps the map's size, in the dtype of both operands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        n, _, h, w = x.shape
        o, _, kh, kw = weight.shape
        columns = _columns(x, kh, kw)
        ctx.save_for_backward(columns, weight)
        ctx.shape = x.shape
        return _maps(columns @ weight.permute(0, 2, 3, 1).reshape(o, -1).T, n, h, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        columns, weight = ctx.saved_tensors
        (grad,) = grads
        n, c, h, w = ctx.shape
        o, _, kh, kw = weight.shape
        by_position = grad.permute(0, 2, 3, 1).reshape(n * h * w, o)
        d_weight = (by_position.T @ columns).view(o, kh, kw, c).permute(0, 3, 1, 2)
        turned = weight.flip(2, 3).permute(1, 2, 3, 0).reshape(c, -1)
        return _maps(_columns(grad, kh, kw) @ turned.T, n, h, w), d_weight
