from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import narrow_vgg

from conftest import pictures
from systolith.formats import BadInput
from systolith.models import load
from systolith.models.pretrained import read_checkpoint
from systolith.quant import QuantLinear
from systolith.training import loop, precision
from systolith.training.data import LabelledPictures
from systolith.training.distill import Teacher
from systolith.training.recipes import recipe

SMALL = recipe("smoke", ["batch=16", "train_limit=48"])


@pytest.fixture(scope="module", autouse=True)
def narrow(random_model_file: Path) -> Iterator[None]:
    """The network of these tests; the file that other tests share is made before, at its full width."""
    with narrow_vgg():
        yield


def data(count: int = 64) -> LabelledPictures:
    labels = np.random.default_rng(1).integers(0, 10, count)
    return LabelledPictures(pictures(count), labels, tuple("abcdefghij"), "noise")


def same_result(a: Path, b: Path) -> None:
    """Both runs' last parameters, buffers and optimizer states are bit-identical."""
    states = [read_checkpoint(run / "last.pt") for run in (a, b)]
    for part in ("model", "optimizers"):
        flat = [torch.utils._pytree.tree_flatten_with_path(state[part])[0] for state in states]
        assert len(flat[0]) == len(flat[1])
        for (path, one), (_, other) in zip(*flat, strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, path


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs without interruption."""
    folder = tmp_path_factory.mktemp("straight")
    loop.train(SMALL, data(), folder, test=data(20), holdout=16)
    return folder


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    images, labels = torch.from_numpy(pictures(40)), torch.arange(40)

    def epoch(number: int, *place: int) -> tuple[torch.Tensor, torch.Tensor]:
        parts = list(loop.batches(images, labels, SMALL, number, *place))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert len(first[0]) == 32  # two whole batches of 16
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], second[1])
    assert len(set(first[1].tolist())) == 32  # each picture at most once
    assert torch.equal(epoch(0, 1)[0], first[0][16:])  # from step 1 on
    for rank in (0, 1):  # two processes share each batch
        assert torch.equal(epoch(0, 0, rank, 2)[0], first[0][rank::2])


def test_every_picture_is_flipped_every_other_epoch() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).expand(8, 3, 32, 32).contiguous()
    one = recipe("smoke", ["batch=8"])
    seen: dict[int, list[bool]] = {i: [] for i in range(8)}
    for epoch in range(4):
        for batch, labels in loop.batches(ramp, torch.arange(8), one, epoch):
            for picture, label in zip(batch, labels.tolist(), strict=True):
                seen[label].append(bool(picture[0, 16, 10] > picture[0, 16, 20]))
    for flips in seen.values():
        assert flips in ([True, False, True, False], [False, True, False, True])
    assert len({tuple(flips) for flips in seen.values()}) == 2


def test_with_cutmix_the_targets_are_shares() -> None:
    images, labels = torch.from_numpy(pictures(40)), torch.arange(40) % 10
    for chance, mixed in ((0.0, False), (1.0, True)):
        one = replace(SMALL, cutmix=chance)
        ((batch, target), (again, same)) = (next(loop.batches(images, labels, one, 0)) for _ in range(2))
        assert torch.equal(batch, again)
        assert torch.equal(target, same)
        assert target.shape == ((16, 10) if mixed else (16,))
        if mixed:
            assert torch.allclose(target.sum(1), torch.ones(16))
            assert ((target > 0).sum(1) == 2).any()  # two classes
            plain, _ = next(loop.batches(images, labels, SMALL, 0))
            assert 0 < (batch != plain).float().mean() < 1


def test_with_cutmix_it_trains(tmp_path: Path) -> None:
    run = loop.train(replace(SMALL, cutmix=0.5, cutout=4, epochs=1), data(), tmp_path, holdout=16)
    assert run["recipe"]["cutmix"] == 0.5


def test_what_a_run_leaves(straight: Path) -> None:
    names = {p.name for p in straight.iterdir()}
    assert names == {"best.pt", "last.pt", "log.csv", "model.safetensors", "run.json"}
    rows = list(csv.DictReader((straight / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    run = json.loads((straight / "run.json").read_text())
    assert run["test_total"] == 20
    assert run["test_accuracy"] == run["test_correct"] / 20
    assert run["precision"] == "fp32"
    batch = torch.from_numpy(pictures(4, seed=3))
    with torch.no_grad():
        best, exported = (load(str(straight / n))[0](batch) for n in ("best.pt", "model.safetensors"))
    assert torch.equal(best, exported)


def test_a_folder_holds_one_run(straight: Path) -> None:
    with pytest.raises(BadInput, match="holds a run already; --resume"):
        loop.train(SMALL, data(), straight, holdout=16)
    other = recipe("smoke", ["batch=16", "train_limit=48", "epochs=3"])
    with pytest.raises(BadInput, match="needs the same recipe; changed: epochs 2 -> 3"):
        loop.train(other, data(), straight, resume=True, holdout=16)
    with pytest.raises(BadInput, match=r"same pictures and --holdout; .* \[48, 16\] -> \[47, 17\]"):
        loop.train(SMALL, data(), straight, resume=True, holdout=17)


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {tests!r} + "/training"]
from pathlib import Path
from narrow import PLAN
from training.test_loop import SMALL, data, loop
from systolith.models import vgg

def report(event):
    if event["event"] == "step" and (event["epoch"], event["step"]) == (2, 2):
        os.kill(os.getpid(), signal.SIGKILL)

vgg._PLAN = PLAN
loop.SAVE_AFTER = {after}
loop.train(SMALL, data(), Path({out!r}), holdout=16, minutes={minutes}, report=report)
"""


@pytest.mark.parametrize(
    ("minutes", "after", "place"),
    [(0, 0, (1, 1)), (99, 0, (1, 0)), (99, 9999, (0, 0))],
    ids=["a checkpoint at every step", "at the end of an epoch", "too soon after the first one"],
)
def test_killed_and_resumed_is_bit_identical(
    straight: Path, tmp_path: Path, minutes: int, after: int, place: tuple[int, int]
) -> None:
    code = KILLED.format(tests=str(Path(__file__).parents[1]), out=str(tmp_path), minutes=minutes, after=after)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == -signal.SIGKILL
    progress = read_checkpoint(tmp_path / "last.pt")["progress"]
    assert (len(progress["rows"]), progress["step"]) == place
    loop.train(SMALL, data(), tmp_path, holdout=16, resume=True)
    same_result(straight, tmp_path)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_the_step_and_resumes(straight: Path, tmp_path: Path, kind: signal.Signals) -> None:
    def report(event: dict[str, Any]) -> None:
        if event["event"] == "step" and (event["epoch"], event["step"]) == (1, 2):
            os.kill(os.getpid(), kind)

    before = signal.getsignal(kind)
    with pytest.raises(loop.Interrupted, match=f"{kind.name} in epoch 1, step 2: saved"):
        loop.train(SMALL, data(), tmp_path, holdout=16, report=report)
    assert signal.getsignal(kind) is before
    assert read_checkpoint(tmp_path / "last.pt")["progress"]["step"] == 2
    loop.train(SMALL, data(), tmp_path, holdout=16, resume=True)
    same_result(straight, tmp_path)


@pytest.mark.parametrize(("schedule", "chosen"), [("triangle", (2, 0.25)), ("constant", (1, 0.75))])
def test_the_last_epoch_counts_or_the_best_on_held_out_pictures_and_test_is_only_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str, chosen: tuple[int, float]
) -> None:
    everything = data(64)
    seen: list[int] = []
    answers = iter([0.75, 0.25])  # held out: the first epoch is the better

    def predict(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        if len(images) == 16:
            held = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:16].numpy()
            assert torch.equal(images, torch.from_numpy(everything.images[held]))
            truth = torch.from_numpy(everything.labels[held]).clone()
            truth[int(next(answers) * 16) :] += 1
            return truth
        return torch.zeros(len(images), dtype=torch.int64)

    monkeypatch.setattr(loop, "predict", predict)
    run = loop.train(replace(SMALL, schedule=schedule), everything, tmp_path / "a", test=data(20), holdout=16)
    assert seen == [16, 16, 20]
    assert ((run["chosen_epoch"], run["holdout_accuracy"]), run["epochs"]) == (chosen, 2)
    assert run["test_accuracy"] == float((data(20).labels == 0).mean())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"logit_scale": math.nan}, "epoch 1, step 1: the loss itself, behind the last layer"),
        ({"lr": math.inf}, r"epoch 1, step 1: parameter features\.0\.weight after its update"),
    ],
)
@pytest.mark.parametrize("minutes", [0, 99])
def test_what_is_not_a_number_is_located_and_never_saved(
    tmp_path: Path, change: dict[str, float], place: str, minutes: float
) -> None:
    broken = replace(SMALL, **change)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=f"not a number: {place}; .*last.pt is from before"):
        loop.train(broken, data(), tmp_path, holdout=16, minutes=minutes)
    state = read_checkpoint(tmp_path / "last.pt")
    assert (state["progress"]["rows"], state["progress"]["step"]) == ([], 0)
    assert all(t.isfinite().all() for t in state["model"].values())


def test_a_bad_classifier_is_named() -> None:
    from systolith.training.fault import first_bad_layer

    model = torch.nn.Sequential(torch.nn.Flatten(), QuantLinear(4, 2))
    with torch.no_grad():
        model[1].act_quant.alpha.fill_(3e38)
        model[1].weight_quant.alpha.fill_(100)
    loss_of = loop.make_loss(model, SMALL, None)
    bad = first_bad_layer(model, loss_of, torch.full((2, 4), 3e38), torch.zeros(2, dtype=torch.long))
    assert bad == "the output of layer 1"


def test_other_pictures_are_another_run(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / "run")
    other = LabelledPictures(pictures(64, seed=9), data().labels, data().classes, "other")
    with pytest.raises(BadInput, match="needs the same pictures; other holds others than the run began with"):
        loop.train(SMALL, other, tmp_path / "run", holdout=16, resume=True)


def test_a_complete_run_resumed_says_the_same_again(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / "run")
    (tmp_path / "run" / "log.csv").unlink()  # killed before the last line was written
    loop.train(SMALL, data(), tmp_path / "run", test=data(20), holdout=16, resume=True)
    for name in ("run.json", "log.csv"):
        assert (tmp_path / "run" / name).read_text() == (straight / name).read_text()


def test_too_little_memory_halves_the_batch_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, notes, used = loop.accumulate, [], []

    def small(loss_of: Any, batch: torch.Tensor, target: torch.Tensor, parts: int) -> torch.Tensor:
        if len(batch) // parts > 4:
            raise torch.OutOfMemoryError("simulated: only 4 pictures fit")
        used.append(parts)
        return real(loss_of, batch, target, parts)

    monkeypatch.setattr(loop, "accumulate", small)
    loop.train(
        recipe("smoke", ["batch=16", "train_limit=32", "epochs=1"]),
        data(48),
        tmp_path,
        holdout=8,
        report=lambda e: notes.append(e["text"]) if e["event"] == "note" else None,
    )
    assert used == [4, 4]
    assert [n for n in notes if "memory" in n] == [
        f"too little memory: batches of 16 now in {parts} parts, accumulated" for parts in (2, 4)
    ]


@pytest.mark.parametrize("units", [False, True])
@pytest.mark.parametrize("wanted", ["auto", "bf16", "fp32"])
def test_bf16_is_used_where_the_device_has_units_for_it_or_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, units: bool, wanted: str
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: units)
    used = replace(SMALL, precision=wanted)
    expected = "bf16" if wanted == "bf16" or (wanted == "auto" and units) else "fp32"
    assert precision.precision(used, "cpu") == expected
    seen = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return images.float() @ torch.eye(10)

    images, labels = torch.rand(4, 10), torch.arange(4)
    loss = loop.make_loss(network, used, Teacher(network, 1.0))(images, labels)
    assert seen == [expected == "bf16"] * 2  # the teacher's too
    assert loss.dtype == torch.float32


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    layer = torch.nn.Linear(5, 3)
    x, y = torch.randn(8, 5), torch.randint(0, 3, (8,))

    def loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(layer(images), labels)

    whole = loop.accumulate(loss_of, x, y, 1)
    gradient = layer.weight.grad.clone()  # type: ignore[union-attr]
    layer.weight.grad = None
    assert torch.allclose(loop.accumulate(loss_of, x, y, 4), whole)
    assert torch.allclose(layer.weight.grad, gradient, atol=1e-6)  # type: ignore[arg-type]


def test_holdout_must_leave_something(tmp_path: Path) -> None:
    for holdout in (64, -2):
        with pytest.raises(BadInput, match=f"--holdout {holdout}: expected 0 to 63"):
            loop.train(SMALL, data(), tmp_path, holdout=holdout)


def test_what_cannot_be_trained_is_said_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        loop.train(SMALL, data(), tmp_path / "file" / "run", holdout=16)
    many = LabelledPictures(pictures(12), np.arange(12), tuple("abcdefghijkl"), "many")
    with pytest.raises(BadInput, match="many: 12 classes, the network of smoke has 10"):
        loop.train(SMALL, many, tmp_path / "run", holdout=4)


@pytest.mark.parametrize(
    ("choice", "device", "compiler", "compiled", "said"),
    [
        ("auto", "cpu", True, False, "eager"),
        ("auto", "cpu", False, False, "eager (with g++ here quantizers would be fused, a sixth of the time)"),
        ("auto", "cuda", True, True, "compiled (the first step takes a minute or two)"),
        ("yes", "cpu", True, True, "compiled (the first step takes a minute or two)"),
        ("yes", "cpu", False, False, "eager (torch.compile needs g++)"),
        ("no", "cuda", True, False, "eager"),
    ],
)
def test_which_steps_are_compiled(
    choice: str, device: str, compiler: bool, compiled: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "kernels", lambda: object() if compiler else None)
    monkeypatch.setattr(loop.shutil, "which", lambda name: "/usr/bin/g++" if compiler and name == "g++" else None)
    asked = recipe("vgg16-w4a4-s8", [f"compile={choice}"])
    assert loop._compiles(asked, loop.PAYS_FROM, torch.device(device)) == (compiled, said)


def test_a_short_run_on_an_accelerator_is_not_compiled() -> None:
    asked = recipe("vgg16-w4a4-s8", ["compile=auto"])
    few = loop.PAYS_FROM - 1
    assert loop._compiles(asked, few, torch.device("cuda")) == (False, f"eager ({few} steps do not pay for compiling)")
