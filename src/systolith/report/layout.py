"""The text of `layout show`, `new` and `check`."""

from __future__ import annotations

from systolith.flows.layout import LayoutCheckReport, LayoutNewReport, LayoutShowReport
from systolith.report.parts import Part, Rows


def show_text(report: LayoutShowReport) -> list[Part]:
    """All names, or one layout as a file."""
    if report.layouts is not None:
        return [Rows(list(report.layouts.items()))]
    return [report.toml.removesuffix("\n")]


def new_text(report: LayoutNewReport) -> list[Part]:
    """What was written."""
    return [report.verdict]


def check_text(report: LayoutCheckReport) -> list[Part]:
    """A line a layout that it is, or why it is none."""
    if not report.holds:
        return [Rows(list(report.others.items())), report.verdict]
    lines: list[Part] = []
    for one in report.consistent:
        but = f", but: {' and '.join(one.differences)}" if one.differences else ""
        words = f"({one.compared:,} golden words are what the inputs imply)"
        lines.append(f"consistent with layout {one.layout}{but} {words}")
    return lines
