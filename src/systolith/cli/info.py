"""`systolith info`: the models, and how each layer sits on an array. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import InfoRequest


@verb(InfoRequest)
def info(**given: Any) -> Shown:
    from systolith.flows.info import info
    from systolith.report.info import text

    return info(**given), text
