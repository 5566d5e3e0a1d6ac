"""`systolith import`: somebody's model file to a network of integers."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import ImportRequest


@verb(ImportRequest)
def import_model(**given: Any) -> Shown:
    from systolith.flows.import_model import import_model
    from systolith.report.import_model import text

    return import_model(**given), text
