"""Course checkpoints: every convolution's integers are those of a literal implementation of that quantizer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cli.calling import call
from importers.course import MEAN, STD, ResNet20, Vgg, integers, normalized, settled
from systolith.array import ArraySpec, run_layer
from systolith.array.spec import widened
from systolith.formats import BadInput
from systolith.frontends.torch import recover
from systolith.importers.checkpoint import import_checkpoint
from systolith.importers.loading import load_any
from systolith.network import reference
from systolith.quant import quant_layers

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
MODELS = {
    "squeezed": lambda: Vgg(squeezed="removed"),
    "identity": lambda: Vgg(squeezed="identity"),
    "whole": lambda: Vgg(),
    "two bits": lambda: Vgg(squeezed="removed", bits=2),
    "resnet20": lambda: ResNet20(),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return settled(MODELS[name](), torch.from_numpy(PIXELS))


def saved(model: nn.Module, path: Path, how: str = "state_dict") -> Path:
    state: Any = {k: v.clone() for k, v in model.state_dict().items()}
    if how == "module":
        state = {f"module.{k}": v for k, v in state.items()}
    torch.save({"epoch": 3, "best_prec1": 90.04, "state_dict": state} if how != "bare" else state, path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_integers_psums_and_outputs_of_every_convolution(name: str, tmp_path: Path) -> None:
    model = made(name)
    bits = 2 if name == "two bits" else 4
    path = saved(model, tmp_path / "model_best.pth.tar")
    foreign = import_checkpoint(path, weight_bits=bits, act_bits=bits)
    expected = integers(model, torch.from_numpy(PIXELS))
    layers = [layer for layer in quant_layers(foreign.model) if layer != "classifier"]
    assert layers == list(expected)
    for layer in layers:
        found, wanted = recover(foreign.model, layer, PIXELS), expected[layer]
        assert np.array_equal(found.conv.weight, wanted["weight"].numpy()), layer
        assert np.array_equal(found.act, wanted["act"].numpy()), layer
        assert np.array_equal(found.acc, wanted["acc"].numpy()), layer
        assert np.array_equal(found.network_acc, wanted["acc"].numpy()), layer
        assert torch.allclose(torch.from_numpy(found.acc * found.scale).float(), wanted["output"], rtol=1e-4, atol=1e-4)
        result = run_layer(found.conv, found.act[0], widened(found.conv, ArraySpec(8, 8, psum_bits=32)))
        assert np.array_equal(result.out, wanted["acc"][0].numpy()), layer
        assert result.check_psums().holds


def test_the_first_layers_codes_may_be_negative(tmp_path: Path) -> None:
    model = made("squeezed")
    foreign = import_checkpoint(saved(model, tmp_path / "checkpoint.pth"))
    first = recover(foreign.model, "features.0", PIXELS)
    least = (0 - 0.491) / 0.247 / float(model.features[0].act_alpha) * 15  # type: ignore[union-attr, index]
    assert round(least) == first.act.min() or first.act.min() < -1
    assert first.conv.act_format.signed
    assert any("may be negative" in note for note in foreign.notes)


@pytest.mark.parametrize("how", ["state_dict", "bare", "module"])
def test_every_way_of_saving(how: str, tmp_path: Path) -> None:
    model = made("squeezed")
    foreign = import_checkpoint(saved(model, tmp_path / "c.pth", how))
    assert np.array_equal(
        recover(foreign.model, "features.27", PIXELS).acc,
        integers(model, torch.from_numpy(PIXELS))["features.27"]["acc"].numpy(),
    )


@pytest.mark.parametrize("name", ["squeezed", "whole"])
def test_the_integer_network_of_a_vgg(name: str, tmp_path: Path) -> None:
    model = made(name)
    loaded = load_any(str(saved(model, tmp_path / "c.pth")))
    lowered = loaded.lower()
    results = reference.run(lowered.network, PIXELS, *(s.name for s in lowered.network.steps))
    for layer, wanted in integers(model, torch.from_numpy(PIXELS)).items():
        assert np.array_equal(results[layer], wanted["acc"].numpy()), layer
    # The classifier is of floats in the file, and of 8 bits here: its logits are near, in the order of the file's.
    with torch.no_grad():
        logits = model(normalized(torch.from_numpy(PIXELS))).numpy()
    ours = lowered.outputs["classifier"].dequantize(torch.from_numpy(results["classifier"])).detach().numpy()
    assert np.corrcoef(ours.reshape(-1), logits.reshape(-1))[0, 1] > 0.98


def test_another_normalization(tmp_path: Path) -> None:
    model = made("squeezed")
    path = saved(model, tmp_path / "c.pth")
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    found = recover(import_checkpoint(path, mean, std).model, "features.0", PIXELS)
    assert (mean, std) != (MEAN, STD)
    with torch.no_grad():
        x = normalized(torch.from_numpy(PIXELS), mean, std)
        layer: Any = model.features[0]  # type: ignore[index]
        codes = (x.div(layer.act_alpha).clamp(max=1) * 15).round().long()
    assert np.array_equal(found.act, codes.numpy())


def test_run_writes_the_vectors_of_a_course_checkpoint(tmp_path: Path) -> None:
    path = saved(made("squeezed"), tmp_path / "that.pth")
    done = call("run", "--model", path, "--layer", "features.27", "--out", tmp_path / "v")
    assert done.returncode == 0, done.stderr
    assert "verdict      all equal: " in done.stdout
    assert (tmp_path / "v" / "psum_itile0_otile0_kij0.txt").exists()


def test_run_takes_a_layer_of_a_network_that_adds_floats(tmp_path: Path) -> None:
    path = saved(made("resnet20"), tmp_path / "that.pth")
    done = call("run", "--model", path, "--layer", "layer1.0.conv2", "--out", tmp_path / "v")
    assert done.returncode == 0, done.stderr
    assert "adds floats" in done.stderr + done.stdout or "add floats" in done.stderr + done.stdout
    done = call("verify", path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "a float add cannot be lowered" in done.stderr


def without(model: nn.Module, name: str, value: Any = None) -> dict[str, Any]:
    state = {k: v for k, v in model.state_dict().items() if k != name}
    return state if value is None else {**state, name: value}


BAD: dict[str, tuple[Any, str]] = {
    "no alpha": (("features.3.act_alpha", None), "holds no 'features.3.act_alpha'"),
    "no weight alpha": (("features.3.weight_quant.wgt_alpha", None), "holds no 'features.3.weight_quant.wgt_alpha'"),
    "an alpha of 0": (("features.3.act_alpha", torch.tensor(0.0)), "expected one positive number, found"),
    "two alphas": (("features.3.act_alpha", torch.ones(2)), "expected one positive number, found"),
    "nan": (("features.3.weight", torch.full((8, 8, 3, 3), torch.nan)), "holds a value that is not a number"),
    "other channels": (("features.7.weight", torch.ones(16, 9, 3, 3)), "features.7.weight: expected 8 input channels"),
    "a batch norm of another size": (("features.1.bias", torch.ones(9)), "features.1.bias: expected 8 numbers"),
    "no classifier": (("classifier.weight", None), "holds no 'classifier.weight'"),
    "a layer less": (("features.40.weight", None), "expected the 13 convolutions of VGG16, found 12"),
}


@pytest.mark.parametrize("name", BAD)
def test_odd_tensors_give_one_sentence(name: str, tmp_path: Path) -> None:
    (key, value), message = BAD[name]
    torch.save(without(made("whole"), key, value), tmp_path / "c.pth")
    with pytest.raises(BadInput) as error:
        import_checkpoint(tmp_path / "c.pth")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'c.pth'}: ")
    assert "\n" not in str(error.value)


class Executes:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("how", ["alone", "beside tensors"])
def test_code_in_a_file_is_not_executed(how: str, tmp_path: Path) -> None:
    evil: Any = Executes(tmp_path / "pwned")
    torch.save(
        evil if how == "alone" else {**made("squeezed").state_dict(), "features.0.bias": evil}, tmp_path / "c.pth"
    )
    done = call("import", tmp_path / "c.pth", "--out", tmp_path / "n.safetensors")
    assert done.returncode == 2
    assert "holds code" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.pth"]


def test_truncated_files_give_one_sentence(tmp_path: Path) -> None:
    whole = saved(made("squeezed"), tmp_path / "c.pth").read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        (tmp_path / "cut.pth").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BadInput, match=r"cut\.pth: not a readable checkpoint"):
            import_checkpoint(tmp_path / "cut.pth")


def test_other_networks_are_refused_by_what_they_hold(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "c.pth")
    with pytest.raises(
        BadInput, match=r"expected features\.0\.weight of a VGG16 .* among its tensors, found weight, bias"
    ):
        import_checkpoint(tmp_path / "c.pth")
    torch.save([1, 2], tmp_path / "l.pth")
    with pytest.raises(BadInput, match="neither a state dict nor one under 'state_dict'"):
        import_checkpoint(tmp_path / "l.pth")
    with pytest.raises(BadInput, match="expected 2 to 8 weight bits"):
        import_checkpoint(tmp_path / "c.pth", weight_bits=9)
