"""Float networks into our layers: what becomes of each module, that weights stay, and that answers do."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import systolith as sl
from conftest import pictures
from frontends.random_models import require_equal
from systolith.formats import BadInput
from systolith.models import build
from systolith.models.turning import of_pixels
from systolith.quant import QuantAdd, QuantAvgPool2d, QuantConv2d, QuantLinear, quant_layers

BEST: dict[str, Any] = {"weight_bits": 8, "act_bits": 8}
RGB = ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))


class Residual(nn.Module):
    """A stride-2 residual block behind a stem, as course networks write them."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.downsample = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(x))
        y += self.downsample(x)
        x = self.pool(self.relu(y))
        out: Tensor = self.fc(x.view(x.size(0), -1))
        return out


def settled(model: nn.Module, *size: int, channels: int = 3) -> nn.Module:
    """Batch norms with statistics and gains of their own; in eval."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            module.momentum = 0.5
    for seed in range(4):
        torch.manual_seed(seed)
        model.train()(torch.rand(32, channels, *size) * 255)
    return model.eval()


def batch(count: int, *size: int, channels: int = 3, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    # Smooth pictures: noise alone would be an average everywhere.
    small = torch.from_numpy(rng.integers(0, 256, (count, channels, 4, 4)).astype(np.float32))
    return F.interpolate(small, size, mode="bilinear").round().to(torch.uint8)


def require_close(
    model: nn.Module, quantized: nn.Module, x: Tensor, as_float: Any = None, within: float = 0.03
) -> None:
    """In 8 bits the answers are those of the float network up to a few hundredths of their spread."""
    with torch.no_grad():
        expected = model(x.float() if as_float is None else as_float(x))
        found = quantized.eval()(x)
    error = (found - expected).std() / expected.std()
    assert error < within, float(error)


def test_what_it_says_of_each_layer() -> None:
    _, report = sl.quantize(Residual())
    assert str(report).splitlines() == [
        "conv1: Conv2d -> QuantConv2d, int8 weights, pixels as they are, bias into bn1",
        "bn1: BatchNorm2d -> ExactBatchNorm2d",
        "relu: ReLU kept",
        "conv2: Conv2d -> QuantConv2d, int4 weights, uint4 activations",
        "bn2: BatchNorm2d -> ExactBatchNorm2d",
        "downsample.0: Conv2d -> QuantConv2d, int4 weights, uint4 activations",
        "downsample.1: BatchNorm2d -> ExactBatchNorm2d",
        "add: add -> QuantAdd",
        "relu: ReLU kept",
        "pool: AdaptiveAvgPool2d -> QuantAvgPool2d",
        "view: view kept",
        "fc: Linear -> QuantLinear, int8 weights, uint8 activations",
    ]


def test_weights_stay_by_their_names_and_their_codes_are_the_quantizers() -> None:
    model = settled(Residual(), 8, 8)
    before = copy.deepcopy(model.state_dict())
    quantized, _ = sl.quantize(model)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    own = quantized.state_dict()
    for name, tensor in before.items():
        if name in ("bn1.running_mean", "conv1.bias"):
            continue
        assert torch.equal(own[name], tensor), name
    assert torch.equal(own["bn1.running_mean"], before["bn1.running_mean"] - before["conv1.bias"])
    assert not quantized.training
    for name, layer in quant_layers(quantized).items():
        step = layer.weight_quant.scale()
        largest = 2 ** (layer.weight_quant.bits - 1) - 1
        nearest = (before[f"{name}.weight"] / step).round().clamp(-largest, largest)
        # A tie may go the other way: the quantizer divides by the clip value and multiplies by L.
        assert (layer.weight_codes() != nearest).float().mean() < 0.01, name


@pytest.mark.parametrize("offset", [0, 128])
@pytest.mark.parametrize("how", [{}, {"per_channel": True}, {"scale": "po2", "rounding": "up"}])
def test_in_8_bits_it_answers_as_the_float_network(offset: int, how: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = settled(Residual(), 8, 8)
    quantized, _ = sl.quantize(model, pixels=offset, **BEST, **how)
    x = batch(64, 8, 8)
    sl.calibrate(quantized, x, keep_norms=True)
    # Zeros around the picture are another pixel with an offset: compared where none is.
    within = 0.08 if how.get("scale") == "po2" else 0.05
    if offset == 0:
        require_close(model, quantized, x, within=within)
    assert quantized.conv1.act_quant.offset == offset


@pytest.mark.parametrize("offset", [0, 128])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("normed", [False, True])
def test_a_normalization_is_folded_exactly_where_no_border_is_padded(offset: int, bias: bool, normed: bool) -> None:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(6) if normed else nn.Identity()
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=bias), norm, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 6 * 6, 4))
    model = settled(model, 8, 8)
    x = batch(64, 8, 8)

    def normalized(pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(side).reshape(3, 1, 1) for side in RGB)
        return (pixels.float() / 255 - mean) / std

    weight, shift = of_pixels("0", model[0], offset, RGB)  # type: ignore[arg-type]
    with torch.no_grad():
        folded = F.conv2d(x.float() - offset, weight, shift)
        plain = model[0](normalized(x))
    assert torch.allclose(folded, plain, atol=1e-4)
    quantized, report = sl.quantize(model, pixels=offset, normalization=RGB, **BEST)
    assert ("bias into 1" in report.lines[0]) == normed
    assert (quantized.get_submodule("0").bias is None) == normed
    sl.calibrate(quantized, x, keep_norms=True)
    require_close(model, quantized, x, normalized)


def test_grouped_and_flat_first_layers_take_a_normalization_too() -> None:
    torch.manual_seed(1)
    x = batch(8, 5, 5)
    mean, std = (torch.tensor(side).reshape(3, 1, 1) for side in RGB)
    for layer in (nn.Conv2d(3, 6, 3, groups=3), nn.Linear(75, 4)):
        weight, bias = of_pixels("0", layer, 128, RGB)
        flat = (lambda t: t.flatten(1)) if isinstance(layer, nn.Linear) else lambda t: t
        with torch.no_grad():
            expected = layer(flat((x.float() / 255 - mean) / std))
            codes = flat(x.float() - 128)
            found = (
                F.linear(codes, weight, bias)
                if isinstance(layer, nn.Linear)
                else F.conv2d(codes, weight, bias, groups=3)
            )
        assert torch.allclose(found, expected, atol=1e-4)


class Everything(nn.Module):
    """One of each that is turned or kept, in the ways people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 2, 0))
        self.conv1 = nn.Conv2d(3, 8, (3, 2))
        self.depthwise = nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu6 = nn.ReLU6()
        self.even = nn.Conv2d(8, 8, 4, padding="same", dilation=(1, 1))
        self.prelu = nn.PReLU()
        self.drop = nn.Dropout2d(0.3)
        self.valid = nn.Conv2d(16, 8, 3, padding="valid")
        self.leaky = nn.LeakyReLU(0.1)
        self.average = nn.AvgPool2d(2)
        self.hidden = nn.Linear(8, 12, bias=False)
        self.norm1d = nn.BatchNorm1d(12)
        self.last = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(self.pad(x)))
        a = self.relu6(self.norm(self.depthwise(x)))
        b = self.drop(self.prelu(self.even(a)))
        x = torch.cat([a, b], 1)
        x = F.max_pool2d(self.leaky(self.valid(F.pad(x, (1, 1, 0, 0)))), 2)
        x = torch.add(x, F.hardtanh(x, 0.0, 6.0))
        x = self.average(self.average(x))
        x = F.dropout(x.mean([2, 3]), 0.5, self.training)
        x = F.relu6(self.norm1d(self.hidden(x)))
        out: Tensor = self.last(x)
        return out


def test_one_of_each_is_turned_and_answers_the_same() -> None:
    torch.manual_seed(2)
    model = settled(Everything(), 18, 16)
    quantized, report = sl.quantize(model, **BEST)
    modules: Any = dict(quantized.named_modules())
    assert modules["conv1"].padding == (2, 0, 0, 1)
    assert modules["depthwise"].padding == (1, 1)
    assert modules["even"].padding == (1, 2, 1, 2)
    assert modules["valid"].padding == (0, 1)
    assert modules["depthwise"].groups == 8
    # Signed where what comes may be negative: behind a PReLU, a leaky ReLU, an add of one; not behind ReLUs.
    signed = {
        name: m.act_quant.signed
        for name, m in modules.items()
        if isinstance(m, (QuantConv2d, QuantLinear))
        if name != "conv1"
    }
    assert signed == {"depthwise": False, "even": False, "valid": True, "hidden": True, "last": False}
    pools = {name: m.act_quant.signed for name, m in modules.items() if isinstance(m, QuantAvgPool2d)}
    assert pools == {"average": True, "avgpool": True, "avgpool2": True}
    assert isinstance(modules["add"], QuantAdd)
    assert isinstance(modules["dropout"], nn.Dropout)
    assert modules["hidden"].bias is None
    assert "pad: padding into conv1" in report.lines
    x = batch(64, 18, 16)
    sl.calibrate(quantized, x, keep_norms=True)
    require_close(model, quantized, x, within=0.06)
    # The dropout is one: in training answers differ from time to time.
    assert not torch.equal(quantized.train()(x), quantized(x))


@pytest.mark.parametrize("how", [{}, {"per_channel": True, "pixels": 128}, {"scale": "po2", "rounding": "up"}])
def test_one_of_each_is_its_integers(how: dict[str, Any]) -> None:
    torch.manual_seed(2)
    quantized, _ = sl.quantize(settled(Everything(), 18, 16), **how)
    x = batch(16, 18, 16)
    sl.calibrate(quantized, x)
    require_equal(quantized.eval(), x[:6].numpy())


def test_adds_are_named_where_they_stand() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.blocks = nn.Sequential(Block(), Block())

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.blocks(self.stem(x))
            return out

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.conv(x)).add(x)

    quantized, _ = sl.quantize(Two())
    names = [name for name, m in quantized.named_modules() if isinstance(m, QuantAdd)]
    assert names == ["blocks.0.add", "blocks.0.add2", "blocks.1.add", "blocks.1.add2"]


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures of four classes: which colour is the lighter one, or none."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 120, (count, 3, 12, 12)), rng.integers(0, 4, count)
    for image, label in zip(images, labels, strict=True):
        image[label : label + 1] += 30
    return torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)


def test_a_trained_network_keeps_its_answers_and_training_goes_on() -> None:
    torch.manual_seed(0)
    images, labels = blobs(256, 0)
    unseen, answers = blobs(200, 1)
    model = Residual(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        part = slice(64 * (step % 4), 64 * (step % 4) + 64)
        loss = F.cross_entropy(model.train()(images[part].float() / 255), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        floats = model.eval()(unseen.float() / 255).argmax(1)
    assert (floats == answers).float().mean() > 0.9
    quantized, _ = sl.quantize(model, normalization=((0, 0, 0), (1, 1, 1)))
    sl.calibrate(quantized, images, keep_norms=True)
    with torch.no_grad():
        found = quantized.eval()(unseen).argmax(1)
    assert (found == floats).float().mean() > 0.9
    # And it is its integers, bit for bit, as every network of ours.
    require_equal(quantized, unseen[:8].numpy())
    quantized.train()
    loss = F.cross_entropy(quantized(images[:64]), labels[:64])
    loss.backward()
    assert all(p.grad is not None for p in quantized.parameters())


@pytest.mark.parametrize("arch", ["vgg16", "resnet20", "mobilenet", "mlp"])
def test_the_float_twins_of_our_networks_are_float_networks(arch: str) -> None:
    size = {"hidden": [16, 8]} if arch == "mlp" else {"width": 0.125}
    torch.manual_seed(0)
    twin = build({"arch": arch, **size, "weight_bits": 32, "act_bits": 32, "first_weight_bits": 32})
    ours = build({"arch": arch, **size})
    quantized, _ = sl.quantize(twin.eval())
    assert set(quant_layers(quantized)) == set(quant_layers(ours))
    sl.calibrate(quantized, torch.from_numpy(pictures(8)))
    assert quantized.eval()(torch.from_numpy(pictures(2))).shape == (2, 10)


def seq(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.conv(x))
        return out


class Odd(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Does(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.conv, self.what = nn.Conv2d(3, 4, 1), what

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.what(self.conv(x))
        return out


CONV = nn.Conv2d(3, 4, 3)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (seq(CONV, nn.SiLU()), "1: SiLU has no integer form"),
        (seq(CONV, nn.ConvTranspose2d(4, 4, 2)), "1: ConvTranspose2d has no integer form"),
        (seq(CONV, Odd(4, 4, 1)), "1: Odd has no integer form"),
        (Does(torch.sigmoid), "sigmoid: sigmoid has no integer form"),
        (Does(lambda x: x + 1), "add: expected an add of two tensors"),
        (Does(lambda x: torch.add(x, x, alpha=2)), "add: expected an add of two tensors"),
        (Does(lambda x: x.mean(1)), "mean: expected an average over a window without padding, or over the whole map"),
        (Does(lambda x: x.view(2, 4, -1)), "view: expected flattening of all but the batch"),
        (Does(lambda x: x.flatten()), "flatten: expected flattening of all but the batch"),
        (Does(lambda x: F.pad(x, (1, 1, 1, 1)) + 0), "pad: expected one convolution behind the padding"),
        (Does(lambda x: F.pad(x, (1, 1, 1, 1), value=1.0)), "pad: expected zeros on the four sides"),
        (Does(lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
        (seq(nn.BatchNorm2d(3), CONV), "0: takes pixels, which only a convolution or a linear layer can"),
        (seq(CONV, nn.BatchNorm2d(4, track_running_stats=False)), "1: expected a batch norm with running statistics"),
        (seq(CONV, nn.AvgPool2d(3, padding=1)), "1: expected an average over a window without padding"),
        (seq(CONV, nn.AdaptiveAvgPool2d(2)), "1: expected an average over a window"),
        (seq(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), "0: expected padding with zeros, found .*reflect"),
        (seq(CONV, nn.Upsample(scale_factor=2, mode="bilinear")), "1: expected an Upsample of mode nearest"),
        (Twice(), "conv: is called twice"),
        (seq(nn.Conv2d(4, 4, 1)), "0: expected a mean and a std above 0 for each of its 4 inputs' channels"),
    ],
)
def test_what_it_cannot_turn_is_refused_by_name(model: nn.Module, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        sl.quantize(model, normalization=RGB)
