"""The layers of an ONNX file, by the shapes that its operators take."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from systolith.formats import BadInput
from systolith.network.graph import Pair, Sides, reach
from systolith.topologies.onnx_file import KEEPING, OnnxFile, Shape, open_file
from systolith.topologies.topology import BITS, Layer, Topology, convolution, distinct, gemm

if TYPE_CHECKING:
    import onnx

RECURRENCE, INSIDE = "a recurrence is no layer of an array", "what is inside is not read"
LEFT_OUT = {
    "ConvTranspose": "a transposed convolution is no layer of an array",
    "DeformConv": "where it reads depends on values",
    "Einsum": "its products are in an equation, which is not read",
    **dict.fromkeys(("LSTM", "GRU", "RNN"), RECURRENCE),
    **dict.fromkeys(("If", "Loop", "Scan"), INSIDE),
}
"""Operators that have products, or may have, and why they are no layers."""
PRODUCT = re.compile("Conv|MatMul|Gemm|Attention")
"""What else has products, by its name: operators of other domains, and of ONNX as it grows."""
ON_THE_WAY = frozenset(
    (
        *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "DequantizeLinear"),
        *("Div", "Dropout", "Elu", "Flatten", "Gelu", "GlobalAveragePool"),
        *("GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MaxPool"),
        *("Mul", "PRelu", "QuantizeLinear", "Relu", "Reshape", "Sigmoid"),
        *("Squeeze", "Sub", "Tanh", "Unsqueeze", *KEEPING),
    )
)
"""What can be done with outputs as they leave, where all it takes besides is constant."""


def read_onnx(path: Path, act_bits: int = BITS, weight_bits: int = BITS) -> Topology:
    """The convolutions and matrix products of an ONNX file, in order, integer operators among them.

    A convolution of one axis becomes one of a map of height 1; the batch is its `count`. Where the right operand of a
    matrix product has no batch, all rows of the left one are rows of one product; otherwise `count` is the batch, as in
    attention, where it is the heads. A right operand counts as weights even if it is computed. Shapes are inferred by
    onnx; a first axis of an input that is left open, the batch, is 1. Notes say which operators are left out.

    Args:
        path: of the file.
        act_bits, weight_bits: of a code, whatever type the file holds numbers in.

    Raises:
        BadInput: no onnx package, a file that cannot be read, or a tensor of unknown size, by its name.
    """
    path = Path(path)
    if importlib.util.find_spec("onnx") is None:
        raise BadInput(f"{path}: reading it needs onnx, which is not installed: pip install 'systolith[onnx]'")
    file = open_file(path)
    layers: list[Layer] = []
    left_out: dict[str, list[str]] = {}
    without: Counter[str] = Counter()
    lone = _lone(file)
    for node in file.nodes:
        name, read = node.name or node.output[0], _READ.get(node.op_type)
        if read is not None and node.domain in ("", "ai.onnx"):
            try:
                found: Layer | str = read(file, name, node, act_bits, weight_bits)
            except BadInput as error:
                said = str(error)
                raise BadInput(said if said.startswith(f"{path}: ") else f"{path}: {said}") from None
        else:
            found = LEFT_OUT.get(node.op_type, "")
            if not found and PRODUCT.search(node.op_type):
                found = f"this operator of {node.domain or 'ONNX'} is not read"
        if isinstance(found, Layer):
            follows = bool(layers) and lone.get(node.input[0]) == len(layers) - 1
            layers.append(replace(found, follows=follows))
            if node.output[0] in lone:
                lone[node.output[0]] = len(layers) - 1
        elif found:
            left_out.setdefault(f"{node.op_type}, {found}", []).append(name)
        elif node.op_type != "Constant":
            without[node.op_type] += 1
            varying = [name for name in node.input if name and name not in file.constants]
            if node.op_type in ON_THE_WAY and len(varying) == 1 and node.output[0] in lone:
                lone[node.output[0]] = lone.get(varying[0])
    notes = [f"left out: {', '.join(names)} ({why})" for why, names in left_out.items()]
    if without:
        each = ", ".join(f"{count} {kind}" for kind, count in without.most_common())
        notes.append(f"left out, without matrix products: {each}")
    return Topology(path.stem, distinct(layers), path.name, tuple(notes))


def _lone(file: OnnxFile) -> dict[str, int | None]:
    """The tensors that one node alone reads; later, of which layer's outputs they are made, if of one's alone."""
    readers = Counter(name for node in file.nodes for name in node.input)
    readers.update(file.outputs)
    return {name: None for name, count in readers.items() if count == 1}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _operands(file: OnnxFile, name: str, node: onnx.NodeProto) -> tuple[Shape, Shape]:
    """The shapes of the two factors; a QLinear operator has scales and zero points between them."""
    right = 3 if node.op_type.startswith("QLinear") else 1
    if len(node.input) <= right:
        raise BadInput(f"{name}: expected two operands, found {', '.join(node.input) or 'none'}")
    return file.shape(name, node.input[0]), file.shape(name, node.input[right])


_WINDOW = {"pads": 2, "strides": 1, "dilations": 1}
"""What a convolution may say of its axes, and how many numbers of each."""


def _conv(file: OnnxFile, name: str, node: onnx.NodeProto, act_bits: int, weight_bits: int) -> Layer | str:
    act, weight = _operands(file, name, node)
    given, axes = _attributes(node), len(weight) - 2
    groups = int(given.get("group", 1))
    if len(act) != len(weight) or axes < 1 or act[1] != weight[1] * groups:
        raise BadInput(f"{name}: expected a map for weights {weight} in {groups} groups, found {act}")
    if axes > 2:
        return f"a convolution of {axes} axes is no layer of an array"
    odd = [key for key, times in _WINDOW.items() if given.get(key) and len(given[key]) != times * axes]
    if odd:
        raise BadInput(f"{name}: expected {odd[0]} for {axes} axes, found {list(given[odd[0]])}")
    size, kernel = _two(act[2:]), _two(weight[2:])
    stride, dilation = (_two(given.get(key) or (1,) * axes) for key in ("strides", "dilations"))
    padding = _padding(name, given, size, kernel, stride, dilation)
    channels, bits = (act[1], weight[0]), (act_bits, weight_bits)
    return convolution(name, channels, size, kernel, stride, padding, dilation, groups, *bits, count=act[0])


def _two(axes: Any) -> Pair:
    """(vertical, horizontal) of one axis, which is horizontal, or of two."""
    return (1, int(axes[0])) if len(axes) == 1 else (int(axes[0]), int(axes[1]))


def _padding(name: str, given: dict[str, Any], size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Sides:
    """Top, bottom, left, right; ONNX has the beginnings of all axes, then the ends."""
    auto = given.get("auto_pad", b"NOTSET").decode()
    if auto == "NOTSET":
        pads = [int(pad) for pad in given.get("pads", ())] or [0, 0, 0, 0]
        top, left, bottom, right = [0, pads[0], 0, pads[1]] if len(pads) == 2 else pads
        return top, bottom, left, right
    if auto == "VALID":
        return 0, 0, 0, 0
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise BadInput(f"{name}: expected auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER, found {auto}")
    found = []
    for axis, extent in enumerate(reach(kernel, dilation)):
        # As many outputs as strides begin in the map; what is no stride the convolution will refuse.
        step = max(stride[axis], 1)
        both = max((-(-size[axis] // step) - 1) * step + extent - size[axis], 0)
        less, more = both // 2, both - both // 2
        found += [less, more] if auto == "SAME_UPPER" else [more, less]
    return found[0], found[1], found[2], found[3]


def _gemm(file: OnnxFile, name: str, node: onnx.NodeProto, act_bits: int, weight_bits: int) -> Layer:
    left, right = _operands(file, name, node)
    given = _attributes(node)
    left = left[::-1] if given.get("transA", 0) else left
    right = right[::-1] if given.get("transB", 0) else right
    return _product(name, left, right, act_bits, weight_bits)


def _matmul(file: OnnxFile, name: str, node: onnx.NodeProto, act_bits: int, weight_bits: int) -> Layer:
    return _product(name, *_operands(file, name, node), act_bits, weight_bits)


def _product(name: str, left: Shape, right: Shape, act_bits: int, weight_bits: int) -> Layer:
    a = (1, *left) if len(left) == 1 else left
    b = (*right, 1) if len(right) == 1 else right
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        batch = None
    if batch is None or min(len(a), len(b)) < 2 or a[-1] != b[-2]:
        raise BadInput(f"{name}: expected operands (..., M, K) and (..., K, N), found {left} and {right}")
    if prod(b[:-2]) == 1:
        return gemm(name, prod(a[:-1]), a[-1], b[-1], act_bits, weight_bits)
    return gemm(name, a[-2], a[-1], b[-1], act_bits, weight_bits, prod(batch))


_READ: dict[str, Callable[..., Layer | str]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), _conv),
    "Gemm": _gemm,
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
}
