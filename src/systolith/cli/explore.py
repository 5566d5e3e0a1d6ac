"""`systolith explore`: a space of designs, what each costs, and which of them none beats. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from systolith.cli.command import Shown, verb
from systolith.requests.option import Option
from systolith.requests.shared import OUTPUT
from systolith.requests.verbs import ExploreRequest


@verb(ExploreRequest)
def explore(
    *,
    plots: Annotated[
        Path | None, Option("Also draw front, shapes, layers and roofs into a folder, .svg.", OUTPUT)
    ] = None,
    **given: Any,
) -> Shown:
    from systolith.flows.explore import explore
    from systolith.report.explore import text
    from systolith.report.explored import plot_designs, require_plots

    if plots is not None:
        require_plots()
    report = explore(**given)
    if plots is not None:
        plot_designs(report, plots)
    return report, text
