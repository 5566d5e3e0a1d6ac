"""Power-of-two scales: trained eval = integers, and a shift requantizes where there is no batch norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import systolith as sl
from frontends.random_models import noise, require_equal
from systolith.formats import BadInput
from systolith.models import build, save_model
from systolith.network.requantize import to_fixed_point
from systolith.quant import ExactBatchNorm2d, QuantAdd, QuantAvgPool2d, QuantConv2d, QuantLinear, calibrate


class Net(nn.Module):
    """Convolutions without batch norm, an add, an average pool; one batch norm, if asked for."""

    def __init__(self, norm: bool = False, **how: Any) -> None:
        super().__init__()
        self.one = QuantConv2d(3, 6, 3, padding=1, pixels=128, **how)
        self.norm = ExactBatchNorm2d(6) if norm else nn.Identity()
        self.two = QuantConv2d(6, 6, 3, padding=1, per_channel=True, **how)
        self.add = QuantAdd(**how)
        self.pool = nn.MaxPool2d(2)
        self.three = QuantConv2d(6, 8, 3, padding=1, act_bits=3, **how)
        self.average = QuantAvgPool2d(2, act_bits=4, **how)
        self.last = QuantLinear(8 * 2 * 2, 5, act_bits=4, **how)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.one(x)))
        x = torch.relu(self.add(self.two(x), x))
        x = torch.relu(self.three(self.pool(x)))
        out: Tensor = self.last(self.average(x).flatten(1))
        return out


def trained(model: nn.Module, pixels: np.ndarray) -> nn.Module:
    """After a few steps of SGD, so that clip values lie where training puts them."""
    batch = torch.from_numpy(pixels)
    calibrate(model, batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    target = torch.arange(len(pixels)) % 5
    for _ in range(4):
        loss = nn.functional.cross_entropy(model.train()(batch) / 32, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("rounding", ["even", "up"])
def test_a_trained_network_is_its_integers_and_a_shift(rounding: str) -> None:
    torch.manual_seed(3)
    pixels = noise(10, 8, 8)
    lowered = require_equal(trained(Net(scale="po2", rounding=rounding), pixels), pixels)
    kinds = set()
    for name, node in lowered.network.requantizes.items():
        form = to_fixed_point(name, node.thresholds)
        kinds.add(form.rounding)
        assert set(form.multiplier.tolist()) <= {0, 1}, name
        assert 1 in form.multiplier
        lo, hi = int(node.thresholds.lo.min()), int(node.thresholds.hi.max())
        acc = np.clip(np.arange(lo, hi + 1)[None], node.thresholds.lo[:, None], node.thresholds.hi[:, None])[None]
        assert np.array_equal(form.apply(acc), node.thresholds.apply(acc)), name
    assert kinds == ({"floor"} if rounding == "up" else {"even"})


def test_a_batch_norm_needs_a_multiplier_of_its_own() -> None:
    torch.manual_seed(3)
    pixels = noise(10, 8, 8)
    lowered = require_equal(trained(Net(norm=True, scale="po2", rounding="up"), pixels), pixels)
    behind = {n: to_fixed_point(n, node.thresholds) for n, node in lowered.network.requantizes.items()}
    assert max(behind["one>two"].multiplier) > 1
    assert set(behind["two>add"].multiplier.tolist()) <= {0, 1}


@pytest.mark.parametrize("rounding", ["even", "up"])
def test_the_command_says_what_the_shift_is(rounding: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = {"arch": "vgg16", "width": 0.125, "squeeze_layer": "features.27", "squeeze_channels": 8}
    model = build({**config, "po2": True, "rounding": rounding})
    calibrate(model, torch.from_numpy(noise(16, 32, 32)))
    save_model(model.eval(), tmp_path / "m.safetensors", {})
    report = sl.lower(str(tmp_path / "m.safetensors"), fixed_point=True)
    assert report.holds
    bare = next(form for form in report.fixed_point if form.name == "features.27>features.29")
    assert (bare.least_multiplier, bare.most_multiplier) in ((1, 1), (0, 1))
    assert bare.rounding == ("floor" if rounding == "up" else "even")
    assert "rounding" in report.plain()["fixed_point"][0]


def test_the_core_has_no_half_to_even(tmp_path: Path) -> None:
    from systolith.array import ArraySpec, run_layer
    from systolith.rtl.layer import store

    torch.manual_seed(3)
    pixels = noise(4, 8, 8)
    network = require_equal(trained(Net(scale="po2"), pixels), pixels).network
    node = network.requantizes["one>two"]
    form = to_fixed_point("one>two", node.thresholds)
    conv = network.layers["one"]
    result = run_layer(conv, np.zeros((3, 8, 8), np.int16), ArraySpec(8, 8, act_bits=8, psum_bits=24))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"one: half to even has no \(M, B, S\)"):
        store(result.mapping, form, 4)
