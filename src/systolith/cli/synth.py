"""`systolith synth`: what a core takes in gates or cells, an estimate by Yosys. Needs no torch."""

from __future__ import annotations

from typing import Any

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import SynthRequest


@verb(SynthRequest)
def synth(**given: Any) -> Shown:
    from systolith.hardware.synth import synth
    from systolith.report.synth import text

    return synth(**given), text
