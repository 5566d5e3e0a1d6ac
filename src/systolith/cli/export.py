"""`systolith export`: a network of integers in somebody else's format."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import ExportRequest


@verb(ExportRequest)
def export(**given: Any) -> Shown:
    from systolith.flows.export import export
    from systolith.report.export import text

    return export(**given), text
