"""What registers hold over a block of clocks, as arrays (row, clock + 1): those that keep a value until enabled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import IntFormat, wrapped

Ints = NDArray[np.signedinteger[Any]]
Bools = NDArray[np.bool_]


def safe(fmt: IntFormat, lo: int, hi: int) -> bool:
    """Whether no value from `lo` to `hi` overflows."""
    return fmt.lo <= lo and hi <= fmt.hi


def hold(history: Any, enable: Bools) -> None:
    """Where a register is not enabled it keeps what it has.

    Args:
        history: (row, clock + 1), before each clock and after the last; overwritten after the clocks not in `enable`.
        enable: (row, clock).
    """
    keeps = np.zeros(history.shape, dtype=np.bool_)
    np.logical_not(enable, out=keeps[:, 1:])
    flat, keeps = history.reshape(-1), keeps.reshape(-1)
    edges = np.flatnonzero(keeps[1:] != keeps[:-1]) + 1
    begins, ends = edges[::2], edges[1::2]
    if len(ends) < len(begins):
        ends = np.append(ends, len(flat))
    flat[keeps] = np.repeat(flat[begins - 1], ends - begins)


def hold_flags(history: Bools, enable: Bools) -> None:
    """`hold` of flags that are 0 after the clocks not in `enable`: in steps of 1, 2, 4 clocks, as gaps are short."""
    keeps = np.zeros(history.shape, dtype=np.bool_)
    np.logical_not(enable, out=keeps[:, 1:])
    step = 1
    while keeps.any():
        history[:, step:] |= keeps[:, step:] & history[:, :-step]
        keeps[:, step:] &= keeps[:, :-step]
        keeps[:, :step] = False
        step *= 2


def latched(before: Ints, value: Ints, enable: Bools) -> Any:
    """The history, (row, clock + 1), of registers that are seldom enabled: `hold` of `value`, without a copy of it."""
    rows, count = enable.shape
    row, at = np.divmod(np.flatnonzero(enable), count)
    # Of each row first what it held before; then in the order of the clocks.
    order = np.argsort(np.concatenate([np.arange(rows), row]), kind="stable")
    values = np.concatenate([before, value[row, at]])[order]
    begins = np.concatenate([np.arange(rows) * (count + 1), row * (count + 1) + at + 1])[order]
    return np.repeat(values, np.diff(begins, append=rows * (count + 1))).reshape(rows, count + 1)


def fit(values: Any, fmt: IntFormat, overflow: str) -> Any:
    """Saturated, or else wrapped."""
    return np.clip(values, fmt.lo, fmt.hi) if overflow == "saturate" else wrapped(values, fmt)


def running(
    before: Ints, added: Ints, enable: Bools, fresh: Bools, fmt: IntFormat | None, overflow: str
) -> NDArray[Any]:
    """The history, (row, clock + 1), of registers that add up: `added` where enabled, from 0 where `fresh`.

    Args:
        before: (row,), what they hold before the first clock.
        added: (row, clock).
        enable, fresh: (row, clock); a fresh clock is an enabled one.
        fmt: what overflows in them, or None.
        overflow: "saturate" or "wrap".
    """
    rows, count = added.shape
    history = np.empty((rows, count + 1), dtype=before.dtype)
    history[:, 0] = before
    if fmt is not None and overflow == "saturate":
        for clock in range(count):
            held = history[:, clock]
            sums = np.where(fresh[:, clock], 0, held) + added[:, clock]
            history[:, clock + 1] = np.where(enable[:, clock], np.clip(sums, fmt.lo, fmt.hi), held)
        return history
    np.multiply(added, enable, out=history[:, 1:])
    # One sum over all of it, from which each beginning takes away what had been added since the one before. It may
    # leave the integers' bits and come back: what overflows no register wraps around to what is right.
    flat, begins = history.reshape(-1), np.concatenate([np.ones((rows, 1), dtype=np.bool_), fresh], axis=1)
    at = np.flatnonzero(begins)
    flat[at[1:]] -= np.add.reduceat(flat, at, dtype=flat.dtype)[:-1]
    np.cumsum(flat, dtype=flat.dtype, out=flat)
    return history if fmt is None else wrapped(history, fmt)
