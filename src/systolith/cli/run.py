"""`systolith run`: a picture through the network, one layer onto the array, every step compared, vectors written."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import RunRequest


@verb(RunRequest)
def run(**given: Any) -> Shown:
    from systolith.flows.run import run
    from systolith.report.run import text

    return run(**given), text
