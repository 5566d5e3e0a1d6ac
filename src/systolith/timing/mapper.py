"""The schedules that a layer can have on the core, by name, and which is best: the closed form of each decides."""

from __future__ import annotations

from dataclasses import dataclass, replace

from systolith.array.mapping import Mapping
from systolith.formats import BadInput
from systolith.timing.account import traffic
from systolith.timing.memory import Memory
from systolith.timing.schedule import Schedule

AUTO = "auto"
LEAST = ("clocks", "traffic")
"""What a choice can make least."""


@dataclass(frozen=True)
class Way:
    """A schedule with a name: what the core is told, and how the layer is cut for it."""

    schedule: Schedule
    packed: bool = False
    dataflow: str = "ws"


WAYS = {
    "useful": Way(Schedule()),
    "whole": Way(Schedule(useful=False)),
    "double": Way(Schedule(double=True)),
    "packed": Way(Schedule(), packed=True),
    "packed-double": Way(Schedule(double=True), packed=True),
    "os": Way(Schedule(), dataflow="os"),
}
"""Every schedule by its name: useful positions, the whole padded map, double-buffered weights, kernel positions packed
into rows, output stationary."""


@dataclass(frozen=True, eq=False)
class Choice:
    """A layer on the array in a schedule.

    Attributes:
        name: of `WAYS`, with "drained" behind it where passes wait.
        mapping, schedule: the layer, cut for the schedule, and the schedule.
        others: what the schedules that were not chosen cost, by name, in clocks or bits moved, the least first.
    """

    name: str
    mapping: Mapping
    schedule: Schedule
    others: tuple[tuple[str, int], ...] = ()

    @property
    def clocks(self) -> int:
        """Of the layer, predicted."""
        return self.schedule.clocks(self.mapping)

    @property
    def bits_moved(self) -> int:
        """By the memories during the layer, predicted."""
        return traffic(self.mapping, self.schedule).bits_moved

    def cost(self, least: str) -> int:
        """In what is to be least."""
        return self.clocks if least == "clocks" else self.bits_moved


def choose(
    mapping: Mapping, name: str = AUTO, drained: bool = False, least: str = "clocks", memory: Memory | None = None
) -> Choice:
    """The schedule `name` of a layer, or the best one.

    Args:
        mapping: the layer on the array, however it is cut.
        name: of `WAYS`, or "auto": of all that differ on this layer that with the least cost, the first of equals.
        drained: passes wait until the array is empty.
        least: of `LEAST`.
        memory: what the core has to wait for.

    Raises:
        BadInput: no such name, or a schedule that cannot be drained.
    """
    require_known(name, drained, least)
    if name != AUTO:
        return _in_way(mapping, name, drained, memory)
    found = [one for one in (_in_way(mapping, name, False, memory) for name in WAYS) if _differs(one.mapping)]
    costs = sorted((one.cost(least), number) for number, one in enumerate(found))
    best = found[costs[0][1]]
    return replace(best, others=tuple((found[number].name, cost) for cost, number in costs[1:]))


def require_known(name: str, drained: bool, least: str) -> None:
    """Raise `BadInput` unless there is such a schedule, and something that it makes least."""
    if name != AUTO and name not in WAYS:
        raise BadInput(f"--schedule {name!r}: expected {', '.join(WAYS)} or auto")
    if least not in LEAST:
        raise BadInput(f"--least {least!r}: expected {' or '.join(LEAST)}")
    if drained and name == AUTO:
        raise BadInput("--drained: expected a schedule by its name with it, found auto, which would never choose it")
    if drained and not may_drain(name):
        raise BadInput(
            f"--drained: expected useful, whole or packed, found --schedule {name}, which overlaps by nature"
        )


def may_drain(name: str) -> bool:
    """Whether passes can wait until the array is empty in the schedule of that name."""
    return not WAYS[name].schedule.double and WAYS[name].dataflow == "ws"


EVERY_WAY = [(name, drained) for name in WAYS for drained in (False, True) if not drained or may_drain(name)]
"""Each schedule by its name, drained too where it may be."""


def _in_way(mapping: Mapping, name: str, drained: bool, memory: Memory | None) -> Choice:
    way = WAYS[name]
    spec = replace(mapping.spec, dataflow=way.dataflow)
    cut = replace(mapping, spec=spec, packed=way.packed)
    schedule = replace(way.schedule, drained=drained, memory=memory or Memory())
    return Choice(f"{name} drained" if drained else name, cut, schedule)


def _differs(mapping: Mapping) -> bool:
    """Not packed, or packed into fewer tiles than there are without."""
    return not mapping.packed or mapping.passes < replace(mapping, packed=False).passes
