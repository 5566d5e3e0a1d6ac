"""What is ordinary in somebody's network lowers, and every code of it is the model's own."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frontends.random_models import noise, require_equal, scramble
from frontends.test_lowering import SIZE, Written, conv, stem, wired
from systolith.formats import BadInput
from systolith.frontends.lowered import Lowered
from systolith.frontends.lowering import lower
from systolith.network.file import load_network, save_network
from systolith.quant import (
    ExactBatchNorm1d,
    ExactBatchNorm2d,
    QuantAvgPool2d,
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
)

Body = Callable[[Any, Tensor], Any]


def model_of(body: Body, features: int | None = None, **layers: nn.Module) -> nn.Module:
    """The usual layers and `layers`; `body(m, x)` is flattened and classified, if it has `features`."""
    made: dict[str, nn.Module] = {"a": stem(), "b": conv(), "bn": ExactBatchNorm2d(4), "max": nn.MaxPool2d(2)}
    if features is None:
        return Written(body, **{**made, **layers})
    return Written(lambda m, x: m.fc(body(m, x).flatten(1)), **{**made, **layers}, fc=QuantLinear(features, 5))


def checked(model: nn.Module, size: tuple[int, ...] = SIZE, count: int = 8) -> Lowered:
    pixels = noise(count, *size) if size else np.random.default_rng(0).integers(0, 256, (count, 12), dtype=np.uint8)
    return require_equal(scramble(model, pixels), pixels)


class Prelu(nn.PReLU):
    """A slope a channel, all different."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        with torch.no_grad():
            self.weight.copy_(torch.linspace(0, 1.3, channels))


ACTIVATIONS: dict[str, Body] = {
    "ReLU6": lambda m, y: m.act6(y),
    "F.relu6": lambda m, y: F.relu6(y),
    "Hardtanh": lambda m, y: m.hard(y),
    "F.hardtanh": lambda m, y: F.hardtanh(y, -0.5, 2.0),
    "LeakyReLU": lambda m, y: m.leaky(y),
    "F.leaky_relu": lambda m, y: F.leaky_relu(y, 0.3),
    "PReLU a channel": lambda m, y: m.prelu(y),
    "PReLU of one": lambda m, y: m.prelu1(y),
    "clamp": lambda m, y: y.clamp(0.1, 1.5),
    "clamp one side": lambda m, y: torch.clamp(y, max=1.0),
    "scaled and shifted": lambda m, y: (y * 0.7 + 0.2) / 3 - 0.01,
    "in a row": lambda m, y: m.leaky(m.prelu(F.relu6(y) + 0.5)),
    "pooled, then PReLU": lambda m, y: F.interpolate(m.prelu(m.max(y)), scale_factor=2),
    "pooled, then batch norm": lambda m, y: F.interpolate(m.up(m.max(y)), scale_factor=2),
    "in place": lambda m, y: F.hardtanh_(F.leaky_relu_(y, 0.1), -1.0, 1.0),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_monotone_functions(name: str, signed: bool) -> None:
    layers = {
        "act6": nn.ReLU6(),
        "hard": nn.Hardtanh(-0.7, 1.1),
        "leaky": nn.LeakyReLU(0.2),
        "prelu": Prelu(4),
        "prelu1": nn.PReLU(init=0.4),
        "c": conv(signed=signed),
        "up": ExactBatchNorm2d(4),
    }
    body: Body = lambda m, x: m.c(ACTIVATIONS[name](m, m.bn(m.a(x))))  # noqa: E731
    model = model_of(body, 256, **layers)
    pixels = noise(8, *SIZE)
    scramble(model, pixels)
    model.up.weight.data.abs_()  # type: ignore[union-attr, operator]
    lowered = require_equal(model, pixels)
    (one,) = [node for name, node in lowered.network.requantizes.items() if name.startswith("a>c")]
    assert one.thresholds.low == (-7 if signed else 0)


@pytest.mark.parametrize(("ins", "outs", "groups"), [(4, 4, 4), (6, 12, 3), (4, 8, 2), (12, 6, 6)])
@pytest.mark.parametrize("padding", [1, (1, 0, 2, 1)])
def test_grouped_convolutions(ins: int, outs: int, groups: int, padding: Any) -> None:
    layer = QuantConv2d(ins, outs, 3, (1, 2), padding, 1, groups, per_channel=groups == 3)
    model = Written(lambda m, x: m.fc(m.p(m.g(F.relu(m.a(x)))).flatten(1)), a=stem(ins), g=layer, p=QuantAvgPool2d(2))
    with torch.no_grad():
        flat = model.p(model.g(model.a(torch.zeros(1, 3, *SIZE)))).numel()  # type: ignore[operator]
    model.fc = QuantLinear(flat, 5)
    lowered = checked(model)
    node = lowered.network.layers["g"]
    assert node.weight.shape == (outs, ins // groups, 3, 3)
    assert lowered.network.values["g"].shape[0] == outs


PADS: dict[str, Body] = {
    "F.pad": lambda m, x: m.b(F.pad(m.a(x), (1, 0, 2, 0))),
    "ZeroPad2d": lambda m, x: m.b(m.zeros(F.relu(m.a(x)))),
    "before the ReLU": lambda m, x: m.b(F.relu(m.zeros(m.bn(m.a(x))))),
    "of pixels": lambda m, x: m.a(m.zeros(x)),
    "of both of a concatenation": lambda m, x: m.c(m.zeros(torch.cat([y := m.a(x), m.bn(y)], 1))),
}


@pytest.mark.parametrize("name", PADS)
def test_padding_of_four_sides_goes_into_the_convolution(name: str) -> None:
    layers = {"zeros": nn.ZeroPad2d((0, 2, 1, 0)), "c": conv(8)}
    model = model_of(PADS[name], **layers)
    with torch.no_grad():
        flat = PADS[name](model, torch.zeros(1, 3, *SIZE, dtype=torch.uint8)).numel()
    lowered = checked(model_of(PADS[name], flat, **layers))
    taking = lowered.network.layers["a" if "pixels" in name else "c" if "con" in name else "b"]
    assert taking.padding == ((3, 1, 2, 1) if name == "F.pad" else (2, 1, 1, 3))  # type: ignore[union-attr]


JOINED: dict[str, tuple[Body, int]] = {
    "two layers": (lambda m, x: m.c(torch.cat([F.relu(m.a(x)), m.b(m.a2(x))], 1)), 256),
    "three, pooled and normalized": (
        lambda m, x: m.d(F.relu(m.n12(m.max(torch.cat([y := m.a(x), m.b(y), F.relu(y)], 1))))),
        64,
    ),
    "of vectors": (lambda m, x: torch.cat([m.a(x).flatten(1), m.max(m.b(m.a(x))).flatten(1)], 1), 320),
    "averaged": (lambda m, x: m.mean(torch.cat([m.a(x), m.b(m.a(x))], 1)), 8),
    "by a quantizer of its own": (lambda m, x: m.c(m.q(torch.cat([m.a(x), m.bn(m.a(x))], 1))), 256),
}


@pytest.mark.parametrize("name", JOINED)
def test_concatenation(name: str) -> None:
    body, flat = JOINED[name]
    layers = {"c": conv(8), "d": conv(12), "a2": stem(), "n12": ExactBatchNorm2d(12)}
    model = model_of(body, flat, **layers, mean=QuantAvgPool2d(signed=True), q=QuantIdentity(5, True))
    pixels = noise(8, *SIZE)
    scramble(model, pixels)
    model.n12.weight.data.abs_()  # type: ignore[union-attr, operator]
    lowered = require_equal(model, pixels)
    assert any("Concat" in line for line in wired(lowered))


UPSAMPLED: dict[str, Body] = {
    "interpolate": lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=2)),
    "to a size": lambda m, x: m.b(F.interpolate(F.relu(m.a(x)), size=(16, 24))),
    "module": lambda m, x: m.b(m.up(m.bn(m.a(x)))),
    "batch norm behind it": lambda m, x: m.b(F.relu(m.bn(m.up(m.a(x))))),
    "of pixels": lambda m, x: m.a(m.up(x)),
}


@pytest.mark.parametrize("name", UPSAMPLED)
def test_upsampling(name: str) -> None:
    layers = {"up": nn.Upsample(scale_factor=(1, 3)), "p": QuantAvgPool2d()}
    lowered = checked(model_of(lambda m, x: m.p(UPSAMPLED[name](m, x)), 4, **layers))
    assert any(" Upsample " in line for line in wired(lowered))


@pytest.mark.parametrize("kernel", [2, 3, (2, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_max_pools_with_ceil_mode_and_dilation(kernel: Any, stride: int, padding: int, dilation: int) -> None:
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=True)
    body: Body = lambda m, x: m.c(m.pool(m.bn(m.a(x))))  # noqa: E731
    layers = {"pool": pool, "c": conv(signed=True)}
    with torch.no_grad():
        flat = body(model_of(body, **layers).eval(), torch.zeros(1, 3, 7, 10, dtype=torch.uint8)).numel()
    checked(model_of(body, flat, **layers), (7, 10))


def test_a_multilayer_perceptron_on_pixels() -> None:
    model = nn.Sequential(
        nn.Flatten(),
        QuantLinear(192, 12, bias=False, pixels=0),
        ExactBatchNorm1d(12),
        nn.ReLU(),
        QuantLinear(12, 9, per_channel=True, weight_bits=4, act_bits=4),
        nn.LeakyReLU(0.1),
        QuantLinear(9, 5, signed=True),
    )
    lowered = checked(model)
    assert wired(lowered)[:3] == ["input Input", "0>1 Flatten input", "1 Linear 0>1"]
    assert lowered.network.input.table.shape == (3, 256)


def test_a_vector_of_bytes() -> None:
    model = nn.Sequential(QuantLinear(12, 6, pixels=128), nn.ReLU(), QuantLinear(6, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12), dtype=np.uint8)
    model[2].act_quant.initialize(model[:2](torch.from_numpy(pixels)))  # type: ignore[operator, union-attr]
    lowered = require_equal(model.eval(), pixels, size=())
    assert lowered.network.values["input"].shape == (12,)


RESHAPED: dict[str, Body] = {
    "view of size": lambda m, x: m.fc((y := m.b(m.a(x))).view(y.size(0), -1)),
    "view of shape": lambda m, x: m.fc((y := m.b(m.a(x))).view(y.shape[0], -1)),
    "view of the batch's size()": lambda m, x: m.fc(m.b(m.a(x)).view(x.size()[0], 256)),
    "view by number": lambda m, x: m.fc(m.b(m.a(x)).view(-1, 256)),
    "torch.reshape": lambda m, x: m.fc(torch.reshape(m.b(m.a(x)), (x.size(0), -1))),
}


@pytest.mark.parametrize("name", RESHAPED)
def test_reshaping(name: str) -> None:
    lowered = checked(model_of(RESHAPED[name], fc=QuantLinear(256, 5)))
    assert lowered.network.classes == 5


AVERAGES: dict[str, Body] = {
    "mean": lambda m, y: y.mean((2, 3)),
    "mean, kept": lambda m, y: torch.mean(y, dim=(-1, -2), keepdim=True).flatten(1),
    "adaptive": lambda m, y: m.one(y).flatten(1),
    "F.adaptive": lambda m, y: F.adaptive_avg_pool2d(y, (1, 1)).flatten(1),
    "whole window": lambda m, y: F.avg_pool2d(y, 8).flatten(1),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_by_torch_of_what_is_quantized(name: str) -> None:
    layers = {"q": QuantIdentity(4), "one": nn.AdaptiveAvgPool2d(1), "fc": QuantLinear(4, 5, act_bits=4)}
    lowered = checked(model_of(lambda m, x: m.fc(AVERAGES[name](m, m.q(F.relu(m.bn(m.a(x)))))), **layers))
    assert any(" AvgPool " in line for line in wired(lowered))


def test_an_average_with_a_tie_that_torch_may_round_either_way_is_refused() -> None:
    # Means are multiples of 1/64 and the quantizer's steps are 1: halves are ties.
    model = model_of(lambda m, x: m.fc(m.q(m.a(x)).mean((2, 3))), q=QuantIdentity(4), fc=QuantLinear(4, 5, act_bits=4))
    with torch.no_grad():
        model.q.act_quant.alpha.fill_(15.0)  # type: ignore[union-attr]
        model.fc.act_quant.alpha.fill_(15.0)  # type: ignore[union-attr]
    with pytest.raises(BadInput, match=r"^mean: an average by torch is rounded in an order of its own, and fc's quant"):
        lower(model.eval(), SIZE)


def test_a_layer_that_is_called_twice(tmp_path: Path) -> None:
    lowered = checked(model_of(lambda m, x: m.b(F.relu(m.bn(m.b(F.relu(m.a(x)))))), 256))
    assert [line for line in wired(lowered) if " Conv " in line] == [
        "a Conv input",
        "b Conv a>b",
        "b#2 Conv b>b#2",
    ]
    assert lowered.network.layers["b"].weight is not None
    assert np.array_equal(lowered.network.layers["b"].weight, lowered.network.layers["b#2"].weight)
    save_network(tmp_path / "n.safetensors", lowered.network, {})
    assert str(load_network(tmp_path / "n.safetensors")) == str(lowered.network)


def test_a_layer_that_is_called_three_times() -> None:
    lowered = checked(model_of(lambda m, x: m.b(m.b(m.b(F.relu(m.a(x))))), 256))
    assert [line for line in wired(lowered) if " Conv " in line][1:] == [
        "b Conv a>b",
        "b#2 Conv b>b#2",
        "b#3 Conv b#2>b#3",
    ]


OUTPUTS: dict[str, tuple[Body, list[str], bool]] = {
    "a map": (lambda m, x: m.b(F.relu(m.a(x))), ["b"], False),
    "a map with a bias": (lambda m, x: m.seg(F.relu(m.a(x))), ["seg"], False),
    "an enlarged map": (lambda m, x: F.interpolate(m.b(F.relu(m.a(x))), scale_factor=2), ["interpolate>output"], False),
    "a fully convolutional classifier": (lambda m, x: m.p(m.a(x)).flatten(1), ["flatten>output"], True),
    "by a convolution": (lambda m, x: m.whole(F.relu(m.a(x))).flatten(1), ["flatten>output"], True),
    "of a scale a channel": (lambda m, x: m.each(F.relu(m.a(x))).flatten(1), ["flatten>output"], False),
    "codes": (lambda m, x: m.q(m.a(x)), ["a>q"], False),
    "pooled codes": (lambda m, x: m.max(m.q(m.a(x))), ["max>output"], False),
    "codes of classes": (lambda m, x: m.q(m.whole(F.relu(m.a(x))).flatten(1)), ["flatten>q"], True),
    "a sum": (lambda m, x: m.p(m.a(x)), ["p"], False),
    "two": (lambda m, x: (m.fc(F.relu(y := m.a(x)).flatten(1)), y), ["fc", "a"], False),
    "named": (lambda m, x: {"small": m.b(y := m.a(x)), "codes": m.q(y)}, ["b", "a>q"], False),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(name: str, tmp_path: Path) -> None:
    body, outputs, classifies = OUTPUTS[name]
    layers = {
        "whole": QuantConv2d(4, 5, 8, bias=True),
        "each": QuantConv2d(4, 5, 8, per_channel=True),
        "seg": conv(4, 3, bias=True),
        "p": QuantAvgPool2d(),
        "q": QuantIdentity(3, True),
        "fc": QuantLinear(256, 5),
    }
    model = model_of(body, **layers)
    with torch.no_grad():
        model.whole.bias.normal_()  # type: ignore[union-attr, operator]
        model.seg.bias.normal_()  # type: ignore[union-attr, operator]
    lowered = checked(model)
    assert list(lowered.network.outputs) == outputs
    assert lowered.network.classifies == classifies
    save_network(tmp_path / "n.safetensors", lowered.network, {})
    again = load_network(tmp_path / "n.safetensors")
    assert (again.outputs, str(again)) == (lowered.network.outputs, str(lowered.network))
    if not classifies:
        with pytest.raises(BadInput, match=r"this network answers with .*, not with a class"):
            operator.attrgetter("classes")(lowered.network)


def test_normalized_pixels() -> None:
    class Normalized(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.491, 0.482, 0.447]).reshape(3, 1, 1))
            self.register_buffer("std", torch.tensor([0.247, 0.243, 0.262]).reshape(1, 3, 1, 1))
            self.a, self.fc = conv(3, 4, signed=True, act_bits=6), QuantLinear(256, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = (x.float() / 255 - self.mean) / self.std
            out: Tensor = self.fc(F.relu(self.a(y)).flatten(1))
            return out

    model = Normalized()
    pixels = noise(8, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    # Rows differ, as mean and deviation do; codes rise with the pixel.
    assert len({row.tobytes() for row in lowered.network.input.table}) == 3
    assert (np.diff(lowered.network.input.table) >= 0).all()
    assert lowered.network.input.table.min() < 0
