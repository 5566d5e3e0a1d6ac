"""The text of `train`."""

from __future__ import annotations

from systolith.flows.train import TrainReport
from systolith.report.parts import Part, Rows


def text(report: TrainReport) -> list[Part]:
    """What the run left, and how good it is."""
    run = report.run
    rows = [("run", f"{report.folder}: last.pt, best.pt, log.csv, run.json, curves.png")]
    if report.model is not None:
        rows += [("model", f"{report.model}")]
    rows += [("epochs", f"{run['epochs']}")]
    pictures = run["holdout_pictures"]
    held = f", {run['holdout_accuracy']:.2%} of {pictures} pictures held out" if pictures else ", the last"
    rows += [("chosen", f"epoch {run['chosen_epoch']}{held}")]
    if "test_accuracy" in run:
        rows += [("accuracy", f"{run['test_accuracy']:.2%} on {run['test_data']}")]
    return [Rows(rows)]
