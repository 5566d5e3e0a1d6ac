"""The clock of every event of a layer on the core (`rtl/core`), in closed form.

Clock 0 is that in which the first weight beat enters the array. A pass takes `cols` weight beats, one beat of nothing,
and a beat for each position that is streamed; row r sees each beat r clocks later, column c c clocks later still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping

TURNAROUND = 1
"""Beats between a pass's weights and its first position."""
OFIFO = 2
"""Clocks from the bottom row's last column adding a product to the whole word leaving the OFIFO: it is registered, and
then queued."""
SFP = 3
"""Clocks from a word leaving the OFIFO to the output that it completes: the memory is read, the sum is registered, the
output is registered."""


@dataclass(frozen=True)
class Schedule:
    """What the core is told to do.

    Attributes:
        useful: stream only the nij that some output needs under the kij, not the whole padded map.
        drained: a pass waits until the last psum of the one before has left the array; otherwise it follows at once.
    """

    useful: bool = True
    drained: bool = False

    def vectors(self, mapping: Mapping) -> int:
        """Positions that are streamed in a pass."""
        return mapping.onijs if self.useful else mapping.nijs

    def period(self, mapping: Mapping) -> int:
        """Clocks from one pass's first weight beat to the next one's."""
        spec = mapping.spec
        drain = spec.rows + spec.cols - 2 if self.drained else 0
        return spec.cols + TURNAROUND + self.vectors(mapping) + drain

    def clocks(self, mapping: Mapping) -> int:
        """Clocks of the layer: from the first weight beat entering the array to the last bottom-row psum registered."""
        spec = mapping.spec
        last = spec.cols + TURNAROUND + self.vectors(mapping) + spec.rows + spec.cols - 2
        return (mapping.passes - 1) * self.period(mapping) + last

    def psum_clocks(self, mapping: Mapping) -> NDArray[np.int64]:
        """int64 (oc_tile, kij, ic_tile, position): when each psum word leaves the OFIFO.

        Positions are those of `windows()[kij]` (useful) or all nij, in their order.
        """
        spec = mapping.spec
        passes = np.arange(mapping.passes).reshape(mapping.oc_tiles, mapping.kijs, mapping.ic_tiles, 1)
        entered = passes * self.period(mapping) + spec.cols + TURNAROUND + np.arange(self.vectors(mapping))
        return entered + (spec.rows - 1) + (spec.cols - 1) + OFIFO

    def out_clocks(self, mapping: Mapping) -> NDArray[np.int64]:
        """int64 (oc_tile, onij): when each output word leaves the special function processor."""
        last = self.psum_clocks(mapping)[:, -1, -1]
        return (last if self.useful else last[:, mapping.windows()[-1]]) + SFP
