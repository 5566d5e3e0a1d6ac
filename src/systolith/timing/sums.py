"""The special function processor of the machine: sums in place, in the clocks in which words come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.timing.histories import Ints, fit, safe
from systolith.timing.schedule import Schedule

Clocks = NDArray[np.int64]


class Sums:
    """Accumulation in place: read, add and write back in the next clock, then two registers to the output.

    Words wait here until their pass is whole: a sum's history over the passes is one array, as a register's is.
    """

    def __init__(self, mapping: Mapping, schedule: Schedule) -> None:
        self.mapping, self.useful = mapping, schedule.useful
        self.windows = mapping.windows()
        self.vectors = schedule.vectors(mapping)
        self.at = np.zeros(0, dtype=np.int64)
        self.words = np.zeros((0, mapping.spec.cols), dtype=np.int64)
        self.done = 0
        self.begins = np.isin(np.arange(mapping.passes + 1), mapping.begins)
        lo, hi = mapping.conv.bounds()
        self.narrow = not safe(mapping.spec.psum_format, int(lo.min()), int(hi.max()))
        self.sums = np.zeros((mapping.onijs, mapping.spec.cols), dtype=np.int64)
        self.written = np.full((1, mapping.onijs), np.iinfo(np.int64).min)

    def step(
        self, at: Clocks, words: Ints, trace: dict[str, Ints] | None
    ) -> tuple[Clocks, Clocks, Clocks, NDArray[np.int64], int]:
        """Words that left the OFIFO to: reads, writes, output clocks, outputs (k, col), hazards."""
        mapping = self.mapping
        if mapping.stationary:
            return self._finished(at, words)
        at, words = np.concatenate([self.at, at]), np.concatenate([self.words, words])
        passes = len(at) // self.vectors
        whole = passes * self.vectors
        self.at, self.words = at[whole:], words[whole:]
        number = np.arange(self.done, self.done + passes)
        self.done += passes
        read = at[:whole].reshape(passes, self.vectors)
        psum = words[:whole].reshape(passes, self.vectors, mapping.spec.cols)
        if not self.useful:
            where = self.windows[mapping.order[number, 1]]
            each = np.arange(passes)[:, None]
            read, psum = read[each, where], psum[each, where]
        write = read + 1
        history = np.concatenate([self.written, write])
        hazards = int((read <= history[:-1]).sum())
        self.written = history[-1:]
        outs, out, held = [], [], []
        for one, writes, sums in zip(number, write, psum, strict=True):
            if self.begins[one]:
                self.sums[:] = 0
            self.sums += sums
            if self.narrow:
                self.sums = fit(self.sums, mapping.spec.psum_format, mapping.spec.overflow)
            if trace is not None:
                held.append(self.sums.copy())
            if self.begins[one + 1]:
                out.append(writes + 2)
                outs.append(self.sums.copy())
        if trace is not None:
            trace["sums"] = np.concatenate([self.sums[:0], *held])
        return (
            *(read.reshape(-1), write.reshape(-1), np.concatenate([np.zeros(0, dtype=np.int64), *out])),
            *(np.concatenate([self.sums[:0], *outs]), hazards),
        )

    def _finished(self, at: Clocks, words: Ints) -> tuple[Clocks, Clocks, Clocks, NDArray[np.int64], int]:
        """The same of sums that are whole: no memory, and nothing for rows without a position."""
        number = self.done + np.arange(len(at))
        self.done += len(at)
        real = number % (self.mapping.folds * self.mapping.spec.rows) < self.mapping.onijs
        none = np.zeros(0, dtype=np.int64)
        return none, none, at[real] + 3, words[real].astype(np.int64), 0
