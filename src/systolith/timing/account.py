"""Where a layer's clocks go, what the memories do for it, and what they must hold: all in closed form."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import numpy as np

from systolith.array.mapping import Mapping
from systolith.formats import BadInput
from systolith.timing.memory import Memory
from systolith.timing.memory import Port as MemoryPort
from systolith.timing.schedule import Schedule, contract, load_lanes_of

MOST = 65_535
"""The largest number in the core's descriptor: its fields have 16 bits."""


@dataclass(frozen=True)
class Split:
    """What enters row 0 of the array in each clock of a layer: the parts sum to its clocks exactly.

    Attributes:
        load: weights alone.
        useful: positions that some output needs under the pass's kij, zeros of the padding ring among them; output
            stationary, steps.
        padding: positions of the padded map that no output needs under it; none where only useful nij stream.
        turnaround: nothing, between a pass's weights and its positions.
        drain: nothing, while psums leave the array: after the last pass, or (drained) after each one; output stationary
            also where a fold has fewer steps than sums to give away. The array fills while beats enter: that takes no
            clock of its own.
        stalls: nothing, for another reason: a memory is slow, or a sum must be written before it is read again.
    """

    load: int
    useful: int
    padding: int
    turnaround: int
    drain: int
    stalls: int = 0

    @property
    def clocks(self) -> int:
        return sum(astuple(self))


def split(mapping: Mapping, schedule: Schedule) -> Split:
    """The clocks of a layer by what they are for."""
    rules, rounds, streamed = schedule.rules(mapping), mapping.rounds, schedule.beats(mapping)
    if mapping.stationary:
        waits = (rounds - 1) * max(0, schedule.least(mapping) - schedule.span(mapping))
        found = Split(0, rounds * streamed, 0, 0, waits + rules.rows - 1 + rules.crossing)
    else:
        found = Split(
            load=rounds * rules.load_beats - (rounds - 1) * _beside(mapping, schedule),
            useful=rounds * mapping.onijs,
            padding=rounds * (streamed - mapping.onijs),
            turnaround=rounds * rules.turnaround,
            drain=(rounds if schedule.drained else 1) * rules.crossing,
        )
    return replace(found, stalls=schedule.clocks(mapping) - found.clocks)


def _beside(mapping: Mapping, schedule: Schedule) -> int:
    """Weight beats of a pass that enter with a position of the one before."""
    if not schedule.double:
        return 0
    weight, beat = schedule.ports(mapping)[1], schedule.beat(mapping)
    loads = weight.burst(1) - 1 + np.arange(schedule.rules(mapping).load_beats) * weight.every
    return int(((loads % beat.every == 0) & (loads < schedule.span(mapping))).sum())


def sfp_clocks(mapping: Mapping, schedule: Schedule) -> int:
    """Clocks from the last psum registered to the last output leaving the SFP; 0 if that comes no later."""
    last = int(schedule.events(mapping, mapping.oc_tiles - 1).out[-1])
    return max(0, last + 1 - schedule.clocks(mapping))


@dataclass(frozen=True)
class Port:
    """What a memory does during a layer: words read, words written, bits of a word."""

    reads: int
    writes: int
    bits: int

    @property
    def bits_moved(self) -> int:
        return (self.reads + self.writes) * self.bits


@dataclass(frozen=True)
class Traffic:
    """What the memories do during a layer.

    Attributes:
        act, weight: written once by the host, before the layer; read a word a beat.
        psum: read, added to and written back, for each useful position of each pass.
        out: words that leave the SFP; accumulators, before ReLU.
    """

    act: Port
    weight: Port
    psum: Port
    out: Port

    @property
    def bits_moved(self) -> int:
        return self.act.bits_moved + self.weight.bits_moved + self.psum.bits_moved + self.out.bits_moved


def traffic(mapping: Mapping, schedule: Schedule) -> Traffic:
    """The words that each memory reads and writes."""
    spec, rounds, words = mapping.spec, mapping.rounds, memory_words(mapping, schedule)
    lanes = load_lanes_of(spec, schedule.double) * mapping.simd
    sums = 0 if mapping.stationary else rounds * mapping.onijs
    loads = rounds * (mapping.steps if mapping.stationary else contract(spec, schedule.double).load_beats)
    return Traffic(
        act=Port(rounds * schedule.beats(mapping), words["act"], spec.rows * spec.act_bits),
        weight=Port(loads, words["weight"], lanes * spec.weight_bits),
        psum=Port(sums, sums, spec.cols * spec.psum_bits),
        out=Port(0, mapping.oc_tiles * mapping.onijs, spec.cols * spec.psum_bits),
    )


@dataclass(frozen=True)
class Depths:
    """Words of each queue (of the OFIFO: of a column) and memory; None: as the core has, or as the layer needs."""

    l0: int | None = None
    ofifo: int | None = None
    act: int | None = None
    weight: int | None = None
    psum: int | None = None


_NAMES = {
    "l0": "the L0",
    "ofifo": "each column of the OFIFO",
    "act": "the activation memory",
    "weight": "the weight memory",
    "psum": "the psum memory",
}


def memory_words(mapping: Mapping, schedule: Schedule) -> dict[str, int]:
    """The words of each memory that a layer fills, by the names of `Depths`."""
    weights = mapping.passes * (
        mapping.steps if mapping.stationary else contract(mapping.spec, schedule.double).load_beats
    )
    return {
        "act": mapping.slots * mapping.batch * mapping.map_size,
        "weight": weights,
        "psum": 0 if mapping.stationary else mapping.onijs,
    }


def needed_depths(mapping: Mapping, schedule: Schedule) -> Depths:
    """The least that a layer needs of each."""
    rules, count = contract(mapping.spec), schedule.vectors(mapping)
    # Column 0's psums wait for those of the last column, `cols` clocks behind: what leaves in so many clocks.
    whole, rest = divmod(rules.ofifo_depth, schedule.period(mapping))
    every = 1 if mapping.stationary else schedule.beat(mapping).every
    waiting = whole * count + min(-(-rest // every), count) if whole < mapping.rounds else mapping.rounds * count
    return Depths(l0=rules.l0_depth, ofifo=waiting, **memory_words(mapping, schedule))


def require_capacity(mapping: Mapping, schedule: Schedule, depths: Depths) -> None:
    """Raise `BadInput` unless the layer fits the queues and memories, and its numbers the core's descriptor.

    The sentence names the layer, what it needs and what there is.
    """
    conv = mapping.conv
    for name, need in vars(needed_depths(mapping, schedule)).items():
        depth = getattr(depths, name)
        if depth is not None and depth < need:
            raise BadInput(f"{conv.name}: {_NAMES[name]} must hold {need:,} words, its depth is {depth:,}")
    numbers = {
        "output channel tiles": (mapping.oc_tiles,),
        "output map": mapping.output_shape,
        "pictures": (mapping.batch,),
    }
    for name, values in numbers.items():
        if max(values) > MOST:
            size = "x".join(map(str, values))
            raise BadInput(f"{conv.name}: {name} {size}: expected at most {MOST:,}, as the core's descriptor holds")


def queues(mapping: Mapping, schedule: Schedule) -> dict[str, int | None]:
    """Words of a queue behind each slow memory that would leave no stalls but the first ones; None: it is too slow.

    By the names of `Depths`; of those alone that are slow. The queue is filled while other words are taken.
    """
    act, weight, psum = schedule.ports(mapping)
    ideal = replace(schedule, memory=Memory())
    clocks, streamed = ideal.period(mapping), ideal.beats(mapping)
    loads = streamed if mapping.stationary else schedule.rules(mapping).load_beats
    bursts = {"act": (act, streamed), "weight": (weight, loads), "psum": (psum, streamed)}
    if mapping.stationary:
        del bursts["psum"]
    return {name: port.queue(words, clocks) for name, (port, words) in bursts.items() if port != MemoryPort()}
