"""Figures of a space of designs: the front, whose points lead to rows, and the rows, which lead to their layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from systolith.designs.results import ranked
from systolith.report.designs import Design, axis_of, by_model, columns_of, size_of, stairs, value_of
from systolith.report.explore import cells, table
from systolith.report.html.figures import Designs, Figure, Mark, Scatter
from systolith.report.parts import Table
from systolith.report.scales import short

FEW, MOST = 200, 1_000
"""Designs on a page: so many, or more where the front and the top ones are more, and never more than the other."""
_LAYER = {
    "clocks": ("clocks", 1),
    "macs": ("multiply-accumulates", 1),
    "psum_bits": ("bits of a psum", 1),
    "act_read_bits": ("act read kB", 8e3),
    "weight_read_bits": ("weight read kB", 8e3),
    "psum_read_bits": ("psum read kB", 8e3),
    "psum_written_bits": ("psum written kB", 8e3),
    "out_written_bits": ("out kB", 8e3),
    "mac_energy_pj": ("MAC uJ", 1e6),
    "memory_energy_pj": ("memories uJ", 1e6),
    "dram_energy_high_pj": ("DRAM uJ, most", 1e6),
    "utilisation": ("used", 0),
}
"""Columns of a layer: heading, and what a number is divided by; 0 for a share."""


def figures(report: Any) -> Iterator[Figure]:
    """The front of each model, and the designs; of many the best."""
    designs = ranked(report.rows, report.minimize[0])[: min(MOST, max(FEW, report.front, len(report.top)))]
    left_out = len(report.rows) - len(designs)
    less = f" {left_out:,} of {len(report.rows):,} designs are left out; points.csv has all." if left_out else ""
    across, up = columns_of(report.minimize)
    for model, mine in by_model(designs).items():
        marks = [Mark(*_at(one, across, up), _label(one, across, up), _id(one), one["pareto"]) for one in mine]
        joined = [_at(one, across, up) for one in stairs(mine, across, up)]
        what = f"Each point is a design and leads to its row; those on the front are large, and steps join them.{less}"
        yield Scatter(f"The front: {model}", axis_of(across)[0], axis_of(up)[0], marks, joined, what)
    parts = {_id(one): (f"Layers of {_name(one)}", _layers(report.layers[one["point"]])) for one in report.top}
    what = f"A point's number leads to its layers, of the first {len(parts):,} (--top). uJ and mm2 are estimates.{less}"
    shown = table(report, designs)
    rows = [(str(one["point"]), *row) for one, row in zip(designs, shown.rows, strict=True)]
    named = Table(("point", *shown.headings), rows, ("point", *shown.right))
    yield Designs("Designs", named, [_id(one) for one in designs], parts, what)


def _id(design: Design) -> str:
    return f"point-{design['point']}"


def _at(design: Design, across: str, up: str) -> tuple[float, float]:
    return value_of(design, across), value_of(design, up)


def _name(design: Design) -> str:
    return f"point {design['point']}, {size_of(design)}, {design['model']}"


def _label(design: Design, across: str, up: str) -> str:
    said = (f"{axis_of(name)[0]} {short(value_of(design, name))}" for name in (across, up))
    return f"{_name(design)}: {'; '.join(said)}"


def _layers(rows: list[dict[str, Any]]) -> Table:
    headings = ("layer", "times", "schedule", *(heading for heading, _ in _LAYER.values()))
    found = [(row["layer"], str(row["count"]), row["schedule"], *cells(row, _LAYER)) for row in rows]
    return Table(headings, found, ("times", *headings[3:]))
