"""The text of `lower`."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

from systolith.flows.lower import LowerReport
from systolith.report.parts import Part, Rows, Table
from systolith.steps.common import NODE_HEADINGS


def text(report: LowerReport) -> list[Part]:
    """The nodes, the bits of their fixed-point forms, and the files."""
    parts: list[Part] = [Table(NODE_HEADINGS, [tuple(step.values()) for step in report.steps])]
    if report.fixed_point:
        headings = ("(acc*M + B) >> S of", "channels", "bits of M", "bits of B", "bits of acc*M + B", "most S")
        rows = [tuple(map(str, astuple(form))) for form in report.fixed_point]
        parts += ["", Table(headings, rows, headings[1:])]
    files = [("file", f"{path}, {Path(path).stat().st_size:,} bytes") for path in report.files]
    return [*parts, "", Rows([*files, ("verdict", report.verdict)])]
