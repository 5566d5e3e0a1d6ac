"""`systolith check`: what RTL dumped against the golden vectors. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import CheckRequest


@verb(CheckRequest)
def check(**given: Any) -> Shown:
    from systolith.flows.check import check
    from systolith.report.check import text

    return check(**given), text
