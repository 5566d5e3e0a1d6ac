"""`train` of what is no recipe: a torch module of our layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import systolith as sl
from systolith.models import build
from systolith.network.file import load_network
from systolith.network.reference import run as integers
from systolith.quant import ExactBatchNorm2d, QuantConv2d, QuantLinear, quant_layers

QUICK = ["epochs=2", "batch=8", "precision=fp32", "compile=no"]


class Tiny(nn.Module):
    """Two convolutions for pictures of any size."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.one = QuantConv2d(3, 4, 3, 2, 1, pixels=0)
        self.norm = ExactBatchNorm2d(4)
        self.two = QuantConv2d(4, 4, 3, 2, 1)
        self.last = QuantLinear(4 * 8 * 8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.one(x)))
        out: Tensor = self.last(torch.relu(self.two(x)).flatten(1))
        return out


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of dark and light noise in the current folder."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for light, name in enumerate(("dark", "light")):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            for i in range(12):
                pixels = rng.integers(0, 128, (32, 32, 3)) + 127 * light
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / split / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quick(model: Any, out: str, **more: Any) -> sl.flows.train.TrainReport:  # type: ignore[name-defined]
    return sl.train(model, "pictures", Path(out), holdout=4, **{"changes": QUICK, **more})


def test_a_module_trains_through_the_same_loop_into_integers(folder: Path) -> None:
    torch.manual_seed(0)
    model = Tiny()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    report = quick(model, "run")
    assert report.holds
    assert report.verdict.startswith("trained: 2 epochs, ")
    assert (report.run["recipe"]["name"], report.run["recipe"]["classes"], report.run["test_total"]) == ("Tiny", 2, 24)
    assert not model.training
    state = torch.load("run/best.pt", weights_only=True)
    assert state["config"] == {"arch": "module", "class": "Tiny"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state["model"][name])
        assert not torch.equal(tensor, before[name]), name
    # Its integers are those of the module that was trained.
    assert report.model is not None
    network = load_network(report.model)
    pixels = np.random.default_rng(1).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    with torch.no_grad():
        answers = model(torch.from_numpy(pixels)).argmax(1).numpy()
    assert np.array_equal(integers(network, pixels)["class"], answers)
    with pytest.raises(sl.BadInput, match=r"your own \(Tiny\) is built by your code"):
        sl.load("run/best.pt")


def test_it_goes_on_where_it_was_and_keeps_clip_values_that_it_has(folder: Path) -> None:
    model = Tiny()
    quick(model, "run")
    clip = float(model.two.act_quant.alpha.detach())
    quick(model, "again", changes=[*QUICK[1:], "epochs=1", "lr=0", "lr_rest=0"])
    assert float(model.two.act_quant.alpha.detach()) == clip
    other = Tiny()
    quick(other, "run", resume=True)
    assert torch.equal(other.one.weight, torch.load("run/best.pt", weights_only=True)["model"]["one.weight"])
    wide = nn.Sequential(nn.Flatten(), QuantLinear(3072, 2, pixels=0))
    wide.__class__.__name__ = "Tiny"
    try:
        with pytest.raises(sl.BadInput, match=r"last\.pt: "):
            quick(wide, "run", resume=True)
    finally:
        wide.__class__.__name__ = "Sequential"


def test_a_network_of_ours_keeps_its_model_file(folder: Path) -> None:
    torch.manual_seed(0)
    model = build({"arch": "resnet20", "width": 0.25, "blocks": 1, "classes": 2})
    report = quick(model, "run")
    assert report.notes == ()
    again = sl.load("run/model.safetensors")
    assert again.config == model.config
    for name, layer in quant_layers(model).items():
        assert torch.equal(layer.weight_codes(), quant_layers(again)[name].weight_codes())


class NoIntegers(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def test_what_has_no_integer_form_trains_all_the_same_and_says_so(folder: Path) -> None:
    report = quick(NoIntegers(), "run")
    assert report.model is None
    assert len(report.notes) == 1
    assert report.notes[0].startswith("no model.safetensors: ")


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        (nn.Conv2d(1, 2, 3), {}, r"Conv2d: does not take uint8 pictures \(2, 3, 32, 32\)"),
        (
            QuantConv2d(3, 4, 3, pixels=0),
            {},
            r"QuantConv2d: expected an answer of shape \(2, classes\), found \(2, 4, 30",
        ),
        (Tiny(1), {}, "2 classes, the network of Tiny has 1"),
        (Tiny(), {"changes": ["width=0.5"]}, "--set width: the network is given"),
        (
            Tiny(),
            {"changes": ["init_from=smoke"]},
            "init_from: a network of your own starts from the weights that it has",
        ),
        (Tiny(), {"bits": 32}, "bits: a network of your own is as it is"),
    ],
)
def test_what_cannot_be_trained(folder: Path, model: nn.Module, more: dict[str, Any], said: str) -> None:
    with pytest.raises(sl.BadInput, match=said):
        quick(model, "run", **more)
    assert not Path("run/last.pt").exists()


def test_a_quantized_float_network_trains_on(folder: Path) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 2))
    model, _ = sl.quantize(nn.Sequential(*layers))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 3, 32, 32), dtype=np.uint8))
    sl.calibrate(model, pixels)
    report = quick(model, "run")
    assert report.run["recipe"]["logit_scale"] == 1.0
    assert report.notes == ()
    assert report.model is not None
    with torch.no_grad():
        answers = model(pixels).argmax(1).numpy()
    assert np.array_equal(integers(load_network(report.model), pixels.numpy())["class"], answers)


@pytest.mark.parametrize("name", ["mlp-w4a4", "resnet20-w4a4", "mobilenet-w4a4"])
def test_a_recipe_of_each_architecture_is_trained_lowered_and_proved(folder: Path, name: str) -> None:
    own = {"mlp-w4a4": "hidden=16,8", "resnet20-w4a4": "width=0.25", "mobilenet-w4a4": "width=0.125"}[name]
    report = quick(name, "run", changes=[*QUICK[1:], "epochs=1", own])
    assert report.notes == ()
    lowered = sl.lower("run/model.safetensors")
    assert lowered.holds
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    with torch.no_grad():
        answers = sl.load("run/model.safetensors")(torch.from_numpy(pixels)).argmax(1).numpy()
    assert np.array_equal(integers(lowered.network, pixels)["class"], answers)
