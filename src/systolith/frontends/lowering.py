"""From a trained torch model to the integer network, by torch.fx.

The walk follows each real-valued tensor back to the integers that it is a monotone function of: the accumulators of a
layer, the codes of a quantizer, or the pixels. Where a quantizer takes such a tensor, that function (scale, batch
norms, activations, quantizer: the layers' own, called as they are) is bisected for its thresholds. What only moves
values about (pooling, flattening, upsampling, concatenation) is then done on the codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from systolith.formats import BadInput
from systolith.frontends import operations as ops
from systolith.frontends.lowered import (
    Edge,
    Lowered,
    Output,
    Real,
    carried,
    channels_of,
    moved_shape,
    numbered,
    padded,
    same_codes,
)
from systolith.frontends.torch import layer_to_conv
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
    Node,
    Requantize,
)
from systolith.network.integer import IntegerNetwork, Step, Value, produced
from systolith.network.requantize import find_thresholds
from systolith.quant import PixelCodes, QuantAdd, QuantAvgPool2d, QuantConv2d, QuantIdentity, QuantLinear
from systolith.quant.foreign import Normalize, ScaledAdd

_JOINS = (torch.cat, torch.concat, torch.concatenate)


def lower(model: nn.Module, size: tuple[int, ...] = (32, 32)) -> Lowered:
    """The integer network that computes what `model` computes in eval, to the bit.

    Args:
        model: of our quantized layers, batch norms, monotone activations, max pools, quantized adds and average pools,
            concatenation, upsampling; in eval. It takes uint8 pictures.
        size: (H, W) of its pictures; () for vectors of bytes.

    Raises:
        BadInput: naming the module that cannot be lowered, and why.
    """
    training = next((name for name, module in model.named_modules() if module.training), None)
    if training is not None:
        raise BadInput(f"{training or 'the model'}: in training; only a model in eval is lowered: call eval() first")
    with torch.no_grad():
        return _Lowering(ops.trace(model), tuple(size)).run()


class _Lowering:
    """The walk over the traced model: what has been built so far."""

    def __init__(self, traced: fx.GraphModule, size: tuple[int, ...]) -> None:
        self.traced, self.size = traced, size
        self.modules = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
        self.steps: list[Step] = []
        self.produced: dict[str, Value] = {}
        self.edges: dict[str, Edge] = {}
        self.made: dict[tuple[Any, ...], str] = {}
        self.real: dict[fx.Node, tuple[Real, ...]] = {}  # its channels, one part after another
        self.quantized: dict[str, str] = {}
        self.same: dict[fx.Node, fx.Node] = {}  # what may return the very tensor that it takes
        layers = [m for node in traced.graph.nodes if (m := self._module(node)) is not None]
        self.channels = next((c for m in layers if (c := channels_of(m, size))), 3)

    def run(self) -> Lowered:
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                if self.real:
                    raise BadInput(f"{node.name}: a model with two inputs cannot be lowered")
                self.real[node] = (Real("", lambda x: x, node.name),)
            elif node.op == "output":
                return self._finish(node)
            elif node.op != "get_attr" and not ops.is_size(node):
                self._visit(node)
        raise AssertionError("a traced graph ends with its output")

    def _module(self, node: fx.Node) -> Any:
        return self.traced.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _visit(self, node: fx.Node) -> None:
        name, module = str(node.target) if node.op == "call_module" else node.name, self._module(node)
        inputs: list[fx.Node] = []
        fx.map_arg((node.args, node.kwargs), inputs.append)
        taken = [one for one in inputs if one.op != "get_attr" and not ops.is_size(one)]
        if not taken or any(one not in self.real for one in taken):
            raise BadInput(f"{name}: {ops.refusal(node, module)}")
        parts = [self.real[one] for one in taken]
        if isinstance(module, (QuantConv2d, QuantLinear)):
            self.real[node] = (self._layer(node, self._again(name), module, parts[0]),)
        elif isinstance(module, QuantAdd):
            if len(parts) != 2:
                raise BadInput(f"{name}: an add of two tensors is lowered, not of {len(parts)}")
            called = self._again(name)
            self._put(Add(called), [self._codes(operand, module.act_quant, called) for operand in parts])
            self.real[node] = (Real(called, module.dequantize, node.name),)
        elif isinstance(module, ScaledAdd):
            called = self._again(name)
            operands = zip(parts, module.quantizers, strict=True)
            self._put(Add(called, module.gains), [self._codes(part, q, called) for part, q in operands])
            self.real[node] = (Real(called, module.dequantize, node.name),)
        elif isinstance(module, QuantAvgPool2d):
            self.real[node] = (self._average(node, self._again(name), module, parts[0]),)
        elif isinstance(module, QuantIdentity):
            quantizer = module.act_quant
            codes = self._codes(parts[0], quantizer, self._again(name))
            self.quantized[name] = codes
            self.real[node] = (Real(codes, lambda c: c.float() * quantizer.scale(), node.name, quantizer=quantizer),)
        elif node.target in _JOINS:
            self.real[node] = self._join(node, name, parts)
        elif len(taken) != 1:
            raise BadInput(f"{name}: {ops.refusal(node, module)}")
        else:
            self.real[node] = self._elementwise(node, name, module, taken[0])

    def _layer(self, node: fx.Node, name: str, layer: Any, parts: tuple[Real, ...]) -> Real:
        """A convolution or a linear layer; zeros that wait around its input become its padding."""
        product, bias = layer_to_conv(name, layer), layer.bias_codes()
        whole = None if bias is None else bias.to(torch.int64).cpu().numpy()
        made: Conv | Linear
        if isinstance(layer, QuantLinear):
            nothing = np.zeros(product.out_channels, dtype=np.int64)
            made = Linear(
                name,
                product.weight[:, :, 0, 0],
                nothing if whole is None else whole,
                product.act_format,
                product.weight_format,
            )
        else:
            product, parts = padded(product, parts, layer.act_quant)
            made = replace(product, bias=whole)
        self._put(made, [self._codes(parts, layer.act_quant, name)])
        return Real(name, carried(layer), node.name, uniform=layer.scale().numel() == 1)

    def _average(self, node: fx.Node, name: str, module: QuantAvgPool2d, parts: tuple[Real, ...]) -> Real:
        taken = self._codes(parts, module.act_quant, name)
        window = module.kernel_size or self.produced[taken].shape[1:]
        if len(window) != 2:
            raise BadInput(f"{name}: expected a map (C, H, W), found shape {self.produced[taken].shape}")
        self._put(AvgPool(name, window, module.stride or window), [taken])
        return Real(name, lambda acc: module.dequantize(acc, window), node.name)

    def _join(self, node: fx.Node, name: str, parts: list[tuple[Real, ...]]) -> tuple[Real, ...]:
        axis = ops.given(node, ("tensors", "dim")).get("dim", 0)
        shapes = [self._shape(group) for group in parts]
        if axis not in (1, -len(shapes[0])) or len({shape[1:] for shape in shapes}) > 1:
            raise BadInput(f"{name}: only channels of one map are concatenated, found dim {axis}, {shapes}")
        return tuple(replace(part, moved=True) for group in parts for part in group)

    def _elementwise(self, node: fx.Node, name: str, module: nn.Module | None, taken: fx.Node) -> tuple[Real, ...]:
        """What waits for the quantizer behind it: batch norm, activations, pooling, reshaping."""
        parts = self.real[taken]
        shape = self._shape(parts)
        if isinstance(module, ops.SAME):
            self.same[node] = taken
            return parts
        features = int(np.prod(shape))
        if ops.flattens(node, name, module, features):
            self.same[node] = taken
            return parts if len(shape) == 1 else tuple(part.by(Flatten(name)) for part in parts)
        average = ops.average(node, name, module, shape[1:])
        if average is not None:
            return tuple(self._plain_average(node, name, module, part, *average) for part in parts)
        moved = ops.move(node, name, module, shape[1:])
        if moved is not None:
            if any(isinstance(move, ops.Pad) for part in parts for move in part.moves):
                raise BadInput(f"{name}: stands behind padding, which only goes into a convolution")
            return tuple(part.by(moved) for part in parts)
        begin, found = 0, []
        for part in parts:
            count = self._shape((part,))[0]
            found.append(self._function(node, name, module, part, slice(begin, begin + count)))
            begin += count
        if ops.in_place(node, module) and self._taken_elsewhere(taken):
            raise BadInput(f"{name}: a ReLU in place on a tensor that another layer takes too cannot be lowered")
        return tuple(found)

    def _function(self, node: fx.Node, name: str, module: nn.Module | None, part: Real, channels: slice) -> Real:
        """One function of every value more, for one part."""
        flat = any(isinstance(move, Flatten) for move in part.moves)
        if flat and ops.per_channel(module):
            raise BadInput(f"{name}: a {type(module).__name__} behind flattening cannot be lowered")
        if isinstance(module, ops.NORMS):
            step, sign = ops.normalized(module, channels)
            if (sign < 0).any() and any(isinstance(move, MaxPool) for move in part.moves):
                raise BadInput(f"{name}: a batch norm of negative gain behind pooling cannot be lowered")
            signs = tuple((sign * np.array(part.sign or 1)).tolist())
            changed = replace(part.then((name, step), node.name), sign=signs)
        else:
            function = module if isinstance(module, Normalize) else ops.monotone(node, name, module, channels)
            function = function or ops.arithmetic(node, name, self.traced, channels, len(self._shape((part,))) == 3)
            if function is None or (part.source == "" and module is not None and ops.per_channel(module)):
                raise BadInput(f"{name}: {ops.refusal(node, module)}")
            changed = part.then((name, function), node.name)
        zeros = torch.zeros(1, channels.stop - channels.start, 1, 1)
        if any(isinstance(move, ops.Pad) for move in part.moves) and changed.steps[-1][1](zeros).any():
            raise BadInput(f"{name}: makes something else of the zeros of the padding before it")
        return changed

    def _plain_average(
        self, node: fx.Node, name: str, module: nn.Module | None, part: Real, window: Any, stride: Any, is_map: bool
    ) -> Real:
        """An average that torch computes of codes times a scale: the sum of the codes, and how far torch may be off."""
        if part.quantizer is None or part.steps or part.source == "":
            raise BadInput(f"{name}: {ops.refusal(node, module)}")
        called, quantizer = self._again(name), part.quantizer
        taken = self._moved(part.source, part.moves, called)
        value, count = self.produced[taken], window[0] * window[1]
        self._put(AvgPool(called, tuple(window), tuple(stride)), [taken])
        scale = quantizer.scale().double()
        most = int(max(value.hi.max(), -value.lo.min()))
        # Every one of `count` products, sums and the division is rounded once, whatever their order.
        slack = (count + 2) * 2.0**-24 * most * float(scale)
        real = Real(called, lambda acc: (acc.double() * scale / count).float(), node.name, slack=slack)
        return real if is_map else real.by(Flatten(name))

    def _taken_elsewhere(self, node: fx.Node) -> bool:
        """Whether more than one operation takes the memory of `node`'s value."""
        while len(node.users) == 1 and node in self.same:
            node = self.same[node]
        return len([user for user in node.users if not ops.is_size(user)]) > 1

    def _shape(self, parts: tuple[Real, ...]) -> tuple[int, ...]:
        """Of the real tensor, without the batch."""
        shapes = []
        for part in parts:
            shape = self.produced[part.source].shape if part.source else (self.channels, *self.size)
            for move in part.moves:
                shape = moved_shape(move, shape)
            shapes.append(shape)
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def _codes(self, parts: tuple[Real, ...], quantizer: Any, consumer: str) -> str:
        """The name of the node that holds the codes which `quantizer` makes of a tensor."""
        names = [self._code(part, quantizer, consumer) for part in parts]
        if len(names) == 1:
            return names[0]
        key = ("concat", *names)
        if key not in self.made:
            self.made[key] = self._put(Concat(self._free(f"concat>{consumer}")), names)
        return self.made[key]

    def _code(self, part: Real, quantizer: Any, consumer: str) -> str:
        if any(isinstance(move, ops.Pad) for move in part.moves):
            raise BadInput(f"{consumer}: stands behind padding, which only goes into a convolution")
        if part.source == "":
            return self._moved(self._pixels(part, quantizer, consumer), part.moves, consumer)
        if isinstance(quantizer, PixelCodes):
            raise BadInput(f"{consumer}: takes pixels, but stands behind {part.source}")
        if not part.steps and part.quantizer is not None and same_codes(part.quantizer, quantizer):
            return self._moved(part.source, part.moves, consumer)
        # By what is done, not by its name: a function's name can be a module's too.
        key = (part.source, tuple(step for _, step in part.steps), id(quantizer))
        if key not in self.made:
            self.made[key] = self._requantize(part, quantizer, consumer)
        return self._moved(self.made[key], part.moves, consumer)

    def _moved(self, name: str, moves: tuple[ops.Move, ...], consumer: str) -> str:
        """The codes `name` after `moves`, made once."""
        for move in moves:
            assert not isinstance(move, ops.Pad)
            key = (name, replace(move, name=""))
            if key not in self.made:
                self.made[key] = self._put(replace(move, name=self._free(f"{move.name}>{consumer}")), [name])
            name = self.made[key]
        return name

    def _requantize(self, real: Real, quantizer: Any, consumer: str) -> str:
        name = self._free(f"{real.source}>{consumer}")
        value, (low, high) = self.produced[real.source], quantizer.code_range
        is_map = len(value.shape) == 3

        def taken(acc: NDArray[np.int64], by: float = 0.0) -> Tensor:
            # Accumulators are below 2^24 wherever the layer itself works in fp32, so float64 holds all of them.
            wide = torch.from_numpy(np.ascontiguousarray(acc))
            x = real.dequantize(wide[None, :, :, None] if is_map else wide.T)
            x = x + by if by else x
            for _, step in real.steps:
                x = step(x)
            return x

        def by_channel(x: Tensor) -> NDArray[Any]:
            return (x[0, :, :, 0] if is_map else x.T).detach().numpy()

        def epilogue(acc: NDArray[np.int64]) -> NDArray[np.int64]:
            return by_channel(quantizer.codes(taken(acc)).to(torch.int64))

        sign = np.array(real.sign or [1] * value.shape[0], dtype=np.int8)
        thresholds = find_thresholds(epilogue, value.lo, value.hi, sign, high - low, low)
        if real.slack:
            lo, hi = (side[:, None] for side in thresholds.mirrored_range())
            points = np.clip(np.concatenate([thresholds.values - 1, thresholds.values, lo, hi], axis=1), lo, hi)
            acc = sign.astype(np.int64)[:, None] * points
            ends = (quantizer.codes(taken(acc, by)) for by in (-real.slack, real.slack))
            if any((by_channel(end) != epilogue(acc)).any() for end in ends):
                raise BadInput(
                    f"{real.source}: an average by torch is rounded in an order of its own, and {consumer}'s quantizer "
                    "has a tie within that error; QuantAvgPool2d is exact"
                )
        folded = tuple(n for n, _ in real.steps)
        self._put(Requantize(name, thresholds, quantizer.format, folded), [real.source])

        def codes(x: Tensor) -> Tensor:
            for _, step in real.steps[len(real.steps) - real.after :]:
                x = step(x)
            return quantizer.codes(x)

        self.edges[name] = Edge(epilogue, real.tap, codes, lambda acc: by_channel(taken(acc)))
        return name

    def _pixels(self, part: Real, quantizer: Any, consumer: str) -> str:
        shape = (1, -1, 256, 1) if self.size else (-1, 256)
        x = torch.arange(256, dtype=torch.uint8).expand(self.channels, 256).reshape(shape)
        x = x if self.size else x.T
        for _, step in part.steps:
            x = step(x)
        codes = quantizer.codes(x).to(torch.int16)
        table = (codes[0, :, :, 0] if self.size else codes.T).numpy()
        if not self.steps:
            self._put(Input(self._free("input"), table, quantizer.format, self.size), [])
        known = self.steps[0].node
        if not isinstance(known, Input) or not np.array_equal(known.table, table) or known.format != quantizer.format:
            raise BadInput(f"{consumer}: takes the pixels by another quantizer than the layer before it")
        return known.name

    def _finish(self, node: fx.Node) -> Lowered:
        results: list[fx.Node] = []
        fx.map_arg(node.args, results.append)
        outputs = {}
        for result in results:
            real, *more = self.real.get(result) or [None]
            # Elementwise steps behind the integers would be floats again.
            if real is None or more or real.source == "" or real.steps or real.slack:
                raise BadInput(
                    "the model's output: expected it straight from a layer, whose integers are the answer, or from a "
                    "quantizer"
                )
            if any(isinstance(move, MaxPool) for move in real.moves) and real.quantizer is None:
                raise BadInput(f"the model's output: {real.moves[0].name} pools accumulators; quantize them before")
            outputs[self._moved(real.source, real.moves, "output")] = Output(result.name, self._answer(real))
        single = self._shape(self.real[results[0]]) if len(outputs) == 1 else ()
        if len(single) == 1 and self.real[results[0]][0].uniform:
            self._put(Argmax("class"), list(outputs))
        return Lowered(
            IntegerNetwork(tuple(self.steps), tuple(outputs)), self.traced, self.edges, outputs, self.quantized
        )

    def _answer(self, real: Real) -> Callable[[Tensor], Tensor]:
        """The output's value, of its integers behind the moves."""
        shape = self.produced[real.source].shape
        for move in real.moves:
            if isinstance(move, Flatten):
                # Scales are a channel's, and channels are to be seen.
                map_shape = shape
                return lambda integers: real.dequantize(integers.reshape(-1, *map_shape)).flatten(1)
            shape = moved_shape(move, shape)
        return real.dequantize

    def _again(self, name: str) -> str:
        """A layer's own name, or NAME#2 where it is called a second time."""
        return numbered(name, self.produced)

    def _free(self, name: str) -> str:
        return numbered(name, self.produced.keys() | self.modules)

    def _put(self, node: Node, inputs: list[str]) -> str:
        self.produced[node.name] = produced(node, [self.produced[n] for n in inputs])
        self.steps.append(Step(node, tuple(inputs)))
        return node.name
