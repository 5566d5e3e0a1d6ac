"""The timing contract of the core (`rtl/core`): what happens in which clock, and all that follows in closed form.

Clock 0 is that in which the first weight beat enters the array. A pass takes `cols` weight beats, a turnaround, and a
beat for each position that is streamed; row r sees each beat r clocks later, column c c clocks later still. Clocks are
counted to the last bottom-row psum registered; the time of the special function processor (SFP) is apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.spec import ArraySpec

# Each of these is pinned by tests, against the register-level machine and against RTL: one more or one less fails.
LEAD = 2
"""Clocks from a word's address at the activation or weight memory to its beat entering row 0: the memory's output is
registered, and the L0 queues it."""
TURNAROUND = 1
"""Beats between a pass's weights and its first position."""
HOP = 1
"""Registers from a processing element to its neighbour, east and south."""
OFIFO = 2
"""Clocks from the bottom row's last column adding a product to the whole word leaving the OFIFO: it is registered, and
then queued."""
UPDATE = 1
"""Clocks from a word leaving the OFIFO, when the psum memory is read for it, to the sum being written back."""
SFP = 3
"""Clocks from a word leaving the OFIFO to the output that it completes: the memory is read, the sum is registered, the
output is registered."""
L0_DEPTH = 2
"""Words that the L0 holds: one waits while the next one is pushed."""


@dataclass(frozen=True)
class Contract:
    """The timing contract of an array, in clocks, beats and words.

    Attributes:
        rows, cols: the array.
        load_port: where weights enter, "west": a word of `rows` codes a beat, the same port as activations.
        load_beats: beats of weights a pass.
        turnaround, lead, hop, ofifo, update, sfp: the constants above.
        crossing: from a beat entering row 0 to its psum's last column adding the last product; a drained pass waits so
            long before the next one, a pipelined one not at all.
        l0_depth, ofifo_depth: words of the L0, and of each column's queue in the OFIFO.
        psum_reads, psum_writes: ports of the psum memory; it gives a word one clock after its address.
    """

    rows: int
    cols: int
    load_port: str
    load_beats: int
    turnaround: int
    lead: int
    hop: int
    crossing: int
    ofifo: int
    update: int
    sfp: int
    l0_depth: int
    ofifo_depth: int
    psum_reads: int = 1
    psum_writes: int = 1

    def as_dict(self) -> dict[str, int | str]:
        """Every field by name, for `--json`."""
        return asdict(self)


def contract(spec: ArraySpec) -> Contract:
    """The core's contract for an array of this size."""
    rows, cols = spec.rows, spec.cols
    crossing = HOP * (rows + cols - 2)
    latencies = (TURNAROUND, LEAD, HOP, crossing, OFIFO, UPDATE, SFP)
    return Contract(rows, cols, "west", cols, *latencies, L0_DEPTH, cols)


@dataclass(frozen=True, eq=False)
class Events:
    """The clock of each event of one oc_tile's passes, int64 (n,), in the order in which they happen.

    Attributes:
        load: weight beats entering row 0 of the array; for each kij, ic_tile: col.
        stream: activation beats entering row 0; for each kij, ic_tile: position.
        psum: psum words leaving the OFIFO, as `stream`.
        read, write: psum memory, for each kij, ic_tile: onij.
        out: output words leaving the SFP; onij.
    """

    load: NDArray[np.int64]
    stream: NDArray[np.int64]
    psum: NDArray[np.int64]
    read: NDArray[np.int64]
    write: NDArray[np.int64]
    out: NDArray[np.int64]


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

    def gap(self, mapping: Mapping) -> int:
        """Clocks in which nothing enters between a pass and the next one."""
        return contract(mapping.spec).crossing if self.drained else 0

    def period(self, mapping: Mapping) -> int:
        """Clocks from one pass's first weight beat to the next one's."""
        rules = contract(mapping.spec)
        return rules.load_beats + rules.turnaround + self.vectors(mapping) + self.gap(mapping)

    def clocks(self, mapping: Mapping) -> int:
        """Clocks of the layer: from the first weight beat entering the array to the last bottom-row psum registered."""
        return mapping.passes * self.period(mapping) - self.gap(mapping) + contract(mapping.spec).crossing

    def psum_clocks(self, mapping: Mapping) -> NDArray[np.int64]:
        """int64 (pass, position): when each psum word leaves the OFIFO; passes as in the mapping's `order`.

        Positions are those of `windows()[kij]` (useful) or all nij, in their order.
        """
        clocks = [self.events(mapping, oc_tile).psum for oc_tile in range(mapping.oc_tiles)]
        return np.concatenate(clocks).reshape(mapping.passes, self.vectors(mapping))

    def out_clocks(self, mapping: Mapping) -> NDArray[np.int64]:
        """int64 (oc_tile, onij): when each output word leaves the special function processor."""
        return np.stack([self.events(mapping, oc_tile).out for oc_tile in range(mapping.oc_tiles)])

    def events(self, mapping: Mapping, oc_tile: int) -> Events:
        """When everything of one oc_tile happens."""
        rules = contract(mapping.spec)
        passes = np.arange(mapping.begins[oc_tile], mapping.begins[oc_tile + 1])
        begin = passes.reshape(mapping.kijs, -1, 1) * self.period(mapping)
        stream = begin + rules.load_beats + rules.turnaround + np.arange(self.vectors(mapping))
        psum = stream + rules.crossing + rules.ofifo
        read = psum
        if not self.useful:
            read = np.take_along_axis(psum, mapping.windows()[:, None, :], axis=2)
        return Events(
            load=(begin + np.arange(rules.load_beats)).reshape(-1),
            stream=stream.reshape(-1),
            psum=psum.reshape(-1),
            read=read.reshape(-1),
            write=read.reshape(-1) + rules.update,
            out=read[-1, -1] + rules.sfp,
        )


@dataclass(frozen=True)
class Clocks:
    """Clocks of one layer, passes pipelined.

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


def clocks(mapping: Mapping) -> Clocks:
    """Pipelined weight-stationary clocks, for both ways of streaming.

    Examples:
        >>> import numpy as np, systolith as sl
        >>> conv = sl.Conv.of(np.ones((8, 8, 3, 3), int), padding=1)
        >>> sl.clocks(sl.run_layer(conv, np.ones((8, 4, 4), int), sl.ArraySpec(8, 8)).mapping).useful
        239
    """
    whole, useful = (Schedule(useful).clocks(mapping) for useful in (False, True))
    return Clocks(whole, useful, utilisation(mapping, whole), utilisation(mapping, useful))


def utilisation(mapping: Mapping, clocks: int) -> float:
    """Useful MACs / (rows * cols * clocks), 0..1."""
    return mapping.macs / (mapping.spec.rows * mapping.spec.cols * clocks)
