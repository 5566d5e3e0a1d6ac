"""Networks with groups, biases and padding of four sides, layer after layer on the core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import INT4, Find
from network.nets import Builder
from systolith.array import ArraySpec
from systolith.formats import IntFormat
from systolith.network import Conv, IntegerNetwork
from systolith.network.graph import Flatten
from systolith.network.reference import run
from systolith.network.requantize import Thresholds, find_thresholds, to_fixed_point
from systolith.rtl.network import build_all, plan, run_network, without_bias
from systolith.rtl.simulators import Simulator
from systolith.timing import choose


def network(seed: int = 0) -> IntegerNetwork:
    """Three convolutions: dense with a bias, depthwise with a bias and four pads, two groups with a stride."""
    b, rng = Builder(seed), np.random.default_rng(seed)
    fmt = IntFormat(3, False)
    source = b.pixels(3, (7, 6))
    shapes = [
        ((6, 3, 3, 2), 1, (1, 0), (1, 1)),
        ((6, 1, 3, 3), 6, (0, 1, 2, 1), (1, 1)),
        ((10, 3, 2, 3), 2, (0, 0), (2, 1)),
    ]
    for number, (shape, groups, padding, stride) in enumerate(shapes):
        bias = rng.integers(-300, 300, shape[0]) if number < 2 else None
        weight, name = rng.integers(-7, 8, shape), f"conv{number}"
        conv = Conv(name, weight, b.values[source].format, INT4, stride, padding, (1, 1), groups, bias)
        acc = b.put(conv, source)
        source = b.requantize(f"{name}>next", acc, fmt)
    return b.network(b.linear("linear", b.put(Flatten("flat"), source), 4))


@pytest.mark.parametrize("name", ["icarus", "verilator"])
@pytest.mark.parametrize("useful", [True, False])
def test_a_network_with_groups_biases_and_four_pads(
    name: str, useful: bool, simulator: Find, models: Path, tmp_path: Path
) -> None:
    found, net = simulator(name), network()
    pixels = np.random.default_rng(1).integers(0, 256, (3, 7, 6), dtype=np.uint8)
    expected = run(net, pixels[None])
    names = ["conv0", "conv1", "conv2"]
    how = "useful" if useful else "whole"
    planned = plan(net, names, ArraySpec(4, 4), auto=True, widen=True, choose=lambda m: choose(m, how))
    assert [one.mapping.passes for one in planned] == [6 * 1 * 2, 9 * 2, 6 * (1 + 2 + 2)]
    build_all(found, planned, 2, models)
    *ran, answer = run_network(found, net, pixels[None], expected, planned, tmp_path, models)
    assert len(ran) == 3
    for one in ran:
        assert not isinstance(one, tuple)
        assert one.holds, one
        node = net.values[one.planned.name]
        # Accumulators, bias included, and codes, as the network has them.
        assert one.equal is not None
        assert one.equal.compared == 2 * int(np.prod(node.shape))
    assert answer == (int(expected["class"][0]),)


def test_a_network_without_a_class(icarus: Simulator, models: Path, tmp_path: Path) -> None:
    whole = network()
    cut = next(number for number, step in enumerate(whole.steps) if step.name == "conv1>next") + 1
    net = IntegerNetwork(whole.steps[:cut], ("conv1>next",))
    pixels = np.random.default_rng(1).integers(0, 256, (3, 7, 6), dtype=np.uint8)
    planned = plan(net, ["conv0", "conv1"], ArraySpec(4, 4), auto=True, widen=True)
    ran = list(run_network(icarus, net, pixels[None], run(net, pixels[None]), planned, tmp_path, models))
    assert [isinstance(one, tuple) or one.holds for one in ran] == [True, True]


def test_thresholds_without_the_bias_give_the_same_codes() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        lo, hi, bias = rng.integers(-60, 1, 4), rng.integers(0, 60, 4), rng.integers(-99, 99, 4)
        sign, low = rng.choice([-1, 1], 4).astype(np.int8), int(rng.integers(-3, 1))
        lo, hi = lo + bias, hi + bias
        first, last = np.where(sign > 0, lo, -hi), np.where(sign > 0, hi, -lo)
        values = np.sort(rng.integers(first[:, None], last[:, None] + 2, (4, 5)), axis=1)
        thresholds = Thresholds(values, sign, lo, hi, low)
        moved = without_bias(thresholds, bias)
        for channel in range(4):
            acc = np.arange(lo[channel], hi[channel] + 1)
            whole = np.repeat(acc[None], 4, axis=0)
            codes = thresholds.apply(whole[None])[0, channel]
            assert (moved.apply(whole[None] - bias[:, None])[0, channel] == codes).all()
        assert (moved.lo == lo - bias).all()
        assert (moved.hi == hi - bias).all()
    assert without_bias(thresholds, None) is thresholds


def test_fixed_point_of_a_layer_with_a_bias() -> None:
    """Codes of the core's accumulators, by (M, B, S), are those of the network's, at every one there can be."""
    b = Builder(3)
    source = b.pixels(2, (3, 3))
    conv = Conv("conv", b.rng.integers(-7, 8, (3, 2, 1, 1)), b.values[source].format, INT4, bias=np.array([70, -9, 0]))
    lo, hi = conv.bounds()

    def epilogue(values: np.ndarray) -> np.ndarray:
        return np.clip((values * np.array([[3], [-5], [1]]) + 40) >> 6, 0, 7)

    thresholds = find_thresholds(epilogue, lo, hi, np.array([1, -1, 1]), 7)
    moved = without_bias(thresholds, conv.bias)
    fixed = to_fixed_point("conv>next", moved)
    for channel in range(3):
        values = np.arange(lo[channel], hi[channel] + 1)
        whole = np.repeat(values[None], 3, axis=0)
        assert conv.bias is not None
        found = fixed.apply(whole[None] - conv.bias[:, None])[0, channel]
        assert (found == epilogue(whole)[channel]).all()
