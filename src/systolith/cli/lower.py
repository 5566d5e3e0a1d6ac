"""`systolith lower`: a trained model to its integer network."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import LowerRequest


@verb(LowerRequest)
def lower(**given: Any) -> Shown:
    from systolith.flows.lower import lower
    from systolith.report.lower import text

    return lower(**given), text
