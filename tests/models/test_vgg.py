from __future__ import annotations

import pytest
import torch
from torch import nn

from systolith.formats import BadInput
from systolith.models import Vgg16, VggConfig, squeeze
from systolith.quant import ClampedReLU, ExactBatchNorm2d, QuantConv2d, calibrate, quant_layers

CONVS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)


def test_torchvision_numbering() -> None:
    model = Vgg16(VggConfig())
    assert [n for n, m in model.named_modules() if isinstance(m, QuantConv2d)] == [f"features.{i}" for i in CONVS]
    assert [i for i, m in enumerate(model.features) if isinstance(m, nn.MaxPool2d)] == [6, 13, 23, 33, 43]
    shapes = [(m.in_channels, m.out_channels) for m in model.features if isinstance(m, QuantConv2d)]
    assert shapes[:3] == [(3, 64), (64, 64), (64, 128)]
    assert shapes[-1] == (512, 512)
    assert model.eval()(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 10)


@pytest.mark.parametrize("act_bits", [2, 4])
def test_training_without_relus_has_the_very_gradients_of_training_with_them(act_bits: int) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    model = Vgg16(VggConfig(act_bits=act_bits, squeeze_layer="features.27", squeeze_channels=2))
    # The squeezed layer has no batch norm: from windows of zeros come sums of exactly 0.
    nn.init.constant_(model.features[25].bias, -1.5)
    calibrate(model, images)
    results = []
    for relu in (False, True):
        if relu:
            at = [i for i, m in enumerate(model.features) if isinstance(m, nn.ReLU)]
            assert len(at) == 13
            for i in at:
                assert isinstance(model.features[i], ClampedReLU)
                model.features[i] = nn.ReLU()
        zeros: list[int] = []
        hook = model.features[28].register_forward_pre_hook(lambda _, x, z=zeros: z.append(int((x[0] == 0).sum())))
        logits = model(images)
        hook.remove()
        assert zeros[0] > 0
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in model.parameters())])
        model.zero_grad()
    assert len(results[0]) == 1 + len(list(model.parameters()))
    for without, with_relus in zip(*results, strict=True):
        assert torch.equal(without, with_relus)


def test_squeeze_does_the_bookkeeping() -> None:
    model = Vgg16(VggConfig(squeeze_layer="features.27", squeeze_channels=8))
    f = model.features
    assert [f"features.{i}" for i in (*CONVS[:9], 29, 33, 36, 39)] + ["classifier"] == list(quant_layers(model))
    assert (f[24].in_channels, f[24].out_channels) == (256, 8)
    assert isinstance(f[25], ExactBatchNorm2d)
    assert f[25].num_features == 8
    assert (f[27].in_channels, f[27].out_channels) == (8, 8)
    assert isinstance(f[28], nn.ReLU)
    assert (f[29].in_channels, f[29].out_channels) == (8, 512)
    assert model.eval()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 10)


def test_squeeze_of_another_layer_keeps_the_leading_weights() -> None:
    model = Vgg16(VggConfig())
    kept = model.features[7].weight[:16, :16].detach().clone()
    squeeze(model, "features.7", 16)
    new = model.features[7].weight.detach()
    assert torch.allclose(new, kept * (64 / 16) ** 0.5)
    assert model.features[3].out_channels == 16
    assert model.features[9].in_channels == 16
    assert model.eval()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("layer", "channels", "message"),
    [
        ("features.99", 8, "no layer 'features.99'"),
        ("classifier", 8, "no layer 'classifier' inside a Sequential"),
        ("features.28", 8, "must be a convolution"),
        ("features.0", 8, "with one before and one after"),
        ("features.40", 8, "with one before and one after"),
        ("features.27", 0, "expected 1 to 512 channels for 'features.27', found 0"),
        ("features.27", 513, "expected 1 to 512 channels for 'features.27', found 513"),
    ],
)
def test_what_cannot_be_squeezed(layer: str, channels: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        squeeze(Vgg16(VggConfig()), layer, channels)


def test_squeezing_twice_is_refused() -> None:
    model = Vgg16(VggConfig(squeeze_layer="features.27"))
    with pytest.raises(BadInput, match=r"squeezed at features\.27 already"):
        squeeze(model, "features.7", 4)


def test_squeeze_is_part_of_the_config() -> None:
    model = squeeze(Vgg16(VggConfig()), "features.7", 16)
    assert model.config == VggConfig(squeeze_layer="features.7", squeeze_channels=16)
    assert [tuple(p.shape) for p in model.parameters()] == [tuple(p.shape) for p in Vgg16(model.config).parameters()]  # type: ignore[arg-type]
