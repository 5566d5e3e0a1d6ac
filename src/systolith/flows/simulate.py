"""`simulate`: every clock of a network's layers on the array, predicted, and stepped."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.equality import Equality
from systolith.flows.flow import Report, flow
from systolith.requests.verbs import SimulateRequest
from systolith.steps.common import go_without, require_schedule, said_schedule, scheduled
from systolith.steps.layers import layers_of
from systolith.steps.values import hidden
from systolith.timing import Choice, Observation, contract, observe
from systolith.timing.account import (
    Depths,
    Split,
    Traffic,
    needed_depths,
    queues,
    require_capacity,
    sfp_clocks,
    split,
    traffic,
)
from systolith.timing.schedule import utilisation


@dataclass(frozen=True, eq=False)
class Row:
    """A layer: where it is, what it takes, what is predicted of it, and what the machine did (None: not stepped)."""

    choice: Choice
    act: NDArray[np.integer] | None
    clocks: int
    sfp: int
    split: Split
    traffic: Traffic
    found: Observation | None

    @property
    def mapping(self) -> Mapping:
        """The layer on the array."""
        return self.choice.mapping


@dataclass(frozen=True)
class Total:
    """Of all layers: clocks, what they are for, the SFP's behind them, and the share of the multipliers in use."""

    clocks: int
    split: Split
    sfp_clocks: int
    utilisation: float


@dataclass(frozen=True, kw_only=True)
class SimulateReport(Report):
    """Where every clock goes.

    Attributes:
        model, picture, array: what was simulated; "none" where no picture was stepped.
        contract: the timing contract's constants.
        schedule: what was asked for: its name, whether passes wait, what is least, codes of a lane, pictures.
        layers: a layer's sizes, clocks and their parts, memory traffic in bits, depths needed, and what the register
            machine counted (None: only predicted).
        total: of all layers.
        equalities: prediction = machine, event by event, and codes = the network's.
        rows: the layers as objects.
    """

    verb: ClassVar[str] = "simulate"
    model: str
    picture: str = field(metadata=hidden())
    array: str
    contract: MappingType[str, int | str]
    schedule: MappingType[str, Any]
    layers: Sequence[MappingType[str, Any]]
    total: Total
    equalities: tuple[Equality, ...]
    rows: tuple[Row, ...] = field(metadata=hidden(), repr=False)

    def plain(self) -> dict[str, Any]:
        """As every report's; `holds` is null where nothing was stepped, so nothing compared."""
        return {**super().plain(), "holds": self.holds if self.equalities else None}


@flow(SimulateRequest)
def simulate(request: SimulateRequest) -> SimulateReport:
    """Predict every clock of a network's layers on the array, and step all its registers with a picture's codes.

    Returns:
        Clocks by layer and by what they are for, and the comparison of each event's predicted clock with the machine's.

    Raises:
        BadInput: no such model, layer or picture, or a memory too small for a layer.

    Examples:
        >>> import systolith as sl
        >>> report = sl.simulate("vgg16-w4a4-s8", layer="features.27")
        >>> report.total.clocks, report.holds
        (239, True)
    """
    require_schedule(request)
    if not request.values:
        given = {"--image": request.image, "--data": request.data, "--index": request.index}
        go_without("--no-values takes no picture: it", given)
    depths = Depths(request.l0_depth, request.ofifo_depth, request.act_depth, request.weight_depth, request.psum_depth)
    images = [request.image] if request.image is not None else []
    number = str(request.index) if request.index is not None else None
    layers = layers_of(
        *(request.model, request.layer, images, request.data, number, request, "simulate", request.progress),
        executed=request.values,
        batch=request.batch,
        simd=request.simd,
    )
    found = []
    for one in layers:
        height, width = one.act.shape[-2:]
        found.append((scheduled(request, Mapping(one.conv, one.spec, height, width, request.batch)), one.act))
    for choice, _ in found:
        require_capacity(choice.mapping, choice.schedule, depths)
    rows: list[Row] = []
    total = sum(choice.clocks for choice, _ in found)
    for choice, act in found:
        how = choice.mapping, choice.schedule
        seen = observe(how[0], act, how[1], depths) if request.values else None
        taken = act if request.values else None
        rows.append(Row(choice, taken, choice.clocks, sfp_clocks(*how), split(*how), traffic(*how), seen))
        request.progress("clocks", sum(row.clocks for row in rows), total)
    equalities = summed(rows)
    wrong = next((row for row in rows if row.found is not None and not row.found.holds), None)
    picture = "the shipped cat.png"
    if request.image is not None:
        picture = Path(request.image).name
    elif request.data is not None:
        picture = f"{request.data}, picture {request.index or 0}"
    if request.batch > 1:
        picture += f" and {request.batch - 1} more"
    all_layers = _total(rows)
    return SimulateReport(
        holds=wrong is None,
        verdict=_verdict(all_layers, equalities, wrong),
        model=request.model,
        picture=picture if request.values else "none",
        array=str(rows[0].mapping.spec),
        contract=contract(rows[0].mapping.spec, rows[0].choice.schedule.double).as_dict(),
        schedule=said_schedule(request),
        layers=[_facts(row) for row in rows],
        total=all_layers,
        equalities=equalities,
        rows=tuple(rows),
    )


def _total(rows: Sequence[Row]) -> Total:
    parts = Split(*(sum(getattr(row.split, part) for row in rows) for part in asdict(rows[0].split)))
    lanes = rows[0].mapping.spec.rows * rows[0].mapping.spec.cols
    used = sum(row.mapping.macs for row in rows) / (lanes * parts.clocks)
    return Total(sum(row.clocks for row in rows), parts, sum(row.sfp for row in rows), used)


def summed(rows: Sequence[Row]) -> tuple[Equality, ...]:
    """The comparisons of all layers, by name; a difference says of which layer."""
    found: dict[str, Equality] = {}
    for row in rows:
        for e in row.found.equalities if row.found is not None else ():
            before = found.get(e.name, Equality(e.name, 0, 0))
            first = before.first or (e.first and f"{row.mapping.conv.name}{e.first}")
            found[e.name] = Equality(e.name, before.compared + e.compared, before.different + e.different, first)
    return tuple(found.values())


def _verdict(total: Total, equalities: Sequence[Equality], wrong: Row | None) -> str:
    said = f"{total.clocks:,} clocks, {total.utilisation:.1%} of the multipliers"
    if not equalities:
        return f"predicted, not stepped: {said}"
    if wrong is None:
        compared = sum(e.compared for e in equalities)
        stalls = total.split.stalls
        return f"all equal: {compared:,} elements in {len(equalities)} comparisons; {said}, {stalls} stalls"
    different = next((e for e in equalities if not e.holds), None)
    if different is not None:
        return f"NOT EQUAL: {different.name}: {different}"[:180]
    return f"NOT EQUAL: {wrong.mapping.conv.name}: a queue overran, or a sum was read before it was written"


def _facts(row: Row) -> dict[str, Any]:
    mapping, spec = row.mapping, row.mapping.spec
    machine = None
    if row.found is not None:
        machine = {key: value for key, value in asdict(row.found).items() if key != "equalities"}
    return {
        "name": mapping.conv.name,
        "in_channels": mapping.conv.in_channels,
        "out_channels": mapping.conv.out_channels,
        "input": [mapping.height, mapping.width],
        "act_bits": spec.act_bits,
        "weight_bits": spec.weight_bits,
        "psum_bits": spec.psum_bits,
        "schedule": row.choice.name,
        "others": dict(row.choice.others),
        "passes": mapping.rounds,
        "macs": mapping.macs,
        "clocks": row.clocks,
        "sfp_clocks": row.sfp,
        "split": asdict(row.split),
        "utilisation": utilisation(mapping, row.clocks),
        "traffic": asdict(row.traffic),
        "needed_depths": asdict(needed_depths(mapping, row.choice.schedule)),
        "queues": queues(mapping, row.choice.schedule),
        "machine": machine,
    }
