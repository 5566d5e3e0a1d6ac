"""Axes of drawings: where a number stands on one, and which numbers are written beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, log10


@dataclass(frozen=True)
class Scale:
    """From `low` to `high`, `low` the smaller one; logarithmic or not."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: Iterable[float]) -> Scale:
        """One on which all of `values` stand, a little away from its ends; logarithmic beyond a factor of ten."""
        every = list(values)
        low, high = min(every), max(every)
        if 0 < 10 * low < high:
            room = (high / low) ** 0.05
            return cls(low / room, high * room, True)
        room = (high - low) * 0.05 or abs(high) * 0.5 or 1.0
        return cls(low - room, high + room, False)

    def share(self, value: float) -> float:
        """Where a number stands: 0 at `low`, 1 at `high`."""
        if self.log:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        """Round numbers between the ends, ten at most: 1, 2 and 5 or powers of ten; or steps of one of these."""
        if self.log:
            decades = range(floor(log10(self.low)), floor(log10(self.high)) + 1)
            for heads in ((1, 2, 5), (1,)):
                found = [float(f"{head}e{n}") for n in decades for head in heads]
                found = [one for one in found if self.low <= one <= self.high]
                if len(found) <= 10:
                    break
            return found[:: -(-len(found) // 10)]
        span = self.high - self.low
        step = next(one for n in (-1, 0) for m in (1, 2, 5) if span <= 8 * (one := m * 10 ** (floor(log10(span)) + n)))
        first = -floor(-self.low / step)
        return [n * step for n in range(first, floor(self.high / step) + 1)]


def short(value: float) -> str:
    """A number in three digits: 867, 54.9M, 0.0123.

    Examples:
        >>> short(54_932_266.0)
        '54.9M'
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{float(f'{value / size:.3g}'):g}{letter}"
    return f"{value:.3g}"
