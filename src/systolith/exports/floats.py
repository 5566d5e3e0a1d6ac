"""A network of integers as a float ONNX graph with quantizers, its floats whole numbers: what QDQ and QONNX share.

Every code and accumulator is its own float (scale 1; behind an average pool the sum over its window's area), below 2^24
and so exact in fp32 in any order. A `Requantize` is a line a channel, as a BatchNormalization of mean 0 and variance 1,
and a quantizer behind it: found from the thresholds and proved equal to them at both sides of each, in fp32, whether
the product and the sum are rounded one after the other (onnxruntime) or together (a fused one, or float64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from systolith.exports.onnx import BATCH, Graph, info_of, window_of
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
    Requantize,
    Upsample,
    sides,
)
from systolith.network.integer import IntegerNetwork, Step
from systolith.network.line import middle_line
from systolith.network.requantize import Thresholds
from systolith.version import __version__

if TYPE_CHECKING:
    import onnx

EXACT = 1 << 24
"""Whole numbers up to here are floats of their own."""
MOST_LEVELS = 4096
Float = NDArray[np.float32]


class Dialect(Protocol):
    """How a format writes what is quantized."""

    domains: dict[str, int]
    ir_version: int

    def constant(self, graph: Graph, name: str, codes: NDArray[np.integer], fmt: IntFormat) -> str:
        """Add weights or a bias of scale 1; returns the float tensor."""

    def quantize(self, graph: Graph, name: str, taken: str, ends: tuple[int, int], fmt: IntFormat, scale: int) -> str:
        """Add a quantizer of whole multiples of `scale`, codes `ends[0]..ends[1]`; returns the float tensor, `name`."""


def build(network: IntegerNetwork, dialect: Dialect) -> onnx.ModelProto:
    """The model, from "pixels", fp32 (N, C, H, W), each pixel/255, to the network's outputs, fp32 whole numbers.

    Raises:
        BadInput: naming the node, and the channel, that has no such form.
    """
    from onnx import helper

    writer = _Writer(network, dialect)
    for step in network.steps:
        if not isinstance(step.node, Argmax):
            writer.put(step)
    outputs = [info_of(tensor_of(network, name), np.float32, network.values[name].shape) for name in network.outputs]
    pixels = info_of("pixels", np.float32, network.values[network.input.name].shape)
    return helper.make_model(
        helper.make_graph(writer.graph.nodes, "network", [pixels], outputs, writer.graph.constants),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in dialect.domains.items()],
        ir_version=dialect.ir_version,
        producer_name="systolith",
        producer_version=__version__,
    )


def tensor_of(network: IntegerNetwork, step: str) -> str:
    """The tensor that holds a step's result: of its own name, but for a classifier's "logits"."""
    return "logits" if network.classifies and step == network.outputs[0] else step


def integers_of(network: IntegerNetwork, output: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """The integers that the floats of an output stand for."""
    return np.rint(values.astype(np.float64) / _unit(network, output)).astype(np.int64)


def run_floats(model: onnx.ModelProto, pixels: NDArray[np.uint8], optimised: bool = False) -> dict[str, NDArray[Any]]:
    """What onnxruntime's CPU kernels make of uint8 pictures (N, C, H, W): all outputs by name.

    Args:
        optimised: let onnxruntime rewrite the graph before; then its sums may be of other numbers.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = pixels.astype(np.float32) / np.float32(255)
    batches = [session.run(names, {"pixels": values[at : at + BATCH]}) for at in range(0, len(values), BATCH)]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*batches, strict=True), strict=True)}


def _unit(network: IntegerNetwork, name: str) -> float:
    """What an integer of the step is multiplied by: of an average pool the reciprocal of its area."""
    step = network[name]
    if isinstance(step.node, AvgPool):
        return 1 / (step.node.kernel[0] * step.node.kernel[1])
    moves = isinstance(step.node, (Upsample, Flatten)) and not network.values[name].is_codes
    return _unit(network, step.inputs[0]) if moves else 1.0


class _Writer:
    """The graph so far."""

    def __init__(self, network: IntegerNetwork, dialect: Dialect) -> None:
        self.network, self.dialect = network, dialect
        self.graph = Graph()

    def put(self, step: Step) -> None:
        """The operators of one step."""
        node, graph, name = step.node, self.graph, tensor_of(self.network, step.name)
        taken = [tensor_of(self.network, one) for one in step.inputs] or ["pixels"]
        self._require_exact(step)
        if isinstance(node, Input):
            self._input(name, node)
        elif isinstance(node, Requantize):
            self._requantize(step, name, node, taken[0])
        elif isinstance(node, (Conv, Linear)):
            self._product(name, node, taken[0])
        elif isinstance(node, MaxPool):
            if any(a >= b for a, b in zip(sides(node.padding), np.repeat(node.kernel, 2), strict=True)):
                raise BadInput(
                    f"{step.name}: padding {node.padding} of a kernel {node.kernel}: ONNX pads by less than it"
                )
            where = window_of(node.kernel, node.stride, node.padding) | {"dilations": node.dilation}
            graph.node(name, "MaxPool", taken[0], **where)
        elif isinstance(node, AvgPool):
            graph.node(name, "AveragePool", taken[0], **window_of(node.kernel, node.stride))
        elif isinstance(node, Add):
            self._add(step, name, node, taken)
        elif isinstance(node, Concat):
            graph.node(name, "Concat", *taken, axis=1)
        elif isinstance(node, Upsample):
            factors = graph.constant(f"{name}/factors", [1, 1, *node.factor], np.float32)
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            graph.node(name, "Resize", taken[0], "", factors, **how)
        else:
            assert isinstance(node, Flatten)
            graph.node(name, "Flatten", taken[0], axis=1)

    def _require_exact(self, step: Step) -> None:
        """Sums of which fp32 holds every part: 0 is in range, and the bias may come first or last."""
        value, node = self.network.values[step.name], step.node
        most = max(int(value.hi.max()), -int(value.lo.min()))
        if isinstance(node, (Conv, Linear)) and node.bias is not None:
            most += 2 * int(np.abs(node.bias).max())
        if most > EXACT:
            raise BadInput(
                f"{step.name}: numbers of up to {most:,}, which fp32 does not hold exactly: at most {EXACT:,}"
            )
        if value.is_codes and value.format.bits > 16:
            raise BadInput(f"{step.name}: {value.format} codes: expected at most 16 bits")

    def _product(self, name: str, node: Conv | Linear, taken: str) -> None:
        graph = self.graph
        inputs = [taken, self.dialect.constant(graph, f"{name}/weight", node.weight, node.weight_format)]
        if node.bias is not None:
            inputs.append(self.dialect.constant(graph, f"{name}/bias", node.bias, IntFormat(32, True)))
        if isinstance(node, Linear):
            graph.node(name, "Gemm", *inputs, transB=1)
        else:
            where = window_of(node.kernel, node.stride, node.padding)
            graph.node(name, "Conv", *inputs, **where, dilations=node.dilation, group=node.groups)

    def _add(self, step: Step, name: str, node: Add, taken: list[str]) -> None:
        """Operands times gains are codes of those scales, so each gets a quantizer that says so."""
        operands = []
        for at, (tensor, gain) in enumerate(zip(taken, node.gains, strict=True)):
            value = self.network.values[step.inputs[at]]
            if gain > 1:
                times = self.graph.constant(f"{name}/gain{at}", gain, np.float32)
                scaled = self.graph.node(f"{name}/times{at}", "Mul", tensor, times)
                ends = int(value.lo.min()), int(value.hi.max())
                tensor = self.dialect.quantize(self.graph, f"{name}/operand{at}", scaled, ends, value.format, gain)
            operands.append(tensor)
        self.graph.node(name, "Add", *operands)

    def _input(self, name: str, node: Input) -> None:
        thresholds = _table_thresholds(node)
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        line = _proved(node.name, thresholds, 1 / 255, lambda pixels: [levels[pixels]])
        self._quantized(name, "pixels", line, (node.format.lo, node.format.hi), node.format)

    def _requantize(self, step: Step, name: str, node: Requantize, taken: str) -> None:
        unit = _unit(self.network, step.inputs[0])
        area, part = np.float32(round(1 / unit)), np.float32(unit)
        line = _proved(
            node.name, node.thresholds, unit, lambda acc: [acc.astype(np.float32) / area, acc.astype(np.float32) * part]
        )
        self._quantized(name, taken, line, node.code_range, node.format)

    def _quantized(self, name: str, taken: str, line: _Line, ends: tuple[int, int], fmt: IntFormat) -> None:
        """The line as a batch norm, which takes gains of either sign a channel, and the quantizer."""
        graph, zeros = self.graph, np.zeros(len(line.slope))
        named = {"slope": line.slope, "offset": line.offset, "mean": zeros, "variance": zeros + 1}
        constants = [graph.constant(f"{name}/{what}", values, np.float32) for what, values in named.items()]
        z = graph.node(f"{name}/line", "BatchNormalization", taken, *constants, epsilon=0.0)
        if line.ends != ends:
            z = clip(graph, f"{name}/limited", z, line.ends)
        self.dialect.quantize(graph, name, z, ends, fmt, 1)


def clip(graph: Graph, name: str, taken: str, ends: tuple[int, int]) -> str:
    """Add a Clip; returns `name`."""
    sides = [graph.constant(f"{name}/{what}", end, np.float32) for what, end in zip(("min", "max"), ends, strict=True)]
    return graph.node(name, "Clip", taken, *sides)


def _table_thresholds(node: Input) -> Thresholds:
    """A pixel table as thresholds of the pixel; `BadInput` if it rises and falls."""
    rows = node.table.astype(np.int64)
    low, high = int(rows.min()), int(rows.max())
    sign = np.where(rows[:, -1] >= rows[:, 0], 1, -1)
    rising = np.where(sign[:, None] > 0, rows, rows[:, ::-1])
    odd = (np.diff(rising, axis=1) < 0).any(1)
    if odd.any():
        raise BadInput(f"{node.name}, channel {int(np.argmax(odd))}: its table rises and falls, which no line does")
    # The number of pixels whose code is below k is where, counted from the least, code k begins.
    begins = np.stack([np.searchsorted(row, np.arange(low + 1, high + 1)) for row in rising])
    values = np.where(sign[:, None] > 0, begins, begins - 255)
    ends = np.zeros(len(rows), np.int64), np.full(len(rows), 255, np.int64)
    return Thresholds(values.astype(np.int64), sign.astype(np.int8), *ends, low)


@dataclass(frozen=True, eq=False)
class _Line:
    """`code = clamp(rint(x*slope + offset), *ends)`, a channel, x being the accumulator's float."""

    slope: Float
    offset: Float
    ends: tuple[int, int]


def _proved(name: str, t: Thresholds, unit: float, floats: Callable[[NDArray[np.int64]], list[Float]]) -> _Line:
    """The line that equals the thresholds at every accumulator.

    Args:
        unit: x is the accumulator times this,
        floats: rounded in each of the ways that this gives.

    Raises:
        BadInput: naming the channel that has none.
    """
    levels = t.values.shape[1]
    if levels > MOST_LEVELS:
        raise BadInput(f"{name}: {levels:,} thresholds a channel: expected at most {MOST_LEVELS:,}")
    lo, hi = (side[:, None] for side in t.mirrored_range())
    acc = t.sign.astype(np.int64)[:, None] * np.clip(np.concatenate([t.values - 1, t.values, lo, hi], axis=1), lo, hi)
    expected, every = t.apply(acc[None])[0], floats(acc)
    wrong = np.zeros(len(acc), dtype=bool)
    # All codes; then those that there are, where the layer's own function (a ReLU, ReLU6) stops before the quantizer.
    for least, most in ((0, levels), (int((t.values <= lo).sum(1).min()), int((t.values <= hi).sum(1).max()))):
        m, b = middle_line(replace(t, values=t.values[:, least:most]), np.float32)
        slope, ends = (m / unit).astype(np.float32), (t.low + least, t.low + most)
        offset = (b - 0.5 + ends[0]).astype(np.float32)
        wrong[:] = False
        for x in every:
            apart = x * slope[:, None] + offset[:, None]
            fused = (x.astype(np.float64) * slope[:, None].astype(np.float64) + offset[:, None]).astype(np.float32)
            for z in (apart, fused):
                wrong |= (np.clip(np.rint(z), *ends) != expected).any(1)
        if not wrong.any():
            return _Line(slope, offset, ends)
    raise BadInput(
        f"{name}, channel {int(np.argmax(wrong))}: its thresholds are not those of a line rounded in fp32, "
        "which is all that a quantizer behind floats can do; npz, c and onnx hold any"
    )
