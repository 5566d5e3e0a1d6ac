"""The text of `export`."""

from __future__ import annotations

from systolith.flows.export import ExportReport
from systolith.report.parts import Part, Rows

MOST = 10


def text(report: ExportReport) -> list[Part]:
    """How it was read back, what has no fixed-point form, the first difference, the file."""
    without = [("no M, B, S", why) for why in report.without_fixed_point.values()]
    more = [("", f"and {len(without) - MOST:,} more (--json has them)")] if len(without) > MOST else []
    wrong = [("different", f"{e.name}: {e}") for e in report.equalities if not e.holds][:MOST]
    rows = [("format", report.form), ("read back", report.how), *without[:MOST], *more, *wrong]
    rows += [("note", note) for note in report.notes]
    return [Rows([*rows, *(("file", path) for path in report.files), ("verdict", report.verdict)])]
