"""`train`: run a recipe."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.option import Progress
from systolith.requests.verbs import TrainRequest
from systolith.steps.common import require_extra
from systolith.steps.values import hidden

ACCELERATOR_FAILED = re.compile(r"(CUDA|cuDNN)( driver)? error: ")


@dataclass(frozen=True, kw_only=True)
class TrainReport(Report):
    """A run that came to its end.

    Attributes:
        run: its metadata, as in `run.json` and the model file; empty in a process that is not the main one.
        folder: where everything is.
        model: the model file, or None for a float network.
        log: of each epoch, the columns of `log.csv`.
    """

    verb: ClassVar[str] = "train"
    run: Mapping[str, Any]
    folder: Path
    model: Path | None = field(default=None, metadata=hidden())
    log: tuple[Mapping[str, str], ...] = field(default=(), metadata=hidden(), repr=False)

    def plain(self) -> dict[str, Any]:
        """As every report's, with the run's metadata at the top."""
        whole = super().plain()
        return {**whole.pop("run"), **whole}


@flow(TrainRequest)
def train(request: TrainRequest) -> TrainReport:
    """Train a network by a recipe; leave checkpoints, log and model.safetensors in `out`.

    In Python `recipe` can be a torch module of our layers too: uint8 pictures in, (N, classes) out. It is trained by
    the settings that every recipe begins with, and `changes`, from the weights that it has, and ends in eval with those
    of the chosen epoch; model.safetensors then holds its integers alone.

    Returns:
        The run's metadata: data, recipe, epochs, accuracies.

    Raises:
        BadInput: no such recipe or data, a module that does not answer so, a folder that holds another run, or a loss
            that is not a number.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, when the run has been saved; `resume` goes on.

    Examples:
        >>> import systolith as sl
        >>> small = ["epochs=1", "batch=2"]
        >>> report = sl.train("smoke", "pictures", "build/doc-train", holdout=0, changes=small)
        >>> report.run["epochs"], report.model.name
        (1, 'model.safetensors')
    """
    require_extra("torch", "torch", "train")
    for module in ("accelerate", "matplotlib"):
        require_extra(module, "train", "train")
    from systolith.training.memory import keep_memory

    keep_memory()
    import torch
    from accelerate import PartialState
    from torch import nn

    from systolith.models import Net
    from systolith.training.chain import train_chain
    from systolith.training.data import load_data
    from systolith.training.logs import tensorboard
    from systolith.training.loop import Interrupted, quiet
    from systolith.training.own import own_recipe
    from systolith.training.recipes import recipe as find_recipe

    out = Path(request.out)
    given = request.recipe if isinstance(request.recipe, nn.Module) else None
    if given is None:  # what is wrong with the recipe is said before the pictures are read
        chosen = find_recipe(str(request.recipe), request.changes or [], request.bits)
    elif request.bits is not None:
        raise BadInput("bits: a network of your own is as it is, expected none")
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out}: expected a folder, found a file")
    pictures = load_data(request.data, "train")
    if given is not None:
        chosen = own_recipe(given, torch.from_numpy(pictures.images[:2]), request.changes or [])
    notes: tuple[str, ...] = ()
    try:
        test = load_data(request.data, "test")
    except BadInput as error:
        notes = (f"no test accuracy at the end: {error}",)
        request.progress(notes[0])
        test = None
    stages = out / "stages" if request.stages is None else Path(request.stages)
    try:
        # Under torchrun every process comes by here; the first one speaks.
        first = PartialState(cpu=not torch.cuda.is_available()).is_main_process
        report = tensorboard(out / "tensorboard", _told(request.progress)) if first else quiet
        run = train_chain(
            *(chosen, pictures, out, stages),
            test=test,
            holdout=request.holdout,
            minutes=request.minutes,
            resume=request.resume,
            report=report,
            model=given,
        )
    except Interrupted as stop:
        raise KeyboardInterrupt(f"stopped by {stop}") from None
    except RuntimeError as error:
        if not ACCELERATOR_FAILED.match(str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise BadInput(f"the accelerator failed ({reason}): --resume goes on from the last checkpoint") from None
    if not run:
        return TrainReport(holds=True, verdict="", run={}, folder=out)
    model = out / "model.safetensors"
    refused: tuple[str, ...] = ()
    if given is not None and not isinstance(given, Net):
        refused = save_integers(model, given, pictures.images.shape[2:], run)
    elif model.exists():
        refused = add_integers(model)
    for note in refused:
        request.progress(note)
    accuracy = f", {run['test_accuracy']:.2%} on {run['test_data']}" if "test_accuracy" in run else ""
    return TrainReport(
        holds=True,
        verdict=f"trained: {run['epochs']} epochs{accuracy}",
        notes=(*notes, *refused),
        run=run,
        folder=out,
        model=model if model.exists() else None,
        log=_log(out / "log.csv"),
    )


def _log(path: Path) -> tuple[dict[str, str], ...]:
    with path.open() as file:
        return tuple(csv.DictReader(file))


def add_integers(path: Path) -> tuple[str, ...]:
    """Lower the model of the file and write its integer network into it, proved; a note if it has no integer form."""
    from systolith.frontends.lowering import lower
    from systolith.frontends.verify import prove
    from systolith.models import load
    from systolith.network.file import add_network
    from systolith.store import load_model_file, save_model_file

    try:
        lowered = lower(load(str(path))[0])
    except BadInput as error:
        return (f"{path.name} holds no integer network: {error}",)
    assert all(e.holds for e in prove(lowered, lowered.network))
    save_model_file(path, add_network(load_model_file(path), lowered.network))
    return ()


def save_integers(path: Path, model: Any, size: tuple[int, ...], run: Mapping[str, Any]) -> tuple[str, ...]:
    """Lower a network of the user's own for pictures of (H, W) and write its integers; a note if it has none."""
    from systolith.frontends.lowering import lower
    from systolith.frontends.verify import prove
    from systolith.network.file import save_network

    try:
        lowered = lower(model, (size[0], size[1]))
    except BadInput as error:
        return (f"no {path.name}: {error}",)
    assert all(e.holds for e in prove(lowered, lowered.network))
    save_network(path, lowered.network, run)
    return ()


def _told(progress: Progress) -> Callable[[dict[str, Any]], None]:
    """The loop's events as a callback's: sentences, and steps done of all with the rate in their name."""
    start: dict[str, Any] = {}
    mark: list[tuple[int, float]] = []

    def report(event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "note":
            progress(event["text"])
        elif kind == "start":
            start.update(event)
            mark.clear()
            progress(f"{event['how']}: {event['used']:,} pictures, {event['epochs']} epochs")
        elif kind == "step":
            done, now = (event["epoch"] - 1) * start["steps"] + event["step"], time.perf_counter()
            # The first step of all compiles, the first of an epoch waits for the evaluation: rates count from a step.
            if not mark or event["step"] == 1:
                mark[:] = [(done, now)]
            rate = (done - mark[0][0]) * start["batch"] / max(1e-9, now - mark[0][1])
            label = f"epoch {event['epoch']}/{start['epochs']}, {rate:.0f} images/s"
            progress(label, done, start["steps"] * start["epochs"])
        elif kind == "epoch":
            progress(
                f"epoch {event['epoch']:3d}  loss {event['loss']:.4f}  held out {event['holdout']:.2%}  "
                f"{event['images_per_s']:.0f} images/s  {event['seconds']:.0f} s"
            )

    return report
