"""Layers of every width, shape and way of writing, lowered: the codes are the trained network's."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_lowering import SIZE, Written, conv, residual, stem, wired
from torch import Tensor, nn

from frontends.random_models import noise, require_equal, scramble
from systolith.formats import BadInput, IntFormat
from systolith.frontends.lowering import lower
from systolith.network import reference
from systolith.quant import (
    ExactBatchNorm2d,
    QuantAdd,
    QuantConv2d,
    QuantLinear,
    calibrate,
    quant_layers,
)


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
