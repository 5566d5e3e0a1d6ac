"""`systolith convert`: a bundle, or a folder of vector files, in another layout. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import ConvertRequest


@verb(ConvertRequest)
def convert(**given: Any) -> Shown:
    from systolith.flows.convert import convert
    from systolith.report.convert import text

    return convert(**given), text
