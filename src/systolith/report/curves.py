"""A training's curves."""

from __future__ import annotations

import csv
from pathlib import Path

from systolith.formats import BadInput
from systolith.store import atomic_file


def plot_curves(log: Path, picture: Path) -> None:
    """Draw loss and held-out accuracy over the epochs of a run's `log.csv` into `picture` (a .png)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput("drawing the curves needs matplotlib: pip install 'systolith[train]'") from None
    with log.open() as file:
        rows = list(csv.DictReader(file))
    epochs = [int(r["epoch"]) for r in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    left.plot(epochs, [float(r["loss"]) for r in rows], color="tab:blue", marker=".")
    right.plot(epochs, [100 * float(r["holdout"]) for r in rows], color="tab:orange", marker=".")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="tab:blue")
    right.set_ylabel("held-out accuracy, %", color="tab:orange")
    with atomic_file(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
