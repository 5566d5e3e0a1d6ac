"""The text of `grade`."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple

from systolith.faults.faults import Fault
from systolith.flows.grade import GradeReport
from systolith.report.parts import Part, Rows, Table

LISTED = 100  # lines of survivors on the screen; JSON has all


def text(report: GradeReport) -> list[Part]:
    """A table by kind of fault, and what slips through."""
    headings = ("fault", "faults", "detected", "undetectable", "survived", "unknown")
    rows = [(kind, *(f"{number:,}" for number in astuple(counts))) for kind, counts in report.kinds.items()]
    reasons = Counter(report.undetectable.values())
    lines = [(f"undetectable {number:,}", reason) for reason, number in reasons.items()]
    lines += _alike("unknown", [(fault, "") for fault in report.graded.unknown])
    lines += _alike("survived", [(s.fault, f"; {s.revealed_by} reveals it") for s in report.graded.survivors])
    return [Table(headings, rows, headings[1:]), Rows([*lines, ("verdict", report.verdict)])]


def _alike(label: str, faults: list[tuple[Fault, str]]) -> list[tuple[str, str]]:
    """A line for each fault, one for all that differ in row and column alone."""
    groups: dict[tuple[object, ...], list[tuple[Fault, str]]] = {}
    for fault, more in faults:
        key = fault.kind, *(pair for pair in fault.at if pair[0] not in ("row", "col"))
        groups.setdefault(key, []).append((fault, more))
    lines = []
    for (fault, more), *others in list(groups.values())[:LISTED]:
        elsewhere = f"; {len(others):,} like it elsewhere" if others else ""
        lines.append((label, f"{fault}{more}{elsewhere}"))
    if len(groups) > LISTED:
        lines.append((label, f"{len(groups) - LISTED:,} more kinds: --json lists all"))
    return lines
