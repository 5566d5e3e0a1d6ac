"""Export to standard ONNX operators on integers only: a second opinion on `reference.py` by somebody else's runtime.

No float tensor is anywhere in the graph, so any conforming runtime gives the same integers. Codes are uint8 or int8,
accumulators int32. A node's result keeps the node's own name (ONNX allows ">" and "#" in it), except that the
accumulators the argmax takes are called "logits" and its result "class"; what stands between is "NAME/part".
onnx and onnxruntime are needed to call these functions, not to import them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat
from systolith.network.graph import Add, Argmax, AvgPool, Conv, Flatten, Input, Linear, MaxPool, Pair, Requantize
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
        A model from "pixels", uint8 (N, C, H, W), to "logits", int32 (N, classes), and "class", int64 (N,).

    Raises:
        BadInput: naming the node whose codes or weights have more than 8 bits, whose accumulators reach more than 32,
            or whose name is that of another tensor of the model.
    """
    from onnx import helper

    last = network.steps[-1]
    graph = _Graph(names={last.name: "class", last.inputs[0]: "logits"})
    for step in network.steps:
        _put(graph, network, step)
    outputs = [_info("logits", np.int32, (network.classes,)), _info("class", np.int64, ())]
    for name, node in network.requantizes.items() if watch else ():
        outputs.append(_info(name, _code_type(node.format), network.values[name].shape))
    pixels = _info("pixels", np.uint8, network.values[network.input.name].shape)
    return helper.make_model(
        helper.make_graph(graph.nodes, "integer network", [pixels], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="systolith",
        producer_version=__version__,
    )


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


class _Graph:
    """The nodes and constants so far; every tensor has one name."""

    def __init__(self, names: dict[str, str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names = names  # of steps whose result is called otherwise than they are
        self._taken = {"pixels"}

    def result(self, step: str) -> str:
        """The tensor that the step of that name produces."""
        return self._names.get(step, step)

    def node(self, name: str, op: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator whose result, and itself, is called `name`; returns `name`."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [self._free(name)], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any, dtype: type[np.integer]) -> str:
        """Add a constant; returns `name`."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), self._free(name)))
        return name

    def cast(self, name: str, tensor: str, dtype: type[np.integer]) -> str:
        """Add a conversion to another integer type; returns `name`."""
        from onnx import helper

        return self.node(name, "Cast", tensor, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _free(self, name: str) -> str:
        if not name or name in self._taken:
            raise BadInput(f"{name!r} cannot be the name of a node: it is that of another tensor of the ONNX model")
        self._taken.add(name)
        return name


def _put(graph: _Graph, network: IntegerNetwork, step: Step) -> None:
    """Add the operators of one step."""
    node, name, value = step.node, graph.result(step.name), network.values[step.name]
    _require_widths(step, value)
    taken = [(graph.result(i), network.values[i]) for i in step.inputs]
    tensor = taken[0][0] if taken else "pixels"
    if isinstance(node, Input):
        _table(graph, name, node)
    elif isinstance(node, Requantize):
        _requantize(graph, name, node, tensor, len(value.shape))
    elif isinstance(node, Conv):
        where = _window(node.kernel, node.stride, node.padding) | {"dilations": node.dilation}
        _product(graph, name, "ConvInteger", taken[0], node.weight, node.weight_format, **where)
    elif isinstance(node, Linear):
        product = _product(graph, f"{name}/product", "MatMulInteger", taken[0], node.weight.T, node.weight_format)
        graph.node(name, "Add", product, graph.constant(f"{name}/bias", node.bias, np.int32))
    elif isinstance(node, MaxPool):
        graph.node(name, "MaxPool", tensor, **_window(node.kernel, node.stride, node.padding))
    elif isinstance(node, AvgPool):
        # A sum is a convolution with ones, each channel on its own; ONNX's AveragePool takes floats only.
        ones = np.ones((value.shape[0], 1, *node.kernel), np.uint8)
        where = _window(node.kernel, node.stride) | {"group": value.shape[0]}
        _product(graph, name, "ConvInteger", taken[0], ones, IntFormat(8, False), **where)
    elif isinstance(node, Add):
        wide = [graph.cast(f"{name}/{at}", operand, np.int32) for at, (operand, _) in enumerate(taken)]
        graph.node(name, "Add", *wide)
    elif isinstance(node, Flatten):
        graph.node(name, "Flatten", tensor, axis=1)
    else:
        assert isinstance(node, Argmax)
        graph.node(name, "ArgMax", tensor, axis=1, keepdims=0)


def _table(graph: _Graph, name: str, node: Input) -> None:
    index, rows = graph.cast(f"{name}/pixels", "pixels", np.int32), node.table
    if (rows == rows[0]).all():
        rows = rows[:1]
    else:
        start = 256 * np.arange(len(rows))[:, None, None]
        index = graph.node(f"{name}/index", "Add", index, graph.constant(f"{name}/start", start, np.int32))
    table = graph.constant(f"{name}/table", rows.reshape(-1), _code_type(node.format))
    graph.node(name, "Gather", table, index, axis=0)


def _requantize(graph: _Graph, name: str, node: Requantize, acc: str, rank: int) -> None:
    """Every accumulator against every threshold of its channel; a product with ones counts those it reaches."""
    t, ones = node.thresholds, (1,) * (rank - 1)
    values = t.values
    if not values.size:  # a product over nothing is whatever onnxruntime finds in memory: one that is never reached
        values = np.full((len(values), 1), INT32.max)
    if (t.sign < 0).any():
        sign = graph.constant(f"{name}/sign", t.sign.reshape(-1, *ones), np.int32)
        acc = graph.node(f"{name}/mirrored", "Mul", acc, sign)
    last = graph.constant(f"{name}/last", [rank + 1], np.int64)
    thresholds = graph.constant(f"{name}/thresholds", values.reshape(len(values), *ones, -1), np.int32)
    each = graph.node(f"{name}/each", "Unsqueeze", acc, last)
    reached = graph.node(f"{name}/reached", "GreaterOrEqual", each, thresholds)
    bits = graph.cast(f"{name}/bits", reached, np.uint8)
    column = graph.constant(f"{name}/ones", np.ones((values.shape[1], 1)), np.uint8)
    count = graph.node(f"{name}/count", "Squeeze", graph.node(f"{name}/sum", "MatMulInteger", bits, column), last)
    if t.low:
        count = graph.node(f"{name}/code", "Add", count, graph.constant(f"{name}/low", t.low, np.int32))
    graph.cast(name, count, _code_type(node.format))


def _product(
    graph: _Graph,
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
    act_zero, weight_zero = (ZERO_POINT if f.signed else 0 for f in (value.format, weight_format))
    if act_zero:
        wide = graph.cast(f"{name}/wide", tensor, np.int32)
        shifted = graph.node(f"{name}/shifted", "Add", wide, graph.constant(f"{name}/shift", act_zero, np.int32))
        tensor = graph.cast(f"{name}/unsigned", shifted, np.uint8)
    constants = (
        graph.constant(f"{name}/weight", weight.astype(np.int64) + weight_zero, np.uint8),
        graph.constant(f"{name}/act_zero", act_zero, np.uint8),
        graph.constant(f"{name}/weight_zero", weight_zero, np.uint8),
    )
    return graph.node(name, op, tensor, *constants, **attributes)


def _require_widths(step: Step, value: Value) -> None:
    """Raise `BadInput` unless codes and weights fit 8 bits, and accumulators and their thresholds 32."""
    node = step.node
    formats = [("codes", value.format)] if value.is_codes else []
    ranges = [] if value.is_codes else [(value.lo, value.hi)]
    if isinstance(node, (Conv, Linear)):
        formats.append(("weights", node.weight_format))
    if isinstance(node, Linear):
        ranges.append(node.as_conv().bounds())  # before the bias
    for what, fmt in formats:
        if fmt.bits > 8:
            raise BadInput(f"{step.name}: {fmt} {what}, where ONNX multiplies integers of at most 8 bits")
    for lo, hi in ranges:
        least, most = int(lo.min()), int(hi.max())
        # Thresholds go up to hi + 1, and those of -acc up to -lo + 1.
        if most + 1 > INT32.max or 1 - least > INT32.max:
            raise BadInput(f"{step.name}: accumulators of {least}..{most}, where ONNX's have 32 bits")


def _window(kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> dict[str, Any]:
    return {"kernel_shape": kernel, "strides": stride, "pads": (*padding, *padding)}


def _code_type(fmt: IntFormat) -> type[np.integer]:
    return np.int8 if fmt.signed else np.uint8


def _info(name: str, dtype: type[np.integer], shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["N", *shape])
