"""The text of `view`."""

from __future__ import annotations

from systolith.flows.view import ViewReport
from systolith.report.parts import Part, Rows


def text(report: ViewReport) -> list[Part]:
    """Where the page is, and what lies beside it."""
    older = [("beside it", str(path)) for path in report.others]
    return [Rows([*older, ("page", report.verdict)])]
