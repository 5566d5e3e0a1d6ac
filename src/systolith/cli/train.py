"""`systolith train`: run a recipe."""

from __future__ import annotations

from typing import Any

import typer

from systolith.cli.command import Shown, verb
from systolith.requests.verbs import TrainRequest


@verb(TrainRequest, speaker="")
def train(**given: Any) -> Shown:
    from systolith.flows.train import train
    from systolith.report.curves import plot_curves
    from systolith.report.train import text

    report = train(**given)
    if not report.run:
        raise typer.Exit  # a process that is not the main one
    plot_curves(report.folder / "log.csv", report.folder / "curves.png")
    return report, text
