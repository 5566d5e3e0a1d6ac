"""QDQ: onnxruntime's codes are the network's, of every quantizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from exports.lined import lined_network
from network.nets import Builder, random_network
from systolith.exports.floats import integers_of, run_floats, tensor_of
from systolith.exports.qdq import codes_of, to_qdq, watched
from systolith.formats import BadInput, IntFormat
from systolith.network import IntegerNetwork, Step
from systolith.network.file import load_network
from systolith.network.graph import Conv, Input, MaxPool, Requantize
from systolith.network.reference import run
from systolith.network.requantize import Thresholds, find_thresholds
from systolith.steps.exporting import Job, export_network
from systolith.store import shipped_models

NO_LINE = (0, 1, 4, 5, 9, 11, 12, 14, 17, 23, 25, 32, 34, 35, 38, 42, 43, 45, 47, 48)
"""Seeds with ties behind an average pool of no power of two, or thresholds closer to the line than fp32 is fine."""
SEEDS = [seed for seed in range(50) if seed not in NO_LINE]


def noise(network: IntegerNetwork, count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, *network.values["input"].shape), dtype=np.uint8)


def check(network: IntegerNetwork, count: int = 9, optimised: bool = False) -> None:
    """Every code and output in onnxruntime."""
    pixels = noise(network, count)
    model = watched(to_qdq(network), network)
    onnx.checker.check_model(model, full_check=True)
    found, expected = run_floats(model, pixels, optimised), run(network, pixels, *(s.name for s in network.steps))
    for name in ("input", *network.requantizes):
        assert np.array_equal(found[codes_of(tensor_of(network, name))], expected[name]), name
    for name in network.outputs:
        assert np.array_equal(integers_of(network, name, found[tensor_of(network, name)]), expected[name]), name


def job(network: IntegerNetwork, count: int = 3) -> Job:
    return Job(network, {}, noise(network, count), lambda *args: None)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_of_lines(seed: int, tmp_path: Path) -> None:
    network = lined_network(seed)
    check(network)
    done = export_network(job(network), "qdq", tmp_path / "net.onnx", False)
    assert done.holds, done.verdict
    assert "onnxruntime" in done.how
    assert (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("seed", NO_LINE)
def test_a_channel_that_is_no_line_is_named(seed: int) -> None:
    with pytest.raises(
        BadInput, match=r"^[\w>#]+, channel \d+: its thresholds are not those of a line rounded in fp32"
    ):
        to_qdq(lined_network(seed))


def test_random_thresholds_are_no_lines() -> None:
    with pytest.raises(BadInput, match=r"channel \d+: its t"):
        to_qdq(random_network(0))


@pytest.mark.parametrize("name", ["vgg16-w4a4-s8", "vgg16-w4a2-s16"])
def test_a_shipped_network(name: str) -> None:
    network = load_network(shipped_models()[name])
    check(network, 2)
    check(network, 2, optimised=True)


def one_conv(fmt: IntFormat, code: Requantize | None = None, pool: MaxPool | None = None) -> Builder:
    """Pixels, a convolution, codes of `fmt` by a line with a channel that falls, a pool, a linear layer."""
    b = Builder(3)
    table = np.repeat(np.arange(256, dtype=np.int16)[None] - 128, 2, axis=0)
    source = b.put(Input("input", table, IntFormat(8, True), (9, 9)))
    acc = b.put(Conv.of(b.rng.integers(-7, 8, (4, 2, 3, 3)), 8, signed=True, name="conv"), source)
    value = b.values[acc]
    gain = np.array([[1.0], [-1.0], [0.5], [0.0]]) * fmt.hi / value.hi.max()
    sign = np.array([1, -1, 1, 1], np.int8)
    t = find_thresholds(
        lambda x: np.rint(x * gain + 1).clip(fmt.lo, fmt.hi).astype(np.int64),
        value.lo,
        value.hi,
        sign,
        fmt.hi - fmt.lo,
        fmt.lo,
    )
    codes = b.put(Requantize("conv>pool", t, fmt), acc)
    b.put(pool or MaxPool("pool", (3, 3), (2, 2), (1, 1)), codes)
    return b


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 9, 12])
@pytest.mark.parametrize("signed", [False, True])
def test_formats(bits: int, signed: bool, tmp_path: Path) -> None:
    fmt = IntFormat(bits, signed)
    b = one_conv(fmt)
    network = b.network("pool", "conv")
    check(network)
    done = export_network(job(network), "qdq", tmp_path / "net.onnx", False)
    assert done.holds, done.verdict
    opset = onnx.load(tmp_path / "net.onnx").opset_import[0].version
    assert opset == (17 if bits <= 8 else 21)


def test_what_it_cannot_hold() -> None:
    far = one_conv(IntFormat(4, False), pool=MaxPool("pool", (3, 3), (2, 2), (0, 2)))
    check(far.network("pool", "conv"))
    with pytest.raises(BadInput, match="ONNX pads by less"):
        to_qdq(
            one_conv(IntFormat(4, False), pool=MaxPool("pool", (2, 2), (1, 1), (0, 1, 2, 0), (2, 3))).network(
                "pool", "conv"
            )
        )
    with pytest.raises(BadInput, match="expected at most 4,096"):
        to_qdq(one_conv(IntFormat(13, False)).network("pool", "conv"))
    b = Builder(0)
    source = b.put(Input("input", np.full((64, 256), 255, np.int16), IntFormat(8, False), (5, 5)))
    with pytest.raises(BadInput, match="conv: numbers of up to 18,"):
        to_qdq(b.network(b.put(Conv.of(np.full((1, 64, 3, 3), 127), 8, 8, name="conv"), source), source))
    b = Builder(0)
    b.put(
        Input(
            "input", np.stack([np.arange(256), np.arange(256) // 2 % 9]).astype(np.int16), IntFormat(8, False), (5, 5)
        )
    )
    with pytest.raises(BadInput, match="input, channel 1: its table rises and falls"):
        to_qdq(IntegerNetwork(tuple(b.steps), ("input",)))


def test_a_relu_in_front_of_a_signed_quantizer() -> None:
    b = one_conv(IntFormat(8, True))
    steps = list(b.steps)
    (at,) = [i for i, step in enumerate(steps) if step.name == "conv>pool"]
    node = steps[at].node
    assert isinstance(node, Requantize)
    t: Thresholds = node.thresholds
    gain = np.array([[0.1037], [0.2113], [0.0521], [0.3091]])
    relu = find_thresholds(
        lambda x: np.rint(np.maximum(x * gain, 0)).clip(-128, 100).astype(np.int64),
        t.lo,
        t.hi,
        np.ones(4, np.int8),
        255,
        -128,
    )
    steps[at] = Step(replace(node, thresholds=relu), steps[at].inputs)
    network = IntegerNetwork(tuple(steps), ("pool", "conv"))
    assert run(network, noise(network, 3))["conv>pool"].max() == 100
    check(network)


def test_a_changed_constant_shows() -> None:
    network = lined_network(2)
    model, pixels = watched(to_qdq(network), network), noise(network, 3)
    expected = run(network, pixels, *network.requantizes)
    name = max(network.requantizes, key=lambda name: len(np.unique(expected[name])))
    (offset,) = [c for c in model.graph.initializer if c.name == f"{name}/offset"]
    offset.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(offset) + np.float32(1), offset.name))
    assert (run_floats(model, pixels)[codes_of(name)] != expected[name]).any()
