"""`systolith verify`: the trained network = the integer network, proved and compared code by code."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import VerifyRequest


@verb(VerifyRequest)
def verify(**given: Any) -> Shown:
    from systolith.flows.verify import verify
    from systolith.report.verify import text

    return verify(**given), text
