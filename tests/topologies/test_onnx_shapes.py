from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from conftest import layers
from exports.lined import lined_network
from systolith.exports.qdq import to_qdq
from systolith.exports.qonnx import to_qonnx
from systolith.formats import BadInput
from systolith.network import Conv, IntegerNetwork
from systolith.network.file import load_network
from systolith.store import shipped_models
from systolith.topologies import Layer, Topology, of_network, read_onnx

ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
FLOAT = TensorProto.FLOAT
Node = onnx.NodeProto


def value(name: str, shape: list[Any] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def constants(**shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]


def model(nodes: list[Node], inputs: dict[str, Any], weights: list[onnx.TensorProto], **more: Any) -> onnx.ModelProto:
    taken = [value(name, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(nodes, "g", taken, [value(nodes[-1].output[0], None)], weights, **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def read(folder: Path, made: onnx.ModelProto, **bits: int) -> Topology:
    onnx.save(made, folder / "net.onnx")
    return read_onnx(folder / "net.onnx", **bits)


def sizes(layer: Layer) -> tuple[int, int, int, int]:
    """(m, k, n, count) of a matrix product."""
    assert (layer.kind, layer.width) == ("gemm", 1)
    return layer.height, layer.conv.in_channels, layer.conv.out_channels, layer.count


@ANY
@given(layers(), st.integers(1, 3))
def test_any_convolution(tmp_path: Path, drawn: tuple[Conv, np.ndarray], batch: int) -> None:
    conv, act = drawn
    top, bottom, left, right = conv.pads
    given_ = {"strides": conv.stride, "dilations": conv.dilation, "pads": (top, left, bottom, right)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], "c", group=conv.groups, **given_)
    topology = read(tmp_path, model([node], {"x": [batch, *act.shape]}, constants(w=conv.weight.shape)))
    (layer,) = topology.layers
    for name in ("stride", "padding", "dilation", "groups", "kernel", "in_channels", "out_channels"):
        assert getattr(layer.conv, name) == getattr(conv, name)
    assert layer.output_shape == conv.output_shape(*act.shape[1:])
    assert (layer.name, layer.macs, layer.count) == ("c", Layer(conv, *act.shape[1:]).macs, batch)
    assert (topology.name, topology.source, topology.notes) == ("net", "net.onnx", ())


@ANY
@given(st.sampled_from(["VALID", "SAME_UPPER", "SAME_LOWER"]), layers())
def test_padding_that_onnx_finds(tmp_path: Path, auto: str, drawn: tuple[Conv, np.ndarray]) -> None:
    conv, act = drawn
    shape = (act.shape[0], *(side + 4 for side in act.shape[1:]))  # room for the kernel without padding
    window = {"strides": conv.stride, "dilations": conv.dilation}
    node = helper.make_node("Conv", ["x", "w"], ["y"], "c", auto_pad=auto, group=conv.groups, **window)
    made = model([node], {"x": [1, *shape]}, constants(w=conv.weight.shape))
    (layer,) = read(tmp_path, made).layers
    inferred = onnx.shape_inference.infer_shapes(made).graph.output[0].type.tensor_type.shape.dim
    assert list(layer.output_shape) == [axis.dim_value for axis in inferred[2:]]
    top, bottom, left, right = layer.conv.pads
    if auto == "VALID":
        assert (top, bottom, left, right) == (0, 0, 0, 0)
    else:
        assert {bottom - top, right - left} <= ({0, 1} if auto == "SAME_UPPER" else {0, -1})


def test_a_convolution_of_one_axis_is_one_of_a_map_of_height_one(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2], pads=[1, 3], dilations=[2], group=2)
    (layer,) = read(tmp_path, model([node], {"x": ["N", 4, 20]}, constants(w=(6, 2, 3)))).layers
    assert (layer.name, layer.height, layer.width, layer.conv.pads) == ("y", 1, 20, (0, 0, 1, 3))
    # 20 + 1 + 3 - (2*2 + 1) = 19, // 2 + 1 = 10 outputs of 6 channels, each of 2 * 3 products
    assert (layer.output_shape, layer.macs) == ((1, 10), 10 * 6 * 2 * 3)


def test_gemm_and_its_transposes(tmp_path: Path) -> None:
    for a, b, flags in (
        ((5, 3), (3, 2), {}),
        ((3, 5), (3, 2), {"transA": 1}),
        ((5, 3), (2, 3), {"transB": 1}),
        ((3, 5), (2, 3), {"transA": 1, "transB": 1}),
    ):
        node = helper.make_node("Gemm", ["a", "b"], ["y"], **flags)
        (layer,) = read(tmp_path, model([node], {"a": list(a)}, constants(b=b))).layers
        assert sizes(layer) == (5, 3, 2, 1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((5, 3), (3, 2), (5, 3, 2, 1)),
        # Weights without a batch: all rows stream past them.
        ((4, 7, 5, 3), (3, 2), (4 * 7 * 5, 3, 2, 1)),
        ((4, 5, 3), (1, 3, 2), (4 * 5, 3, 2, 1)),
        ((3,), (3, 2), (1, 3, 2, 1)),
        ((4, 5, 3), (3,), (4 * 5, 3, 1, 1)),
        ((1, 12, 5, 3), (1, 12, 3, 2), (5, 3, 2, 12)),
        ((2, 1, 5, 3), (12, 3, 2), (5, 3, 2, 24)),
        ((5, 3), (12, 3, 2), (5, 3, 2, 12)),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_matrix_products(
    tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...], expected: tuple[int, ...], dynamic: bool
) -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    inputs = {"a": list(a), "b": list(b)} if dynamic else {"a": list(a)}
    (layer,) = read(tmp_path, model([node], inputs, [] if dynamic else constants(b=b))).layers
    assert sizes(layer) == expected
    assert layer.macs * layer.count == (np.zeros(a) @ np.zeros(b)).size * a[-1]


def test_attention_with_an_open_batch(tmp_path: Path) -> None:
    """Of 2 heads of 4 on 5 tokens: reshaped by constants, whose values shapes depend on."""
    shape = numpy_helper.from_array(np.array([-1, 5, 2, 4]), "split")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["q"], "q")]
    nodes += [helper.make_node("Reshape", ["q", "split"], ["heads"])]
    for name, order in (("left", (0, 2, 1, 3)), ("right", (0, 2, 3, 1))):
        nodes.append(helper.make_node("Transpose", ["heads"], [name], perm=order))
    nodes.append(helper.make_node("MatMul", ["left", "right"], ["scores"], "scores"))
    nodes.append(helper.make_node("Softmax", ["scores"], ["p"]))
    nodes.append(helper.make_node("MatMul", ["p", "left"], ["context"], "context"))
    for first in ("N", None, 0, 1):
        topology = read(tmp_path, model(nodes, {"x": [first, 5, 8]}, [*constants(w=(8, 8)), shape]))
        assert {x.name: sizes(x) for x in topology.layers} == {
            "q": (5, 8, 8, 1),
            "scores": (5, 4, 5, 2),
            "context": (5, 5, 4, 2),
        }
        left_out = "left out, without matrix products: 2 Transpose, 1 Reshape, 1 Softmax"
        assert topology.notes == (left_out,)


def test_integer_operators(tmp_path: Path) -> None:
    scale, zero = constants(s=())[0], helper.make_tensor("z", TensorProto.UINT8, [], [0])
    weights = [
        helper.make_tensor(name, TensorProto.UINT8, shape, [0] * int(np.prod(shape)))
        for name, shape in {"w": (6, 3, 3, 3), "f": (8, 2)}.items()
    ]
    nodes = [
        helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["a"], "a", pads=[1] * 4),
        helper.make_node("ConvInteger", ["x", "w"], ["b"], "b"),
        helper.make_node("QLinearMatMul", ["v", "s", "z", "f", "s", "z", "s", "z"], ["c"], "c"),
        helper.make_node("MatMulInteger", ["v", "f"], ["d"], "d"),
    ]
    made = model(nodes, {}, [scale, zero, *weights])
    made.graph.input.extend([value("x", [1, 3, 7, 7], TensorProto.UINT8), value("v", [5, 8], TensorProto.UINT8)])
    a, b, c, d = read(tmp_path, made, act_bits=4, weight_bits=2).layers
    assert (a.output_shape, b.output_shape, a.macs, b.macs) == ((7, 7), (5, 5), 49 * 6 * 27, 25 * 6 * 27)
    assert sizes(c) == sizes(d) == (5, 8, 2, 1)
    assert {(x.conv.act_format.bits, x.conv.weight_format.bits) for x in (a, b, c, d)} == {(4, 2)}


@pytest.mark.parametrize("export", [to_qdq, to_qonnx])
def test_our_own_exports(tmp_path: Path, export: Callable[[IntegerNetwork], onnx.ModelProto]) -> None:
    for network in (lined_network(3), load_network(shipped_models()["resnet20-w4a4"])):
        found, mine = read(tmp_path, export(network)), of_network(network, "mine")
        assert [(x.macs, x.output_shape) for x in found.layers] == [(x.macs, x.output_shape) for x in mine.layers]
        assert [x.follows for x in found.layers] == [x.follows for x in mine.layers]
        assert any(x.follows for x in mine.layers)


def test_what_a_layer_alone_reads_of_the_one_before_follows_it(tmp_path: Path) -> None:
    def layer(name: str, taken: str, kind: str = "MatMul") -> Node:
        return helper.make_node(kind, [taken, "w"], [name], name)

    nodes = [
        layer("a", "x"),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("Add", ["ra", "bias"], ["ba"]),  # of a constant
        layer("b", "ba"),
        layer("c", "b"),  # b is read twice
        helper.make_node("Add", ["b", "c"], ["sum"]),
        layer("d", "sum"),
        layer("e", "d"),
        helper.make_node("Softmax", ["e"], ["soft"]),
        layer("f", "soft"),
        layer("g", "f"),
        layer("h", "x"),  # not what the layer before it leaves
        helper.make_node("Add", ["g", "h"], ["y"]),
    ]
    topology = read(tmp_path, model(nodes, {"x": [3, 4]}, constants(w=(4, 4), bias=(4,))))
    follows = {x.name: x.follows for x in topology.layers}
    assert follows == dict(zip("abcdefgh", (False, True, False, False, True, False, True, False), strict=True))


def test_an_output_of_the_graph_leaves(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", [a, "w"], [b], b) for a, b in (("x", "h"), ("h", "y"))]
    made = model(nodes, {"x": [3, 4]}, constants(w=(4, 4)))
    assert [x.follows for x in read(tmp_path, made).layers] == [False, True]
    made.graph.output.append(value("h", [3, 4]))
    assert [x.follows for x in read(tmp_path, made).layers] == [False, False]


def test_quantizers_of_qonnx_keep_the_shape(tmp_path: Path) -> None:
    quant = helper.make_node("Quant", ["x", "s", "s", "s"], ["q"], domain="qonnx.custom_op.general", signed=1)
    made = model([quant, helper.make_node("MatMul", ["q", "w"], ["y"])], {"x": ["N", 4]}, constants(s=(), w=(4, 3)))
    made.opset_import.append(helper.make_opsetid("qonnx.custom_op.general", 1))
    topology = read(tmp_path, made)
    assert sizes(topology.layers[0]) == (1, 4, 3, 1)
    assert topology.notes == ("left out, without matrix products: 1 Quant",)


def test_functions_of_the_file_are_read_and_names_made_distinct(tmp_path: Path) -> None:
    inner = [helper.make_node("MatMul", ["a", "w"], ["b"], "fc")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    function = helper.make_function("mine", "Block", ["a", "w"], ["b"], inner, opsets)
    nodes = [helper.make_node("Block", [a, "w"], [b], domain="mine") for a, b in (("x", "h"), ("h", "y"))]
    made = model(nodes, {"x": [2, 4]}, constants(w=(4, 4)))
    made.functions.append(function)
    made.opset_import.append(helper.make_opsetid("mine", 1))
    topology = read(tmp_path, made)
    assert [sizes(layer) for layer in topology.layers] == [(2, 4, 4, 1)] * 2
    assert len({layer.name for layer in topology.layers}) == 2


def test_products_that_are_left_out_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["v", "f"], ["m"]),
        helper.make_node("ConvTranspose", ["x", "t"], ["up1"], "up1"),
        helper.make_node("ConvTranspose", ["x", "t"], ["up2"], "up2"),
        helper.make_node("Conv", ["z", "w"], ["deep"], "deep"),
        helper.make_node("Einsum", ["v", "f"], ["e"], "e", equation="ij,jk->ik"),
        helper.make_node("FusedConv", ["x", "t"], ["fused"], "fused", domain="com.microsoft"),
    ]
    made = model(nodes, {"x": [1, 3, 5, 5], "z": [1, 1, 5, 5, 5], "v": [2, 4]}, constants(t=(3, 6, 2, 2), f=(4, 3)))
    made.graph.initializer.extend(constants(w=(1, 1, 3, 3, 3)))
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    topology = read(tmp_path, made)
    assert [layer.name for layer in topology.layers] == ["m"]
    assert topology.notes == (
        "left out: up1, up2 (ConvTranspose, a transposed convolution is no layer of an array)",
        "left out: deep (Conv, a convolution of 3 axes is no layer of an array)",
        "left out: e (Einsum, its products are in an equation, which is not read)",
        "left out: fused (FusedConv, this operator of com.microsoft is not read)",
    )


def test_large_weights_and_those_in_other_files_are_never_read(tmp_path: Path) -> None:
    weight = TensorProto(name="w", dims=(1 << 20, 1 << 20), data_type=FLOAT, data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="/nowhere/at/all")
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["batch", 1 << 20]}, [weight])
    assert read(tmp_path, made).macs == 1 << 40


@pytest.mark.parametrize(
    ("inputs", "weight", "message"),
    [
        ({"x": [1, "len", 4]}, (4, 3), "'x', which y takes, has shape 1xlenx4: expected known sizes; the batch alone"),
        ({"x": [1, None, 4]}, (4, 3), r"'x', which y takes, has shape 1x\?x4"),
        ({"x": None}, (4, 3), "'x', which y takes, has no known shape"),
        ({"x": [2, 5]}, (4, 3), r"y: expected operands \(..., M, K\) and \(..., K, N\), found \(2, 5\) and \(4, 3\)"),
        ({"x": [2, 5, 4]}, (3, 4, 3), r"found \(2, 5, 4\) and \(3, 4, 3\)"),
    ],
)
def test_shapes_that_are_not_known_or_do_not_fit(
    tmp_path: Path, inputs: dict[str, Any], weight: tuple[int, ...], message: str
) -> None:
    with pytest.raises(BadInput, match=message) as error:
        read(tmp_path, model([helper.make_node("MatMul", ["x", "w"], ["y"])], inputs, constants(w=weight)))
    assert str(error.value).startswith(f"{tmp_path / 'net.onnx'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "weight", "given_", "message"),
    [
        (
            [1, 4, 5, 5],
            (6, 3, 3, 3),
            {},
            r"y: expected a map for weights \(6, 3, 3, 3\) in 1 groups, found \(1, 4, 5, 5\)",
        ),
        ([1, 4, 5, 5], (5, 2, 3, 3), {"group": 2}, "y: expected groups that divide the 5 output channels"),
        ([1, 3, 2, 2], (6, 3, 3, 3), {}, "y: a kernel of reach .* does not fit the padded map"),
        ([1, 3, 5, 5], (6, 3, 3, 3), {"pads": [0, -1, 0, 0]}, "y: expected stride and dilation .* padding"),
        ([1, 3, 5, 5], (6, 3, 3, 3), {"pads": [1, 1, 1]}, r"y: expected pads for 2 axes, found \[1, 1, 1\]"),
        ([1, 3, 5, 5], (6, 3, 3, 3), {"strides": [1]}, r"y: expected strides for 2 axes, found \[1\]"),
        (
            [1, 3, 5, 5],
            (6, 3, 3, 3),
            {"auto_pad": "SAME_UPPER", "strides": [0, 1]},
            "y: expected stride and dilation of 1",
        ),
        ([1, 3, 5, 5], (6, 3, 3, 3), {"auto_pad": "SAME"}, "y: expected auto_pad NOTSET, VALID, .* found SAME"),
    ],
)
def test_convolutions_that_are_none(
    tmp_path: Path, shape: list[int], weight: tuple[int, ...], given_: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        read(
            tmp_path, model([helper.make_node("Conv", ["x", "w"], ["y"], **given_)], {"x": shape}, constants(w=weight))
        )


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    for content in (b"", b"no protobuf", b"\x08\x07"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"net\.onnx: not a readable ONNX file"):
            read_onnx(path)
    with pytest.raises(BadInput, match="net: expected at least one convolution or matrix product, found none"):
        read(tmp_path, model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 2]}, []))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"net.onnx: reading it needs onnx, .*: pip install 'systolith\[onnx\]'"):
        read_onnx(path)
