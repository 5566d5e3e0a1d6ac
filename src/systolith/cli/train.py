"""`systolith train`: run a recipe."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from systolith.cli import common, options

ACCELERATOR_FAILED = re.compile(r"(CUDA|cuDNN)( driver)? error: ")


def train(
    recipe: Annotated[str, typer.Argument(help="The name of a recipe, such as vgg16-w4a4-s8.")],
    data: Annotated[str, typer.Option("--data", help="A data set: a folder or a hub name.")],
    out: Annotated[Path, typer.Option("--out", help="The run's folder.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, overrides the recipe; repeatable.")
    ] = None,
    bits: Annotated[int | None, typer.Option("--bits", help="32: the recipe's float twin.")] = None,
    holdout: Annotated[int, typer.Option("--holdout", help="Training pictures kept out, to measure on.")] = 1000,
    stages: Annotated[
        Path | None, typer.Option("--stages", help="Where runs that this one stands on live. [default: OUT/stages]")
    ] = None,
    minutes: Annotated[float, typer.Option("--checkpoint-minutes", help="Between checkpoints in an epoch.")] = 10.0,
    as_json: options.Json = False,
) -> None:
    """Train a network by a recipe: leaves checkpoints, log, curves and model.safetensors in --out."""
    common.require_extra("torch", "torch", "train")
    for module in ("accelerate", "matplotlib"):
        common.require_extra(module, "train", "train")
    from systolith.training.memory import keep_memory

    keep_memory()
    from systolith.formats import BadInput
    from systolith.report.curves import plot_curves
    from systolith.training.chain import train_chain
    from systolith.training.data import load_data
    from systolith.training.logs import tensorboard
    from systolith.training.loop import Interrupted, quiet
    from systolith.training.recipes import recipe as find_recipe

    chosen = find_recipe(recipe, changes or [], bits)
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: expected a folder, found a file")
    pictures = load_data(data, "train")
    try:
        test = load_data(data, "test")
    except BadInput as error:
        common.note(f"no test accuracy at the end: {error}")
        test = None
    kept = {"test": test, "holdout": holdout, "minutes": minutes, "resume": resume}
    try:
        with _Progress() as progress:
            # Under torchrun every process comes by here; the first one speaks.
            first = os.environ.get("RANK", "0") == "0"
            report = tensorboard(out / "tensorboard", progress.report) if first else quiet
            run = train_chain(chosen, pictures, out, stages or out / "stages", report=report, **kept)  # type: ignore[arg-type]
    except Interrupted as stop:
        common.note(f"stopped by {stop}")
        if as_json:
            common.print_json({"error": f"stopped by {stop}"})
        raise typer.Exit(130) from None
    except RuntimeError as error:
        if not ACCELERATOR_FAILED.match(str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise BadInput(f"the accelerator failed ({reason}): --resume goes on from the last checkpoint") from None
    if not run:
        return  # a process that is not the main one
    plot_curves(out / "log.csv", out / "curves.png")
    if (out / "model.safetensors").exists():
        add_integers(out / "model.safetensors")
    if as_json:
        common.print_json({**run, "folder": str(out)})
        return
    rows = [("run", f"{out}: last.pt, best.pt, log.csv, run.json, curves.png")]
    if (out / "model.safetensors").exists():
        rows += [("model", f"{out / 'model.safetensors'}")]
    rows += [("epochs", f"{run['epochs']}")]
    held = f", {run['holdout_accuracy']:.2%} of {holdout} pictures held out" if holdout else ", the last"
    rows += [("chosen", f"epoch {run['chosen_epoch']}{held}")]
    if "test_accuracy" in run:
        rows += [("accuracy", f"{run['test_accuracy']:.2%} on {run['test_data']}")]
    common.print_rows(rows)


def add_integers(path: Path) -> None:
    """Lower the model of the file and write its integer network into it, proved."""
    from systolith.frontends.lowering import lower
    from systolith.frontends.verify import prove
    from systolith.models import load
    from systolith.network.file import add_network
    from systolith.store import load_model_file, save_model_file

    lowered = lower(load(str(path))[0])
    assert all(e.holds for e in prove(lowered, lowered.network))
    save_model_file(path, add_network(load_model_file(path), lowered.network))


class _Progress:
    """A bar on a terminal, plain lines elsewhere; always on stderr."""

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False, markup=False)
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
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def report(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "note":
            self.console.print(event["text"], soft_wrap=True)
        elif kind == "start":
            self.start, self.mark = event, None
            for task in self.bar.task_ids:
                self.bar.remove_task(task)
            total = event["steps"] * event["epochs"]
            self.task = self.bar.add_task("training", total=total, completed=event["done"], rate="")
            self.console.print(f"{event['how']}: {event['used']:,} pictures, {event['epochs']} epochs", soft_wrap=True)
        elif kind == "step":
            done = (event["epoch"] - 1) * self.start["steps"] + event["step"]
            now = time.perf_counter()
            # The first step of all compiles, the first of an epoch waits for the evaluation: rates count from a step.
            if self.mark is None or event["step"] == 1:
                self.mark = (done, now)
            rate = (done - self.mark[0]) * self.start["batch"] / max(1e-9, now - self.mark[1])
            label = f"epoch {event['epoch']}/{self.start['epochs']}"
            self.bar.update(self.task, completed=done, description=label, rate=f"{rate:.0f} images/s")
        elif kind == "epoch":
            self.console.print(
                f"epoch {event['epoch']:3d}  loss {event['loss']:.4f}  held out {event['holdout']:.2%}  "
                f"{event['images_per_s']:.0f} images/s  {event['seconds']:.0f} s",
                soft_wrap=True,
            )
