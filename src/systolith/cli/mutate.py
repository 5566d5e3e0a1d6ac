"""`systolith mutate`: which changes of the core's sources a testbench's layers reveal. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import MutateRequest


@verb(MutateRequest)
def mutate(**given: Any) -> Shown:
    from systolith.hardware.mutate import mutate
    from systolith.report.mutate import text

    return mutate(**given), text
