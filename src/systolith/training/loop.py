"""The training loop: one file to read in a sitting.

Tricks, by name: Muon on the convolutions, AdamW on the rest (`optim.py`), a triangular learning rate, label smoothing,
distillation, alternating flip (Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024), reflected pad-crop, clip values
from data before the first step. The step runs in bf16 autocast where that pays, evaluation always in fp32, codes first.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.models import Net, build, save_model
from systolith.models.pretrained import read_checkpoint
from systolith.quant import calibrate, check_exact, quant_layers
from systolith.quant.fused import kernels
from systolith.store import atomic_file
from systolith.training.batches import batches
from systolith.training.data import LabelledPictures
from systolith.training.distill import Teacher
from systolith.training.fault import first_bad_parameter, locate
from systolith.training.optim import Optimizers, fraction
from systolith.training.own import is_calibrated
from systolith.training.precision import precision
from systolith.training.recipes import MODULE, Recipe
from systolith.training.state import (
    Identity,
    Progress,
    identify,
    require_same_run,
    restore_checkpoint,
    save_checkpoint,
    write_log,
)
from systolith.version import __version__

Report = Callable[[dict[str, Any]], None]
LOOK_EVERY = 50  # steps between looks at the loss: a look waits for the device
PAYS_FROM = 600  # steps from which a minute of compilation pays
SAVE_AFTER = 30.0  # seconds: an epoch that ends sooner after a checkpoint leaves none, it would cost as much as itself


def quiet(event: dict[str, Any]) -> None:
    """Report nothing."""


class Interrupted(Exception):
    """The run was asked to stop and has saved where it is."""


@torch.no_grad()
def scores(model: nn.Module, images: Tensor) -> Tensor:
    """What the model says of each picture, (N, classes): fp32, codes first."""
    batch = 25 if images.device.type == "cpu" else 500  # a CPU's caches hold the maps of a few pictures
    was_training = model.training
    model.eval()
    said = torch.cat([model(part) for part in images.split(batch)])
    model.train(was_training)
    return said


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Class of each picture, int64 (N,)."""
    return scores(model, images).argmax(1)


def make_loss(
    network: Callable[[Tensor], Tensor], recipe: Recipe, teacher: Teacher | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The function from a batch to its loss."""

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        device = images.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision(recipe, device) == "bf16"):
            logits = network(images).float() * recipe.logit_scale
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            if teacher is None:
                return loss
            return (1 - recipe.distill) * loss + recipe.distill * teacher.loss(images, logits, recipe.temperature)

    return loss_of


def accumulate(loss_of: Callable[[Tensor, Tensor], Tensor], batch: Tensor, target: Tensor, parts: int) -> Tensor:
    """Backward over a batch in `parts` pieces; returns the mean loss, detached."""
    total = torch.zeros((), device=batch.device)
    for images, labels in zip(batch.chunk(parts), target.chunk(parts), strict=True):
        loss = loss_of(images, labels) * (len(images) / len(batch))
        loss.backward()
        total += loss.detach()
    return total


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], int]]:
    """SIGINT and SIGTERM only set a flag inside the block; the yielded function gives the signal's number, or 0."""
    caught: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {kind: signal.signal(kind, lambda number, _: caught.append(number)) for kind in kinds}
    except ValueError:  # not the main thread: the caller handles signals
        before = {}
    try:
        yield lambda: caught[0] if caught else 0
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _together(number: int, world: int) -> int:
    """The largest of all processes' numbers: signals come between different steps, all stop at the same one."""
    if world == 1:
        return number
    largest = torch.tensor(number)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def _compiles(recipe: Recipe, steps: int, device: torch.device) -> tuple[bool, str]:
    """Whether to compile the step, and a note that says so."""
    cpu = device.type == "cpu"
    # On a CPU fused quantizers leave it little to gain in a residual network, and nothing in a plain one.
    if recipe.compile == "yes" or (recipe.compile == "auto" and not cpu and steps >= PAYS_FROM):
        if cpu and shutil.which("g++") is None:
            return False, "eager (torch.compile needs g++)"
        return True, "compiled (the first step takes a minute or two)"
    if cpu:
        return False, "eager" if kernels() else "eager (with g++ here quantizers would be fused, a sixth of the time)"
    return False, "eager" if recipe.compile == "no" else f"eager ({steps} steps do not pay for compiling)"


def sync_buffers(model: nn.Module) -> None:
    """Give every process rank 0's buffers: batch-norm statistics are each process's own in between."""
    if dist.is_available() and dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def train(
    recipe: Recipe,
    data: LabelledPictures,
    out: Path,
    *,
    test: LabelledPictures | None = None,
    holdout: int = 1000,
    resume: bool = False,
    teacher: Teacher | None = None,
    init: dict[str, Tensor] | None = None,
    stands_on: Mapping[str, Mapping[str, str]] | None = None,
    model: nn.Module | None = None,
    minutes: float = 10.0,
    report: Report = quiet,
) -> dict[str, Any]:
    """Run `recipe` on `data` and leave `last.pt`, `best.pt`, `log.csv`, `run.json` and `model.safetensors` in `out`.

    Args:
        test: evaluated once, at the end, with the chosen epoch; never used to choose.
        holdout: this many training pictures, drawn by the seed, are kept out. Under a constant rate they choose the
            epoch; the "triangle" ends at rate zero and keeps the last one.
        resume: go on from `out/last.pt`, to the same result as without the interruption.
        teacher: distil from it.
        init: a state dict to start from, where name and shape agree.
        stands_on: for the metadata, the files that `init` and `teacher` came from (`state.fingerprints`).
        model: a network of the user's own, trained in place of the recipe's; it ends in eval, with the weights of the
            chosen epoch. Of it there is no model file.
        minutes: between checkpoints inside an epoch; there is one at every epoch's end too.
        report: called with progress events: {"event": "start" | "step" | "epoch" | "note", ...}.

    Returns:
        The run's metadata, as in `run.json` and the model file.

    Raises:
        Interrupted: on SIGINT or SIGTERM, after saving.
        BadInput: the folder holds another run, or the loss stopped being a number (names step and layer).
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    require_startable(recipe, data, out, holdout, resume)
    identity = identify(recipe, data, holdout, stands_on)
    kwargs = DistributedDataParallelKwargs(broadcast_buffers=False)
    # Precision is the recipe's own affair: accelerate would patch the model's forward, evaluation included.
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no", kwargs_handlers=[kwargs])
    check_exact(accelerator.device.type)
    if not accelerator.is_main_process:
        report = quiet
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    used = identity.split[0]
    size = min(recipe.batch, used)
    if size % world:
        raise BadInput(f"batch {size}: expected a multiple of the {world} processes")
    # Files in a folder come class by class: what is held out must be drawn from all of them.
    drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(recipe.seed)).numpy()
    kept, held = drawn[holdout : holdout + used], drawn[:holdout]
    images, labels = (torch.from_numpy(a[kept]).to(device) for a in (data.images, data.labels))
    held_images, held_labels = (torch.from_numpy(a[held]).to(device) for a in (data.images, data.labels))

    torch.manual_seed(recipe.seed)
    given, model = model, model if model is not None else build(recipe.config())
    if init is not None and not resume:
        report({"event": "note", "text": _start_from(model, init)})
    model.to(device)
    network = accelerator.prepare_model(model)
    optimizers = Optimizers(model, recipe)
    progress = Progress()
    accelerator.wait_for_everyone()  # every process has looked at `out` before the first one writes
    if resume:
        progress = restore_checkpoint(out / "last.pt", identity, model, optimizers)
    else:
        if given is None or not is_calibrated(model):
            calibrate(model, next(batches(images, labels, recipe, 0))[0])
        if accelerator.is_main_process:
            save_checkpoint(out / "last.pt", identity, model, optimizers, progress)
    per_epoch = used // size
    steps = recipe.epochs * per_epoch
    compiled, how = _compiles(recipe, steps - len(progress.rows) * per_epoch - progress.step, device)
    if teacher is not None:
        teacher = teacher.to(device).compiled() if compiled else teacher.to(device)
    loss_of = make_loss(torch.compile(network) if compiled else network, recipe, teacher)
    where = f"{device.type}" + (f", {world} processes" if world > 1 else "")
    done = len(progress.rows) * per_epoch + progress.step
    report(
        {
            "event": "start",
            "how": f"{recipe.name} on {where}, {precision(recipe, device.type)}, {how}",
            "epochs": recipe.epochs,
        }
        | {"steps": per_epoch, "done": done, "used": used, "batch": size}
    )

    parts, saved = 1, time.monotonic()
    with _stop_requests() as stop:
        for epoch in range(len(progress.rows), recipe.epochs):
            model.train()
            begin = time.perf_counter() - progress.seconds
            total = torch.tensor(progress.loss, dtype=torch.float64, device=device)
            for batch, target in batches(images, labels, recipe, epoch, progress.step, rank, world):
                while True:
                    try:
                        total += accumulate(loss_of, batch, target, parts)
                        break
                    except torch.OutOfMemoryError:
                        optimizers.clear()
                        if world > 1 or parts * 2 > len(batch):
                            raise BadInput(f"too little memory for batches of {size}: --set batch") from None
                        parts *= 2
                        text = f"too little memory: batches of {size} now in {parts} parts, accumulated"
                        report({"event": "note", "text": text})
                optimizers.step(fraction(recipe, epoch * per_epoch + progress.step, steps))
                progress.step += 1
                report({"event": "step", "epoch": epoch + 1, "step": progress.step})
                wanted = _together(stop(), world)
                due = bool(wanted) or (accelerator.is_main_process and time.monotonic() - saved > minutes * 60)
                if due or progress.step % LOOK_EVERY == 0 or progress.step == per_epoch:
                    progress.loss = float(total)
                    if not math.isfinite(progress.loss) or first_bad_parameter(model):
                        again = (batches(images, labels, recipe, e, s) for e, s in _from(out, recipe.epochs))
                        eager = make_loss(model, recipe, teacher)
                        last = out / "last.pt"
                        place = locate(last, identity, model, optimizers, again, eager, per_epoch, world)
                        raise BadInput(f"not a number: {place}; {last} is from before")
                if due and accelerator.is_main_process:
                    progress.seconds = time.perf_counter() - begin
                    save_checkpoint(out / "last.pt", identity, model, optimizers, progress)
                    saved = time.monotonic()
                if wanted:
                    accelerator.wait_for_everyone()
                    at = f"{signal.Signals(wanted).name} in epoch {epoch + 1}, step {progress.step}"
                    raise Interrupted(f"{at}: saved, --resume goes on")
            seconds = time.perf_counter() - begin
            sync_buffers(model)
            mean = accelerator.reduce(total, "mean")
            row = {
                "epoch": epoch + 1,
                "loss": round(float(mean) / per_epoch, 5),
                "holdout": _accuracy(model, held_images, held_labels) if holdout else 0.0,
                "images_per_s": round(per_epoch * size / seconds, 1),
                "seconds": round(seconds, 1),
            }
            progress = Progress([*progress.rows, row])
            if accelerator.is_main_process:
                # Where the rate falls to zero the last epoch is the one to expect most of; a thousand pictures tell
                # epochs apart by chance alone.
                best = max(progress.rows, key=lambda r: (r["holdout"], r["epoch"]))
                pays = epoch + 1 == recipe.epochs or time.monotonic() - saved >= SAVE_AFTER
                chosen = pays if recipe.schedule == "triangle" else best is row
                if chosen:
                    save_checkpoint(out / "best.pt", identity, model, None, progress)
                if pays:
                    save_checkpoint(out / "last.pt", identity, model, optimizers, progress)
                    saved = time.monotonic()
                write_log(out / "log.csv", progress.rows)
            report({"event": "epoch", **row})
    accelerator.wait_for_everyone()
    return finish(identity, out, test, device, given) if accelerator.is_main_process else {}


def require_startable(recipe: Recipe, data: LabelledPictures, out: Path, holdout: int, resume: bool) -> None:
    """Raises `BadInput` now for what would otherwise come up hours later."""
    if not 0 <= holdout < len(data):
        raise BadInput(f"--holdout {holdout}: expected 0 to {len(data) - 1}, the training pictures being {len(data)}")
    if len(data.classes) > recipe.classes:
        raise BadInput(f"{data.source}: {len(data.classes)} classes, the network of {recipe.name} has {recipe.classes}")
    if recipe.arch != MODULE:
        build(recipe.config())
    last = out / "last.pt"
    if resume:
        require_same_run(last, read_checkpoint(last), identify(recipe, data, holdout))
    elif last.exists():
        raise BadInput(f"{out}: holds a run already; --resume goes on with it, another --out starts afresh")
    with atomic_file(out / ".probe") as temporary:
        temporary.touch()
    (out / ".probe").unlink(missing_ok=True)


def _from(out: Path, epochs: int) -> Iterator[tuple[int, int]]:
    """(epoch, first step) of every epoch from the last checkpoint on."""
    progress = read_checkpoint(out / "last.pt")["progress"]
    first = len(progress["rows"])
    for epoch in range(first, epochs):
        yield epoch, progress["step"] if epoch == first else 0


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return int((predict(model, images) == labels).sum()) / len(labels)


def _start_from(model: nn.Module, init: dict[str, Tensor]) -> str:
    """Copy what fits by name and shape; clip values of the weights follow the new weights."""
    own = model.state_dict()
    fitting = {n: t for n, t in init.items() if n in own and own[n].shape == t.shape}
    model.load_state_dict(fitting, strict=False)
    for name, layer in quant_layers(model).items():
        if f"{name}.weight_quant.alpha" not in fitting:
            layer.weight_quant.initialize(layer.weight)  # type: ignore[operator]
    return f"{len(fitting)} of {len(own)} tensors from the run that this one starts from"


def finish(
    identity: Identity, out: Path, test: LabelledPictures | None, device: torch.device, given: nn.Module | None = None
) -> dict[str, Any]:
    """Measure and export the chosen epoch of a complete run, `given` or the recipe's network; returns its metadata."""
    state, last = read_checkpoint(out / "best.pt"), read_checkpoint(out / "last.pt")
    rows = last["progress"]["rows"]
    model = build(state["config"]) if given is None else given
    model.load_state_dict(state["model"])
    chosen = state["progress"]["rows"][-1]
    run: dict[str, Any] = {
        **identity.about(),
        "train_pictures": identity.split[0],
        "epochs": len(rows),
        "chosen_epoch": chosen["epoch"],
        "holdout_pictures": identity.split[1],
        "holdout_accuracy": chosen["holdout"],
        "seconds": round(sum(r["seconds"] for r in rows)),
        "precision": precision(identity.recipe, device.type),
        "version": __version__,
        "torch": torch.__version__,
    }
    if test is not None:
        images, labels = (torch.from_numpy(a).to(device) for a in (test.images, test.labels))
        correct = int((predict(model.to(device), images) == labels).sum())
        run |= {"test_data": test.source, "test_correct": correct, "test_total": len(test)}
        run["test_accuracy"] = correct / len(test)
    model.cpu().eval()
    if isinstance(model, Net) and quant_layers(model):
        save_model(model, out / "model.safetensors", run)
    write_log(out / "log.csv", rows)  # again: a kill may have come between the last checkpoint and its line
    with atomic_file(out / "run.json") as temporary:
        temporary.write_text(json.dumps(run, indent=1) + "\n")
    return run
