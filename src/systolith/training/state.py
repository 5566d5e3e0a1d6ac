"""What a run leaves on disk: checkpoints, the log, and how to go on from them."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from systolith import __version__
from systolith.formats import BadInput
from systolith.models import Vgg16, config_of
from systolith.models.pretrained import read_checkpoint
from systolith.store import atomic_file
from systolith.training.optim import Optimizers
from systolith.training.recipes import Recipe


@dataclass
class Progress:
    """How far a run is: `rows` one per whole epoch, `step` steps and summed `loss`, `seconds` into the next."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Identity:
    """What a run is: the recipe, [pictures trained on, held out], and the data's name and classes."""

    recipe: Recipe
    split: tuple[int, int]
    data: str
    classes: tuple[str, ...]


def save_checkpoint(
    path: Path, identity: Identity, model: Vgg16, optimizers: Optimizers | None, progress: Progress
) -> None:
    """Write a checkpoint, atomically; without optimizers it cannot be resumed, only evaluated."""
    recipe = asdict(identity.recipe)
    state = {
        "config": config_of(model),
        "model": model.state_dict(),
        "optimizers": optimizers.state() if optimizers else None,
        "progress": asdict(progress),
        "recipe": recipe,
        "split": list(identity.split),
        "run": {"recipe": recipe, "data": identity.data, "epochs": len(progress.rows), "version": __version__},
    }
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def restore_checkpoint(path: Path, identity: Identity, model: Vgg16, optimizers: Optimizers) -> Progress:
    """Put model and optimizers where `path` left them; `BadInput` if it is another run's."""
    state = read_checkpoint(path)
    # A setting that did not exist yet when the run began had what is now its default.
    now, before = asdict(identity.recipe), {**_defaults(), **(state.get("recipe") or {})}
    changed = [f"{k} {before.get(k)!r} -> {now[k]!r}" for k in now if repr(before.get(k)) != repr(now[k])]
    if changed:
        raise BadInput(f"{path}: --resume needs the same recipe; changed: {', '.join(changed)}")
    if state.get("split") != list(identity.split):
        raise BadInput(
            f"{path}: --resume needs the same pictures and --holdout; "
            f"[trained on, held out] {state.get('split')} -> {list(identity.split)}"
        )
    model.load_state_dict(state["model"])
    optimizers.load(state["optimizers"])
    return Progress(**state["progress"])


def _defaults() -> dict[str, Any]:
    return {f.name: f.default for f in fields(Recipe) if f.name != "name"}


def complete(path: Path, recipe: Recipe) -> bool:
    """Whether `path` is the last checkpoint of a whole run of `recipe`."""
    if not path.exists():
        return False
    state = read_checkpoint(path)
    return {**_defaults(), **state.get("recipe", {})} == asdict(recipe) and len(
        state["progress"]["rows"]
    ) == recipe.epochs


def write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    """One CSV line an epoch."""
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
