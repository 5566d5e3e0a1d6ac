"""`systolith evaluate`: accuracy of the quantized network, fp32 codes first."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from systolith.cli import common, options
from systolith.cli.options import DEFAULT_MODEL


def evaluate(
    data: Annotated[str, typer.Option("--data", help="A data set: a folder or a hub name.")],
    model: Annotated[str, typer.Argument(help="A shipped model, a model file, or a checkpoint.")] = DEFAULT_MODEL,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only the first so many pictures (0: all).")] = 0,
    as_json: options.Json = False,
) -> None:
    """Accuracy of a model on the test split of a data set."""
    common.require_extra("torch", "torch", "evaluate")
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from systolith.formats import BadInput
    from systolith.models import load
    from systolith.training.data import load_data
    from systolith.training.loop import predict

    network, run = load(model)
    pictures = load_data(data, "test")
    known = run.get("classes")
    if known and list(pictures.classes) != list(known):
        raise BadInput(f"{pictures.source} has the classes {', '.join(pictures.classes)}, {model} {', '.join(known)}")
    if len(pictures.classes) > network.config.classes:
        raise BadInput(f"{pictures.source} has {len(pictures.classes)} classes, {model} {network.config.classes}")
    total = min(limit, len(pictures)) if limit > 0 else len(pictures)
    images, labels = torch.from_numpy(pictures.images[:total]), torch.from_numpy(pictures.labels[:total])
    begin, correct = time.perf_counter(), 0
    with Progress(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("evaluating", total=total)
        for part, truth in zip(images.split(250), labels.split(250), strict=True):
            correct += int((predict(network, part) == truth).sum())
            bar.advance(task, len(part))
    rate = total / (time.perf_counter() - begin)
    accuracy = correct / total
    if as_json:
        common.print_json(
            {
                "accuracy": accuracy,
                "correct": correct,
                "total": total,
                "model": model,
                "data": pictures.source,
                "images_per_s": round(rate, 1),
                "run": dict(run),
            }
        )
        return
    common.print_rows(
        [
            ("model", model),
            ("data", pictures.source),
            ("speed", f"{rate:.0f} images/s"),
            ("accuracy", f"{accuracy:.2%}: {correct:,} of {total:,} correct (quantized, fp32, codes first)"),
        ]
    )
