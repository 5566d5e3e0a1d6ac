"""The text of `convert`."""

from __future__ import annotations

from systolith.flows.convert import ConvertReport
from systolith.report.parts import Part, Rows


def text(report: ConvertReport) -> list[Part]:
    """What was read and checked, and what was written."""
    checks = ((check.name, str(check)) for check in report.checks)
    return [Rows([("read", f"{report.source}, layout {report.layout_from}"), *checks]), report.verdict]
