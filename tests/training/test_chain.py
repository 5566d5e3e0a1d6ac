from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import WIDE, narrow_vgg
from test_loop import data

from systolith.formats import BadInput
from systolith.models import build, load_pretrained, vgg
from systolith.models.pretrained import read_checkpoint
from systolith.quant import quant_layers
from systolith.store import load_model_file, save_model_file
from systolith.training import chain, recipes
from systolith.training.data import LabelledPictures
from systolith.training.distill import load_teacher
from systolith.training.loop import Interrupted
from systolith.training.recipes import Recipe

TINY: dict[str, Any] = {"epochs": 1, "batch": 16, "train_limit": 16, "precision": "fp32", "compile": "no"}


@pytest.fixture(scope="module", autouse=True)
def narrow(random_model_file: Path) -> Iterator[None]:
    """The network of these tests; the file that other tests share is made before, at its full width."""
    with narrow_vgg():
        yield


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recipe]:
    made = {
        "float": Recipe("float", **{**recipes.FLOAT, **TINY}),
        "student": Recipe("student", init_from="float", teacher="float", **TINY),
    }
    monkeypatch.setattr(chain, "RECIPES", made)
    return made


def test_what_a_recipe_stands_on_is_trained_first_and_once(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    notes: list[str] = []

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            notes.append(event["text"])

    chain.train_chain(presets["student"], data(), tmp_path / "a", tmp_path / "s", report=report, holdout=8)
    assert (tmp_path / "s" / "float" / "best.pt").exists()
    assert not (tmp_path / "s" / "float" / "model.safetensors").exists()  # floats have no codes
    assert (tmp_path / "a" / "model.safetensors").exists()
    assert notes[0].startswith("float first")
    assert any("tensors from the run that this one starts from" in n for n in notes)
    # The metadata names the files, never where they lay.
    run = load_model_file(tmp_path / "a" / "model.safetensors").run
    stage = {"file": "float/best.pt", "sha256": sha256((tmp_path / "s" / "float" / "best.pt").read_bytes()).hexdigest()}
    assert run["stands_on"] == {"init_from": stage, "teacher": stage}
    assert str(tmp_path) not in json.dumps(dict(run))
    stamp = (tmp_path / "s" / "float" / "last.pt").stat().st_mtime_ns
    notes.clear()
    chain.train_chain(presets["student"], data(), tmp_path / "b", tmp_path / "s", report=report, holdout=8)
    assert notes[0].startswith("float: done already")
    assert (tmp_path / "s" / "float" / "last.pt").stat().st_mtime_ns == stamp


def test_an_interrupted_chain_is_resumed_as_a_whole(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="SIGTERM in epoch 1, step 1: saved"):
        chain.train_chain(presets["student"], data(), tmp_path / "a", tmp_path / "s", report=stop, holdout=8)
    assert not (tmp_path / "a" / "last.pt").exists()
    run = chain.train_chain(presets["student"], data(), tmp_path / "a", tmp_path / "s", resume=True, holdout=8)
    assert run["epochs"] == 1


def test_a_stage_on_other_pictures_is_refused(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    chain.train_chain(presets["float"], data(), tmp_path / "s" / "float", tmp_path / "s", holdout=8)
    shuffled = LabelledPictures(data().images[::-1].copy(), data().labels, data().classes, "noise")
    for other, holdout in ((shuffled, 8), (data(), 16)):
        with pytest.raises(BadInput, match=r"float.last\.pt: going on needs the same pictures"):
            chain.train_chain(presets["student"], other, tmp_path / "a", tmp_path / "s", holdout=holdout)


def test_what_is_wrong_is_said_before_any_stage_trains(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    wide = replace(presets["student"], squeeze_layer="features.27", squeeze_channels=9999)
    with pytest.raises(BadInput, match="squeeze: expected 1 to 64 channels"):
        chain.train_chain(wide, data(), tmp_path / "a", tmp_path / "s", holdout=8)
    assert not (tmp_path / "s").exists()


def test_a_teacher_of_the_same_mind_costs_nothing(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    chain.train_chain(presets["float"], data(), tmp_path / "f", tmp_path / "s", holdout=8)
    teacher = load_teacher(tmp_path / "f" / "best.pt")
    images = torch.from_numpy(data().images[:4])
    with torch.no_grad():
        logits = teacher.network(images).float() * teacher.logit_scale
    assert teacher.loss(images, logits, 2.0).item() == pytest.approx(0, abs=1e-6)
    assert teacher.loss(images, -logits, 2.0).item() > 1e-4
    # The teacher's speedy batch norm computes what the exact one does, up to rounding.
    state = read_checkpoint(tmp_path / "f" / "best.pt")
    exact = build(state["config"])
    exact.load_state_dict(state["model"])
    with torch.no_grad():
        assert torch.allclose(exact.eval()(images), teacher.network(images), rtol=1e-3, atol=1e-3)


def codes_of(state: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    model = build(config)
    model.load_state_dict(state)
    return {name: layer.weight_codes() for name, layer in quant_layers(model).items()}


def test_a_squeezed_student_starts_from_the_whole_network_squeezed(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    presets["whole"] = replace(presets["student"], name="whole", init_from="", teacher="")
    squeezed = Recipe("s", init_from="whole", teacher="whole", squeeze_layer="features.27", squeeze_channels=16, **TINY)
    notes: list[str] = []

    def report(event: dict[str, Any]) -> None:
        notes.append(event.get("text", ""))

    chain.train_chain(squeezed, data(), tmp_path / "a", tmp_path / "s", report=report, holdout=8)
    tensors = len(read_checkpoint(tmp_path / "a" / "best.pt")["model"])
    assert f"{tensors} of {tensors} tensors from the run that this one starts from" in notes
    # What lies behind the batch norm that the squeeze removes has moved down by one, and is taken along.
    whole = read_checkpoint(tmp_path / "s" / "whole" / "best.pt")["model"]
    start = chain.starting_weights(tmp_path / "s" / "whole" / "best.pt", squeezed)
    assert torch.equal(start["features.39.weight"], whole["features.40.weight"])
    gain = (64 / 16) ** 0.5
    assert torch.equal(start["features.27.weight"], whole["features.27.weight"][:16, :16] * gain)


def test_a_model_file_starts_a_run_with_its_own_codes(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    presets["whole"] = replace(presets["student"], name="whole", init_from="", teacher="")
    chain.train_chain(presets["whole"], data(), tmp_path / "w", tmp_path / "s", holdout=8)
    config = read_checkpoint(tmp_path / "w" / "best.pt")["config"]
    before = codes_of(chain.starting_weights(tmp_path / "w" / "best.pt", presets["whole"]), config)
    after = codes_of(chain.starting_weights(tmp_path / "w" / "model.safetensors", presets["whole"]), config)
    for name, codes in before.items():
        assert torch.equal(after[name], codes), name


def test_a_float_run_starts_from_a_quantized_file_as_a_network_of_ordinary_size(
    tmp_path: Path, presets: dict[str, Recipe]
) -> None:
    presets["whole"] = replace(presets["student"], name="whole", init_from="", teacher="")
    chain.train_chain(presets["whole"], data(), tmp_path / "w", tmp_path / "s", holdout=8)
    fresh = build(read_checkpoint(tmp_path / "w" / "best.pt")["config"])
    for file in ("best.pt", "model.safetensors"):
        start = chain.starting_weights(tmp_path / "w" / file, presets["float"])
        for name, layer in quant_layers(fresh).items():
            assert float(start[f"{name}.weight"].std()) == pytest.approx(float(layer.weight.detach().std()), rel=0.2), (
                name
            )
    # The file's classifier computes W/std(W) x + b, the float one W x + b*std(W): the same, smaller.
    scale = start["classifier.weight"].std()
    bias = load_pretrained(str(tmp_path / "w" / "model.safetensors")).classifier.bias
    assert torch.allclose(start["classifier.bias"], bias * scale)


@pytest.mark.parametrize("file", ["best.pt", "model.safetensors"])
def test_a_quantized_network_teaches_at_training_speed(tmp_path: Path, presets: dict[str, Recipe], file: str) -> None:
    presets["whole"] = replace(presets["student"], name="whole", init_from="", teacher="", act_bits=8)
    chain.train_chain(presets["whole"], data(), tmp_path / "w", tmp_path / "s", holdout=8)
    teacher = load_teacher(tmp_path / "w" / file)
    images = torch.from_numpy(data().images[:32])
    exact = load_pretrained(str(tmp_path / "w" / file))
    with torch.no_grad():
        want, got = exact(images), teacher.network(images)
    # In fp32 only rounding is between the two, which moves a code where a value lies on the edge of one.
    assert (got - want).abs().mean() < 0.02 * want.abs().mean()
    assert not any(m.training for m in teacher.network.modules())
    assert not any(p.requires_grad for p in teacher.network.parameters())


def test_files_that_cannot_be_stood_on(
    tmp_path: Path, presets: dict[str, Recipe], random_model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vgg, "_PLAN", WIDE)  # as the file is
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    file = load_model_file(random_model_file)
    save_model_file(tmp_path / "bare.safetensors", replace(file, run={}))
    for change, sentence in (
        ({"init_from": str(tmp_path / "broken.pt")}, "not a readable checkpoint"),
        ({"teacher": str(tmp_path / "bare.safetensors")}, "a teacher needs the recipe of its run"),
    ):
        with pytest.raises(BadInput, match=sentence):
            chain.train_chain(Recipe("odd", **change, **TINY), data(), tmp_path / "a", tmp_path / "s", holdout=8)
    assert not (tmp_path / "a" / "last.pt").exists()


def test_what_it_cannot_stand_on(tmp_path: Path, presets: dict[str, Recipe]) -> None:
    odd = Recipe("odd", teacher="nobody", **TINY)
    with pytest.raises(BadInput, match="'nobody': expected a recipe"):
        chain.train_chain(odd, data(), tmp_path / "a", tmp_path / "s", holdout=8)
    itself = Recipe("float", teacher="float", **TINY)
    with pytest.raises(BadInput, match="taught by itself"):
        chain.train_chain(itself, data(), tmp_path / "a", tmp_path / "s", holdout=8)
