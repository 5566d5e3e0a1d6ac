"""The fast executor's kernels that make codes, and what carries them (torch)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from systolith.network.graph import Requantize
from systolith.network.integer import Value
from systolith.network.line import middle_line

FP32_LIMIT = 1 << 24
MOST_TABLE = 1 << 24
MOST_BETWEEN = 1 / 64
"""Of codes between two lines: more would be looked up too often."""

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
    slope, offset = middle_line(node.thresholds)
    for carrier in (torch.float32, torch.float64):
        kind = "fp32" if carrier == torch.float32 else "float64"
        # Rounding the accumulators to fp32 is monotone too: what is proved of the kernel covers it.
        kernel = _affine(node, slope, offset, carrier, dtype)
        if _equals_thresholds(node, kernel, carrier_of(acc)):
            return kernel, f"codes by a line in {kind}"
        between = _two_lines(node, carrier, dtype, carrier_of(acc))
        if between is not None:
            return between, f"codes between two lines in {kind}"
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
        y = (_rows(x).to(carrier) * m).add_(b).clamp_(0, levels)
        codes = _whole(y, dtype)
        return _unrows(codes.add_(low) if low else codes, x)

    return kernel


def _whole(y: Tensor, dtype: torch.dtype) -> Tensor:
    """Cut off, which rounds what is not negative down. Bytes by way of int16: torch makes them of floats one by one."""
    return y.to(torch.int16).to(dtype)


def _two_lines(node: Requantize, carrier: torch.dtype, dtype: torch.dtype, acc_dtype: torch.dtype) -> Kernel | None:
    """Of thresholds that are nearly a line's: a line below them and one above; None where they are not so near.

    Where the two give one code, it is the thresholds'. In between, for one accumulator in some thousands, the threshold
    itself decides.
    """
    t = node.thresholds
    levels, low = t.values.shape[1], t.low
    slope, below, gap = _corridor(node)
    m, thresholds, signs = torch.from_numpy(slope).to(carrier), torch.from_numpy(t.values), torch.from_numpy(t.sign)
    # What the products and sums near the thresholds are rounded by, generously; the proof says whether it is enough.
    slack = 2.0 ** (-21 if carrier == torch.float32 else -50) * (levels + float(np.abs(below).max()))
    for _ in range(3):
        b, between = torch.from_numpy(below - slack).to(carrier), gap + 2 * slack
        if not between < MOST_BETWEEN:
            return None

        def lines(rows: Tensor, b: Tensor = b, between: float = between) -> tuple[Tensor, Tensor]:
            y = rows.to(carrier).mul(m).add_(b).clamp_(0, levels)
            return _whole(y, dtype), _whole(y.add_(between), dtype)

        if _enclose(node, lines, acc_dtype):
            break
        slack *= 4
    else:
        return None

    def kernel(x: Tensor) -> Tensor:
        rows = _rows(x)
        codes, above = lines(rows)
        at = _differing(codes, above)
        if len(at):
            channel, flat = at % rows.shape[1], codes.view(-1)
            acc, code = rows.reshape(-1)[at].to(torch.int64) * signs[channel], flat[at]
            flat[at] = code + (acc >= thresholds[channel, code.to(torch.int64)])
        return _unrows(codes.add_(low) if low else codes, x)

    return kernel


def _differing(one: Tensor, other: Tensor) -> Tensor:
    """Where codes (N, C) differ, counted along their rows; they seldom do, so eight bytes are looked at at once."""
    flat = (one ^ other).view(-1)
    group = 8 // flat.element_size()
    if len(flat) % group:
        return flat.nonzero()[:, 0]
    some = flat.view(torch.int64).nonzero()[:, 0]
    which, place = flat.view(-1, group)[some].nonzero().T
    return some[which] * group + place


def _corridor(node: Requantize) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Lines of least squares moved to where they are nowhere above the thresholds' codes: slopes and offsets; and how
    much higher they would be nowhere below. Code k begins below k + 1 and not above k."""
    t = node.thresholds
    lo, hi = (side[:, None] for side in t.mirrored_range())
    reached = (t.values > lo) & (t.values <= hi)
    count = np.maximum(reached.sum(1, keepdims=True), 1)
    k = np.arange(1, t.values.shape[1] + 1, dtype=np.float64)
    at, code = (np.where(reached, side - (side * reached).sum(1, keepdims=True) / count, 0) for side in (t.values, k))
    spread = (at * at).sum(1)
    rising = np.divide((at * code).sum(1), spread, out=np.zeros(len(at)), where=spread > 0)[:, None]
    most = np.where(t.values > lo, k - rising * (t.values - 1), np.inf).min(1)
    least = np.where(t.values <= hi, k - rising * t.values, -np.inf).max(1)
    most = np.where(np.isinf(most), np.where(np.isinf(least), 0.0, least), most)
    return rising[:, 0] * t.sign, most, float(np.maximum(least - most, 0).max())


def _enclose(node: Requantize, lines: Callable[[Tensor], tuple[Tensor, Tensor]], acc_dtype: torch.dtype) -> bool:
    """Proof: the thresholds' codes are between the two everywhere, which are at most one apart; all are monotone."""
    acc, wanted = _points(node)
    below, above = (side.to(torch.int64).numpy() + node.thresholds.low for side in lines(acc.to(acc_dtype)))
    return bool(((below <= wanted) & (wanted <= above)).all())


def _equals_thresholds(node: Requantize, kernel: Kernel, acc_dtype: torch.dtype) -> bool:
    """Proof: `kernel` and thresholds agree at both points of each threshold; both are monotone."""
    acc, wanted = _points(node)
    return bool((kernel(acc.to(acc_dtype)).to(torch.int64).numpy() == wanted).all())


def _points(node: Requantize) -> tuple[Tensor, NDArray[np.int64]]:
    """Accumulators (n, C), both sides of each threshold and both ends, and the thresholds' codes of them."""
    t = node.thresholds
    lo, hi = (side[:, None] for side in t.mirrored_range())
    points = np.clip(np.concatenate([t.values - 1, t.values, lo, hi], axis=1), lo, hi)
    acc = np.ascontiguousarray((t.sign.astype(np.int64)[:, None] * points).T)
    return torch.from_numpy(acc), t.apply(acc)


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
