"""Lowering: the integer network's codes and logits are the model's own, or the model is refused with a reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frontends.random_models import RandomNet, noise, require_equal, scramble
from systolith.formats import IntFormat
from systolith.frontends.lowering import Lowered
from systolith.network import reference
from systolith.quant import (
    ExactBatchNorm2d,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantLinear,
)

SIZE = (8, 8)


class Written(nn.Module):
    """A model of these layers with this forward: `forward(layers, x)`."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.written = forward

    def forward(self, x: Tensor) -> Any:
        return self.written(self, x)


def conv(ins: int = 4, outs: int = 4, kernel: int = 3, **options: Any) -> QuantConv2d:
    return QuantConv2d(ins, outs, kernel, padding=options.pop("padding", kernel // 2), **options)


def stem(outs: int = 4, offset: int = 0, **options: Any) -> QuantConv2d:
    return conv(3, outs, pixels=offset, **options)


def wired(lowered: Lowered) -> list[str]:
    """'name Kind of inputs' of every step."""
    return [" ".join([s.name, type(s.node).__name__, *s.inputs]) for s in lowered.network.steps]


class Block(nn.Module):
    """The basic block of a ResNet; with a stride or other channels its shortcut is a 1x1 convolution and batch norm."""

    def __init__(self, ins: int, outs: int, stride: int, in_place: bool = True, **options: Any) -> None:
        super().__init__()
        self.conv1 = QuantConv2d(ins, outs, 3, stride, 1, **options)
        self.bn1, self.bn2 = ExactBatchNorm2d(outs), ExactBatchNorm2d(outs)
        self.conv2 = QuantConv2d(outs, outs, 3, 1, 1, **options)
        self.relu = nn.ReLU(inplace=in_place)
        self.down = (
            nn.Identity()
            if (ins, stride) == (outs, 1)
            else nn.Sequential(QuantConv2d(ins, outs, 1, stride, **options), ExactBatchNorm2d(outs))
        )
        self.add = QuantAdd()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.add(self.bn2(self.conv2(y)), self.down(x))
        return F.relu(y)


def residual(offset: int = 0, widths: tuple[int, ...] = (4, 4, 6), classes: int = 5, **options: Any) -> nn.Sequential:
    return nn.Sequential(
        QuantConv2d(3, widths[0], 3, padding=1, pixels=offset, weight_bits=options.get("weight_bits", 4)),
        ExactBatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
        *(Block(a, b, 1 if a == b else 2, **options) for a, b in itertools.pairwise(widths)),
        QuantAvgPool2d(),
        nn.Flatten(),
        nn.Dropout(0.5),
        QuantLinear(widths[-1], classes),
    )


# Equality


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int) -> None:
    pixels = noise(9, *((8, 8), (7, 9), (12, 6))[seed % 3], seed=seed)
    require_equal(RandomNet(seed, pixels).eval(), pixels)


@pytest.mark.parametrize(
    ("bits", "per_channel", "offset"),
    [(2, False, 0), (2, True, 128), (4, False, 0), (4, True, 128), (8, True, 0), (8, False, 128)],
)
def test_residual_networks(bits: int, per_channel: bool, offset: int) -> None:
    pixels = noise(16, *SIZE)
    model = residual(offset, weight_bits=bits, act_bits=bits, per_channel=per_channel)
    lowered = require_equal(scramble(model, pixels, seed=bits), pixels)
    results = reference.run(lowered.network, pixels)
    for name, node in lowered.network.requantizes.items():
        assert len(np.unique(results[name])) > min(3, 2**bits - 2), name
        modules: dict[str, Any] = dict(model.named_modules())
        norms = [modules[n] for n in node.folded if isinstance(modules.get(n), ExactBatchNorm2d)]
        assert len(norms) <= 1
        gamma = norms[0].weight.detach().numpy() if norms else np.ones(len(node.thresholds.sign))
        assert (gamma < 0).any() == bool(norms)
        assert np.array_equal(node.thresholds.sign, np.where(gamma < 0, -1, 1))
        for channel in np.flatnonzero(gamma == 0):
            assert len(np.unique(results[name][:, channel])) == 1


def test_a_residual_network_is_wired_as_it_is_written() -> None:
    pixels = noise(4, *SIZE)
    lowered = require_equal(scramble(residual(), pixels), pixels)
    assert wired(lowered) == [
        "input Input",
        "0 Conv input",
        "0>3.conv1 Requantize 0",
        "3.conv1 Conv 0>3.conv1",
        "3.conv1>3.conv2 Requantize 3.conv1",
        "3.conv2 Conv 3.conv1>3.conv2",
        "3.conv2>3.add Requantize 3.conv2",
        "0>3.add Requantize 0",
        "3.add Add 3.conv2>3.add 0>3.add",
        "3.add>4.conv1 Requantize 3.add",
        "4.conv1 Conv 3.add>4.conv1",
        "4.conv1>4.conv2 Requantize 4.conv1",
        "4.conv2 Conv 4.conv1>4.conv2",
        "3.add>4.down.0 Requantize 3.add",
        "4.down.0 Conv 3.add>4.down.0",
        "4.conv2>4.add Requantize 4.conv2",
        "4.down.0>4.add Requantize 4.down.0",
        "4.add Add 4.conv2>4.add 4.down.0>4.add",
        "4.add>5 Requantize 4.add",
        "5 AvgPool 4.add>5",
        "5>8 Requantize 5",
        "6>8 Flatten 5>8",
        "8 Linear 6>8",
        "class Argmax 8",
    ]
    folded = {name: node.folded for name, node in lowered.network.requantizes.items()}
    assert folded["0>3.add"] == ("1", "2")
    assert folded["4.conv2>4.add"] == ("4.bn2",)
    assert folded["4.down.0>4.add"] == ("4.down.1",)
    assert len(folded["4.add>5"]) == 1  # a ReLU written as a function
    assert folded["5>8"] == ()
    # A signed quantizer of 8 bits in front of each add, the layer's own elsewhere.
    formats = {name: str(node.format) for name, node in lowered.network.requantizes.items()}
    assert formats == {
        n: "int8" if n.endswith("add") else "uint8" if n in ("4.add>5", "5>8") else "uint4" for n in formats
    }


def test_one_tensor_into_several_quantizers_and_adds() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.bn(m.a(x))
        z = m.relu(y)
        # The tensor before and behind the ReLU, pooled and not, by six quantizers.
        u = m.add1(m.b(z), m.c(y))
        v = m.add2(y, y)
        w = m.add3(m.d(m.pool(y)), m.pool(z))
        return m.fc(m.add4(m.pool(m.add5(u, v)), w).flatten(1))  # type: ignore[no-any-return]

    model = Written(
        forward,
        a=stem(),
        bn=ExactBatchNorm2d(4),
        b=conv(weight_bits=2, act_bits=2),
        c=conv(act_bits=8),
        d=conv(act_bits=3),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        fc=QuantLinear(64, 5),
        **{f"add{i}": QuantAdd(3 + i) for i in range(1, 6)},
    )
    pixels = noise(8, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    takers = [name for name in lowered.network.requantizes if lowered.network.producer(name) == "a"]
    assert sorted(takers) == ["a>add2", "a>add3", "a>b", "a>c", "a>d"]
    assert lowered.network["add2"].inputs == ("a>add2", "a>add2")  # one map of codes, twice


def test_an_add_quantizes_what_is_the_same_once_and_what_differs_apart() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        # The function's node is called max_pool2d, as the module is.
        wide, narrow = F.max_pool2d(y, 5, 1, 2), m.max_pool2d(y)
        return m.fc(m.add2(m.add(wide, narrow), m.add3(narrow, F.max_pool2d(y, 3, 1, 1))).flatten(1))  # type: ignore[no-any-return]

    layers = {"add": QuantAdd(), "add2": QuantAdd(), "add3": QuantAdd()}
    model = Written(forward, a=stem(), max_pool2d=nn.MaxPool2d(3, 1, 1), fc=QuantLinear(256, 5), **layers)
    pixels = noise(4, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    assert len(set(lowered.network["add"].inputs)) == 2
    assert len(set(lowered.network["add3"].inputs)) == 1


def test_gains_of_every_sign() -> None:
    model = nn.Sequential(stem(6), ExactBatchNorm2d(6), nn.ReLU(), conv(6), nn.Flatten(), QuantLinear(256, 5))
    pixels = noise(8, *SIZE)
    scramble(model, pixels)
    norm: Any = model[1]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -1.0, 0.0, -0.0, 0.0, -1e-30]))
        norm.bias.copy_(torch.tensor([0.1, 0.1, 1e9, -1.0, 0.5 * model[3].act_quant.alpha.item(), 1e9]))
    lowered = require_equal(model, pixels)
    t = lowered.network.requantizes["0>3"].thresholds
    assert t.sign.tolist() == [1, -1, 1, 1, 1, -1]
    codes = reference.run(lowered.network, pixels)["0>3"]
    assert [len(np.unique(codes[:, c])) > 3 for c in range(6)] == [True, True, False, False, False, False]
    assert (codes[:, 2] == 15).all()
    assert (codes[:, 3] == 0).all()
    assert len(np.unique(codes[:, 4])) == 1
    assert (codes[:, 5] == 15).all()
    # A constant has its thresholds at the ends of the range: always reached, or never.
    assert (t.values[2] == t.lo[2]).all()
    assert (t.values[3] == t.hi[3] + 1).all()


@pytest.mark.parametrize(
    "order", ["bn relu pool", "bn pool relu", "pool relu", "pool", "relu pool", "bn pool pool", ""]
)
@pytest.mark.parametrize("target", ["conv", "signed average", "add"])
def test_pools_with_padding_and_their_order(order: str, target: str) -> None:
    # Padding counts as the smallest code: behind a signed quantizer an empty border of zeros would show.
    pixels = noise(8, 7, 9)
    made = {"bn": lambda: ExactBatchNorm2d(4), "relu": nn.ReLU, "pool": lambda: nn.MaxPool2d(3, 2, 1)}
    chain = nn.Sequential(*(made[word]() for word in order.split()))
    taker: nn.Module = conv() if target == "conv" else QuantAvgPool2d(2, signed=True) if "av" in target else QuantAdd()
    features = nn.Sequential(stem(), chain)
    scramble(features, pixels) if "bn" in order else features.eval()
    if target == "add":
        body: Callable[..., Any] = lambda m, x: m.taker(y := m.features(x), y)  # noqa: E731
    else:
        body = lambda m, x: m.taker(m.features(x))  # noqa: E731
    model = Written(lambda m, x: m.fc(body(m, x).flatten(1)), features=features, taker=taker)
    flat = body(model, torch.from_numpy(pixels)).flatten(1).shape[1]
    model.fc = QuantLinear(flat, 5)
    require_equal(scramble(model, pixels), pixels)


@pytest.mark.parametrize("window", [None, 2, (3, 2)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_average_pooling(window: Any, signed: bool, bits: int) -> None:
    pixels = noise(6, 6, 6, seed=bits)
    pool = QuantAvgPool2d(window, 1 if window == (3, 2) else None, act_bits=bits, signed=signed)
    size = {None: 1, 2: 9, (3, 2): 20}[window]
    # A batch norm behind it, and a max pool: it is an accumulator like any other.
    model = nn.Sequential(
        stem(offset=128), ExactBatchNorm2d(4), pool, ExactBatchNorm2d(4), nn.Flatten(), QuantLinear(4 * size, 5)
    )
    lowered = require_equal(scramble(model, pixels), pixels)
    assert lowered.network.requantizes["0>2"].format == IntFormat(bits, signed)


def test_linear_layers_with_relu_and_a_residual_of_vectors() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.relu(m.fc1(m.flat(m.a(x))))
        return m.fc3(m.add(y, m.fc2(y)))  # type: ignore[no-any-return]

    layers = {"fc1": QuantLinear(256, 12, weight_bits=4), "fc2": QuantLinear(12, 12, weight_bits=2, act_bits=3)}
    model = Written(
        forward, a=stem(), flat=nn.Flatten(), relu=nn.ReLU(True), add=QuantAdd(), fc3=QuantLinear(12, 5), **layers
    )
    pixels = noise(20, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    assert lowered.network.values["add"].shape == (12,)


def test_batch_norms_behind_adds_and_behind_one_another() -> None:
    """The order of a pre-activation ResNet, and one batch norm for two convolutions."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        z = m.b(F.relu(m.bn1(y)))
        u = m.add(y, m.shared(z))
        v = m.c(torch.relu(m.bn3(torch.relu(m.bn2(u)))))
        return m.fc(m.pool(m.add2(u, m.shared(v))).flatten(1))  # type: ignore[no-any-return]

    layers = {**{f"bn{i}": ExactBatchNorm2d(4) for i in (1, 2, 3)}, "add": QuantAdd(), "add2": QuantAdd()}
    model = Written(
        forward,
        a=stem(),
        b=conv(),
        c=conv(),
        shared=ExactBatchNorm2d(4),
        pool=QuantAvgPool2d(),
        fc=QuantLinear(4, 5),
        **layers,
    )
    pixels = noise(8, *SIZE)
    scramble(model, pixels)
    gammas = ([-1.0, -1, 1, 1], [-1.0, 1, -1, 1])
    with torch.no_grad():
        for norm, gamma in zip((model.bn2, model.bn3), gammas, strict=True):
            norm.weight.copy_(torch.tensor(gamma))  # type: ignore[operator, union-attr]
    lowered = require_equal(model, pixels)
    assert lowered.network.requantizes["add>c"].thresholds.sign.tolist() == [1, -1, -1, 1]
    assert lowered.network.requantizes["add>c"].folded[::2] == ("bn2", "bn3")
