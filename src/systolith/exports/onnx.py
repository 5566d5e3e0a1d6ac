"""Export to standard ONNX operators on integers only: a second opinion on `reference.py` by somebody else's runtime.

No float tensor is anywhere in the graph, so any conforming runtime gives the same integers (codes of more than 8 bits
alone pass a max pool as floats, which hold them). Codes are uint8 or int8, accumulators int32 (sums of codes times
gains may need int64). A node's result keeps the node's own name (ONNX allows ">" and "#" in it), except that of a
classifier what the argmax takes is called "logits" and its result "class"; what stands between is "NAME/part".
onnx and onnxruntime are needed to call these functions, not to import them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat
from systolith.network.graph import (
    Add,
    Argmax,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Input,
    Linear,
    MaxPool,
    Pair,
    Requantize,
    Sides,
    Upsample,
    sides,
)
from systolith.network.integer import IntegerNetwork, Step, Value
from systolith.store import atomic_file
from systolith.version import __version__

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8  # of 2022: what onnxruntime 1.12 and later load
BATCH = 8  # the comparisons of a Requantize take a byte per threshold and accumulator
INT32 = np.iinfo(np.int32)
ZERO_POINT = 128  # of signed numbers stored as uint8


def to_onnx(network: IntegerNetwork, watch: bool = False) -> onnx.ModelProto:
    """The network as an ONNX model.

    Args:
        network: the network.
        watch: whether the codes of every `Requantize` are outputs too, under its name.

    Returns:
        A model from "pixels", uint8 (N, C, H, W), to the network's outputs: of a classifier "logits", int32
        (N, classes), and "class", int64 (N,). Codes of at most 8 bits are uint8 or int8, wider ones int32.

    Raises:
        BadInput: naming the node that multiplies codes or weights of more than 8 bits, whose accumulators reach more
            than 32, or whose name is that of another tensor of the model.
    """
    from onnx import helper

    last = network.steps[-1]
    names = {last.name: "class", last.inputs[0]: "logits"} if network.classifies else {}
    graph = Graph(names)
    for step in network.steps:
        _put(graph, network, step)
    outputs = [_of_step(network, name, graph.result(name)) for name in network.outputs]
    if network.classifies:
        outputs.append(info_of("class", np.int64, ()))
    pixels = info_of("pixels", np.uint8, network.values[network.input.name].shape)
    model = helper.make_model(
        helper.make_graph(graph.nodes, "integer network", [pixels], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="systolith",
        producer_version=__version__,
    )
    return watched(model, network) if watch else model


def watched(model: onnx.ModelProto, network: IntegerNetwork) -> onnx.ModelProto:
    """`model`, made of the network, with the codes of every `Requantize` as outputs too."""
    names = [name for name in network.requantizes if name not in network.outputs]
    model.graph.output.extend(_of_step(network, name, name) for name in names)
    return model


def _of_step(network: IntegerNetwork, step: str, tensor: str) -> onnx.ValueInfoProto:
    return info_of(tensor, _type_of(network.values[step]), network.values[step].shape)


def save_onnx(network: IntegerNetwork, path: Path) -> None:
    """Check the model of `to_onnx` with onnx's own checker, shapes included, and write it to `path`, atomically."""
    import onnx.checker

    model = to_onnx(network)
    onnx.checker.check_model(model, full_check=True)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def run_onnx(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What onnxruntime's CPU kernels make of pictures, uint8 (N, C, H, W) with N >= 1: all outputs by name.

    Raises:
        BadInput: pictures of another size or dtype, or none.
    """
    import onnxruntime

    size = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])
    if pixels.dtype != np.uint8 or pixels.shape[1:] != size or not len(pixels):
        raise BadInput(f"expected uint8 pictures (N, {', '.join(map(str, size))}), found {pixels.dtype} {pixels.shape}")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batches = [session.run(names, {"pixels": pixels[at : at + BATCH]}) for at in range(0, len(pixels), BATCH)]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*batches, strict=True), strict=True)}


class Graph:
    """The nodes and constants so far; every tensor has one name."""

    def __init__(self, names: dict[str, str] | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names = names or {}  # of steps whose result is called otherwise than they are
        self._taken = {"pixels"}

    def result(self, step: str) -> str:
        """The tensor that the step of that name produces."""
        return self._names.get(step, step)

    def node(self, name: str, op: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator whose result, and itself, is called `name`; returns `name`."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [self._free(name)], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any, dtype: type[np.number]) -> str:
        """Add a constant; returns `name`."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), self._free(name)))
        return name

    def cast(self, name: str, tensor: str, dtype: type[np.number]) -> str:
        """Add a conversion to another type; returns `name`."""
        from onnx import helper

        return self.node(name, "Cast", tensor, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _free(self, name: str) -> str:
        if not name or name in self._taken:
            raise BadInput(f"{name!r} cannot be the name of a node: it is that of another tensor of the ONNX model")
        self._taken.add(name)
        return name


def _put(graph: Graph, network: IntegerNetwork, step: Step) -> None:
    """Add the operators of one step."""
    node, name, value = step.node, graph.result(step.name), network.values[step.name]
    _require_widths(step, value, [network.values[i] for i in step.inputs])
    taken = [(graph.result(i), network.values[i]) for i in step.inputs]
    tensor = taken[0][0] if taken else "pixels"
    if isinstance(node, Input):
        _table(graph, name, node)
    elif isinstance(node, Requantize):
        _requantize(graph, name, node, taken[0], len(value.shape))
    elif isinstance(node, Conv):
        where = window_of(node.kernel, node.stride, node.padding) | {"dilations": node.dilation, "group": node.groups}
        product = name if node.bias is None else f"{name}/product"
        _product(graph, product, "ConvInteger", taken[0], node.weight, node.weight_format, **where)
        if node.bias is not None:
            bias = graph.constant(f"{name}/bias", node.bias.reshape(-1, 1, 1), np.int32)
            graph.node(name, "Add", product, bias)
    elif isinstance(node, Linear):
        product = _product(graph, f"{name}/product", "MatMulInteger", taken[0], node.weight.T, node.weight_format)
        graph.node(name, "Add", product, graph.constant(f"{name}/bias", node.bias, np.int32))
    elif isinstance(node, MaxPool):
        where = window_of(node.kernel, node.stride) | {"dilations": node.dilation}
        taken = [(_surrounded(graph, name, node, taken[0]), taken[0][1])]
        _narrowed(graph, name, value, taken, lambda called, of: graph.node(called, "MaxPool", of[0], **where))
    elif isinstance(node, AvgPool):
        # A sum is a convolution with ones, each channel on its own; ONNX's AveragePool takes floats only.
        ones = np.ones((value.shape[0], 1, *node.kernel), np.uint8)
        where = window_of(node.kernel, node.stride) | {"group": value.shape[0]}
        _product(graph, name, "ConvInteger", taken[0], ones, IntFormat(8, False), **where)
    elif isinstance(node, Add):
        dtype = _type_of(value)
        wide = [graph.cast(f"{name}/{at}", operand, dtype) for at, (operand, _) in enumerate(taken)]
        for at, gain in enumerate(node.gains if node.gains != (1, 1) else ()):
            times = graph.constant(f"{name}/gain{at}", gain, dtype)
            wide[at] = graph.node(f"{name}/times{at}", "Mul", wide[at], times)
        graph.node(name, "Add", *wide)
    elif isinstance(node, Concat):
        graph.node(name, "Concat", *[operand for operand, _ in taken], axis=1)
    elif isinstance(node, Upsample):
        # Each row and column as often as its index stands there; Resize takes no int32.
        across = tensor
        for axis, factor in enumerate(node.factor, start=2):
            index = np.arange(taken[0][1].shape[axis - 1]).repeat(factor)
            called = name if axis == 3 else f"{name}/down"
            across = graph.node(
                called, "Gather", across, graph.constant(f"{name}/index{axis}", index, np.int64), axis=axis
            )
    elif isinstance(node, Flatten):
        graph.node(name, "Flatten", tensor, axis=1)
    else:
        assert isinstance(node, Argmax)
        graph.node(name, "ArgMax", tensor, axis=1, keepdims=0)


def _table(graph: Graph, name: str, node: Input) -> None:
    index, rows = graph.cast(f"{name}/pixels", "pixels", np.int32), node.table
    if (rows == rows[0]).all():
        rows = rows[:1]
    else:
        start = 256 * np.arange(len(rows)).reshape(-1, *[1] * len(node.size))
        index = graph.node(f"{name}/index", "Add", index, graph.constant(f"{name}/start", start, np.int32))
    table = graph.constant(f"{name}/table", rows.reshape(-1), _code_type(node.format))
    graph.node(name, "Gather", table, index, axis=0)


def _requantize(graph: Graph, name: str, node: Requantize, taken: tuple[str, Value], rank: int) -> None:
    """Every accumulator against every threshold of its channel; a product with ones counts those it reaches."""
    acc, value = taken
    if value.is_codes:
        acc = graph.cast(f"{name}/wide", acc, np.int32)
    t, ones = node.thresholds, (1,) * (rank - 1)
    values = t.values
    dtype = np.int32 if value.is_codes else _type_of(value)
    if not values.size:  # a product over nothing is whatever onnxruntime finds in memory: one that is never reached
        values = np.full((len(values), 1), np.iinfo(dtype).max)
    if (t.sign < 0).any():
        sign = graph.constant(f"{name}/sign", t.sign.reshape(-1, *ones), dtype)
        acc = graph.node(f"{name}/mirrored", "Mul", acc, sign)
    last = graph.constant(f"{name}/last", [rank + 1], np.int64)
    thresholds = graph.constant(f"{name}/thresholds", values.reshape(len(values), *ones, -1), dtype)
    each = graph.node(f"{name}/each", "Unsqueeze", acc, last)
    reached = graph.node(f"{name}/reached", "GreaterOrEqual", each, thresholds)
    bits = graph.cast(f"{name}/bits", reached, np.uint8)
    column = graph.constant(f"{name}/ones", np.ones((values.shape[1], 1)), np.uint8)
    count = graph.node(f"{name}/count", "Squeeze", graph.node(f"{name}/sum", "MatMulInteger", bits, column), last)
    if t.low:
        count = graph.node(f"{name}/code", "Add", count, graph.constant(f"{name}/low", t.low, np.int32))
    graph.cast(name, count, _code_type(node.format))


def _surrounded(graph: Graph, name: str, node: MaxPool, taken: tuple[str, Value]) -> str:
    """The map with the least code around it: ONNX's own padding may not be as large as the kernel."""
    tensor, value = taken
    if not any(node.padding):
        return tensor
    top, bottom, left, right = sides(node.padding)
    pads = graph.constant(f"{name}/pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    least = graph.constant(f"{name}/least", int(value.lo.min()), _type_of(value))
    return graph.node(f"{name}/surrounded", "Pad", tensor, pads, least)


def _narrowed(
    graph: Graph,
    name: str,
    value: Value,
    taken: list[tuple[str, Value]],
    put: Callable[[str, list[str]], str],
) -> None:
    """What `put` adds, of codes wider than 8 bits by way of floats, which hold them: its operator takes no int32."""
    if _type_of(value) is not np.int32:
        put(name, [tensor for tensor, _ in taken])
        return
    floats = [graph.cast(f"{name}/float{at}", tensor, np.float32) for at, (tensor, _) in enumerate(taken)]
    graph.cast(name, put(f"{name}/of_floats", floats), np.int32)


def _product(
    graph: Graph,
    name: str,
    op: str,
    act: tuple[str, Value],
    weight: NDArray[np.integer],
    weight_format: IntFormat,
    **attributes: Any,
) -> str:
    """A ConvInteger or MatMulInteger of codes with weights; returns `name`.

    Both are uint8; signed ones are stored plus 128, their zero point, which a ConvInteger also pads with: code 0.
    Older onnxruntimes have no ConvInteger of int8, and on x86 without VNNI its products of uint8 with int8 are added in
    pairs of 16 bits, which saturate (255*127 + 255*127 is more than 32767); those of uint8 with uint8 do not.
    """
    tensor, value = act
    act_zero, weight_zero = _zero_point(value), ZERO_POINT * weight_format.signed
    if value.format.signed or value.format.bits > 8:  # not uint8 yet
        wide = graph.cast(f"{name}/wide", tensor, np.int32)
        shifted = graph.node(f"{name}/shifted", "Add", wide, graph.constant(f"{name}/shift", act_zero, np.int32))
        tensor = graph.cast(f"{name}/unsigned", shifted, np.uint8)
    constants = (
        graph.constant(f"{name}/weight", weight.astype(np.int64) + weight_zero, np.uint8),
        graph.constant(f"{name}/act_zero", act_zero, np.uint8),
        graph.constant(f"{name}/weight_zero", weight_zero, np.uint8),
    )
    return graph.node(name, op, tensor, *constants, **attributes)


def _zero_point(value: Value) -> int:
    """What is added to codes so that they are uint8: those of more than 8 bits may still be 256 neighbours."""
    return 0 if not value.format.signed else ZERO_POINT if value.format.bits <= 8 else max(0, -int(value.lo.min()))


def _require_widths(step: Step, value: Value, taken: list[Value]) -> None:
    """Raise `BadInput` unless what is multiplied fits 8 bits, and accumulators and their thresholds 32."""
    node = step.node
    formats: list[tuple[str, IntFormat]] = []
    ranges = [] if value.is_codes or isinstance(node, (Add, Upsample, Flatten)) else [(value.lo, value.hi)]
    if isinstance(node, (Conv, Linear)):
        formats.append(("weights", node.weight_format))
        ranges.append((node.as_conv() if isinstance(node, Linear) else node.product()).bounds())  # before the bias
    if isinstance(node, (Conv, Linear, AvgPool)) and int(taken[0].hi.max()) + _zero_point(taken[0]) > 255:
        formats.append(("codes", taken[0].format))
    for what, fmt in formats:
        if fmt.bits > 8:
            raise BadInput(f"{step.name}: {fmt} {what}, where ONNX multiplies integers of at most 8 bits")
    for lo, hi in ranges:
        least, most = int(lo.min()), int(hi.max())
        if most + 1 > INT32.max or 1 - least > INT32.max:
            raise BadInput(f"{step.name}: accumulators of {least}..{most}, where ONNX's have 32 bits")


def window_of(kernel: Pair, stride: Pair, padding: Pair | Sides = (0, 0)) -> dict[str, Any]:
    top, bottom, left, right = sides(padding)
    return {"kernel_shape": kernel, "strides": stride, "pads": (top, left, bottom, right)}


def _code_type(fmt: IntFormat) -> type[np.integer]:
    return np.int32 if fmt.bits > 8 else np.int8 if fmt.signed else np.uint8


def _type_of(value: Value) -> type[np.integer]:
    if value.is_codes:
        return _code_type(value.format)
    # Thresholds go up to hi + 1, and those of -acc up to -lo + 1.
    return np.int32 if max(int(value.hi.max()), -int(value.lo.min())) < INT32.max else np.int64


def info_of(name: str, dtype: type[np.number], shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["N", *shape])
