"""Lowering: the integer network's codes and logits are the model's own, or the model is refused with a reason."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frontends.random_models import RandomNet, noise, require_equal, scramble
from systolith.formats import BadInput, IntFormat
from systolith.frontends.lowering import Lowered, lower
from systolith.network import reference
from systolith.quant import (
    ExactBatchNorm2d,
    PixelCodes,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantLinear,
    calibrate,
    quant_layers,
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


@pytest.mark.parametrize("weight_bits", [2, 3, 4, 8])
@pytest.mark.parametrize("act_bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_bits_and_scales_per_channel(weight_bits: int, act_bits: int, per_channel: bool) -> None:
    options = {"weight_bits": weight_bits, "act_bits": act_bits, "per_channel": per_channel}
    model = nn.Sequential(
        stem(offset=128, weight_bits=weight_bits, per_channel=per_channel),
        nn.ReLU(),
        QuantConv2d(4, 5, (3, 2), (2, 1), (1, 2), (1, 2), **options),  # type: ignore[arg-type]
        ExactBatchNorm2d(5),
        nn.Flatten(),
        QuantLinear(5 * 4 * 10, 4, weight_bits=weight_bits, act_bits=act_bits),
    )
    pixels = noise(6, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    assert lowered.network.requantizes["0>2"].format == IntFormat(act_bits, False)
    assert lowered.network.layers["2"].weight_format == IntFormat(weight_bits, True)


@pytest.mark.parametrize("offset", [0, 128])
def test_pixels_are_codes(offset: int) -> None:
    model = nn.Sequential(stem(offset=offset), nn.Flatten(), QuantLinear(256, 5))
    pixels = noise(4, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    assert np.array_equal(lowered.network.input.table, np.tile(np.arange(256) - offset, (3, 1)))
    assert lowered.network.input.format == IntFormat(8, offset == 128)


def test_pixels_by_a_quantizer_are_a_table_too() -> None:
    # Two convolutions on the picture, by quantizers that give the same codes.
    model = Written(
        lambda m, x: m.fc(m.add(m.a(x), m.b(x)).flatten(1)),
        a=conv(3),
        b=conv(3),
        add=QuantAdd(),
        fc=QuantLinear(256, 5),
    )
    pixels = noise(4, *SIZE)
    scramble(model, pixels)
    lowered = require_equal(model, pixels)
    alpha = model.a.act_quant.alpha.item()  # type: ignore[union-attr, operator]
    row = np.rint(np.clip(np.arange(256, dtype=np.float32) * np.float32(15 / alpha), 0, 15))
    assert len(np.unique(row)) > 4
    assert np.array_equal(lowered.network.input.table, np.tile(row, (3, 1)))
    model.b.act_quant.alpha.data *= 1.5  # type: ignore[union-attr, operator]
    with pytest.raises(BadInput, match="b: takes the pixels by another quantizer than the layer before it"):
        lower(model, SIZE)


@pytest.mark.parametrize(
    "flatten",
    [
        nn.Flatten(),
        nn.Flatten(1, 3),
        lambda x: x.flatten(1),
        lambda x: x.flatten(start_dim=1, end_dim=-1),
        lambda x: torch.flatten(x, 1),
        lambda x: torch.flatten(x, 1, 3),
        lambda x: torch.flatten(x, start_dim=1),
        lambda x: torch.flatten(input=x, start_dim=1),
    ],
)
@pytest.mark.parametrize(
    "relu", [F.relu, torch.relu, lambda x: x.relu(), lambda x: F.relu(x, True), F.relu_, torch.relu_]
)
def test_functions_and_methods(flatten: Callable[..., Tensor], relu: Callable[..., Tensor]) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.max_pool2d(relu(m.a(x)), kernel_size=2)
        return m.fc2(relu(m.fc1(flatten(relu(y)))))  # type: ignore[no-any-return]

    layers = {"flatten": flatten} if isinstance(flatten, nn.Module) else {}
    model = Written(forward, a=stem(), fc1=QuantLinear(64, 6), fc2=QuantLinear(6, 5), **layers)
    pixels = noise(3, *SIZE)
    require_equal(scramble(model, pixels), pixels)


def test_dropout_and_identity_are_nothing() -> None:
    layers = nn.Dropout(), nn.Identity(), nn.Dropout2d(), nn.Sequential()
    model = nn.Sequential(stem(), *layers, ExactBatchNorm2d(4), *layers, nn.ReLU(), *layers, nn.MaxPool2d(2), *layers)
    model.extend((nn.Flatten(), nn.Dropout(), QuantLinear(64, 5), nn.Identity(), nn.Dropout()))
    pixels = noise(4, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    assert len(lowered.network.steps) == 7


def test_one_relu_and_one_pool_in_many_places() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.pool(m.relu(m.a(x)))
        z = m.pool(m.relu(m.b(y)))
        return m.fc(m.flat(m.pool(m.add(m.relu(z), m.pool(y)))))  # type: ignore[no-any-return]

    model = Written(
        forward,
        a=stem(),
        b=conv(),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(3, 2, 1),
        add=QuantAdd(),
        flat=nn.Flatten(),
        fc=QuantLinear(16, 5),
    )
    pixels = noise(4, 16, 16)
    require_equal(scramble(model, pixels), pixels)


def test_a_layer_called_input() -> None:
    model = Written(lambda m, x: m.fc(m.input(x).flatten(1)), input=stem(), fc=QuantLinear(256, 5))
    pixels = noise(4, *SIZE)
    lowered = require_equal(scramble(model, pixels), pixels)
    assert list(lowered.network.layers) == ["input", "fc"]


def test_a_layer_beyond_fp32() -> None:
    # 4,096 products of 8-bit codes reach more than 2^24, where fp32 loses integers.
    model = nn.Sequential(stem(64), nn.ReLU(), nn.Flatten(), QuantLinear(4096, 8), nn.ReLU(), QuantLinear(8, 5))
    pixels = noise(6, *SIZE)
    scramble(model, pixels)
    with torch.no_grad():
        model[3].weight[::2].abs_()  # type: ignore[union-attr, operator]
        model[3].weight[::3].copy_(torch.tensor([3.0, -3.0]).repeat(2048))  # type: ignore[union-attr, operator]
    lowered = require_equal(model, pixels)
    value = lowered.network.values["3"]
    assert max(value.hi.max(), -value.lo.min()) > 1 << 24


@pytest.mark.parametrize(
    ("layer", "size", "count"),
    [
        # oneDNN's int8 convolution of one channel into one column is right for two pictures, wrong for more.
        (QuantConv2d(1, 2, (3, 2), (1, 2), (1, 0), (2, 1), pixels=0), (9, 2), 32),
        (QuantConv2d(1, 8, (3, 2), (1, 2), (1, 0), pixels=0), (6, 2), 32),
        # With a window wholly in the padding it ends the process.
        (QuantConv2d(1, 4, 1, 1, 1, pixels=0), (4, 4), 3),
        (QuantConv2d(8, 16, 1, (1, 2), (0, 1), (1, 2), pixels=0), (2, 1), 3),
        (QuantConv2d(16, 1, (3, 1), 2, (2, 1), (1, 2), pixels=0), (2, 1), 3),
    ],
)
def test_geometries_that_a_library_gets_wrong(layer: QuantConv2d, size: tuple[int, int], count: int) -> None:
    pixels = noise(count, *size, channels=layer.in_channels)
    with torch.no_grad():
        features = layer.eval()(torch.from_numpy(pixels)).flatten(1).shape[1]
    model = nn.Sequential(layer, nn.Flatten(), QuantLinear(features, 5))
    require_equal(scramble(model, pixels), pixels)


def test_frozen_codes_lower_to_the_same_network() -> None:
    pixels = noise(4, *SIZE)
    model = scramble(residual(per_channel=True), pixels)
    before = require_equal(model, pixels)
    for layer in quant_layers(model).values():
        quantizer: Any = layer.weight_quant
        layer.freeze(layer.weight_codes().detach().to(torch.int8), quantizer.scale().detach())
    after = require_equal(model, pixels)
    assert wired(before) == wired(after)
    for name, node in before.network.requantizes.items():
        assert np.array_equal(node.thresholds.values, after.network.requantizes[name].thresholds.values)
    for name, layer in before.network.layers.items():
        assert np.array_equal(layer.weight, after.network.layers[name].weight)


def test_lowering_changes_nothing_in_the_model() -> None:
    pixels = noise(4, *SIZE)
    model = scramble(residual(), pixels)
    state, names = copy.deepcopy(model.state_dict()), dict(model.named_modules())
    lower(model, SIZE)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert dict(model.named_modules()) == names
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_a_relu_in_place_whose_tensor_nobody_else_takes() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.relu(m.drop(m.bn(m.a(x))))
        return m.fc(m.relu(m.flat(m.add(m.b(y), y))))  # type: ignore[no-any-return]

    model = Written(
        forward,
        a=stem(),
        b=conv(),
        bn=ExactBatchNorm2d(4),
        drop=nn.Dropout(),
        relu=nn.ReLU(inplace=True),
        add=QuantAdd(),
        flat=nn.Flatten(),
        fc=QuantLinear(256, 5),
    )
    pixels = noise(4, *SIZE)
    require_equal(scramble(model, pixels), pixels)


def stripes(count: int, seed: int) -> tuple[np.ndarray, Tensor]:
    """Pictures (count, 3, 12, 12) of six classes: stripes of three directions and two colours, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, count)
    i, j = np.mgrid[:12, :12]
    waves = np.stack([np.sin(2 * np.pi * (t / 4 + phase / 12)) for t in (i, j, i + j) for phase in range(12)])
    wave = waves[labels % 3 * 12 + rng.integers(0, 12, count)]
    colour = np.where((labels < 3)[:, None], [1.0, 0.6, 0.2], [0.2, 0.6, 1.0])[:, :, None, None]
    values = 128 + 70 * wave[:, None] * colour + rng.normal(0, 70, (count, 3, 12, 12))
    return values.clip(0, 255).astype(np.uint8), torch.from_numpy(labels)


def test_a_trained_residual_network() -> None:
    model = residual(widths=(8, 8, 16), classes=6)
    images, labels = stripes(2048, 1)
    calibrate(model, torch.from_numpy(images[:64]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    begin = time.monotonic()
    for step in range(150):
        at = torch.randint(0, len(images), (64,))
        loss = F.cross_entropy(model.train()(torch.from_numpy(images[at.numpy()])), labels[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step > 40 and time.monotonic() - begin > 40:
            break
    pixels, wanted = stripes(512, 2)
    lowered = require_equal(model.eval(), pixels)
    with torch.no_grad():
        trained = model(torch.from_numpy(pixels)).argmax(1)
    integer = reference.run(lowered.network, pixels)["class"]
    correct = int((trained == wanted).sum())
    assert correct > 512 * 0.7  # chance is a sixth
    assert int((torch.from_numpy(integer) == wanted).sum()) == correct


# Refusals


def tail(body: Callable[..., Any], **layers: nn.Module) -> nn.Module:
    """A model of the usual layers and `layers`, that classifies `body(layers, x)`."""
    made: dict[str, nn.Module] = {
        "a": stem(),
        "b": conv(),
        "bn": ExactBatchNorm2d(4),
        "join": QuantAdd(),
        "drop": nn.Dropout(),
        "flat": nn.Flatten(),
        "in_place": nn.ReLU(inplace=True),
        "max": nn.MaxPool2d(2),
        "fc": QuantLinear(256, 5),
    }
    model = Written(lambda m, x: m.fc(body(m, x).flatten(1)), **{**made, **layers})
    return model.eval()


def grouped() -> nn.Module:
    model = tail(lambda m, x: m.b(m.a(x)))
    model.b.groups = 2  # type: ignore[union-attr, assignment]
    return model


def same_padding() -> nn.Module:
    model = tail(lambda m, x: m.b(m.a(x)))
    model.b.padding = "same"  # type: ignore[union-attr, assignment]
    return model


def twice_registered() -> nn.Module:
    layer = conv()
    return tail(lambda m, x: m.d(m.c(m.a(x))), c=layer, d=layer)


def partly_in_training() -> nn.Module:
    model = tail(lambda m, x: m.bn(m.a(x)))
    model.bn.train()  # type: ignore[union-attr, operator]
    return model


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = stem(), QuantLinear(256, 5)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        out: Tensor = self.fc(self.a(x).flatten(1))
        return out


def branches(m: Any, x: Tensor) -> Any:
    return m.a(x) if x.sum() > 0 else m.b(m.a(x))


def asserting(m: Any, x: Any) -> Any:
    if type(x) is not Tensor:
        raise ValueError
    return m.a(x)


def in_place(way: Callable[..., Any], before: Callable[..., Any] = lambda m, y: y) -> nn.Module:
    """One tensor through a ReLU in place, and as it was before it."""

    def body(m: Any, x: Tensor) -> Any:
        y = m.bn(m.a(x))
        return m.join(way(m, before(m, y)).flatten(1), y.flatten(1))

    return tail(body)


AVERAGE = "an average pool of floats cannot be lowered; QuantAvgPool2d quantizes what it sums"
FLOAT_ADD = "a float add cannot be lowered; QuantAdd gives both operands one scale"
IN_PLACE = "a ReLU in place on a tensor that another layer takes too cannot be lowered"
ONLY_CONV = "pixels can only go into a convolution"
OUTPUT = "the model's output: expected it straight from a QuantLinear, whose integers are the logits"
TRAINING = "in training; only a model in eval is lowered: call eval"
MAPS = r"expected a map \(C, H, W\), found"

REFUSALS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "+": (lambda: tail(lambda m, x: m.a(x) + m.b(m.a(x))), "a: a layer that is called twice"),
    "float add": (lambda: tail(lambda m, x: (y := m.a(x)) + m.b(y)), f"^add: {FLOAT_ADD}"),
    "float add of one": (lambda: tail(lambda m, x: (y := m.a(x)) + y), f"^add: {FLOAT_ADD}"),
    "float add of a number": (lambda: tail(lambda m, x: m.a(x) + 1), f"^add: {FLOAT_ADD}"),
    "torch.add": (lambda: tail(lambda m, x: torch.add(y := m.a(x), m.b(y))), f"^add: {FLOAT_ADD}"),
    "method add": (lambda: tail(lambda m, x: (y := m.a(x)).add(m.b(y))), f"^add: {FLOAT_ADD}"),
    "method add_": (lambda: tail(lambda m, x: m.b(y := m.a(x)).add_(y)), f"^add_: {FLOAT_ADD}"),
    "product": (lambda: tail(lambda m, x: m.a(x) * 2), "^mul: mul cannot be lowered"),
    "concatenation": (lambda: tail(lambda m, x: torch.cat([y := m.a(x), m.b(y)], 1)), "^cat: cat cannot be lowered"),
    "AvgPool2d": (lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.AvgPool2d(2)), f"^pool: {AVERAGE}"),
    "adaptive": (lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.AdaptiveAvgPool2d(1)), f"^pool: {AVERAGE}"),
    "F.avg_pool2d": (lambda: tail(lambda m, x: F.avg_pool2d(m.a(x), 2)), f"^avg_pool2d: {AVERAGE}"),
    "F.adaptive": (lambda: tail(lambda m, x: F.adaptive_avg_pool2d(m.a(x), 1)), f"^adaptive_avg_pool2d: {AVERAGE}"),
    "mean": (lambda: tail(lambda m, x: m.a(x).mean((2, 3))), "^mean: mean cannot be lowered"),
    "Conv2d": (
        lambda: tail(lambda m, x: m.plain(m.a(x)), plain=nn.Conv2d(4, 4, 1)),
        "^plain: a Conv2d without quantizers cannot be lowered; QuantConv2d and QuantLinear can",
    ),
    "Conv2d on pixels": (
        lambda: tail(lambda m, x: m.plain(x), plain=nn.Conv2d(3, 4, 1)),
        "^plain: a Conv2d without quantizers cannot be lowered",
    ),
    "Linear": (
        lambda: tail(lambda m, x: m.plain(m.a(x).flatten(1)), plain=nn.Linear(256, 256)),
        "^plain: a Linear without quantizers cannot be lowered",
    ),
    "F.conv2d": (lambda: tail(lambda m, x: F.conv2d(m.a(x), m.b.weight)), "^b_weight: b.weight cannot be lowered"),
    "BatchNorm2d": (
        lambda: tail(lambda m, x: m.norm(m.a(x)), norm=nn.BatchNorm2d(4)),
        "^norm: a BatchNorm2d cannot be lowered, its result changes with the machine; ExactBatchNorm2d can",
    ),
    "BatchNorm1d": (
        lambda: tail(lambda m, x: m.norm(m.a(x).flatten(1)), norm=nn.BatchNorm1d(256)),
        "^norm: a BatchNorm1d cannot be lowered",
    ),
    "batch norm behind max pool": (
        lambda: tail(lambda m, x: m.bn(m.max(m.a(x)))),
        "^bn: a batch norm behind pooling or flattening cannot be lowered",
    ),
    "batch norm behind pool, relu": (
        lambda: tail(lambda m, x: m.bn(F.relu(F.max_pool2d(m.a(x), 2)))),
        "^bn: a batch norm behind pooling or flattening cannot be lowered",
    ),
    "batch norm behind linear": (
        lambda: tail(
            lambda m, x: m.norm(m.hidden(m.a(x).flatten(1))), hidden=QuantLinear(256, 9), norm=ExactBatchNorm2d(9)
        ),
        f"^norm: {MAPS} hidden's",
    ),
    "sigmoid": (lambda: tail(lambda m, x: m.act(m.a(x)), act=nn.Sigmoid()), "^act: Sigmoid cannot be lowered"),
    "torch.sigmoid": (lambda: tail(lambda m, x: torch.sigmoid(m.a(x))), "^sigmoid: sigmoid cannot be lowered"),
    "sigmoid called relu": (lambda: tail(lambda m, x: m.relu(m.a(x)), relu=nn.Sigmoid()), "^relu: Sigmoid cannot"),
    "ReLU6 called relu": (lambda: tail(lambda m, x: m.relu(m.a(x)), relu=nn.ReLU6()), "^relu: ReLU6 cannot"),
    "Softmax called flatten": (
        lambda: tail(lambda m, x: m.flatten(m.a(x)), flatten=nn.Softmax(1)),
        "^flatten: Softmax cannot be lowered",
    ),
    "LeakyReLU": (lambda: tail(lambda m, x: m.act(m.a(x)), act=nn.LeakyReLU()), "^act: LeakyReLU cannot be lowered"),
    "clamp": (lambda: tail(lambda m, x: m.a(x).clamp(min=0)), "^clamp: clamp cannot be lowered"),
    "called twice": (lambda: tail(lambda m, x: m.b(m.b(m.a(x)))), "^b: a layer that is called twice cannot be lowered"),
    "add called twice": (
        lambda: tail(lambda m, x: m.join(y := m.a(x), m.join(y, y))),
        "^join: a layer that is called twice cannot be lowered",
    ),
    "registered twice": (twice_registered, "^c: a layer that is called twice cannot be lowered"),
    "output of a convolution": (lambda: Written(lambda m, x: m.a(x).flatten(1), a=stem()).eval(), f"^{OUTPUT}"),
    "output of an add": (
        lambda: Written(
            lambda m, x: m.join(y := m.fc(m.a(x).flatten(1)), y), a=stem(), fc=QuantLinear(256, 5), join=QuantAdd()
        ).eval(),
        f"^{OUTPUT}",
    ),
    "output behind a ReLU": (
        lambda: Written(lambda m, x: F.relu(m.fc(m.a(x).flatten(1))), a=stem(), fc=QuantLinear(256, 5)).eval(),
        f"^{OUTPUT}",
    ),
    "two outputs": (
        lambda: Written(lambda m, x: (m.fc(y := m.a(x).flatten(1)), y), a=stem(), fc=QuantLinear(256, 5)).eval(),
        f"^{OUTPUT}",
    ),
    "output of pixels": (lambda: Written(lambda m, x: x).eval(), f"^{OUTPUT}"),
    "two inputs": (lambda: TwoInputs().eval(), "^extra: a model with two inputs cannot be lowered"),
    "grouped": (grouped, "^b: string padding and grouped convolutions are not supported"),
    "plain grouped": (
        lambda: tail(lambda m, x: m.plain(m.a(x)), plain=nn.Conv2d(4, 4, 1, groups=2)),
        "^plain: a Conv2d without quantizers cannot be lowered",
    ),
    "string padding": (same_padding, "^b: string padding and grouped convolutions are not supported"),
    "nn.ReLU in place": (lambda: in_place(lambda m, y: m.in_place(y)), f"^in_place: {IN_PLACE}"),
    "F.relu in place": (lambda: in_place(lambda m, y: F.relu(y, True)), f"^relu: {IN_PLACE}"),
    "F.relu_": (lambda: in_place(lambda m, y: F.relu_(y)), f"^relu_: {IN_PLACE}"),
    "torch.relu_": (lambda: in_place(lambda m, y: torch.relu_(y)), f"^relu_: {IN_PLACE}"),
    "method relu_": (lambda: in_place(lambda m, y: y.relu_()), f"^relu_: {IN_PLACE}"),
    "in place behind dropout": (
        lambda: in_place(lambda m, y: m.in_place(y), lambda m, y: m.drop(y)),
        f"^in_place: {IN_PLACE}",
    ),
    "in place behind flattening": (
        lambda: in_place(lambda m, y: F.relu_(y), lambda m, y: m.flat(y)),
        f"^relu_: {IN_PLACE}",
    ),
    "training": (lambda: tail(lambda m, x: m.a(x)).train(), f"^the model: {TRAINING}"),
    "partly in training": (partly_in_training, f"^bn: {TRAINING}"),
    "ceil_mode": (
        lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.MaxPool2d(3, ceil_mode=True)),
        "^pool: a max pool with dilation or ceil_mode cannot be lowered",
    ),
    "dilated pool": (
        lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.MaxPool2d(3, dilation=2)),
        "^pool: a max pool with dilation or ceil_mode cannot be lowered",
    ),
    "functional ceil_mode": (
        lambda: tail(lambda m, x: F.max_pool2d(m.a(x), 3, ceil_mode=True)),
        "^max_pool2d: a max pool with dilation or ceil_mode cannot be lowered",
    ),
    "functional dilation": (
        lambda: tail(lambda m, x: F.max_pool2d(m.a(x), 3, 1, 0, 2)),
        "^max_pool2d: a max pool with dilation or ceil_mode cannot be lowered",
    ),
    "depends on data": (lambda: tail(branches), r"^the model cannot be traced \(TraceError: "),
    "an error without a message": (lambda: tail(asserting), r"^the model cannot be traced \(ValueError\)$"),
    "flatten all": (
        lambda: Written(lambda m, x: m.fc(m.a(x).flatten()), a=stem(), fc=QuantLinear(256, 5)).eval(),
        "^flatten: only flattening of all but the batch is lowered, found start 0, end -1",
    ),
    "flatten the map": (
        lambda: Written(lambda m, x: m.fc(torch.flatten(m.a(x), 2)), a=stem(), fc=QuantLinear(64, 5)).eval(),
        "^flatten: only flattening of all but the batch is lowered, found start 2, end -1",
    ),
    "torch.flatten of a part": (
        lambda: tail(lambda m, x: torch.flatten(m.a(x), 1, 2)),
        "^flatten: only flattening of all but the batch is lowered, found start 1, end 2",
    ),
    "method flatten of a part": (
        lambda: tail(lambda m, x: m.a(x).flatten(1, end_dim=2)),
        "^flatten: only flattening of all but the batch is lowered, found start 1, end 2",
    ),
    "nn.Flatten of a part": (
        lambda: tail(lambda m, x: m.part(m.a(x)), part=nn.Flatten(1, 2)),
        "^part: only flattening of all but the batch is lowered, found start 1, end 2",
    ),
    "view": (lambda: tail(lambda m, x: (y := m.a(x)).view(y.size(0), -1)), "^size: size cannot be lowered"),
    "batch norm of pixels": (
        lambda: tail(lambda m, x: m.a(m.norm(x)), norm=ExactBatchNorm2d(3)),
        f"^norm: {ONLY_CONV}",
    ),
    "linear layer of pixels": (lambda: tail(lambda m, x: m.fc2(x), fc2=QuantLinear(8, 5)), f"^fc2: {ONLY_CONV}"),
    "add of pixels": (lambda: tail(lambda m, x: m.join(x, x)), f"^join: {ONLY_CONV}"),
    "float pixels": (lambda: tail(lambda m, x: m.a(x.float())), f"^float_1: {ONLY_CONV}"),
    "pixels behind a layer": (
        lambda: tail(lambda m, x: m.c(m.a(x)), c=conv(pixels=0)),
        "^c: takes pixels, but stands behind a",
    ),
    "other pixel codes": (
        lambda: tail(lambda m, x: m.join(m.a(x), m.c(x)), c=stem(offset=128)),
        "^c: takes the pixels by another quantizer than the layer before it",
    ),
    "unused layer": (
        lambda: tail(lambda m, x: (y := m.a(x), m.b(y))[0]),
        "^b: nothing takes what it produces",
    ),
    "average of a vector": (
        lambda: tail(lambda m, x: m.pool(m.a(x).flatten(1)), pool=QuantAvgPool2d()),
        f"^pool: {MAPS} shape \\(256,\\)",
    ),
    "average larger than the map": (
        lambda: tail(lambda m, x: m.pool(m.a(x)), pool=QuantAvgPool2d(9)),
        r"^pool: a window of \(9, 9\) does not fit the map \(8, 8\)",
    ),
    "add of other shapes": (
        lambda: tail(lambda m, x: m.join(y := m.a(x), m.max(y))),
        "^join: expected operands of one shape and format",
    ),
    "add of one": (lambda: tail(lambda m, x: m.join(m.a(x), 1.0)), "^join: an add of two tensors is lowered, not of 1"),
    "linear layer of a map": (
        lambda: Written(lambda m, x: m.fc(m.a(x)), a=stem(), fc=QuantLinear(8, 5)).eval(),
        "^fc: expected 8 channels to take, found shape",
    ),
    "pictures of another size": (
        lambda: Written(lambda m, x: m.fc(m.a(x).flatten(1)), a=stem(), fc=QuantLinear(1024, 5)).eval(),
        r"^fc: expected 1024 channels to take, found shape \(256,\)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_module_and_the_reason(case: str) -> None:
    make, match = REFUSALS[case]
    with pytest.raises(BadInput, match=match):
        lower(make(), SIZE)


def test_a_refused_model_is_left_as_it_was() -> None:
    model = partly_in_training()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(BadInput):
        lower(model, SIZE)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())


def test_grouped_convolutions_cannot_even_be_made() -> None:
    with pytest.raises(TypeError):
        QuantConv2d(4, 4, 3, groups=2)  # type: ignore[call-arg]
    assert isinstance(stem().act_quant, PixelCodes)
