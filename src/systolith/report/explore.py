"""The text of `explore`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from systolith.designs.space import AXES
from systolith.flows.explore import ExploreReport
from systolith.report.parts import Part, Rows, Table

_SHOWN = {
    "clocks_per_picture": ("clocks a picture", 1.0),
    "utilisation": ("used", 0.0),
    "traffic_bits": ("traffic MB", 8e6),
    "capacity_bits": ("memories kB", 8e3),
    "energy_low_pj_per_picture": ("uJ, least", 1e6),
    "energy_high_pj_per_picture": ("uJ, most", 1e6),
    "area_um2": ("area mm2", 1e6),
    "accuracy": ("accuracy", 0.0),
}
"""Columns of the table on the screen that there are: heading, and what a number is divided by; 0 for a share."""
_NAMES = {"psum_bits": "psum_bits_asked", "schedule": "schedule_asked"}


def text(report: ExploreReport) -> list[Part]:
    """What ran, the table of energies, and the best designs."""
    facts = []
    for name, model in report.models.items():
        zero = f", {model.zero_products:.1%} of the products have a zero operand" if model.zero_products else ""
        facts.append(("model", f"{name}: {model.layers} layers, {model.macs:,} multiply-accumulates{zero}"))
    facts.append(("energy", f"an estimate, a picture's: {report.table['name']} ({report.table['source']})"))
    if report.table["area"]:
        facts.append(("area", f"an estimate: {report.table['area']}"))
    answer = next((row for row in report.able if row.get("pictures")), None)
    if answer:
        exact = f"{answer['accuracy_exact']:.1%} with accumulators that hold every sum"
        facts.append(("accuracy", f"of {answer['model']} on {answer['pictures']:,} pictures: {exact}"))
    if report.misfits:
        facts.append(("too small", f"{report.misfits:,} of {report.points:,} designs, such as for {report.misfit}"))
    return [Rows(facts), table(report, report.top), Rows([("verdict", report.verdict)])]


def table(report: ExploreReport, designs: Iterable[Mapping[str, Any]]) -> Table:
    """A row a design: those axes that differ in the space, and what it costs."""
    differ = differing(report)
    shown = {name: how for name, how in _SHOWN.items() if name in report.rows[0]}
    headings = (*differ, *(heading for heading, _ in shown.values()), "front")
    rows = [
        (*(_said(row[key]) for key in differ.values()), *cells(row, shown), "*" if row["pareto"] else "")
        for row in designs
    ]
    return Table(headings, rows, headings[:-1])


def differing(report: ExploreReport) -> dict[str, str]:
    """The axes that have more than one value in the space, the model among them, and their columns."""
    named = {name: _NAMES.get(name, name) for name in ("model", *AXES)}
    return {name: key for name, key in named.items() if len({str(row[key]) for row in report.rows}) > 1}


def _said(value: Any) -> str:
    return "-" if value is None else str(value)


def cells(row: Mapping[str, Any], columns: Mapping[str, tuple[str, float]]) -> list[str]:
    """Numbers of a row, "-" for none; of each column its heading and what it is divided by, 0 for a share."""
    found = []
    for name, (_, unit) in columns.items():
        value = row[name]
        digits = 0 if unit == 1 else 2
        found.append("-" if value is None else f"{value:.1%}" if unit == 0 else f"{value / unit:,.{digits}f}")
    return found
