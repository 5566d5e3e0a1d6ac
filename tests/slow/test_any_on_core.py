"""What is ordinary in somebody's network, on the core in Icarus: every word, every clock, the network's integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conftest import Find
from frontends.any_models import AnyNet
from frontends.random_models import noise, require_equal, scramble
from frontends.test_lowering_any import ACTIVATIONS, OUTPUTS, PADS, UPSAMPLED, Prelu, conv, model_of, stem
from systolith.array import ArraySpec
from systolith.exports.onnx import save_onnx
from systolith.frontends.lowering import lower
from systolith.network import IntegerNetwork
from systolith.network.graph import Conv
from systolith.network.reference import run
from systolith.quant import ExactBatchNorm1d, ExactBatchNorm2d, QuantAvgPool2d, QuantConv2d, QuantIdentity, QuantLinear
from systolith.rtl.network import plan, run_network

pytestmark = pytest.mark.slow

Body = Callable[[Any, Tensor], Any]
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "act6": nn.ReLU6,
    "hard": lambda: nn.Hardtanh(-0.7, 1.1),
    "leaky": lambda: nn.LeakyReLU(0.2),
    "prelu": lambda: Prelu(4),
    "prelu1": lambda: nn.PReLU(init=0.4),
    "up": lambda: nn.Upsample(scale_factor=(1, 3)),
    "zeros": lambda: nn.ZeroPad2d((0, 2, 1, 0)),
    "c": lambda: conv(4),
    "c8": lambda: conv(8),
    "depth": lambda: QuantConv2d(4, 4, 3, padding=1, groups=4),
    "pairs": lambda: QuantConv2d(4, 8, 3, (2, 1), (1, 0, 2, 1), 1, 2, bias=True),
    "ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "p": QuantAvgPool2d,
    "q": lambda: QuantIdentity(3, True),
    "whole": lambda: QuantConv2d(4, 5, 8, bias=True),
    "each": lambda: QuantConv2d(4, 5, 8, per_channel=True),
    "seg": lambda: conv(4, 3, bias=True),
    "fc": lambda: QuantLinear(256, 5),
    "q4": lambda: QuantIdentity(4),
    "head": lambda: QuantLinear(4, 5, act_bits=4),
    "hidden": lambda: QuantLinear(256, 9, bias=False),
    "bn1": lambda: ExactBatchNorm1d(9),
    "last": lambda: QuantLinear(9, 5),
}
CASES: dict[str, Body] = {
    **{name: lambda m, x, way=body: m.c(way(m, m.bn(m.a(x)))) for name, body in ACTIVATIONS.items()},
    **{f"padding {name}": body for name, body in PADS.items() if "concatenation" not in name},
    **{f"upsampling {name}": body for name, body in UPSAMPLED.items()},
    **{f"output {name}": body for name, (body, _, _) in OUTPUTS.items()},
    "depthwise": lambda m, x: m.c(m.act6(m.depth(F.relu(m.a(x))))),
    "groups": lambda m, x: m.c8(F.relu(m.pairs(m.a(x)))),
    "concatenation": lambda m, x: m.c8(torch.cat([y := F.relu(m.a(x)), m.b(y)], 1)),
    "ceil_mode": lambda m, x: m.c(m.ceil(F.relu(m.a(x)))),
    "view": lambda m, x: m.fc(F.relu(y := m.b(m.a(x))).view(y.size(0), -1)),
    "mean": lambda m, x: m.head(m.q4(F.relu(m.bn(m.a(x)))).mean((2, 3))),
    "batch norm behind a linear layer": lambda m, x: m.last(m.act6(m.bn1(m.hidden(F.relu(m.a(x)).flatten(1))))),
    "called twice": lambda m, x: m.b(F.relu(m.b(F.relu(m.a(x))))),
}


def on_core(network: IntegerNetwork, pixels: np.ndarray, simulator: Any, models: Path, folder: Path) -> int:
    """A whole inference with every convolution on the core; how many there were, all of them equal."""
    names = [name for name, node in network.layers.items() if isinstance(node, Conv)]
    planned = plan(network, names, ArraySpec(4, 4), auto=True, widen=True)
    expected = run(network, pixels[None], *(step.name for step in network.steps))
    ran = run_network(simulator, network, pixels[None], expected, planned, folder, models)
    layers = [one for one in ran if not isinstance(one, tuple)]
    assert [one.planned.name for one in layers] == names
    for one in layers:
        assert one.holds, (one.planned.name, one.outcome, one.equal)
        assert one.equal is not None
        assert one.equal.compared > 0
    return len(layers)


@pytest.mark.parametrize("case", CASES)
def test_every_case(case: str, simulator: Find, models: Path, tmp_path: Path) -> None:
    """0 of the codes of 256 pictures differ, the export is checked, and its convolutions run on the core."""
    made = {name: make() for name, make in LAYERS.items()}
    if "then batch norm" in case:
        made["up"] = ExactBatchNorm2d(4)
    model = model_of(CASES[case], **made)
    pixels = noise(256, 8, 8)
    scramble(model, pixels)
    for norm in (m for m in model.modules() if isinstance(m, ExactBatchNorm2d)):
        norm.weight.data.abs_()
    lowered = require_equal(model, pixels)
    save_onnx(lowered.network, tmp_path / "n.onnx")
    assert on_core(lowered.network, pixels[0], simulator("icarus"), models, tmp_path) >= 1
    assert stem().act_quant is not None


def test_a_multilayer_perceptron_on_256_pictures() -> None:
    layers = nn.Flatten(), QuantLinear(192, 12, bias=False, pixels=0), ExactBatchNorm1d(12), nn.ReLU()
    model = nn.Sequential(*layers, QuantLinear(12, 5, act_bits=4))
    pixels = noise(256, 8, 8)
    require_equal(scramble(model, pixels), pixels)


@pytest.mark.parametrize("part", range(10))
def test_random_networks_of_all_nodes(part: int) -> None:
    """300 in all: lowered, both executors and onnxruntime equal to the model in every code and output."""
    for seed in range(1000 + 30 * part, 1000 + 30 * (part + 1)):
        pixels = noise(4, *((8, 8), (7, 9), (10, 6))[seed % 3], seed=seed)
        require_equal(AnyNet(seed, pixels).eval(), pixels)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_on_the_core(seed: int, simulator: Find, models: Path, tmp_path: Path) -> None:
    pixels = noise(4, 7, 6, seed=seed)
    model = AnyNet(seed, pixels).eval()
    network = lower(model, (7, 6)).network
    assert on_core(network, pixels[0], simulator("icarus"), models, tmp_path) >= 1
