"""`explore`: a space of designs, what each costs, and which of them none beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from systolith.designs.area import AREAS
from systolith.designs.energy import TABLE, EnergyTable, read_table
from systolith.designs.point import require
from systolith.designs.results import COSTS, Rows, pareto, ranked
from systolith.designs.search import search
from systolith.designs.tables import write_tables
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.verbs import ExploreRequest
from systolith.steps.answers import MINIMIZED, require_answers
from systolith.steps.common import require_extra
from systolith.steps.designs import Model, Workshop, costs, models_asked, space_asked
from systolith.steps.values import hidden


@dataclass(frozen=True, kw_only=True)
class ExploreReport(Report):
    """What a space of designs holds.

    Attributes:
        folder: of the results: points.parquet, layers.parquet, the same as .csv, and what a later run goes on from.
        points: how many designs; each with each model.
        computed: how many of them were worked out now.
        models: what ran on them.
        table: of energies: what its numbers are of, and their source; of its areas, "" where it has none.
        minimize: the columns that the front is of.
        misfits: designs whose memories cannot hold some layer's smallest chunk: they have no costs.
        misfit: what the first of them says; "" where there is none.
        front: designs that no other one with the same model beats.
        top: the first of the front, and then others, by the first of these columns.
        rows: every design, as in points.parquet.
        layers: of the designs in `top`, by their numbers: a row a layer, as in layers.parquet.
    """

    verb: ClassVar[str] = "explore"
    folder: Path
    points: int
    computed: int
    models: Mapping[str, Model]
    table: Mapping[str, str]
    minimize: tuple[str, ...]
    misfits: int
    misfit: str
    front: int
    top: tuple[Mapping[str, Any], ...]
    rows: tuple[Mapping[str, Any], ...] = field(metadata=hidden(), repr=False)
    layers: Mapping[int, Rows] = field(metadata=hidden(), repr=False)

    @property
    def able(self) -> list[Mapping[str, Any]]:
        """Designs that can hold every layer, and so have costs."""
        return [row for row in self.rows if row["fits"]]


@flow(ExploreRequest)
def explore(request: ExploreRequest) -> ExploreReport:
    """Work out what each design of a space costs, and which designs no other one beats.

    Clocks are those of `simulate`, traffic that of the register machine; energy and area are estimates by a table.

    Returns:
        The designs, the front among them, and where the tables are.

    Raises:
        BadInput: an unknown axis, an empty range, an impossible array, too many points; before anything is worked out.

    Examples:
        >>> import systolith as sl
        >>> report = sl.explore(array="4x4,8x8", out="build/doc-explore")
        >>> [(row["rows"], row["clocks"]) for row in report.top]
        [(8, 3876775), (4, 13734076)]
    """
    require_extra("pyarrow", "explore", "explore's tables")
    if request.scheduler is not None:
        require_extra("distributed", "cluster", "explore on a cluster")
    space, table = space_asked(request), read_table(request.energy or TABLE)
    minimize = _columns(request.minimize, table)
    answering = require_answers(request, space, minimize)
    if space.kind == "optuna":
        require_extra("optuna", "explore", "a search")
    require(space)
    works, models = models_asked(request, space.models)
    folder = Path(request.out)
    folder.mkdir(parents=True, exist_ok=True)
    work = Workshop(request, works, table, answering)
    request.progress(f"{space.count:,} points")
    if space.kind == "optuna":
        numbers = search(space, lambda some: costs(work.rows(work(space, some)[0]), minimize), len(minimize))
    else:
        numbers = list(space.numbers())
    named, found = work(space, numbers)
    rows = _marked(work.rows(named), minimize)
    write_tables(folder, rows, [(number, found[name]) for number, (name, _) in enumerate(named)])
    misfits = [row for row in rows if not row["fits"]]
    front, top = sum(row["pareto"] for row in rows), ranked(rows, minimize[0])[: request.top]
    small = f"; {len(misfits):,} cannot hold a layer" if misfits else ""
    best = f"{front:,} of {len(rows):,} designs on the front of {' and '.join(minimize)}"
    return ExploreReport(
        holds=True,
        verdict=f"{best}{small}; tables in {folder}",
        folder=folder,
        points=len(rows),
        computed=work.computed,
        models=models,
        table={"name": table.name, "source": table.source, "area": table.area.source if table.area else ""},
        minimize=minimize,
        misfits=len(misfits),
        misfit=misfits[0]["misfit"] if misfits else "",
        front=front,
        top=tuple(top),
        rows=tuple(rows),
        layers={row["point"]: found[named[row["point"]][0]] for row in top},
    )


def _columns(text: str, table: EnergyTable) -> tuple[str, ...]:
    """The columns that are made least."""
    found = tuple(name.strip() for name in text.split(","))
    for name in found:
        if name not in (*COSTS, MINIMIZED):
            raise BadInput(f"--minimize {name!r}: expected columns such as {', '.join((*COSTS, MINIMIZED))}")
        if name in AREAS and table.area is None:
            raise BadInput(f"--minimize {name!r}: the table of energies, {table.name}, has no [area]")
    return found


def _marked(rows: list[dict[str, Any]], minimize: Sequence[str]) -> list[dict[str, Any]]:
    """Each row with whether it is on the front of its model."""
    for row in rows:
        row["pareto"] = False
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model and row["fits"]]
        for row, there in zip(mine, pareto(costs(mine, minimize)), strict=True):
            row["pareto"] = there
    return rows
