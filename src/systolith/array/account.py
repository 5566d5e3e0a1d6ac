"""Where a layer's clocks go, what the memories do for it, and what they must hold: all in closed form."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from systolith.array.mapping import Mapping
from systolith.array.timing import Schedule, contract
from systolith.formats import BadInput

MOST = 65_535
"""The largest number in the core's descriptor: its fields have 16 bits."""


@dataclass(frozen=True)
class Split:
    """What enters row 0 of the array in each clock of a layer: the parts sum to its clocks exactly.

    Attributes:
        load: weights.
        useful: positions that some output needs under the pass's kij, zeros of the padding ring among them.
        padding: positions of the padded map that no output needs under it; none where only useful nij stream.
        turnaround: nothing, between a pass's weights and its positions.
        drain: nothing, while psums leave the array: after the last pass, or (drained) after each one. The array fills
            while beats enter: that takes no clock of its own.
        stalls: nothing, for another reason. The core has none.
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
    rules, passes = contract(mapping.spec), mapping.passes
    drains = passes if schedule.drained else 1
    return Split(
        load=passes * rules.load_beats,
        useful=passes * mapping.onijs,
        padding=passes * (schedule.vectors(mapping) - mapping.onijs),
        turnaround=passes * rules.turnaround,
        drain=drains * rules.crossing,
    )


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
    spec, passes = mapping.spec, mapping.passes
    weights, sums = passes * contract(spec).load_beats, passes * mapping.onijs
    return Traffic(
        act=Port(passes * schedule.vectors(mapping), mapping.ic_tiles * mapping.nijs, spec.rows * spec.act_bits),
        weight=Port(weights, weights, spec.rows * spec.weight_bits),
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


def memory_words(mapping: Mapping) -> dict[str, int]:
    """The words of each memory that a layer fills, whatever its schedule, by the names of `Depths`."""
    return {
        "act": mapping.ic_tiles * mapping.nijs,
        "weight": mapping.passes * contract(mapping.spec).load_beats,
        "psum": mapping.onijs,
    }


def needed_depths(mapping: Mapping, schedule: Schedule) -> Depths:
    """The least that a layer needs of each."""
    rules = contract(mapping.spec)
    # Column 0's psums wait for those of the last column, `cols` clocks behind.
    ofifo = min(rules.ofifo_depth, schedule.vectors(mapping))
    return Depths(l0=rules.l0_depth, ofifo=ofifo, **memory_words(mapping))


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
        "input channel tiles": (mapping.ic_tiles,),
        "kernel": conv.kernel,
        "padded map": mapping.padded_shape,
        "output map": mapping.output_shape,
        "stride": conv.stride,
        "dilation": conv.dilation,
    }
    for name, values in numbers.items():
        if max(values) > MOST:
            size = "x".join(map(str, values))
            raise BadInput(f"{conv.name}: {name} {size}: expected at most {MOST:,}, as the core's descriptor holds")
