"""`systolith view`: open a page. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import ViewRequest


@verb(ViewRequest)
def view(**given: Any) -> Shown:
    from systolith.flows.view import view
    from systolith.report.view import text

    return view(**given), text
