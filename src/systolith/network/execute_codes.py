"""The fast executor's kernels that make codes, and what carries them (torch)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from systolith.network.graph import Requantize
from systolith.network.integer import Value

FP32_LIMIT = 1 << 24
MOST_TABLE = 1 << 24

Kernel = Callable[..., Tensor]


def carrier_of(value: Value) -> torch.dtype:
    """float32 where it holds every accumulator and every partial sum (0 is always within), else float64."""
    return torch.float32 if reach_of(value) <= FP32_LIMIT else torch.float64


def reach_of(value: Value) -> int:
    return int(max(value.hi.max(), -value.lo.min()))


def code_dtype(value: Value) -> torch.dtype:
    return torch.uint8 if not value.format.signed and value.format.bits <= 8 else torch.int16


def requantize_kernel(node: Requantize, acc: Value, result: Value) -> tuple[Kernel, str]:
    dtype = code_dtype(result)
    slope, offset = _line(node)
    for carrier in (torch.float32, torch.float64):
        if carrier == torch.float32 and reach_of(acc) > FP32_LIMIT:
            continue
        kernel = _affine(node, slope, offset, carrier, dtype)
        if _equals_thresholds(node, kernel, carrier_of(acc)):
            return kernel, f"codes by a line in {'fp32' if carrier == torch.float32 else 'float64'}"
    if int((acc.hi - acc.lo + 1).sum()) <= MOST_TABLE:
        return _by_table(node, acc, dtype), "codes by a table"
    thresholds = node.thresholds
    return (lambda x: torch.from_numpy(thresholds.apply(x.to(torch.int64).numpy())).to(dtype)), "codes by search"


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) in channels-last order, or (N, F), as rows of channels; no copy where it lies so already."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) if x.ndim == 4 else x


def _unrows(rows: Tensor, x: Tensor) -> Tensor:
    if x.ndim != 4:
        return rows
    return rows.reshape(x.shape[0], x.shape[2], x.shape[3], x.shape[1]).permute(0, 3, 1, 2)


def _affine(
    node: Requantize, slope: NDArray[np.float64], offset: NDArray[np.float64], carrier: torch.dtype, dtype: torch.dtype
) -> Kernel:
    m, b = torch.from_numpy(slope).to(carrier), torch.from_numpy(offset).to(carrier)
    low, levels = node.thresholds.low, node.thresholds.values.shape[1]

    def kernel(x: Tensor) -> Tensor:
        # Separate operations, each rounded by itself: a fused one could differ from processor to processor.
        y = _rows(x).to(carrier).mul(m).add_(b).clamp_(0, levels)
        codes = y.to(dtype)  # not negative: cutting off is rounding down
        return _unrows(codes.add_(low) if low else codes, x)

    return kernel


def _line(node: Requantize) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(m, b) per channel with `code = low + clamp(floor(acc*m + b), 0, L)`, in the middle of what the thresholds leave.

    With `u` a reached threshold and `d` the accumulator below one: `m*u[k] + b >= k` and `m*d[j] + b < j`; each pair
    bounds m. Where no line exists what comes back is not one: the caller proves it.
    """
    t = node.thresholds
    lo, hi = (side[:, None] for side in t.mirrored_range())
    k = np.arange(1, t.values.shape[1] + 1, dtype=np.float64)
    slopes, offsets = np.empty(len(t.values)), np.empty(len(t.values))
    for o, values in enumerate(t.values):
        up, down = values <= hi[o], values > lo[o]
        u, d = values[up].astype(np.float64), values[down].astype(np.float64) - 1
        run, rise = d[None, :] - u[:, None], k[down][None, :] - k[up][:, None]
        most = np.divide(rise, run, out=np.full(run.shape, np.inf), where=run > 0).min(initial=np.inf)
        least = np.divide(rise, run, out=np.full(run.shape, -np.inf), where=run < 0).max(initial=-np.inf)
        m = _between(max(least, 0.0), most)  # rising, so that what holds at a threshold holds beyond it
        b_least = (k[up] - m * u).max(initial=-np.inf)
        b_most = (k[down] - m * d).min(initial=np.inf)
        slopes[o], offsets[o] = m * int(t.sign[o]), _between(b_least, b_most)
    return slopes, offsets


def _between(least: float, most: float) -> float:
    """A number well inside (least, most), either of which may be infinite."""
    if np.isinf(least):
        return 0.0 if np.isinf(most) else most - 0.5
    return least + 0.5 if np.isinf(most) else (least + most) / 2


def _equals_thresholds(node: Requantize, kernel: Kernel, acc_dtype: torch.dtype) -> bool:
    """Proof: `kernel` and thresholds agree at both points of each threshold; both are monotone."""
    t = node.thresholds
    lo, hi = (side[:, None] for side in t.mirrored_range())
    points = np.clip(np.concatenate([t.values - 1, t.values, lo, hi], axis=1), lo, hi)
    acc = (t.sign.astype(np.int64)[:, None] * points).T
    found = kernel(torch.from_numpy(np.ascontiguousarray(acc)).to(acc_dtype)).to(torch.int64).numpy()
    return bool((found == t.apply(acc)).all())


def _by_table(node: Requantize, acc: Value, dtype: torch.dtype) -> Kernel:
    sizes = acc.hi - acc.lo + 1
    base = np.concatenate([[0], np.cumsum(sizes)[:-1]]) - acc.lo
    every = np.concatenate([np.arange(a, b + 1) for a, b in zip(acc.lo, acc.hi, strict=True)])
    codes, at = np.empty(len(every), dtype=np.int64), 0
    for o, size in enumerate(sizes):
        part = every[at : at + size]
        row, sign = node.thresholds.values[o], int(node.thresholds.sign[o])
        codes[at : at + size] = np.searchsorted(row, sign * part, side="right") + node.thresholds.low
        at += size
    table, start = torch.from_numpy(codes).to(dtype), torch.from_numpy(base)

    def kernel(x: Tensor) -> Tensor:
        return _unrows(torch.take(table, _rows(x).to(torch.int64) + start), x)

    return kernel
