"""From a trained torch model to the integer network, by torch.fx.

The walk follows each real-valued tensor back to the accumulators that it is a monotone function of. Where a quantizer
takes such a tensor, that function (scale, batch norms, ReLU, quantizer: the layers' own, called as they are) is
bisected for its thresholds. Max pooling and flattening are then done on the codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from systolith.formats import BadInput
from systolith.frontends.torch import layer_to_conv
from systolith.network.graph import Add, Argmax, AvgPool, Flatten, Input, Linear, MaxPool, Node, Requantize
from systolith.network.integer import IntegerNetwork, Step, Value, produced
from systolith.network.requantize import find_thresholds
from systolith.quant import (
    ActQuantizer,
    ExactBatchNorm2d,
    PixelCodes,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantLinear,
)

_LEAVES = (QuantConv2d, QuantLinear, QuantAdd, QuantAvgPool2d, ExactBatchNorm2d)
_RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")


@dataclass(frozen=True)
class Edge:
    """One accumulator-to-code map, as the trained model has it.

    Attributes:
        epilogue: accumulators int64 (O, n) to codes int64, by the model's own layers.
        tap: the torch.fx node whose value is quantized (before pooling).
        codes: the value of `tap` to codes, whole fp32 numbers.
    """

    epilogue: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    tap: str
    codes: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Lowered:
    """The integer network, and what it was made from: the traced model, and an `Edge` for each `Requantize`."""

    network: IntegerNetwork
    traced: fx.GraphModule
    edges: dict[str, Edge]
    logits: str
    dequantize_logits: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Real:
    """A real-valued tensor of the model: `steps` of the dequantized accumulators of `source`, then `pools`.

    `tap` is the last torch.fx node before the pools, `after` the number of steps behind them: ReLUs, which commute with
    a maximum.
    """

    source: str
    dequantize: Callable[[Tensor], Tensor]
    tap: str
    steps: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()
    sign: tuple[int, ...] = ()
    pools: tuple[MaxPool | Flatten, ...] = ()
    after: int = 0


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        # What has no children is asked about as a whole: it is known, or refused by its own name. An empty Sequential
        # is how many write an identity.
        childless = not any(True for _ in m.children()) and not isinstance(m, nn.Sequential)
        return isinstance(m, _LEAVES) or childless or super().is_leaf_module(m, qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """The model's operations in order; `BadInput` if its forward cannot be traced."""
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except BadInput:
        raise
    except Exception as error:  # torch.fx runs the user's forward with proxies: anything may come of it
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise BadInput(f"the model cannot be traced ({reason})") from None


def lower(model: nn.Module, size: tuple[int, int] = (32, 32)) -> Lowered:
    """The integer network that computes what `model` computes in eval, to the bit.

    Args:
        model: of our quantized layers, batch norms, ReLUs, max pools, quantized adds and average pools; in eval.
        size: (H, W) of its pictures.

    Raises:
        BadInput: naming the module that cannot be lowered, and why.
    """
    training = next((name for name, module in model.named_modules() if module.training), None)
    if training is not None:
        raise BadInput(f"{training or 'the model'}: in training; only a model in eval is lowered: call eval() first")
    with torch.no_grad():
        return _Lowering(trace(model), size).run()


class _Lowering:
    """The walk over the traced model: what has been built so far."""

    def __init__(self, traced: fx.GraphModule, size: tuple[int, int]) -> None:
        self.traced, self.size = traced, size
        self.modules = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
        self.steps: list[Step] = []
        self.produced: dict[str, Value] = {}
        self.edges: dict[str, Edge] = {}
        self.quantized: dict[tuple[Any, ...], str] = {}
        self.real: dict[fx.Node, _Real | None] = {}  # None: the pixels
        self.same: dict[fx.Node, fx.Node] = {}  # what may return the very tensor that it takes

    def run(self) -> Lowered:
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                if self.real:
                    raise BadInput(f"{node.name}: a model with two inputs cannot be lowered")
                self.real[node] = None
            elif node.op == "output":
                return self._finish(node)
            else:
                self._visit(node)
        raise AssertionError("a traced graph ends with its output")

    def _visit(self, node: fx.Node) -> None:
        name = _place(node)
        module = self.traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        inputs = [a for a in node.args if isinstance(a, fx.Node)]
        inputs += [a for a in node.kwargs.values() if isinstance(a, fx.Node)]
        if isinstance(module, QuantConv2d):
            conv = layer_to_conv(name, module)
            self._put(conv, [self._codes(inputs[0], module, name)])
            self.real[node] = _Real(name, _carried(module), node.name)
        elif isinstance(module, QuantLinear):
            self._put(_linear(name, module), [self._codes(inputs[0], module, name)])
            self.real[node] = _Real(name, _carried(module), node.name)
        elif isinstance(module, QuantAdd):
            if len(inputs) != 2:
                raise BadInput(f"{name}: an add of two tensors is lowered, not of {len(inputs)}")
            self._put(Add(name), [self._codes(operand, module, name) for operand in inputs])
            self.real[node] = _Real(name, module.dequantize, node.name)
        elif isinstance(module, QuantAvgPool2d):
            taken = self._codes(inputs[0], module, name)
            window = module.kernel_size or self.produced[taken].shape[1:]
            if len(window) != 2:
                raise BadInput(f"{name}: expected a map (C, H, W), found shape {self.produced[taken].shape}")
            stride = module.stride or window
            self._put(AvgPool(name, window, stride), [taken])
            self.real[node] = _Real(name, lambda acc: module.dequantize(acc, window), node.name)
        else:
            self.real[node] = self._elementwise(node, name, module, inputs)

    def _elementwise(self, node: fx.Node, name: str, module: nn.Module | None, inputs: list[fx.Node]) -> _Real:
        """Batch norm, ReLU, max pooling, flattening: they wait for the quantizer behind them."""
        # The same for modules, functions and methods; everything else has no place in an integer network.
        if len(inputs) != 1 or inputs[0] not in self.real or isinstance(module, (nn.Conv2d, nn.Linear)):
            raise BadInput(f"{name}: {_refusal(node, module)}")
        real = self.real[inputs[0]]
        if real is None:
            raise BadInput(f"{name}: pixels can only go into a convolution")
        if isinstance(module, (nn.Identity, nn.Dropout, nn.Dropout2d)):
            self.same[node] = inputs[0]
            return real
        if isinstance(module, ExactBatchNorm2d):
            if real.pools:
                raise BadInput(f"{name}: a batch norm behind pooling or flattening cannot be lowered")
            if len(self.produced[real.source].shape) != 3:
                raise BadInput(
                    f"{name}: expected a map (C, H, W), found {real.source}'s {self.produced[real.source].shape}"
                )
            sign = tuple(np.where(module.affine_terms()[0].cpu().numpy() < 0, -1, 1).tolist())
            if real.sign:
                sign = tuple(a * b for a, b in zip(sign, real.sign, strict=True))
            return replace(real, tap=node.name, steps=(*real.steps, (name, module)), sign=sign)
        if isinstance(module, nn.ReLU) or (module is None and node.target in _RELUS):
            if _in_place(node, module) and self._taken_elsewhere(inputs[0]):
                raise BadInput(f"{name}: a ReLU in place on a tensor that another layer takes too cannot be lowered")
            step = (name, torch.relu)
            if real.pools:
                return replace(real, steps=(*real.steps, step), after=real.after + 1)
            return replace(real, tap=node.name, steps=(*real.steps, step))
        pool = _pool(node, name, module)
        if pool is None:
            raise BadInput(f"{name}: {_refusal(node, module)}")
        if isinstance(pool, Flatten):
            self.same[node] = inputs[0]
        return replace(real, pools=(*real.pools, pool))

    def _taken_elsewhere(self, node: fx.Node) -> bool:
        """Whether more than one operation takes the memory of `node`'s value."""
        while len(node.users) == 1 and node in self.same:
            node = self.same[node]
        return len(node.users) > 1

    def _codes(self, node: fx.Node, layer: Any, consumer: str) -> str:
        """The name of the node that holds the codes which `layer`'s quantizer makes of `node`'s value."""
        if node not in self.real:
            raise BadInput(f"{consumer}: takes {node}, which is not the output of a lowered layer")
        real, quantizer = self.real[node], layer.act_quant
        if real is None:
            return self._pixels(quantizer, layer, consumer)
        if isinstance(quantizer, PixelCodes):
            raise BadInput(f"{consumer}: takes pixels, but stands behind {real.source}")
        # By what is done, not by its name: a function's name can be a module's too.
        steps, pools = tuple(step for _, step in real.steps), tuple(replace(p, name="") for p in real.pools)
        key = (real.source, steps, pools, id(quantizer))
        if key not in self.quantized:
            self.quantized[key] = self._requantize(real, quantizer, consumer)
        return self.quantized[key]

    def _requantize(self, real: _Real, quantizer: ActQuantizer, consumer: str) -> str:
        name = self._free(f"{real.source}>{consumer}")
        value, (low, high) = self.produced[real.source], quantizer.code_range
        is_map = len(value.shape) == 3

        def epilogue(acc: NDArray[np.int64]) -> NDArray[np.int64]:
            # Accumulators are below 2^24 wherever the layer itself works in fp32, so float64 holds all of them.
            wide = torch.from_numpy(np.ascontiguousarray(acc))
            x = real.dequantize(wide[None, :, :, None] if is_map else wide.T)
            for _, step in real.steps:
                x = step(x)
            codes = quantizer.codes(x).to(torch.int64)
            return (codes[0, :, :, 0] if is_map else codes.T).numpy()

        sign = np.array(real.sign or [1] * value.shape[0], dtype=np.int8)
        thresholds = find_thresholds(epilogue, value.lo, value.hi, sign, high - low, low)
        folded = tuple(n for n, _ in real.steps)
        self._put(Requantize(name, thresholds, quantizer.format, folded), [real.source])

        def codes(x: Tensor) -> Tensor:
            for _, step in real.steps[len(real.steps) - real.after :]:
                x = step(x)
            return quantizer.codes(x)

        self.edges[name] = Edge(epilogue, real.tap, codes)
        for pool in real.pools:
            pooled = self._free(f"{pool.name}>{consumer}")
            self._put(replace(pool, name=pooled), [name])
            name = pooled
        return name

    def _pixels(self, quantizer: ActQuantizer | PixelCodes, layer: Any, consumer: str) -> str:
        if not isinstance(layer, QuantConv2d):
            raise BadInput(f"{consumer}: pixels can only go into a convolution")
        row = quantizer.codes(torch.arange(256, dtype=torch.uint8)).to(torch.int16).numpy()
        table = np.repeat(row[None], layer.in_channels, axis=0)
        if not self.steps:
            self._put(Input(self._free("input"), table, quantizer.format, self.size), [])
        known = self.steps[0].node
        if not isinstance(known, Input) or not np.array_equal(known.table, table) or known.format != quantizer.format:
            raise BadInput(f"{consumer}: takes the pixels by another quantizer than the layer before it")
        return known.name

    def _finish(self, node: fx.Node) -> Lowered:
        result = node.args[0]
        real = self.real.get(result) if isinstance(result, fx.Node) else None
        last = self.traced.get_submodule(real.source) if real is not None else None
        if real is None or real.steps or real.pools or not isinstance(last, QuantLinear):
            raise BadInput("the model's output: expected it straight from a QuantLinear, whose integers are the logits")
        self._put(Argmax("class"), [real.source])
        network = IntegerNetwork(tuple(self.steps))
        return Lowered(network, self.traced, self.edges, real.tap, real.dequantize)

    def _free(self, name: str) -> str:
        taken, number = name, 2
        while taken in self.produced or taken in self.modules:
            taken, number = f"{name}#{number}", number + 1
        return taken

    def _put(self, node: Node, inputs: list[str]) -> None:
        if node.name in self.produced:
            raise BadInput(f"{node.name}: a layer that is called twice cannot be lowered")
        self.produced[node.name] = produced(node, [self.produced[n] for n in inputs])
        self.steps.append(Step(node, tuple(inputs)))


def _carried(layer: QuantConv2d | QuantLinear) -> Callable[[Tensor], Tensor]:
    """`y = fp32(acc*s)` of the layer; the product of an integer below 2^24 and a 24-bit scale is exact in float64,
    so rounding it once gives the same whichever of the two carriers eval uses."""
    return lambda acc: layer.dequantize(acc.double())


def _linear(name: str, layer: QuantLinear) -> Linear:
    conv = layer_to_conv(name, layer)
    bias = layer.bias_codes()
    assert bias is not None
    return Linear(
        name, conv.weight[:, :, 0, 0], bias.to(torch.int64).cpu().numpy(), conv.act_format, conv.weight_format
    )


def _place(node: fx.Node) -> str:
    """The module's dotted name; for functions and methods the module they stand in, and theirs."""
    if node.op == "call_module":
        return str(node.target)
    return node.name


def _in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether this ReLU writes into the tensor that it takes."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") or bool(node.kwargs.get("inplace"))


def _pool(node: fx.Node, name: str, module: nn.Module | None) -> MaxPool | Flatten | None:
    """The max pool or flatten that the torch.fx node is, or None."""
    if isinstance(module, nn.MaxPool2d):
        given = {k: getattr(module, k) for k in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")}
        return _max_pool(name, **given)
    if node.target in (F.max_pool2d, torch.max_pool2d):
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        return _max_pool(name, **{k: v for k, v in given.items() if k in names[1:]})
    if isinstance(module, nn.Flatten):
        start, end = module.start_dim, module.end_dim
    elif module is None and node.target in (torch.flatten, "flatten"):
        rest = [*node.args[1:], *([] if len(node.args) > 1 else [node.kwargs.get("start_dim", 0)])]
        start, end = rest[0], rest[1] if len(rest) > 1 else node.kwargs.get("end_dim", -1)  # type: ignore[assignment]
    else:
        return None
    if (start, end) not in ((1, -1), (1, 3)):
        raise BadInput(f"{name}: only flattening of all but the batch is lowered, found start {start}, end {end}")
    return Flatten(name)


def _max_pool(
    name: str, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> MaxPool:
    if ceil_mode or dilation not in (1, (1, 1)):
        raise BadInput(f"{name}: a max pool with dilation or ceil_mode cannot be lowered")
    kernel, step, pad = (
        (v, v) if isinstance(v, int) else tuple(v) for v in (kernel_size, stride or kernel_size, padding)
    )
    return MaxPool(name, kernel, step, pad)


def _refusal(node: fx.Node, module: nn.Module | None) -> str:
    """Why this operation cannot be lowered, and what takes its place."""
    what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
    if what in ("add", "iadd", "add_"):
        return "a float add cannot be lowered; QuantAdd gives both operands one scale"
    if "avg_pool" in what or "AvgPool" in what:
        return "an average pool of floats cannot be lowered; QuantAvgPool2d quantizes what it sums"
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        return f"a {what} without quantizers cannot be lowered; QuantConv2d and QuantLinear can"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return f"a {what} cannot be lowered, its result changes with the machine; ExactBatchNorm2d can"
    return f"{what} cannot be lowered"
