"""What a run leaves on disk: checkpoints, the log, and how to go on from them."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from systolith.formats import BadInput
from systolith.models import config_of
from systolith.models.pretrained import read_checkpoint
from systolith.store import atomic_file, sha256_of
from systolith.training.data import LabelledPictures
from systolith.training.optim import Optimizers
from systolith.training.recipes import Recipe
from systolith.version import __version__


@dataclass
class Progress:
    """How far a run is: `rows` one per whole epoch, `step` steps and summed `loss`, `seconds` into the next."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Identity:
    """What a run is: its recipe, [pictures trained on, held out], and the data's name, classes and digest.

    `stands_on` says of the files that it starts from and is taught by their names and SHA-256.
    """

    recipe: Recipe
    split: tuple[int, int]
    data: str
    classes: tuple[str, ...]
    digest: int
    stands_on: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """What the metadata says of the run. Files go by their names: where they lay is this machine's affair."""
        recipe = asdict(self.recipe)
        for key in ("init_from", "teacher"):
            recipe[key] = Path(recipe[key]).name
        return {
            "recipe": recipe,
            "stands_on": {key: dict(file) for key, file in self.stands_on.items()},
            "data": self.data,
            "classes": list(self.classes),
        }


def fingerprints(files: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Name and SHA-256 of each file, for `Identity.stands_on`; a stage's checkpoint goes by FOLDER/NAME."""
    names = {
        key: f"{path.parent.name}/{path.name}" if path.suffix == ".pt" else path.name for key, path in files.items()
    }
    return {key: {"file": names[key], "sha256": sha256_of(path)} for key, path in files.items()}


def identify(
    recipe: Recipe, data: LabelledPictures, holdout: int, stands_on: Mapping[str, Mapping[str, str]] | None = None
) -> Identity:
    """The identity of a run of `recipe` on `data` with `holdout` pictures kept out."""
    used = min(len(data) - holdout, recipe.train_limit or len(data))
    digest = zlib.crc32(data.labels.tobytes(), zlib.crc32(np.ascontiguousarray(data.images).data))
    return Identity(recipe, (used, holdout), data.source, data.classes, digest, stands_on or {})


def save_checkpoint(
    path: Path, identity: Identity, model: nn.Module, optimizers: Optimizers | None, progress: Progress
) -> None:
    """Write a checkpoint, atomically; without optimizers it cannot be resumed, only evaluated."""
    state = {
        "config": config_of(model),
        "model": model.state_dict(),
        "optimizers": optimizers.state() if optimizers else None,
        "progress": asdict(progress),
        "recipe": asdict(identity.recipe),
        "split": list(identity.split),
        "digest": identity.digest,
        "run": {**identity.about(), "epochs": len(progress.rows), "version": __version__},
    }
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def require_same_run(path: Path, state: dict[str, Any], identity: Identity) -> None:
    """Raise `BadInput` unless the checkpoint `state` read from `path` is of the run `identity`."""
    # A setting that did not exist yet when the run began had what is now its default.
    now, before = asdict(identity.recipe), {**_defaults(), **(state.get("recipe") or {})}
    changed = [f"{k} {before.get(k)!r} -> {now[k]!r}" for k in now if repr(before.get(k)) != repr(now[k])]
    if changed:
        raise BadInput(f"{path}: going on needs the same recipe; changed: {', '.join(changed)}")
    if state.get("split") != list(identity.split):
        raise BadInput(
            f"{path}: going on needs the same pictures and --holdout; "
            f"[trained on, held out] {state.get('split')} -> {list(identity.split)}"
        )
    if state.get("digest", identity.digest) != identity.digest:
        raise BadInput(
            f"{path}: going on needs the same pictures; {identity.data} holds others than the run began with"
        )


def restore_checkpoint(path: Path, identity: Identity, model: nn.Module, optimizers: Optimizers) -> Progress:
    """Put model and optimizers where `path` left them; `BadInput` if it is another run's."""
    state = read_checkpoint(path)
    require_same_run(path, state, identity)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise BadInput(f"{path}: holds another network ({str(error).splitlines()[-1].strip()[:150]})") from None
    optimizers.load(state["optimizers"])
    return Progress(**state["progress"])


def _defaults() -> dict[str, Any]:
    return {f.name: f.default for f in fields(Recipe) if f.name != "name"}


def complete(path: Path, identity: Identity) -> bool:
    """Whether the run `identity` has come to its end in `path`; `BadInput` if `path` is another run's."""
    if not path.exists():
        return False
    state = read_checkpoint(path)
    require_same_run(path, state, identity)
    return len(state["progress"]["rows"]) == identity.recipe.epochs


def write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    """One CSV line an epoch."""
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
