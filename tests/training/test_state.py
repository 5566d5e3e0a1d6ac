from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from systolith.formats import BadInput
from systolith.models import build
from systolith.models.pretrained import read_checkpoint
from systolith.training.optim import Optimizers
from systolith.training.recipes import recipe
from systolith.training.state import Identity, Progress, complete, restore_checkpoint, save_checkpoint, write_log

SMOKE = recipe("smoke")
IDENTITY = Identity(SMOKE, (10, 2), "noise", ("a", "b"), 7)
ROW = {"epoch": 1, "loss": 2.0}


def test_a_checkpoint_says_how_far_it_is_and_whose(tmp_path: Path) -> None:
    model = build({"arch": "vgg16", "squeeze_layer": "features.27"})
    optimizers = Optimizers(model, SMOKE)
    path = tmp_path / "last.pt"
    assert not complete(path, IDENTITY)
    save_checkpoint(path, IDENTITY, model, optimizers, Progress([ROW], 3, 1.5, 9.0))
    assert restore_checkpoint(path, IDENTITY, model, optimizers) == Progress([ROW], 3, 1.5, 9.0)
    assert not complete(path, IDENTITY)
    save_checkpoint(path, IDENTITY, model, optimizers, Progress([ROW, ROW]))
    assert complete(path, IDENTITY)
    with pytest.raises(BadInput, match=r"noise holds others than the run began with"):
        complete(path, replace(IDENTITY, digest=8))
    with pytest.raises(BadInput, match=r"changed: lr 0\.04 -> 1\.0"):
        restore_checkpoint(path, replace(IDENTITY, recipe=replace(SMOKE, lr=1.0)), model, optimizers)
    with pytest.raises(BadInput, match=r"\[10, 2\] -> \[10, 3\]"):
        restore_checkpoint(path, replace(IDENTITY, split=(10, 3)), model, optimizers)


def test_a_setting_that_came_later_had_its_default(tmp_path: Path) -> None:
    model = build({"arch": "vgg16", "squeeze_layer": "features.27"})
    optimizers = Optimizers(model, SMOKE)
    save_checkpoint(tmp_path / "last.pt", IDENTITY, model, optimizers, Progress([ROW, ROW]))
    state = read_checkpoint(tmp_path / "last.pt")
    del state["recipe"]["temperature"]
    torch.save(state, tmp_path / "last.pt")
    assert complete(tmp_path / "last.pt", IDENTITY)
    restore_checkpoint(tmp_path / "last.pt", IDENTITY, model, optimizers)
    with pytest.raises(BadInput, match=r"changed: temperature 2\.0 -> 3\.0"):
        restore_checkpoint(
            tmp_path / "last.pt", replace(IDENTITY, recipe=replace(SMOKE, temperature=3.0)), model, optimizers
        )


def test_the_log(tmp_path: Path) -> None:
    write_log(tmp_path / "log.csv", [ROW, {**ROW, "epoch": 2}])
    assert (tmp_path / "log.csv").read_text().split() == ["epoch,loss", "1,2.0", "2,2.0"]
