"""The straight line whose rounding is what thresholds say: found in floats, so to be proved by whoever uses it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.network.requantize import Thresholds


def middle_line(
    t: Thresholds, carrier: type[np.floating[Any]] = np.float64
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(m, b) per channel with `code = low + clamp(floor(acc*m + b), 0, L)`, in the middle of what the thresholds leave.

    With `u` a reached threshold and `d` the accumulator below one: `m*u[k] + b >= k` and `m*d[j] + b < j`; each pair
    bounds m. Where no line exists what comes back is not one: the caller proves it.

    Args:
        t: the thresholds.
        carrier: what m is rounded to before b is found.
    """
    lo, hi = (side[:, None] for side in t.mirrored_range())
    k = np.arange(1, t.values.shape[1] + 1, dtype=np.float64)
    slopes, offsets = np.empty(len(t.values)), np.empty(len(t.values))
    for o, values in enumerate(t.values):
        up, down = values <= hi[o], values > lo[o]
        u, d = values[up].astype(np.float64), values[down].astype(np.float64) - 1
        run, rise = d[None, :] - u[:, None], k[down][None, :] - k[up][:, None]
        most = np.divide(rise, run, out=np.full(run.shape, np.inf), where=run > 0).min(initial=np.inf)
        least = np.divide(rise, run, out=np.full(run.shape, -np.inf), where=run < 0).max(initial=-np.inf)
        # Rising, so that what holds at a threshold holds beyond it.
        m = float(carrier(_between(max(least, 0.0), most)))
        b_least = (k[up] - m * u).max(initial=-np.inf)
        b_most = (k[down] - m * d).min(initial=np.inf)
        slopes[o], offsets[o] = m * int(t.sign[o]), _between(b_least, b_most)
    return slopes, offsets


def _between(least: float, most: float) -> float:
    """A number well inside (least, most), either of which may be infinite."""
    if np.isinf(least):
        return 0.0 if np.isinf(most) else most - 0.5
    return least + 0.5 if np.isinf(most) else (least + most) / 2
