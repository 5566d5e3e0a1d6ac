"""`systolith grade`: which hardware faults golden vectors would reveal. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import GradeRequest


@verb(GradeRequest)
def grade(**given: Any) -> Shown:
    from systolith.flows.grade import grade
    from systolith.report.grade import text

    return grade(**given), text
