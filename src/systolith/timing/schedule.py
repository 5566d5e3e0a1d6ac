"""The timing contract of the core (`rtl/core`): what happens in which clock, and all that follows in closed form.

Clock 0 is that in which the first weight beat enters the array. A pass takes `cols` weight beats, a turnaround, and a
beat for each position that is streamed; row r sees each beat r clocks later, column c c clocks later still. Clocks are
counted to the last bottom-row psum registered; the time of the special function processor (SFP) is apart.

Double-buffered, a pass's `rows` weight beats come from the north beside the positions of the pass before. Beat r
reaches row r, where it stays, 2r clocks after the first beat entered, the first position reaches it after r: a pass's
positions may enter when all its weights have, and the next pass's weights with them. So a pass takes as many clocks as
it has positions or weight beats.

Output stationary, a fold of `rows` positions takes a beat from the west and one from the north for each step of the
reduction. When the bottom row has its last one every finished sum of a column is below its processing element, and they
leave, the bottom row's first, while the next fold comes in.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.spec import ArraySpec
from systolith.formats import BadInput
from systolith.timing.memory import Memory, Port, ports, together

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
LEAST = UPDATE + 1
"""Clocks from a pass to the next one at least: a sum must be written before it is read again."""
L0_DEPTH = 2
"""Words that the L0 holds: one waits while the next one is pushed."""


@dataclass(frozen=True)
class Contract:
    """The timing contract of an array, in clocks, beats and words.

    Attributes:
        rows, cols: the array.
        load_port: where weights enter. "west": a word of `rows` codes a beat, the same port as activations; "north":
            one of `cols` codes, a port of its own.
        load_beats: beats of weights a pass; output stationary, a weight comes with each activation.
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


def load_lanes_of(spec: ArraySpec, double: bool) -> int:
    """Lanes of a word of weights: of each row; where they come from the north, of each column."""
    return spec.cols if double or spec.dataflow == "os" else spec.rows


def crossing_of(spec: ArraySpec) -> int:
    """Clocks from a beat entering row 0 to its psum's last column adding the last product."""
    return HOP * (spec.rows + spec.cols - 2)


def contract(spec: ArraySpec, double: bool = False) -> Contract:
    """The core's contract for an array of this size, perhaps with double-buffered weights."""
    rows, cols, crossing = spec.rows, spec.cols, crossing_of(spec)
    latencies = (LEAD, HOP, crossing, OFIFO, UPDATE, SFP, L0_DEPTH, cols)
    if spec.dataflow == "os":
        return Contract(rows, cols, "north", 0, 0, *latencies)
    return Contract(rows, cols, *(("north", rows, 0) if double else ("west", cols, TURNAROUND)), *latencies)


@dataclass(frozen=True, eq=False)
class Events:
    """The clock of each event of one oc_tile's passes, int64 (n,), in the order in which they happen.

    Attributes:
        load: weight beats entering the array, row 0 or column 0; for each kij, ic_tile: col, double-buffered row.
        stream: activation beats entering row 0; for each kij, ic_tile: position.
        psum: psum words leaving the OFIFO, as `stream`.
        read, write: psum memory, for each kij, ic_tile: onij.
        out: output words leaving the SFP; onij.

    Output stationary, `load` and `stream` are for each fold its steps, `psum` its rows, and there is no psum memory.
    """

    load: NDArray[np.int64]
    stream: NDArray[np.int64]
    psum: NDArray[np.int64]
    read: NDArray[np.int64]
    write: NDArray[np.int64]
    out: NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """What the core is told to do. Output stationary, there is nothing to tell.

    Attributes:
        useful: stream only the nij that some output needs under the kij, not the whole padded map.
        drained: a pass waits until the last psum of the one before has left the array; otherwise it follows at once.
        double: weights are double-buffered.
        memory: what it has to wait for.

    Raises:
        BadInput: double-buffered and drained.
    """

    useful: bool = True
    drained: bool = False
    double: bool = False
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        if self.double and self.drained:
            raise BadInput("a schedule with double-buffered weights is not drained: the next pass's come meanwhile")

    def rules(self, mapping: Mapping) -> Contract:
        """The contract of the layer's array under this schedule."""
        return contract(mapping.spec, self.double)

    def ports(self, mapping: Mapping) -> tuple[Port, Port, Port]:
        """Of the activation, weight and psum memories."""
        return ports(mapping, self.memory, load_lanes_of(mapping.spec, self.double))

    def beat(self, mapping: Mapping) -> Port:
        """What a position takes, or a step."""
        act, weight, psum = self.ports(mapping)
        return together(act, weight if mapping.stationary else psum)

    def vectors(self, mapping: Mapping) -> int:
        """Words that leave in a pass: one for each position that is streamed; of a fold, for each row."""
        if mapping.stationary:
            return mapping.spec.rows
        return mapping.onijs if self.useful else mapping.nijs

    def beats(self, mapping: Mapping) -> int:
        """Activation beats of a pass, or of a fold."""
        return mapping.steps if mapping.stationary else self.vectors(mapping)

    def span(self, mapping: Mapping) -> int:
        """Clocks from the first of these to the last, both included."""
        return self._span(mapping, self.beat(mapping))

    def _span(self, mapping: Mapping, beat: Port) -> int:
        return (self.beats(mapping) - 1) * beat.every + 1

    def gap(self, mapping: Mapping) -> int:
        """Clocks in which nothing enters between a pass and the next one."""
        return crossing_of(mapping.spec) if self.drained and not mapping.stationary else 0

    def first(self, mapping: Mapping) -> int:
        """Clocks from asking for the layer's first weights to having them: 1 where no memory is slow."""
        return self.beat(mapping).burst(1) if mapping.stationary else self.ports(mapping)[1].burst(1)

    def least(self, mapping: Mapping) -> int:
        """Clocks at least, from a pass or fold to the next, where these overlap: what must be loaded, or leave."""
        return max(mapping.spec.rows, LEAST)

    def period(self, mapping: Mapping) -> int:
        """Clocks from one pass's first beat to the next one's, or from a fold to the next."""
        beat = self.beat(mapping)
        first, span = beat.burst(1), self._span(mapping, beat)
        if mapping.stationary:
            return max(span, self.least(mapping)) + first - 1
        rules, weight = self.rules(mapping), self.ports(mapping)[1]
        if self.double:
            return max(span, weight.burst(rules.load_beats), self.least(mapping)) + first - 1
        return weight.burst(rules.load_beats) + rules.turnaround + first - 1 + span + self.gap(mapping)

    def before(self, mapping: Mapping) -> int:
        """Clocks from a pass's first weight beat to its first position, where nothing streams meanwhile."""
        rules, every = self.rules(mapping), self.ports(mapping)[1].every
        if mapping.stationary:
            return 0
        return (rules.load_beats - 1) * every + rules.turnaround + self.beat(mapping).burst(1)

    def clocks(self, mapping: Mapping) -> int:
        """Clocks of the layer: from the first weight beat entering the array to the last bottom-row psum registered."""
        last = (mapping.rounds - 1) * self.period(mapping) + self.before(mapping) + self.span(mapping)
        leaving = mapping.spec.rows - 1 if mapping.stationary else 0  # words behind the first of the last fold
        return last + crossing_of(mapping.spec) + leaving

    def psum_clocks(self, mapping: Mapping) -> NDArray[np.int64]:
        """int64 (pass, position): when each psum word leaves the OFIFO; passes as in the mapping's `order`.

        Positions are those of `windows()[kij]` (useful) or all nij, in their order; of a fold, its rows.
        """
        clocks = [self.events(mapping, oc_tile).psum for oc_tile in range(mapping.oc_tiles)]
        return np.concatenate(clocks).reshape(mapping.rounds, self.vectors(mapping))

    def out_clocks(self, mapping: Mapping) -> NDArray[np.int64]:
        """int64 (oc_tile, onij): when each output word leaves the special function processor."""
        return np.stack([self.events(mapping, oc_tile).out for oc_tile in range(mapping.oc_tiles)])

    def events(self, mapping: Mapping, oc_tile: int) -> Events:
        """When everything of one oc_tile happens."""
        if mapping.stationary:
            return self._folds(mapping, oc_tile)
        rules, period, weight = self.rules(mapping), self.period(mapping), self.ports(mapping)[1]
        passes = np.arange(mapping.begins[oc_tile], mapping.begins[oc_tile + 1])
        begin = passes.reshape(mapping.kijs, -1, 1) * period
        stream = begin + self.before(mapping) + np.arange(self.vectors(mapping)) * self.beat(mapping).every
        if self.double:  # asked for with the first position of the pass before; the first one's are there before any
            begin = np.where(begin > 0, begin - period + self.before(mapping) + weight.burst(1) - 1, 0)
        psum = stream + rules.crossing + rules.ofifo
        read = psum
        if not self.useful:
            read = np.take_along_axis(psum, mapping.windows()[:, None, :], axis=2)
        return Events(
            load=(begin + np.arange(rules.load_beats) * weight.every).reshape(-1),
            stream=stream.reshape(-1),
            psum=psum.reshape(-1),
            read=read.reshape(-1),
            write=read.reshape(-1) + rules.update,
            out=read[-1, -1] + rules.sfp,
        )

    def _folds(self, mapping: Mapping, oc_tile: int) -> Events:
        rules, none = self.rules(mapping), np.zeros(0, dtype=np.int64)
        folds = np.arange(oc_tile * mapping.folds, (oc_tile + 1) * mapping.folds)[:, None] * self.period(mapping)
        steps = (folds + np.arange(mapping.steps) * self.beat(mapping).every).reshape(-1)
        last = folds + self.span(mapping) - 1
        psum = (last + rules.crossing + rules.ofifo + np.arange(rules.rows)).reshape(-1)
        return Events(steps, steps, psum, none, none, psum[: mapping.onijs] + rules.sfp)


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
