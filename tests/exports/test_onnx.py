from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from conftest import pictures
from network.nets import Builder, random_network
from systolith.exports.onnx import run_onnx, save_onnx, to_onnx
from systolith.formats import BadInput, IntFormat
from systolith.frontends.lowering import lower
from systolith.models import load
from systolith.network import IntegerNetwork, Step
from systolith.network.graph import Add, Conv, Flatten, Input, Linear, Requantize
from systolith.network.reference import run
from systolith.network.requantize import Thresholds

UINT8, INT8 = IntFormat(8, False), IntFormat(8, True)
INTEGERS = {TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}


def check(network: IntegerNetwork, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Every watched value equal to the reference's; returns the reference's results."""
    model = to_onnx(network, watch=True)
    onnx.checker.check_model(model, full_check=True)
    found, expected = run_onnx(model, pixels), run(network, pixels, *(step.name for step in network.steps))
    names = {"logits": network.outputs[0], "class": network.steps[-1].name} if network.classifies else {}
    assert set(found) == {*(names or network.outputs), *network.requantizes}
    for name, codes in found.items():
        of = names.get(name, name)
        assert codes.shape == expected[of].shape
        assert (codes == expected[of]).all(), name
    if network.classifies:
        assert found["logits"].dtype == np.int32
        assert found["class"].dtype == np.int64
    return expected


@pytest.fixture(scope="module")
def vgg(random_model_file: Path) -> IntegerNetwork:
    return lower(load(random_model_file)[0]).network


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    network = random_network(seed)
    size = network.values["input"].shape
    expected = check(network, np.random.default_rng(seed).integers(0, 256, (11, *size), dtype=np.uint8))
    assert sum(len(np.unique(expected[name])) > 2 for name in network.requantizes) >= 4  # not all of it is constant


def test_a_lowered_network_and_its_file(vgg: IntegerNetwork, tmp_path: Path) -> None:
    check(vgg, pictures(3))
    save_onnx(vgg, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(tmp_path / "model.onnx")
    assert [o.name for o in model.graph.output] == ["logits", "class"]
    assert (run_onnx(model, pictures(3))["logits"] == run(vgg, pictures(3))["classifier"]).all()


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_no_float_anywhere(seed: int | None, vgg: IntegerNetwork) -> None:
    network = vgg if seed is None else random_network(seed)
    graph = onnx.shape_inference.infer_shapes(to_onnx(network), check_type=True, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {constant.name: constant.data_type for constant in graph.initializer}
    assert {name for node in graph.node for name in (*node.input, *node.output)} <= set(types)
    assert set(types.values()) <= INTEGERS
    assert {a.type for node in graph.node for a in node.attribute} <= {
        onnx.AttributeProto.INT,
        onnx.AttributeProto.INTS,
    }


def test_sums_of_more_than_32_bits() -> None:
    b = tiny(UINT8, 7, np.ones((3, 1, 1, 1), int), INT8, (4, 4))
    one, two = b.requantize("one", "conv", UINT8), b.requantize("two", "conv", UINT8)
    b.put(Add("sum", (2**30 - 1, 2**29 + 5)), one, two)
    b.put(Flatten("flat"), b.requantize("sum>fc", "sum", UINT8))
    network = b.network(b.linear("fc", "flat", 3), "sum", "sum>fc")
    expected = check(network, np.zeros((2, 1, 4, 4), np.uint8))
    assert run_onnx(to_onnx(network), np.zeros((2, 1, 4, 4), np.uint8))["sum"].dtype == np.int64
    assert network.values["sum"].hi.max() > 2**31
    assert expected["sum"].any()


def test_a_moved_threshold_shows() -> None:
    network, name = random_network(3), "a>b"
    pixels = np.random.default_rng(0).integers(0, 256, (4, *network.values["input"].shape), dtype=np.uint8)
    acc = run(network, pixels, "a")["a"]
    node = network.requantizes[name]
    t = node.thresholds
    channel = 0
    reached = np.sort(int(t.sign[channel]) * acc[:, channel].reshape(-1))
    value = int(reached[reached.size // 2])
    k = int(np.searchsorted(t.values[channel], value, side="right")) - 1
    moved = t.values.copy()
    moved[channel, k] = value + 1  # what is between the old threshold and the new gets a code less
    steps = [
        Step(replace(node, thresholds=replace(t, values=moved)), s.inputs) if s.name == name else s
        for s in network.steps
    ]
    mutant = IntegerNetwork(tuple(steps), network.outputs)
    check(mutant, pixels)
    before, after = (run_onnx(to_onnx(n, watch=True), pixels)[name].astype(int) for n in (network, mutant))
    expected = np.zeros_like(before)
    expected[:, channel] = (int(t.sign[channel]) * acc[:, channel] >= t.values[channel, k]) & (
        int(t.sign[channel]) * acc[:, channel] <= value
    )
    assert expected.any()
    assert (before - after == expected).all()


def tiny(act: IntFormat, pixel: int, weight: np.ndarray, weight_format: IntFormat, size: tuple[int, int]) -> Builder:
    """One convolution "conv" of maps that are one code everywhere, without padding."""
    b = Builder(0)
    source = b.put(Input("input", np.full((weight.shape[1], 256), pixel, np.int16), act, size))
    b.put(Conv("conv", weight, act, weight_format), source)
    return b


@pytest.mark.parametrize(("act", "code"), [(UINT8, 255), (INT8, -128), (INT8, 127)])
@pytest.mark.parametrize(("weight_format", "weight"), [(INT8, 127), (INT8, -128), (UINT8, 255)])
def test_the_largest_products_are_not_saturated(
    act: IntFormat, code: int, weight_format: IntFormat, weight: int
) -> None:
    b = tiny(act, code, np.full((2, 70, 3, 3), weight), weight_format, (3, 3))
    value = b.values["conv"]
    rows = np.linspace(value.lo, value.hi, 255).astype(np.int64).T
    rows[0, 100] = 70 * 9 * code * weight  # exactly what comes out
    t = Thresholds(np.sort(rows), np.array([1, -1], np.int8), value.lo, value.hi)
    b.put(
        Requantize("conv>fc", replace(t, values=np.clip(t.values, *(s[:, None] for s in t.mirrored_range()))), UINT8),
        "conv",
    )
    flat = b.put(Flatten("flat"), "conv>fc")
    fc = Linear("fc", np.array([[weight] * 2, [0, 1]]), np.array([3, -4]), UINT8, weight_format)
    check(b.network(b.put(fc, flat)), np.zeros((1, 70, 3, 3), np.uint8))


def test_a_requantize_without_thresholds() -> None:
    b = tiny(UINT8, 7, np.ones((3, 1, 1, 1), int), INT8, (4, 4))
    value = b.values["conv"]
    b.put(
        Requantize("conv>fc", Thresholds(np.zeros((3, 0), int), np.ones(3, np.int8), value.lo, value.hi, 5), UINT8),
        "conv",
    )
    b.put(Flatten("flat"), "conv>fc")
    network = b.network(b.put(Linear("fc", np.eye(48, dtype=int), np.arange(48), UINT8, INT8), "flat"))
    for _ in range(3):  # what onnxruntime finds in memory is 0 the first time
        check(network, np.zeros((2, 1, 4, 4), np.uint8))


def refused(b: Builder, source: str, fmt: IntFormat = UINT8) -> str:
    """The sentence with which the network behind `source`, accumulators, is refused."""
    b.put(Flatten("flat"), b.requantize("r", source, fmt))
    network = b.network(b.linear("fc", "flat", 2))
    with pytest.raises(BadInput) as error:
        to_onnx(network)
    return str(error.value)


def test_what_does_not_fit() -> None:
    wide = np.full((1, 1, 260, 260), 127)
    assert refused(tiny(UINT8, 1, wide, INT8, (260, 260)), "conv") == (
        "conv: accumulators of 0..2189226000, where ONNX's have 32 bits"
    )
    assert refused(tiny(UINT8, 1, -wide, INT8, (260, 260)), "conv").startswith("conv: accumulators of -2189226000..0")
    one = np.ones((1, 1, 1, 1), int)
    nine = IntFormat(9, True)
    eight_bits = "where ONNX multiplies integers of at most 8 bits"
    assert refused(tiny(IntFormat(10, True), 300, one, INT8, (2, 2)), "conv") == f"conv: int10 codes, {eight_bits}"
    assert refused(tiny(UINT8, 1, one, nine, (2, 2)), "conv") == f"conv: int9 weights, {eight_bits}"


@pytest.mark.parametrize(
    ("size", "weight", "bias", "message"),
    [
        (1, 1, 2**31 - 256, "accumulators of 2147483392..2147483647"),
        (70_000, 127, -(2**30), "accumulators of 0..2266950000"),  # the product alone, before the bias
    ],
)
def test_a_linear_layer_that_exceeds_32_bits(size: int, weight: int, bias: int, message: str) -> None:
    b = tiny(UINT8, 1, np.ones((1, 1, 1, 1), int), INT8, (size, 1))
    b.put(Flatten("flat"), b.requantize("r", "conv", UINT8))
    network = b.network(b.put(Linear("fc", np.full((1, size), weight), np.array([bias]), UINT8, INT8), "flat"))
    with pytest.raises(BadInput, match=f"fc: {re.escape(message)}, where ONNX's have 32 bits"):
        to_onnx(network)


def test_the_first_of_equal_logits_wins() -> None:
    b = tiny(UINT8, 1, np.ones((1, 1, 1, 1), int), INT8, (1, 1))
    b.put(Flatten("flat"), b.requantize("r", "conv", UINT8))
    fc = Linear("fc", np.ones((4, 1), int), np.array([-1, 2, 2, 1]), UINT8, INT8)
    assert check(b.network(b.put(fc, "flat")), np.zeros((3, 1, 1, 1), np.uint8))["class"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["pixels", "logits", "r/sum", ""])
def test_a_name_that_the_model_needs(name: str) -> None:
    b = tiny(UINT8, 1, np.ones((1, 1, 1, 1), int), INT8, (1, 1))
    b.put(Flatten(name), b.requantize("r", "conv", UINT8))
    with pytest.raises(BadInput, match=f"'{name}' cannot be the name of a node"):
        to_onnx(b.network(b.linear("fc", name, 2)))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((0, 3, 32, 32), np.uint8), np.zeros((1, 3, 32, 31), np.uint8), np.zeros((1, 3, 32, 32), np.int64)],
)
def test_what_are_not_pictures(pixels: np.ndarray, vgg: IntegerNetwork) -> None:
    with pytest.raises(BadInput, match=r"expected uint8 pictures \(N, 3, 32, 32\), found"):
        run_onnx(to_onnx(vgg), pixels)


def test_importing_needs_neither_onnx_nor_onnxruntime() -> None:
    code = "import sys, systolith.exports.onnx; print({'onnx', 'onnxruntime', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
