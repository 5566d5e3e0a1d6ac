"""What a design costs: of each layer clocks, traffic, capacity and energy, all in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

from systolith.array import ArraySpec, Mapping
from systolith.array.spec import parse_size, widened
from systolith.designs.energy import Energy, EnergyTable
from systolith.designs.hierarchy import EVERYTHING, KIB, MEMORIES, Hierarchy, Plan, TooSmall, floor, plan, staying
from systolith.designs.space import Point, Space
from systolith.designs.work import Work
from systolith.network.graph import Conv
from systolith.timing.account import Traffic
from systolith.timing.mapper import AUTO, WAYS, Choice, choose
from systolith.timing.memory import Memory


@dataclass(frozen=True)
class Design:
    """A point's hardware.

    Attributes:
        array: whose lanes a layer that is wider widens, and whose accumulators are as `psum_bits` says.
        psum_bits: of the accumulators; None: as each layer needs.
        schedule, least: as `timing.mapper.choose` takes them.
        batch: pictures together.
        memory: what the ports give.
        hierarchy: how large the memories are, and what another chip gives.
    """

    array: ArraySpec
    psum_bits: int | None
    schedule: str
    least: str
    batch: int
    memory: Memory
    hierarchy: Hierarchy = EVERYTHING

    @classmethod
    def of(cls, point: Point) -> Design:
        """`BadInput` where the values do not go together, such as three codes in a lane."""
        v: dict[str, Any] = dict(point.values)
        rows, cols = parse_size(v["array"]) if "array" in v else (v["rows"], v["cols"])
        bits = v["psum_bits"]
        psum_bits = None if bits == "auto" else bits
        array = ArraySpec(
            rows, cols, v["act_bits"], v["weight_bits"], psum_bits or 48, overflow=v["overflow"], simd=v["simd"]
        )
        memory = Memory(v["act_bandwidth"], v["weight_bandwidth"], v["psum_bandwidth"], v["latency"])
        hierarchy = Hierarchy(v["act_kib"], v["weight_kib"], v["psum_kib"], v["dram_bandwidth"])
        return cls(array, psum_bits, v["schedule"], v["least"], v["batch"], memory, hierarchy)


def require(space: Space) -> None:
    """Raise `BadInput` unless every design can be: lanes and the codes in them are all that may not go together."""
    axes = dict(space.axes)
    point = dict(space.at(0).values)
    for act_bits, simd in product(axes["act_bits"], axes["simd"]):
        Design.of(Point(space.models[0], tuple((point | {"act_bits": act_bits, "simd": simd}).items())))


@dataclass(frozen=True)
class Cost:
    """What a layer costs on a design, once; units stand in the names of the columns (`results.py`).

    Attributes:
        schedule: the one taken.
        plan: clocks and traffic of the layer, all pictures of the batch, and how it is cut.
        macs: useful multiply-accumulates.
        spec: the array, with the layer's lanes and accumulators.
    """

    schedule: str
    plan: Plan
    macs: int
    spec: ArraySpec

    @property
    def clocks(self) -> int:
        return self.plan.clocks

    @property
    def traffic(self) -> Traffic:
        """Of the ports."""
        return self.plan.traffic

    @property
    def utilisation(self) -> float:
        """Share of `macs` in what all processing elements could do."""
        return self.macs / (self.spec.rows * self.spec.cols * self.clocks)


@lru_cache(maxsize=4096)
def _conv(work: Work, act_bits: int, weight_bits: int) -> Conv:
    return work.conv(act_bits, weight_bits)


def _mapping(work: Work, design: Design) -> Mapping:
    array = design.array
    act_bits = array.act_bits // array.simd
    conv = _conv(work, act_bits, array.weight_bits)
    spec = replace(widened(conv, array), psum_bits=design.psum_bits or work.psum_bits(act_bits, array.weight_bits))
    return Mapping(conv, spec, work.size[0], work.size[1], design.batch)


@lru_cache(maxsize=512)
def _ways(work: Work, design: Design) -> tuple[Choice, ...]:
    """The schedules that a layer can have; kept, since designs that differ in their hierarchy alone share them."""
    mapping = _mapping(work, design)
    best = choose(mapping, design.schedule, least=design.least, memory=design.memory)
    if design.schedule != AUTO:
        return (best,)
    names = {best.name, *(name for name, _ in best.others)}
    return tuple(choose(mapping, name, memory=design.memory) for name in WAYS if name in names)


@lru_cache(maxsize=65536)
def cost(work: Work, design: Design) -> Cost:
    """A layer on a design; `work`'s count and what is known of its values do not matter.

    Raises:
        BadInput: formats that do not go together; `TooSmall` where a memory cannot hold its smallest chunk.
    """
    if design.hierarchy == EVERYTHING:
        choice = choose(_mapping(work, design), design.schedule, least=design.least, memory=design.memory)
        return _cost(choice, plan(choice, design.hierarchy))
    ways, by_clocks = _ways(work, replace(design, hierarchy=EVERYTHING)), design.least == "clocks"
    found: list[tuple[int, int, Plan]] = []  # no two numbers are equal
    small: dict[int, TooSmall] = {}
    for number, way in sorted(enumerate(ways), key=lambda one: one[1].clocks):
        if by_clocks and found and floor(way, design.hierarchy) > min(found)[0]:
            continue
        try:
            one = plan(way, design.hierarchy)
            found.append((one.clocks if by_clocks else one.traffic.bits_moved, number, one))
        except TooSmall as error:
            small[number] = error
    if not found:
        raise small[0]
    _, number, one = min(found)
    return _cost(ways[number], one)


def _cost(choice: Choice, found: Plan) -> Cost:
    mapping = choice.mapping
    return Cost(choice.name, found, mapping.macs, mapping.spec)


def energy(work: Work, found: Cost, table: EnergyTable) -> Energy:
    """An estimate of what a layer's work takes, all pictures of the batch."""
    spec, moved = found.spec, found.traffic
    live = found.macs if work.live is None else found.macs * work.live
    act_bits = work.act.bits if work.act is not None else spec.act_bits // spec.simd
    macs = live * (table.multiplying(act_bits, spec.weight_bits) + table.adding(spec.psum_bits))
    parts = {}
    for name, capacity in zip(MEMORIES, found.plan.capacity, strict=True):
        port = getattr(moved, name)
        kib = capacity / KIB
        parts[name] = (port.reads + port.writes) * table.accessing(kib, port.bits) if kib else 0.0
    low, high = (found.plan.off_chip.bits * pj / table.dram_bits for pj in table.dram)
    return Energy(macs, **parts, dram=(low, high))


def evaluate(point: Point, works: Sequence[Work], table: EnergyTable) -> list[dict[str, Any]]:
    """A row a layer: what it is called, and what it costs, `count` times; of one that does not fit, why."""
    design = Design.of(point)
    found = [_tried(work, design) for work in works]
    if point["outputs"] == "stay":
        found = _staying(works, found, design.hierarchy)
    rows = []
    for work, one in zip(works, found, strict=True):
        if isinstance(one, TooSmall):
            rows.append({"layer": work.name, "count": work.count, "fits": False, "misfit": f"{work.name}: {one.why}"})
        else:
            rows.append(row(work, one, table))
    return rows


def _tried(work: Work, design: Design) -> Cost | TooSmall:
    try:
        return cost(_alike(work), design)
    except TooSmall as error:
        return error


def _staying(works: Sequence[Work], found: Sequence[Cost | TooSmall], hierarchy: Hierarchy) -> list[Cost | TooSmall]:
    """What layers cost whose outputs stay where they can. Those of a repeated layer do if both are as often there."""
    before = [None, *works[:-1]]
    follows = [w.follows and b is not None and b.count == w.count for w, b in zip(works, before, strict=True)]
    plans = staying([None if isinstance(one, TooSmall) else one.plan for one in found], follows, hierarchy)
    return [
        one if isinstance(one, TooSmall) or plan is None else replace(one, plan=plan)
        for one, plan in zip(found, plans, strict=True)
    ]


@lru_cache(maxsize=4096)
def _alike(work: Work) -> Work:
    """Equal layers are worked out once."""
    return replace(work, name="layer", count=1, live=None, follows=False)


def row(work: Work, found: Cost, table: EnergyTable) -> dict[str, Any]:
    """The columns of a layer, units in their names."""
    used, how, n = energy(work, found, table), found.plan, work.count
    off_chip = vars(how.off_chip)
    read = sum(bits for name, bits in off_chip.items() if name.endswith("_read"))
    ports = vars(found.traffic)
    return {
        "layer": work.name,
        "count": n,
        "fits": True,
        "misfit": "",
        "schedule": found.schedule,
        "chunks": "x".join(map(str, how.counts)),
        "loop_order": how.order,
        "inputs_stay": how.off_chip.act_read == 0,
        "clocks": n * how.clocks,
        "stall_clocks": n * (how.clocks - how.computing),
        "macs": n * found.macs,
        "utilisation": found.utilisation,
        "psum_bits": found.spec.psum_bits,
        "act_lane_bits": found.spec.act_bits,
        "weight_lane_bits": found.spec.weight_bits,
        **{f"{name}_read_bits": n * port.reads * port.bits for name, port in ports.items() if name != "out"},
        **{f"{name}_written_bits": n * port.writes * port.bits for name, port in ports.items()},
        **{f"{name}_capacity_bits": bits for name, bits in zip(MEMORIES, how.capacity, strict=True)},
        "dram_read_bits": n * read,
        "dram_written_bits": n * (how.off_chip.bits - read),
        **{_dram(name): n * bits for name, bits in off_chip.items()},
        "mac_energy_pj": n * used.macs,
        "memory_energy_pj": n * (used.act + used.weight + used.psum),
        "dram_energy_low_pj": n * used.dram[0],
        "dram_energy_high_pj": n * used.dram[1],
    }


def _dram(name: str) -> str:
    """ "act_read" to "act_dram_read_bits"."""
    tensor, way = name.split("_")
    return f"{tensor}_dram_{way}_bits"
