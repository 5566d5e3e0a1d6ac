"""`systolith vectors`: the golden vectors of a layer, of your own integers, or of made-up ones. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import VectorsRequest


@verb(VectorsRequest)
def vectors(**given: Any) -> Shown:
    from systolith.flows.vectors import vectors
    from systolith.report.vectors import text

    return vectors(**given), text
