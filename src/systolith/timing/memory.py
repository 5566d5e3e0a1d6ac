"""Memories that are slower than the core: what that costs, and the queues that would hide it.

A port gives a word `every` clocks from when it is asked for, the first one of a burst (a pass's weights, its positions,
a fold's steps) `late` clocks later. A position waits for the activation memory and for its place in the psum memory, a
step for the activation and the weight memory. A memory that keeps up has `every` 1 and `late` 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from systolith.array.mapping import Mapping
from systolith.formats import BadInput


@dataclass(frozen=True)
class Memory:
    """What the memories can do.

    Attributes:
        act, weight, psum: bits a clock that a port moves; the psum memory reads as many as it writes. None: a word.
        latency: clocks that the first word of a burst takes longer.

    Raises:
        BadInput: no bits, or a negative latency.
    """

    act: int | None = None
    weight: int | None = None
    psum: int | None = None
    latency: int = 0

    def __post_init__(self) -> None:
        for name in ("act", "weight", "psum"):
            bits = getattr(self, name)
            if bits is not None and bits < 1:
                raise BadInput(f"{name} bandwidth {bits}: expected at least 1 bit a clock")
        if not 0 <= self.latency <= 10_000:
            raise BadInput(f"latency {self.latency}: expected 0 to 10,000 clocks")


@dataclass(frozen=True)
class Port:
    """Of a memory: clocks that a word takes, and what the first one of a burst takes more."""

    every: int = 1
    late: int = 0

    def burst(self, words: int) -> int:
        """Clocks from asking for the first word to having the last one."""
        return self.late + words * self.every

    def queue(self, words: int, clocks: int) -> int | None:
        """Words that must wait in a queue before a burst of so many, one a clock, so that none of it is late.

        The memory refills the queue meanwhile and until the next burst, `clocks` after this one began: word n comes
        when n + 1 - queue more have been read, so `(n + 1 - queue) * every <= n`, strictest for the last one. None: it
        cannot give as many words in that time, and no queue helps.
        """
        if words * self.every > clocks:
            return None
        return words - (words - 1) // self.every


def together(*ports: Port) -> Port:
    """Of a beat that needs a word of each."""
    first = max(port.burst(1) for port in ports)
    every = max(port.every for port in ports)
    return Port(every, first - every)


def ports(mapping: Mapping, memory: Memory, lanes: int) -> tuple[Port, Port, Port]:
    """Those of the activation, weight and psum memories.

    Args:
        mapping: the layer on the array.
        memory: what its memories can do.
        lanes: of a word of weights.
    """
    spec = mapping.spec
    return _ports(
        *(spec.rows * spec.act_bits, lanes * mapping.simd * spec.weight_bits, spec.cols * spec.psum_bits), memory
    )


@lru_cache(maxsize=1024)
def _ports(act: int, weight: int, psum: int, memory: Memory) -> tuple[Port, Port, Port]:
    """The same of words of so many bits."""
    words = (act, memory.act), (weight, memory.weight), (psum, memory.psum)
    one, two, three = (Port(1 if given is None else -(-word // given), memory.latency) for word, given in words)
    return one, two, three
