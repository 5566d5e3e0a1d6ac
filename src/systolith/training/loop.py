"""The training loop: one file to read in a sitting.

Tricks, by name: Muon on the convolutions (Jordan et al. 2024), AdamW on the rest, triangular learning rate, label
smoothing, alternating flip (Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024), reflected pad-crop, clip values from data
before the first step.
"""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith import __version__
from systolith.formats import BadInput
from systolith.models import Vgg16, build, config_of, save_model
from systolith.models.pretrained import read_checkpoint
from systolith.quant import QuantConv2d, calibrate, check_exact
from systolith.store import atomic_file
from systolith.training.augment import crop, flip
from systolith.training.data import LabelledPictures
from systolith.training.recipes import Recipe

Report = Callable[[dict[str, Any]], None]


class Optimizers:
    """Muon on the convolutions' matrices and AdamW on everything else, stepped as one.

    torch's Muon takes matrices only: it gets a (O, I*KH*KW) view of each convolution's weight.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.weights = [m.weight for m in model.modules() if isinstance(m, QuantConv2d) and m.weight is not None]
        self.matrices = [nn.Parameter(w.detach().flatten(1)) for w in self.weights]
        chosen = {id(w) for w in self.weights}
        rest = [p for p in model.parameters() if id(p) not in chosen]
        self.muon = torch.optim.Muon(self.matrices, lr=recipe.lr, momentum=recipe.momentum, weight_decay=0.0)
        self.adam = torch.optim.AdamW(rest, lr=recipe.lr_rest, betas=(0.9, 0.99), weight_decay=0.0)
        self.peaks = (recipe.lr, recipe.lr_rest)

    def step(self, fraction: float) -> None:
        """One step at `fraction` of the peak learning rates; gradients are cleared."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            assert weight.grad is not None
            matrix.grad = weight.grad.reshape(matrix.shape)
        for optimizer, peak in zip((self.muon, self.adam), self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * fraction
            optimizer.step()
        for parameter in (*self.weights, *self.matrices, *self.adam.param_groups[0]["params"]):
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def triangle(step: int, steps: int, warmup: float) -> float:
    """Learning-rate fraction of `step` (0-based): up to 1 over `warmup*steps`, then linearly towards 0."""
    rise = max(1.0, warmup * steps)
    return min((step + 1) / rise, (steps - step) / max(1.0, steps - rise))


def batches(
    images: Tensor, labels: Tensor, recipe: Recipe, epoch: int, flipped: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches of one epoch, a function of (seed, epoch) alone, so that a resumed run sees the same."""
    gen = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(len(images), generator=gen)
    shifts = torch.randint(0, 9, (len(images), 2), generator=gen)
    size = min(recipe.batch, len(images))
    for at in range(0, len(images) - size + 1, size):
        index = order[at : at + size]
        batch = flip(crop(images[index], shifts[index]), flipped[index] ^ bool(epoch % 2))
        yield batch.contiguous(memory_format=torch.channels_last), labels[index]


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch: int = 500) -> Tensor:
    """Class of each picture, int64 (N,): fp32, codes first."""
    was_training = model.training
    model.eval()
    classes = torch.cat([model(part).argmax(1) for part in images.split(batch)])
    model.train(was_training)
    return classes


def _training_step(model: nn.Module, recipe: Recipe) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """The function from a batch to its loss, and a note on how it runs."""
    compiled = recipe.compile and shutil.which("g++") is not None
    network = torch.compile(model) if compiled else model
    if compiled:
        how = "compiled (the first step takes about a minute)"
    else:
        how = "eager" + (": torch.compile needs g++" if recipe.compile else "")

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = network(images)
        return F.cross_entropy(logits.float() * recipe.logit_scale, labels, label_smoothing=recipe.label_smoothing)

    return loss_of, f"{recipe.precision}, {how}"


def train(
    recipe: Recipe,
    data: LabelledPictures,
    out: Path,
    *,
    test: LabelledPictures | None = None,
    holdout: int = 1000,
    resume: bool = False,
    report: Report = lambda event: None,
) -> dict[str, Any]:
    """Run `recipe` on `data` and leave `last.pt`, `best.pt`, `log.csv` and `model.safetensors` in `out`.

    Args:
        test: evaluated once, at the end, with the chosen epoch; never used to choose.
        holdout: this many training pictures, drawn by the seed, are kept out and choose the best epoch (0: the last).
        resume: go on from `out/last.pt`, to the same result as without the interruption.
        report: called with progress events: {"event": "start" | "step" | "epoch" | "note", ...}.

    Returns:
        The run's metadata, as stored in the model file.
    """
    check_exact()
    require_trainable(recipe, data, out, holdout)
    # Files in a folder come class by class: what is held out must be drawn from all of them.
    drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(recipe.seed)).numpy()
    used = min(len(data) - holdout, recipe.train_limit or len(data))
    kept, held = drawn[holdout : holdout + used], drawn[:holdout]
    images, labels = torch.from_numpy(data.images[kept]), torch.from_numpy(data.labels[kept])
    held_images, held_labels = torch.from_numpy(data.images[held]), torch.from_numpy(data.labels[held])

    torch.manual_seed(recipe.seed)
    model = build({"arch": "vgg16", **asdict(recipe.model_config())})
    optimizers = Optimizers(model, recipe)
    flipped = torch.randint(0, 2, (used,), generator=torch.Generator().manual_seed(recipe.seed)).bool()
    rows: list[dict[str, Any]] = []
    if resume:
        rows = _restore(out / "last.pt", recipe, [used, holdout], model, optimizers)
    elif (out / "last.pt").exists():
        raise BadInput(f"{out}: holds a run already; --resume goes on with it, another --out starts afresh")
    else:
        calibrate(model, next(batches(images, labels, recipe, 0, flipped))[0])
    loss_of, how = _training_step(model, recipe)
    per_epoch = used // min(recipe.batch, used)
    steps = recipe.epochs * per_epoch
    report(
        {
            "event": "start",
            "how": how,
            "epochs": recipe.epochs,
            "steps": per_epoch,
            "done": len(rows),
            "used": used,
        }
    )

    for epoch in range(len(rows), recipe.epochs):
        model.train()
        begin = time.perf_counter()
        total, right = torch.zeros(()), 0.0
        for i, (batch, target) in enumerate(batches(images, labels, recipe, epoch, flipped)):
            loss = loss_of(batch, target)
            loss.backward()
            optimizers.step(triangle(epoch * per_epoch + i, steps, recipe.warmup))
            total += loss.detach()
            report({"event": "step", "epoch": epoch + 1, "step": i + 1, "images": (i + 1) * len(batch)})
        seconds = time.perf_counter() - begin
        mean_loss = float(total) / per_epoch
        if not math.isfinite(mean_loss):
            raise BadInput(f"the loss became {mean_loss} in epoch {epoch + 1}; {out / 'last.pt'} is the epoch before")
        if holdout:
            right = float((predict(model, held_images) == held_labels).float().mean())
        rows.append(
            {
                "epoch": epoch + 1,
                "loss": round(mean_loss, 5),
                "holdout": right,
                "images_per_s": round(per_epoch * min(recipe.batch, used) / seconds, 1),
                "seconds": round(seconds, 1),
            }
        )
        best = max(rows, key=lambda r: (r["holdout"], r["epoch"]))
        if best is rows[-1]:
            _save(out / "best.pt", recipe, [used, holdout], model, None, rows, data)
        _save(out / "last.pt", recipe, [used, holdout], model, optimizers, rows, data)
        _write_log(out / "log.csv", rows)
        report({"event": "epoch", **rows[-1]})
    return finish(recipe, out, data, test, holdout)


def require_trainable(recipe: Recipe, data: LabelledPictures, out: Path, holdout: int) -> None:
    """Raise `BadInput` now for what would otherwise come up after the first epoch."""
    if not 0 <= holdout < len(data):
        raise BadInput(f"--holdout {holdout}: expected 0 to {len(data) - 1}, the training pictures being {len(data)}")
    classes = recipe.model_config().classes
    if len(data.classes) > classes:
        raise BadInput(f"{data.source}: {len(data.classes)} classes, the network of {recipe.name} has {classes}")
    with atomic_file(out / ".probe") as temporary:
        temporary.touch()
    (out / ".probe").unlink()


def finish(
    recipe: Recipe, out: Path, data: LabelledPictures, test: LabelledPictures | None, holdout: int
) -> dict[str, Any]:
    """Export the chosen epoch of a complete run as `out/model.safetensors`; returns its metadata."""
    state = read_checkpoint(out / "best.pt")
    rows = read_checkpoint(out / "last.pt")["rows"]
    model = build(state["config"])
    model.load_state_dict(state["model"])
    chosen = state["rows"][-1]
    run: dict[str, Any] = {
        "recipe": asdict(recipe),
        "data": data.source,
        "classes": list(data.classes),
        "train_pictures": min(len(data) - holdout, recipe.train_limit or len(data)),
        "epochs": len(rows),
        "chosen_epoch": chosen["epoch"],
        "holdout_pictures": holdout,
        "holdout_accuracy": chosen["holdout"],
        "seconds": round(sum(r["seconds"] for r in rows)),
        "version": __version__,
        "torch": torch.__version__,
    }
    if test is not None:
        correct = int((predict(model, torch.from_numpy(test.images)) == torch.from_numpy(test.labels)).sum())
        run |= {"test_data": test.source, "test_correct": correct, "test_total": len(test)}
        run["test_accuracy"] = correct / len(test)
    save_model(model, out / "model.safetensors", run)
    return run


def _save(
    path: Path,
    recipe: Recipe,
    split: list[int],
    model: Vgg16,
    optimizers: Optimizers | None,
    rows: list[dict[str, Any]],
    data: LabelledPictures,
) -> None:
    state = {
        "config": config_of(model),
        "model": model.state_dict(),
        "optimizers": optimizers.state() if optimizers else None,
        "rows": rows,
        "recipe": asdict(recipe),
        "split": split,
        "run": {"recipe": asdict(recipe), "data": data.source, "epochs": len(rows), "version": __version__},
    }
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def _restore(
    path: Path, recipe: Recipe, split: list[int], model: Vgg16, optimizers: Optimizers
) -> list[dict[str, Any]]:
    state = read_checkpoint(path)
    if state.get("recipe") != asdict(recipe):
        before, now = state.get("recipe") or {}, asdict(recipe)
        changed = [f"{k} {before.get(k)!r} -> {now[k]!r}" for k in now if before.get(k) != now[k]]
        raise BadInput(f"{path}: --resume needs the same recipe; changed: {', '.join(changed)}")
    if state.get("split") != split:
        raise BadInput(
            f"{path}: --resume needs the same pictures and --holdout; "
            f"[trained on, held out] {state.get('split')} -> {split}"
        )
    model.load_state_dict(state["model"])
    optimizers.load(state["optimizers"])
    return list(state["rows"])


def _write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
