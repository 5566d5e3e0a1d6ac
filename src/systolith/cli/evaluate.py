"""`systolith evaluate`: accuracy of the quantized network, fp32 codes first."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import EvaluateRequest


@verb(EvaluateRequest)
def evaluate(**given: Any) -> Shown:
    from systolith.flows.evaluate import evaluate
    from systolith.report.evaluate import text

    return evaluate(**given), text
