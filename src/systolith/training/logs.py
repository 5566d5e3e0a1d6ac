"""TensorBoard events of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from systolith.training.loop import Report


def tensorboard(folder: Path, also: Report) -> Report:
    """A report function that writes each epoch to `folder` (TensorBoard's format) and passes every event on to `also`.

    Without the tensorboard package it only passes on.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        also({"event": "note", "text": "no TensorBoard log: pip install 'systolith[train]'"})
        return also
    writers: list[SummaryWriter] = []  # opened by the first epoch: a refused run leaves no file

    def report(event: dict[str, Any]) -> None:
        also(event)
        if event["event"] == "epoch":
            writer = writers[0] if writers else SummaryWriter(str(folder))
            writers[:] = [writer]
            for name in ("loss", "holdout", "images_per_s"):
                writer.add_scalar(name, event[name], event["epoch"])
            writer.flush()

    return report
