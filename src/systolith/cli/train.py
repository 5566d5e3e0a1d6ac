"""`systolith train`: run a recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from systolith.cli import common, options


def train(
    recipe: Annotated[str, typer.Argument(help="The name of a recipe, such as vgg16-w4a4-s8.")],
    data: Annotated[str, typer.Option("--data", help="A data set: a folder or a hub name.")],
    out: Annotated[Path, typer.Option("--out", help="The run's folder.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, overrides the recipe; repeatable.")
    ] = None,
    holdout: Annotated[int, typer.Option("--holdout", help="Training pictures kept out to choose the epoch.")] = 1000,
    as_json: options.Json = False,
) -> None:
    """Train a network by a recipe: leaves last.pt, best.pt, log.csv and model.safetensors in --out."""
    common.require_extra("torch", "torch", "train")
    from systolith.formats import BadInput
    from systolith.training.data import load_data
    from systolith.training.loop import train as run_recipe
    from systolith.training.recipes import recipe as find_recipe

    chosen = find_recipe(recipe, changes or [])
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: expected a folder, found a file")
    pictures = load_data(data, "train")
    try:
        test = load_data(data, "test")
    except BadInput as error:
        common.note(f"no test accuracy at the end: {error}")
        test = None
    with _Progress() as progress:
        run = run_recipe(chosen, pictures, out, test=test, holdout=holdout, resume=resume, report=progress.report)
    if as_json:
        common.print_json({**run, "model": str(out / "model.safetensors")})
        return
    rows = [("run", f"{out}: last.pt, best.pt, log.csv, model.safetensors"), ("epochs", f"{run['epochs']}")]
    rows += [
        (
            "chosen",
            f"epoch {run['chosen_epoch']}, {run['holdout_accuracy']:.2%} of {holdout} pictures held out",
        )
    ]
    if "test_accuracy" in run:
        rows += [("accuracy", f"{run['test_accuracy']:.2%} on {run['test_data']}")]
    common.print_rows(rows)


class _Progress:
    """A bar on a terminal, plain lines elsewhere; always on stderr."""

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.bar.__enter__()
        self.begin = time.perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def report(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            self.per_epoch, self.epochs = event["steps"], event["epochs"]
            total = event["steps"] * event["epochs"]
            self.task = self.bar.add_task("training", total=total, completed=event["done"] * event["steps"], rate="")
            self.console.print(f"{event['used']:,} pictures, {event['epochs']} epochs, {event['how']}")
        elif kind == "step":
            if event["step"] == 1:
                self.begin, self.first = time.perf_counter(), event["images"]
            rate = (event["images"] - self.first) / max(1e-9, time.perf_counter() - self.begin)
            done = (event["epoch"] - 1) * self.per_epoch + event["step"]
            label = f"epoch {event['epoch']}/{self.epochs}"
            self.bar.update(self.task, completed=done, description=label, rate=f"{rate:.0f} images/s")
        elif kind == "epoch":
            self.console.print(
                f"epoch {event['epoch']:3d}  loss {event['loss']:.4f}  held out {event['holdout']:.2%}  "
                f"{event['images_per_s']:.0f} images/s  {event['seconds']:.0f} s"
            )
