"""The text of `simulate`, and its bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from systolith.flows.simulate import Row, SimulateReport
from systolith.report.clocks import plot_clocks
from systolith.report.parts import Part, Rows, Table, equal_rows
from systolith.timing import Choice
from systolith.timing.account import Split
from systolith.timing.schedule import utilisation

# The parts of the clocks, and their headings.
PARTS = {
    "load": "load %",
    "useful": "useful %",
    "padding": "padding %",
    "turnaround": "turn %",
    "drain": "drain %",
    "stalls": "stall %",
}
MEMORIES = ("act", "weight", "psum", "out")


def text(report: SimulateReport) -> list[Part]:
    """A row a layer and the sum of several: clocks, their parts in percent, the SFP's behind them, memories in kB."""
    facts = [("model", report.model), ("picture", report.picture), ("schedule", said(report))]
    verdict = ("verdict", report.verdict)
    return [
        Rows([*facts, ("array", report.array)]),
        _table(report),
        Rows([*equal_rows(report.equalities), verdict]),
    ]


def plot(report: SimulateReport, picture: Path) -> None:
    """Draw where the clocks of each layer go into `picture` (.svg or .png)."""
    title = f"{report.model} on {report.array}, {said(report)}"
    plot_clocks({row.mapping.conv.name: row.split for row in report.rows}, title, picture)


WORDS = {
    "useful": "useful positions",
    "whole": "the whole padded map",
    "double": "useful positions, double-buffered weights",
    "packed": "kernel positions packed into rows",
    "packed-double": "kernel positions packed into rows, double-buffered weights",
    "os": "output stationary",
}


def said(report: SimulateReport) -> str:
    """A schedule in words."""
    how = report.schedule
    words = f"each layer's best: the least {how['least']}" if how["schedule"] == "auto" else WORDS[how["schedule"]]
    if how["schedule"] in ("useful", "whole", "packed"):
        words += ", drained between passes" if how["drained"] else ", passes pipelined"
    return words + (f", {how['batch']} pictures together" if how["batch"] > 1 else "")


def shares(parts: Sequence[int]) -> list[str]:
    """Percentages of one decimal that sum to 100.0: rounded down, the rest to those that lost most."""
    whole = sum(parts)
    tenths = [1000 * part // whole for part in parts]
    lost = sorted(range(len(parts)), key=lambda i: -(1000 * parts[i] % whole))
    for i in lost[: 1000 - sum(tenths)]:
        tenths[i] += 1
    return [f"{tenth // 10}.{tenth % 10}" for tenth in tenths]


def _table(report: SimulateReport) -> Table:
    auto = report.schedule["schedule"] == "auto"

    def cells(clocks: int, parts: Split, sfp: int, used: float, moved: list[int]) -> tuple[str, ...]:
        percent = shares([getattr(parts, part) for part in PARTS])
        return (f"{clocks:,}", *percent, f"{sfp:,}", f"{used:.1%}", *(f"{bits / 8000:,.1f}" for bits in moved))

    def moved(row: Row) -> list[int]:
        return [getattr(row.traffic, memory).bits_moved for memory in MEMORIES]

    def chosen(row: Row) -> tuple[str, ...]:
        return row.choice.name, margin(row.choice, report.schedule["least"])

    listed: list[tuple[str, ...]] = []
    for row in report.rows:
        mapping, conv = row.mapping, row.mapping.conv
        size = (f"{conv.in_channels}->{conv.out_channels}", f"{mapping.height}x{mapping.width}")
        place = (conv.name, *(chosen(row) if auto else size))
        used = utilisation(mapping, row.clocks)
        listed.append((*place, f"{mapping.rounds:,}", *cells(row.clocks, row.split, row.sfp, used, moved(row))))
    if len(report.rows) > 1:
        total = report.total
        sums = [sum(column) for column in zip(*map(moved, report.rows), strict=True)]
        passes = sum(row.mapping.rounds for row in report.rows)
        whole = cells(total.clocks, total.split, total.sfp_clocks, total.utilisation, sums)
        listed.append((f"{len(report.rows)} layers", "", "", f"{passes:,}", *whole))
    headings = (
        *("layer", *(("schedule", "next best") if auto else ("channels", "map")), "passes", "clocks"),
        *(*PARTS.values(), "SFP", "used"),
    )
    headings = (*headings, *(f"{memory} kB" for memory in MEMORIES))
    return Table(headings, listed, headings[3:])


def margin(choice: Choice, least: str) -> str:
    """The next best schedule, and how much more it costs, in clocks or bits moved."""
    if not choice.others:
        return ""
    name, cost = choice.others[0]
    return f"{name} +{cost - choice.cost(least):,}"
