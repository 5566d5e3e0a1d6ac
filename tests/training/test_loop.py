from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import pictures
from systolith.formats import BadInput
from systolith.models import load
from systolith.models.pretrained import read_checkpoint
from systolith.training import loop
from systolith.training.data import LabelledPictures
from systolith.training.recipes import recipe

SMALL = recipe("smoke", ["batch=16", "train_limit=32"])


def data(count: int = 48) -> LabelledPictures:
    labels = np.random.default_rng(1).integers(0, 10, count)
    return LabelledPictures(pictures(count), labels, tuple("abcdefghij"), "noise")


def test_triangle() -> None:
    # 10 steps, warm-up 20 %: up over 2 steps, then down over 8.
    assert [loop.triangle(i, 10, 0.2) for i in range(10)] == [
        0.5,
        1.0,
        1.0,
        7 / 8,
        6 / 8,
        5 / 8,
        4 / 8,
        3 / 8,
        2 / 8,
        1 / 8,
    ]
    assert loop.triangle(0, 1, 0.2) == 1.0


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    images, labels = torch.from_numpy(pictures(40)), torch.arange(40)
    flipped = torch.zeros(40, dtype=torch.bool)

    def epoch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        parts = list(loop.batches(images, labels, SMALL, number, flipped))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert len(first[0]) == 32  # two whole batches of 16
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], second[1])
    assert len(set(first[1].tolist())) == 32  # each picture at most once


def test_an_interrupted_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    straight = loop.train(SMALL, data(), tmp_path / "a", holdout=16)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(SMALL, data(), tmp_path / "b", holdout=16, report=stop)
    assert len(read_checkpoint(tmp_path / "b" / "last.pt")["rows"]) == 1
    resumed = loop.train(SMALL, data(), tmp_path / "b", holdout=16, resume=True)
    states = [read_checkpoint(tmp_path / run / "last.pt") for run in "ab"]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name
    timing = ("seconds", "images_per_s")
    assert {k: v for k, v in straight.items() if k not in timing} == {
        k: v for k, v in resumed.items() if k not in timing
    }

    # What a run leaves, and what it refuses.
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["best.pt", "last.pt", "log.csv", "model.safetensors"]
    rows = list(csv.DictReader((tmp_path / "a" / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    batch = torch.from_numpy(pictures(4, seed=3))
    with torch.no_grad():
        assert torch.equal(
            load(str(tmp_path / "a" / "best.pt"))[0](batch), load(str(tmp_path / "a/model.safetensors"))[0](batch)
        )
    with pytest.raises(BadInput, match="holds a run already; --resume"):
        loop.train(SMALL, data(), tmp_path / "a", holdout=16)
    with pytest.raises(BadInput, match=r"needs the same pictures and --holdout; .* \[32, 16\] -> \[31, 17\]"):
        loop.train(SMALL, data(), tmp_path / "a", resume=True, holdout=17)
    with pytest.raises(BadInput, match=r"needs the same recipe; changed: epochs 2 -> 3"):
        loop.train(
            recipe("smoke", ["batch=16", "train_limit=32", "epochs=3"]), data(), tmp_path / "a", resume=True, holdout=16
        )


def test_the_epoch_is_chosen_on_held_out_pictures_and_test_is_only_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = data(64)
    seen: list[int] = []
    answers = iter([0.75, 0.25])  # held out: the first epoch is the better

    def predict(model: torch.nn.Module, images: torch.Tensor, batch: int = 500) -> torch.Tensor:
        seen.append(len(images))
        if len(images) == 16:
            held = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:16].numpy()
            assert torch.equal(images, torch.from_numpy(everything.images[held]))
            right = int(next(answers) * 16)
            truth = torch.from_numpy(everything.labels[held]).clone()
            truth[right:] += 1
            return truth
        return torch.zeros(len(images), dtype=torch.int64)

    monkeypatch.setattr(loop, "predict", predict)
    run = loop.train(SMALL, everything, tmp_path / "a", test=data(20), holdout=16)
    assert seen == [16, 16, 20]
    assert (run["chosen_epoch"], run["holdout_accuracy"], run["epochs"]) == (1, 0.75, 2)
    assert run["test_accuracy"] == float((data(20).labels == 0).mean())


def test_a_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the loss became nan in epoch 1"):
        loop.train(recipe("smoke", ["batch=16", "train_limit=32", "logit_scale=nan"]), data(), tmp_path, holdout=8)
    assert not (tmp_path / "last.pt").exists()


def test_holdout_must_leave_something(tmp_path: Path) -> None:
    for holdout in (48, -2):
        with pytest.raises(BadInput, match=f"--holdout {holdout}: expected 0 to 47"):
            loop.train(SMALL, data(), tmp_path, holdout=holdout)


def test_what_cannot_be_trained_is_said_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        loop.train(SMALL, data(), tmp_path / "file" / "run", holdout=16)
    many = LabelledPictures(pictures(12), np.arange(12), tuple("abcdefghijkl"), "many")
    with pytest.raises(BadInput, match="many: 12 classes, the network of smoke has 10"):
        loop.train(SMALL, many, tmp_path / "run", holdout=4)
