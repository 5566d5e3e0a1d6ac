"""The networks besides VGG16: their numbering, their float twins, and that each comes back from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from conftest import pictures
from systolith.formats import BadInput
from systolith.models import ARCHS, Mlp, MlpConfig, MobileNet, ResNet20, Vgg16, build, config_of, load, save_model
from systolith.quant import QuantAdd, QuantConv2d, QuantLinear, calibrate, quant_layers

NARROW: dict[str, dict[str, Any]] = {
    "vgg16": {"width": 0.125},
    "resnet20": {"width": 0.25},
    "mobilenet": {"width": 0.125},
    "mlp": {"hidden": [16, 8]},
}


def narrow(arch: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return build({"arch": arch, **NARROW[arch], **changes})


def test_every_architecture_has_a_narrow_one_here() -> None:
    assert set(NARROW) == set(ARCHS)


@pytest.mark.parametrize("arch", NARROW)
@pytest.mark.parametrize("bits", [{}, {"weight_bits": 3, "act_bits": 2, "first_weight_bits": 8, "per_channel": True}])
def test_a_model_file_and_a_config_make_the_same_network_again(arch: str, bits: dict[str, Any], tmp_path: Path) -> None:
    model = narrow(arch, **bits, classes=7)
    calibrate(model, torch.from_numpy(pictures(8)))
    model.eval()
    batch = torch.from_numpy(pictures(3, seed=2))
    save_model(model, tmp_path / "m.safetensors", {"note": 1})
    config = json.loads(json.dumps(config_of(model)))
    torch.save({"config": config, "model": model.state_dict()}, tmp_path / "m.pt")
    for name in ("m.safetensors", "m.pt"):
        again, _ = load(str(tmp_path / name))
        assert again.config == model.config
        with torch.no_grad():
            answer = again(batch)
            assert answer.shape == (3, 7)
            assert torch.equal(answer, model(batch))


@pytest.mark.parametrize("arch", NARROW)
def test_the_float_twin_has_the_names_and_shapes_of_the_quantized_network(arch: str) -> None:
    twin = narrow(arch, weight_bits=32, act_bits=32, first_weight_bits=32)
    assert not quant_layers(twin)
    quantizers = {n: p.shape for n, p in narrow(arch).state_dict().items() if not n.endswith(".alpha")}
    assert quantizers == {n: p.shape for n, p in twin.state_dict().items()}
    assert twin(torch.from_numpy(pictures(2))).shape == (2, 10)


@pytest.mark.parametrize("arch", NARROW)
def test_gradients_reach_every_parameter(arch: str) -> None:
    model = narrow(arch)
    batch = torch.from_numpy(pictures(8))
    calibrate(model, batch)
    model.train()(batch).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_resnet20_is_numbered_as_usual() -> None:
    model: Any = ResNet20(ARCHS["resnet20"][0]())  # type: ignore[arg-type]
    convs = [name for name, m in model.named_modules() if isinstance(m, QuantConv2d)]
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    expected = ["conv1"]
    for block in blocks:
        expected += [f"{block}.conv1", f"{block}.conv2"]
        expected += [f"{block}.downsample.0"] if block in ("layer2.0", "layer3.0") else []
    assert convs == expected
    assert len(convs) - 2 + 1 == 20  # layers with weights, but for the shortcuts, and the classifier
    assert [name for name, m in model.named_modules() if isinstance(m, QuantAdd)] == [f"{b}.add" for b in blocks]
    assert all(m.act_quant.bits == 8 and m.act_quant.signed for m in model.modules() if isinstance(m, QuantAdd))
    shortcut = model.layer2[0].downsample[0]
    assert (shortcut.kernel_size, shortcut.stride, shortcut.padding) == ((1, 1), (2, 2), (0, 0))
    assert [model.get_submodule(f"layer{i}.2.conv2").out_channels for i in (1, 2, 3)] == [16, 32, 64]
    assert (model.fc.in_features, model.fc.out_features) == (64, 10)
    # He et al., section 4.2: 0.27 M parameters, a little more for the shortcuts of option B.
    assert sum(m.weight.numel() for m in model.modules() if isinstance(m, (QuantConv2d, QuantLinear))) == 270_896
    assert model.eval()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 10)


def test_mobilenet_is_depthwise_and_pointwise_in_turn() -> None:
    model: Any = MobileNet(ARCHS["mobilenet"][0]())  # type: ignore[arg-type]
    first, *rest = [m for m in model.features if isinstance(m, QuantConv2d)]
    assert (first.groups, first.kernel_size) == (1, (3, 3))
    assert len(rest) == 14
    for depthwise, pointwise in zip(rest[::2], rest[1::2], strict=True):
        assert depthwise.groups == depthwise.in_channels == depthwise.out_channels == pointwise.in_channels
        assert (depthwise.kernel_size, pointwise.kernel_size, pointwise.groups) == ((3, 3), (1, 1), 1)
    assert sum(isinstance(m, nn.ReLU6) for m in model.features) == 15
    assert model.classifier.in_features == 512


def test_the_mlp_takes_pixels_and_has_no_bias_but_the_last() -> None:
    model: Any = Mlp(MlpConfig(hidden=(32, 16), inputs=12))
    *hidden, last = quant_layers(model).values()
    assert [(m.in_features, m.out_features, m.bias is None) for m in hidden] == [(12, 32, True), (32, 16, True)]
    assert last.bias is not None
    assert model.eval()(torch.zeros(2, 3, 2, 2, dtype=torch.uint8)).shape == (2, 10)


def test_vgg_of_another_width() -> None:
    model: Any = narrow("vgg16", width=0.5)
    assert isinstance(model, Vgg16)
    convs = [m for m in model.features if isinstance(m, QuantConv2d)]
    assert [m.out_channels for m in convs][::4] == [32, 128, 256, 256]
    assert model.classifier.in_features == 256


@pytest.mark.parametrize(
    ("arch", "change", "said"),
    [
        ("vgg16", {"width": 0.0}, "width: expected more than 0 and at most 16, found 0.0"),
        ("resnet20", {"blocks": 0}, "blocks: expected 1 to 50, found 0"),
        ("mobilenet", {"weight_bits": 32}, "both are 32, or neither"),
        ("mlp", {"hidden": []}, "hidden: expected the features of one hidden layer or more"),
        ("mlp", {"inputs": 0}, "inputs: expected 1 or more, found 0"),
        ("mlp", {"classes": 0}, "classes: expected 1 or more, found 0"),
    ],
)
def test_configs_that_make_no_network(arch: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        narrow(arch, **change)
