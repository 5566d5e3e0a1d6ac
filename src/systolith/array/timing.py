"""Clocks in closed form.

Counted from the first weight-load beat entering the array to the last bottom-row psum registered; SFP time is apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from systolith.array.mapping import Mapping


@dataclass(frozen=True)
class Clocks:
    """Clocks of one layer.

    Attributes:
        whole_map: the whole padded map streams through each pass (the order of the vector files).
        useful: only the nij that some output needs, OH*OW a pass.
        utilisation: useful MACs / (rows * cols * `whole_map`), 0..1.
        utilisation_useful: the same over `useful`.
    """

    whole_map: int
    useful: int
    utilisation: float
    utilisation_useful: float


def pipelined_clocks(passes: int, rows: int, cols: int, vectors: int) -> int:
    """West-loaded weights, passes pipelined: `P*(1 + C + N) + R + C - 2`.

    Each pass loads C weight beats and streams N vectors, with one beat between; the last vector then crosses the
    array's R rows and C columns.
    """
    return passes * (1 + cols + vectors) + rows + cols - 2


def clocks(mapping: Mapping) -> Clocks:
    """Pipelined weight-stationary clocks, for both ways of streaming."""
    rows, cols = mapping.spec.rows, mapping.spec.cols
    whole, useful = (pipelined_clocks(mapping.passes, rows, cols, n) for n in (mapping.nijs, mapping.onijs))
    return Clocks(whole, useful, mapping.macs / (rows * cols * whole), mapping.macs / (rows * cols * useful))
