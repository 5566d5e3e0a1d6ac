"""What several benchmarks measure against, and the clock. Needs no torch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The least wall time of `repeats` calls."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def literal_text(words: np.ndarray, bits: int) -> bytes:
    """Words character by character."""
    text = ""
    for word in words.tolist():
        for value in reversed(word):
            for bit in reversed(range(bits)):
                text += "1" if (value >> bit) & 1 else "0"
        text += "\n"
    return text.encode()
