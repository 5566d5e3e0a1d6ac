"""The text of `lower`."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

from systolith.flows.lower import FixedPointBits, LowerReport
from systolith.report.parts import Part, Rows, Table
from systolith.steps.common import NODE_HEADINGS


def text(report: LowerReport) -> list[Part]:
    """The nodes, the bits of their fixed-point forms, and the files."""
    parts: list[Part] = [Table(NODE_HEADINGS, [tuple(step.values()) for step in report.steps])]
    if report.fixed_point:
        headings = ("(acc*M + B) >> S of", "channels", "bits of M", "bits of B", "bits of acc*M + B", "most S", "M")
        rows = [_row(form) for form in report.fixed_point]
        parts += ["", Table(headings, rows, headings[1:])]
    files = [("file", f"{path}, {Path(path).stat().st_size:,} bytes") for path in report.files]
    if any(form.rounding == "even" for form in report.fixed_point):
        parts += ["", "half to even: (acc*M + B) / 2^S so rounded; what a shift drops would give other codes at ties"]
    return [*parts, "", Rows([*files, ("verdict", report.verdict)])]


def _row(form: FixedPointBits) -> tuple[str, ...]:
    name, *numbers, least, most, rounding = map(str, astuple(form))
    values = least if least == most else f"{least}..{most}"
    return (*(name, *numbers), f"{values}, half to even" if rounding == "even" else values)
