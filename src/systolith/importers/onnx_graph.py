"""An ONNX graph of quantized operators (QONNX or QDQ) to a torch model of frozen integer layers, which is then lowered.

Every tensor of the graph is a constant, the integer codes of a weight, or an activation; what quantizes is `qonnx.py`'s
and `qdq.py`'s to say. What has no place in an integer network is refused by the name of its node.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from systolith.formats import BadInput
from systolith.importers.foreign import Foreign
from systolith.importers.onnx_file import OnnxGraph, attributes, name_of, scalar
from systolith.quant.foreign import Normalize, Quantize, ScaledAct

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class Weight:
    """Integer codes and what they are multiplied by.

    Attributes:
        codes: int64.
        scale: fp32, of one element or one an output channel.
        axis: of the channels, where there are several scales.
        bits: of the codes.
    """

    codes: NDArray[np.int64]
    scale: NDArray[np.float32]
    axis: int
    bits: int


@dataclass(frozen=True, eq=False)
class Act:
    """An activation: the torch.fx node that computes it, how many axes it has with the batch, and what quantized it
    last, if nothing but moving has been done since."""

    node: fx.Node
    rank: int
    quantizer: ScaledAct | None = None


Tensor = NDArray[Any] | Weight | Act
Operator = Callable[["Walk", Any, dict[str, Any], list[Any]], Any]
"""Adds a node of the file: the walk, the node, its attributes by name, what it takes; returns what it produces."""
_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "QuantizeLinear", "DequantizeLinear", "Constant")


def convert(
    kind: str, graph: OnnxGraph, operators: dict[str, Operator], mean: Sequence[float] = (), std: Sequence[float] = ()
) -> Foreign:
    """The graph as a torch model.

    Args:
        kind: of the file.
        operators: what adds each kind of node.
        mean, std: a channel: the file's input is (pixel/255 - mean)/std, or pixel/255 without them. Unused
            where its input is uint8.

    Raises:
        BadInput: naming the node that cannot be taken, and why.
    """
    walk = Walk(graph, operators, mean, std)
    for node in graph.nodes:
        walk.visit(node)
    return walk.finish(kind)


class Walk:
    """The torch graph as far as it has been built, and every tensor so far by the file's name."""

    def __init__(
        self, graph: OnnxGraph, operators: dict[str, Operator], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.graph, self.operators = graph, operators
        self.root, self.fx = nn.Module(), fx.Graph()
        self.tensors: dict[str, Tensor] = dict(graph.constants)
        self.made: dict[str, str] = {}
        self.notes: list[str] = []
        self.shared: dict[tuple[Any, ...], ScaledAct] = {}
        pixels = self.fx.placeholder("pixels")
        rank = len(graph.size) + 1
        if not graph.pixels:
            channels = graph.size[0] if rank == 4 else 1
            given = tuple(mean) or (0.0,) * channels, tuple(std) or (1.0,) * channels
            if {len(values) for values in given} - {1, channels} or min(given[1]) <= 0:
                raise BadInput(
                    f"{graph.path}: expected a mean and a positive deviation for each of {channels} channels"
                )
            pixels = self._module("input_values", Normalize(*given), pixels) if rank == 4 else self._scaled(pixels)
        self.tensors[graph.input] = Act(pixels, rank)

    def _scaled(self, pixels: fx.Node) -> fx.Node:
        return self.fx.call_function(operator.truediv, (self.fx.call_method("float", (pixels,)), 255))

    def visit(self, node: onnx.NodeProto) -> None:
        """One node of the file."""
        name = name_of(node)
        given = [self._tensor(name, i) for i in node.input]
        try:
            if node.op_type not in _QUANTIZERS and given and all(isinstance(value, np.ndarray) for value in given):
                found = folded(name, node.op_type, attributes(node), given)
            elif node.op_type in self.operators:
                found = self.operators[node.op_type](self, node, attributes(node), given)
            else:
                raise BadInput(f"{name}: {node.op_type} cannot be taken into an integer network")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
            raise BadInput(f"{name}: {node.op_type} with other inputs or attributes than expected ({error})") from None
        self.tensors[node.output[0]] = found

    def _tensor(self, name: str, of: str) -> Any:
        if not of:
            return None
        if of not in self.tensors:
            raise BadInput(f"{name}: takes {of!r}, which no node before it produces")
        return self.tensors[of]

    def finish(self, kind: str) -> Foreign:
        """The model; every output of the file is one of its own."""
        results = []
        for name in self.graph.outputs:
            value = self.tensors.get(name)
            if not isinstance(value, Act):
                raise BadInput(f"output {name!r}: expected an activation, found a constant or nothing")
            results.append(value.node)
        self.fx.output(results[0] if len(results) == 1 else tuple(results))
        model = fx.GraphModule(self.root, self.fx)
        size = self.graph.size[1:]
        return Foreign(kind, model.eval(), size, self.made, tuple(self.notes))

    # What operators are made of

    def is_answer(self, tensor: str) -> bool:
        """Whether the tensor leaves the network as it is, reshaped, or through a softmax."""
        takers = [node for node in self.graph.nodes if tensor in node.input]
        return tensor in self.graph.outputs or (
            len(takers) == 1
            and takers[0].op_type in ("Reshape", "Flatten", "Identity", "Squeeze", "Softmax", "LogSoftmax")
            and self.is_answer(takers[0].output[0])
        )

    def rounded_bias(self, name: str, bias: NDArray[np.float32], scale: NDArray[np.float32]) -> torch.Tensor:
        """The integers of a float bias that is added to an answer: accumulators leave the network, so it is one too."""
        codes = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
        most = float(np.abs(codes * scale - bias).max())
        self.notes.append(f"{name}: its float bias becomes integers, rint(bias/scale), at most {most:.3g} off")
        return torch.from_numpy(codes.astype(np.int64))

    def module(self, node: onnx.NodeProto, module: nn.Module, *taken: Act, rank: int | None = None) -> Act:
        """A module for the node."""
        made = self._module(name_of(node), module, *(one.node for one in taken))
        return Act(made, taken[0].rank if rank is None else rank)

    def quantize(self, node: onnx.NodeProto, act: Act, quantizer: ScaledAct) -> Act:
        """`act`, quantized; quantizers that make the same codes are one."""
        quantizer = self.shared.setdefault(quantizer.key, quantizer)
        if act.quantizer is not None and act.quantizer.key == quantizer.key:
            return act
        made = self.module(node, Quantize(quantizer), act)
        self.made[str(made.node.target)] = node.output[0]
        return replace(made, quantizer=quantizer)

    def narrow(self, node: onnx.NodeProto, act: Act, low: int | None, high: int | None) -> Act:
        """What a QuantizeLinear has just made, its codes within `low` and `high`: one quantizer of that range."""
        target = str(act.node.target)
        module = self.root.get_submodule(target) if target in self.made else None
        if act.quantizer is None or not isinstance(module, Quantize) or act.node.users:
            raise BadInput(f"{name_of(node)}: expected it between a QuantizeLinear and its DequantizeLinear")
        scale, zero, least, most, *how = act.quantizer.key
        ends = least if low is None else max(low, least), most if high is None else min(high, most)
        narrow = ScaledAct(torch.tensor([scale]), zero, *ends, *how)
        quantizer = self.shared.setdefault(narrow.key, narrow)
        module.act_quant = quantizer  # type: ignore[assignment]
        self.made[target] = node.output[0]
        return replace(act, quantizer=quantizer)

    def _module(self, name: str, module: nn.Module, *taken: fx.Node) -> fx.Node:
        plain = re.sub(r"\W+", "_", name).strip("_") or "node"
        plain = plain if not plain[0].isdigit() else f"n{plain}"
        free, number = plain, 2
        while hasattr(self.root, free):
            free, number = f"{plain}_{number}", number + 1
        self.root.add_module(free, module.eval())
        return self.fx.call_module(free, taken)

    def constant(self, node: onnx.NodeProto, function: Any, act: Act, value: NDArray[Any]) -> Act:
        """`function(act, value)`, of one number or one a channel."""
        flat = np.asarray(value, dtype=np.float32)
        if flat.size == 1:
            made = self.fx.call_function(function, (act.node, scalar(flat)))
            return Act(made, act.rank)
        aligned = flat.reshape((1,) * (act.rank - flat.ndim) + flat.shape)
        if aligned.ndim != act.rank or aligned.size != aligned.shape[1]:
            raise BadInput(f"{name_of(node)}: expected one number or one a channel, found {flat.shape}")
        called = f"constant{len(list(self.root.buffers()))}"
        self.root.register_buffer(called, torch.from_numpy(aligned.copy()))
        return Act(self.fx.call_function(function, (act.node, self.fx.get_attr(called))), act.rank)


def folded(name: str, op: str, given: dict[str, Any], values: list[Any]) -> NDArray[Any]:
    """What shaping makes of constants."""
    first = values[0]
    if op in ("Identity", "Dropout"):
        return first
    if op == "Reshape":
        return first.reshape(values[1].tolist())
    if op == "Transpose":
        return first.transpose(given.get("perm"))
    if op in ("Squeeze", "Unsqueeze"):
        axes = values[1].tolist() if len(values) > 1 else given["axes"]
        return np.squeeze(first, tuple(axes)) if op == "Squeeze" else np.expand_dims(first, tuple(axes))
    if op == "Cast":
        from onnx import helper

        return first.astype(helper.tensor_dtype_to_np_dtype(given["to"]))
    if op in _NUMPY:
        return _NUMPY[op](*values)
    raise BadInput(f"{name}: {op} of constants is not computed here; fold the constants before")


_NUMPY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
