"""What `explore` is asked for, and working it out: the space, the models on it, designs that are not known yet."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import inf
from pathlib import Path
from typing import Any

from systolith.designs.energy import EnergyTable
from systolith.designs.engine import Task, run_all
from systolith.designs.live import live_products
from systolith.designs.results import Rows, kept, name_of, summed
from systolith.designs.space import Space, read_space, space_of
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.requests.shared import DEFAULT_MODEL, Array
from systolith.requests.verbs import ExploreRequest
from systolith.steps.answers import answered, is_shape, jury
from systolith.steps.common import find_network
from systolith.steps.layers import layers_of
from systolith.topologies import Layer, find_topology, following


@dataclass(frozen=True)
class Model:
    """What runs on the designs.

    Attributes:
        layers: with products; repeated ones once.
        macs: multiply-accumulates of a picture.
        zero_products: share of products with a zero operand; None where there are no values to count on.
        notes: what of it is left out.
    """

    layers: int
    macs: int
    zero_products: float | None
    notes: tuple[str, ...]


def space_asked(request: ExploreRequest) -> Space:
    """That of the file, or of the options."""
    flags = {"--model": request.model, "--array": request.array, "--axis": request.axis, "--points": request.points}
    if request.space is not None:
        given = [flag for flag, value in (flags | {"--seed": request.seed}).items() if value is not None]
        if given:
            raise BadInput(f"{request.space} says what is explored: it goes without {', '.join(given)}")
        return read_space(request.space)
    axes: dict[str, Any] = {"model": (request.model or DEFAULT_MODEL).split(",")}
    if request.array is not None:
        axes["array"] = request.array.split(",")
    for text in request.axis or []:
        name, equals, values = text.partition("=")
        if not equals or name in axes:
            raise BadInput(f"--axis {text!r}: expected NAME=VALUES, each name once, --model and --array for those")
        axes[name] = _values(values)
    if request.points is None:
        if request.seed is not None or request.search != "random":
            raise BadInput("--seed and --search are of --points: a grid has all of them")
        return space_of(axes)
    return space_of(axes, {"kind": request.search, "points": request.points, "seed": request.seed or 0})


def _values(text: str) -> Any:
    """ "4,8", "auto" or "2..16..2" as plain values."""
    match = re.fullmatch(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?", text)
    if match:
        return {"from": int(match[1]), "to": int(match[2]), "step": int(match[3] or 1)}
    return [int(one) if re.fullmatch(r"-?\d+", one) else one for one in text.split(",")]


def models_asked(request: ExploreRequest, names: Sequence[str]) -> tuple[dict[str, list[Work]], dict[str, Model]]:
    """The layers of each model; of one with values, how many products have a zero operand."""
    works: dict[str, list[Work]] = {}
    models: dict[str, Model] = {}
    for name in names:
        notes: tuple[str, ...] = ()
        if is_shape(name):
            topology = find_topology(name)
            notes = topology.notes
            works[name], zero = [Work.of(layer) for layer in topology.layers], None
        else:
            works[name], zero = _counted(request, name)
        macs = sum(work.count * work.macs for work in works[name])
        models[name] = Model(len(works[name]), macs, zero, notes)
        for note in notes:
            request.progress(f"{name}: {note}")
    return works, models


def _counted(request: ExploreRequest, name: str) -> tuple[list[Work], float]:
    """A network's layers with what they see of pictures."""
    images = [request.image] if request.image is not None else []
    array, follow = Array(psum_bits="auto"), following(find_network(name, "explore")[0])
    seen: dict[str, tuple[Layer, int, int]] = {}
    layers = layers_of(name, "all", images, request.data, request.index, array, "explore", lambda *_: None)
    for one in layers:
        live, every = live_products(one.conv, one.act)
        before = seen.get(one.conv.name, (None, 0, 0))
        height, width = one.act.shape[-2:]
        layer = Layer(one.conv, height, width, follows=one.conv.name in follow)
        seen[one.conv.name] = layer, before[1] + live, before[2] + every
    share = 1 - sum(live for _, live, _ in seen.values()) / sum(every for _, _, every in seen.values())
    return [Work.of(layer, live / every) for layer, live, every in seen.values()], share


class Workshop:
    """Works out designs that are not known yet, and counts them; with `answering` what networks answer on them, too."""

    def __init__(
        self, request: ExploreRequest, works: dict[str, list[Work]], table: EnergyTable, answering: bool = False
    ) -> None:
        self.request, self.works, self.table, self.answering = request, works, table, answering
        self.known: dict[str, Rows] = {}
        self.computed = 0
        self.jury_of = cache(partial(jury, request))  # a search asks in every round

    def __call__(self, space: Space, numbers: Sequence[int]) -> tuple[list[Task], dict[str, Rows]]:
        """The designs of these numbers by name, in their order, and the rows of each name that is known."""
        request, folder = self.request, Path(self.request.out)
        points = map(space.at, numbers)
        named = [(name_of(point, self.works[point.model], self.table), point) for point in points]
        self.known |= kept(folder, {name for name, _ in named} - self.known.keys())
        left = [task for task in named if task[0] not in self.known]
        if not left:
            return named, self.known
        searching = space.kind == "optuna"

        def estimate(seconds: float) -> None:
            if not searching:
                request.progress(f"about {seconds:,.0f} s to go" if seconds >= 1 else "less than a second to go")

        before, total = self.computed, space.count if searching else len(left)
        self.known |= run_all(
            *(left, self.works, self.table, folder),
            jobs=request.jobs or len(os.sched_getaffinity(0)),
            scheduler=request.scheduler,
            progress=lambda done: request.progress("points", min(before + done, total), total),
            estimate=estimate,
        )
        self.computed += len(left)
        return named, self.known

    def rows(self, named: Sequence[Task]) -> list[dict[str, Any]]:
        """A row for each of these designs, which were worked out."""
        rows = [summed(point, self.known[name], number, self.table) for number, (name, point) in enumerate(named)]
        if self.answering:
            given = answered(self.request, self.jury_of, self.works, named, self.known)
            return [row | given[name] for row, (name, _) in zip(rows, named, strict=True)]
        return rows


def costs(rows: Sequence[Mapping[str, Any]], minimize: Sequence[str]) -> list[list[float]]:
    """What is to be least of each design; of one that cannot hold a layer more than any number."""
    return [[row[name] if row["fits"] else inf for name in minimize] for row in rows]
