"""`systolith simulate`: every clock of a network's layers on the array, predicted, and stepped. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from systolith.cli.command import Shown, verb
from systolith.requests.option import Option
from systolith.requests.shared import OUTPUT
from systolith.requests.verbs import SimulateRequest


@verb(SimulateRequest)
def simulate(
    *,
    plot: Annotated[Path | None, Option("Also draw where the clocks go, into a .svg or .png.", OUTPUT)] = None,
    **given: Any,
) -> Shown:
    from systolith.flows.simulate import simulate
    from systolith.report.clocks import require_drawable
    from systolith.report.simulate import plot as draw
    from systolith.report.simulate import text

    if plot is not None:
        require_drawable(plot)
    report = simulate(**given)
    if plot is not None:
        draw(report, plot)
    return report, text
