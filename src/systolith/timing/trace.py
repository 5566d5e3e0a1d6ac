"""What every processing element holds, clock by clock, at the beginning of a layer: for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.timing.machine import REGISTERS, machine
from systolith.timing.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Trace:
    """The first clocks of a layer in the register-level machine.

    Attributes:
        mapping: the layer on the array.
        schedule: what streamed.
        begin: the clock of the first column; 0 is that in which the first weight beat enters row 0.
        beats: int8 (clock,), what enters row 0: `machine.NOTHING`, `LOAD` or `STREAM`.
        registers: each of `machine.REGISTERS`, (row, col, clock), what it holds during the clock.
        psum: int64 (n,), clocks in which a word left the OFIFO; psums: (n, col), those words.
    """

    mapping: Mapping
    schedule: Schedule
    begin: int
    beats: NDArray[np.int8]
    registers: dict[str, NDArray[np.integer]]
    psum: NDArray[np.int64]
    psums: NDArray[np.integer]


def trace(mapping: Mapping, act: NDArray[np.integer], schedule: Schedule, clocks: int = 64) -> Trace:
    """Step the machine through the first clocks of a layer, or all of it where it takes fewer.

    Args:
        mapping: the layer on the array.
        act: activation codes (C, H, W), unpadded.
        schedule: what is streamed.
        clocks: at most so many, from the first address on.

    Raises:
        BadInput: activations that are not the layer's.
    """
    blocks, seen = [], 0
    for one in machine(mapping, act, schedule, block=1, trace=True):
        blocks.append(one)
        seen += len(one.beats)
        if seen >= clocks:
            break
    begin = blocks[0].begin
    psum = np.concatenate([one.psum for one in blocks])
    words = np.concatenate([one.psums for one in blocks])
    shown = psum < begin + clocks
    return Trace(
        *(mapping, schedule, begin),
        np.concatenate([one.beats for one in blocks])[:clocks],
        {n: np.concatenate([one.registers[n] for one in blocks], axis=2)[:, :, :clocks] for n in REGISTERS},
        *(psum[shown], words[shown]),
    )
