"""The queues of the machine, and the registers before them: histories over a block of clocks, as in `machine.py`."""

from __future__ import annotations

import numpy as np

from systolith.timing.histories import Bools, Ints


class Delayed:
    """Registers that pass on what they take, `clocks` clocks later; at first they hold 0."""

    def __init__(self, clocks: int) -> None:
        self.clocks = clocks
        self.held: Ints | None = None

    def step(self, values: Ints) -> Ints:
        """(clock, ...) in, (clock, ...) out."""
        before = np.zeros((self.clocks, *values.shape[1:]), dtype=values.dtype) if self.held is None else self.held
        late = np.concatenate([before, values])
        self.held = late[len(values) :]
        return late[: len(values)]


class Queues:
    """Queues popped together as soon as each has a word; one pushed in a clock can be popped in the next one.

    A full one that is popped takes a word in the same clock if it is `passing`.
    """

    def __init__(self, count: int, depth: int, passing: bool) -> None:
        self.depth, self.passing = depth, passing
        self.waiting: list[Ints] = [np.zeros((0, 0), dtype=np.int8)] * count
        self.overruns = self.most = 0

    def step(self, push: Bools, words: list[Ints]) -> tuple[Bools, list[Ints]]:
        """(queue, clock): what is pushed, and those words, (n, lane) a queue; to (clock,): popped, and those words."""
        count = push.shape[1]
        held = [np.concatenate([w, n]) if len(w) else n for w, n in zip(self.waiting, words, strict=True)]
        # Words that a queue has been given before each clock.
        given = np.empty((len(held), count + 1), dtype=np.int64)
        given[:, 0] = [len(w) for w in self.waiting]
        np.cumsum(push, axis=1, out=given[:, 1:])
        given[:, 1:] += given[:, :1]
        # pops[t+1] = min(pops[t] + 1, what the emptiest queue was given): less t, a running minimum.
        clock = np.arange(count + 1)
        pops = np.zeros(count + 1, dtype=np.int64)
        np.minimum.accumulate(given.min(axis=0)[:-1] - clock[1:], out=pops[1:])
        pops[1:] = np.minimum(pops[1:], 0)
        pops += clock
        popped = pops[1:] > pops[:-1]
        holds = given[:, :-1] - pops[:-1]
        self.most = int(holds.max(initial=0))
        self.overruns = int(((holds >= self.depth) & push & ~(popped & self.passing)).any(axis=0).sum())
        total = int(pops[-1])
        self.waiting = [w[total:] for w in held]
        return popped, [w[:total] for w in held]
