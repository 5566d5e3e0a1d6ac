"""From a float torch network to our layers, by torch.fx, weights kept: where post-training quantization begins."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from systolith.formats import BadInput
from systolith.models.parts import FloatConv2d, FloatLinear
from systolith.models.turning import batch_norm, four_sides, of_pixels, quantized_layer
from systolith.quant import ClampedReLU, ExactBatchNorm1d, ExactBatchNorm2d, QuantAdd, QuantAvgPool2d

Normalization = tuple[Sequence[float], Sequence[float]]

_OURS = (ExactBatchNorm1d, ExactBatchNorm2d, FloatConv2d, FloatLinear, ClampedReLU)
_RELUS = (nn.ReLU, nn.ReLU6, F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, "relu", "relu_")
_HARDTANHS = (nn.Hardtanh, F.hardtanh, F.hardtanh_)
_MOVES = (nn.Identity, nn.Dropout, nn.Dropout2d)
_KEPT = (
    *(nn.LeakyReLU, nn.PReLU, F.leaky_relu, F.leaky_relu_, nn.MaxPool2d, F.max_pool2d),
    *(nn.Upsample, nn.UpsamplingNearest2d, torch.cat, torch.concat),
)
"""What keeps the sign of what it takes, and is kept itself."""
_FLATTENS = (nn.Flatten, torch.flatten, "flatten", "view", "reshape", torch.reshape)
_PADS = (nn.ZeroPad2d, F.pad)
_ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEANS = (torch.mean, "mean")
_POOLS = (nn.AvgPool2d, F.avg_pool2d)
_GLOBAL_POOLS = (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d)
_DROPOUTS = (F.dropout, F.dropout2d)
_SHAPES = ("size", getattr, operator.getitem)


@dataclass(frozen=True)
class QuantizeReport:
    """What `quantize` made of a network.

    Attributes:
        lines: one a module or operation, in the order of the forward pass, "conv1: Conv2d -> QuantConv2d, ...".
    """

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def quantize(
    model: nn.Module,
    *,
    weight_bits: int = 4,
    act_bits: int = 4,
    first_weight_bits: int = 8,
    last_bits: int = 8,
    per_channel: bool = False,
    scale: str = "learned",
    rounding: str = "even",
    pixels: int = 0,
    normalization: Normalization | None = None,
) -> tuple[fx.GraphModule, QuantizeReport]:
    """A float network as one of our layers that takes uint8 pictures, with the same weights by the same names.

    Convolutions, linear layers, batch norms, average pools and adds become ours; ReLU, ReLU6, Hardtanh, LeakyReLU,
    PReLU, max pools, flattening and `torch.cat` stay. Clip values are to be set next: `calibrate(quantized, batch)`.
    Weights are not normalized (`QuantConv2d(normalize=False)`): codes times scale are near them. `model` itself is left
    as it is.

    Args:
        model: of torch's own layers; pictures (N, C, H, W) in.
        weight_bits, act_bits: 2 to 8.
        first_weight_bits: of the layers that take the pixels.
        last_bits: weights and activations of the last linear layer, whose integers are the logits.
        per_channel: one weight scale per output channel (of the last linear layer never).
        scale, rounding: as `QuantConv2d` has them.
        pixels: code of a pixel = pixel - `pixels` (0 or 128). What is padded around the picture is such a pixel.
        normalization: (mean, std) a channel, of pixels divided by 255, if the network was trained on pictures that were
            normalized so; folded into the layers that take the pixels. None: it was trained on pixels 0..255.

    Returns:
        The network, in the mode in which `model` is, and what was done, line by line.

    Raises:
        BadInput: naming a module or an operation that has no integer form, or a forward that cannot be traced.

    Examples:
        >>> import torch, systolith as sl
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding="same"), torch.nn.ReLU())
        >>> print(sl.quantize(net)[1])
        0: Conv2d -> QuantConv2d, int8 weights, pixels as they are
        1: ReLU kept
    """
    layers = {"per_channel": per_channel, "scale": scale, "rounding": rounding, "normalize": False}
    bits = {"inner": (weight_bits, act_bits), "first": (first_weight_bits, act_bits), "last": (last_bits, last_bits)}
    try:
        model = copy.deepcopy(model)
        traced = fx.GraphModule(model, _Tracer().trace(model), type(model).__name__)
    except Exception as error:  # torch.fx runs the user's forward with proxies: anything may come of it
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise BadInput(f"the model cannot be traced ({reason})") from None
    with torch.no_grad():
        turning = _Turning(traced, layers, bits, pixels, normalization)
        turning.run()
    for module in traced.modules():
        module.training = model.training
    return traced, QuantizeReport(tuple(turning.lines))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        layer = isinstance(m, (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)) or hasattr(m, "act_quant")
        return layer or super().is_leaf_module(m, qualified_name)


class _Turning:
    """The walk over the traced network: each node is replaced by what it becomes."""

    def __init__(
        self,
        traced: fx.GraphModule,
        layers: dict[str, Any],
        bits: dict[str, tuple[int, int]],
        pixels: int,
        normalization: Normalization | None,
    ) -> None:
        self.traced, self.graph, self.layers, self.bits = traced, traced.graph, layers, bits
        self.pixels, self.normalization = pixels, normalization
        self.modules = dict(traced.named_modules())  # as they were
        self.steps = {"scale": layers["scale"], "rounding": layers["rounding"]}
        self.lines: list[str] = []
        self.positive: dict[fx.Node, bool] = {}  # of every value: whether it is never negative
        self.pictures: set[fx.Node] = set()  # the pixels, and what has only moved them
        self.shapes: set[fx.Node] = set()  # a value's shape, and numbers out of it
        self.around: dict[fx.Node, tuple[int, ...]] = {}  # zeros that a convolution is to pad with besides its own
        self.offsets: dict[fx.Node, Tensor] = {}  # what a batch norm is to take from its mean
        self.called: set[str] = set()

    def run(self) -> None:
        """Turn every node, in order."""
        self.last = self._last()
        for node in list(self.graph.nodes):
            if node.op == "placeholder":
                if self.pictures:
                    raise BadInput(f"{node.name}: a network with two inputs cannot be quantized")
                self.pictures.add(node)
                self.positive[node] = False
            elif node.op != "output":
                self._visit(node, str(node.target) if node.op == "call_module" else node.name)
        self.graph.eliminate_dead_code()
        self.traced.delete_all_unused_submodules()
        self.graph.lint()
        self.traced.recompile()

    def _last(self) -> fx.Node | None:
        """The linear layer whose output is the network's."""
        at: Any = next(node for node in self.graph.nodes if node.op == "output").args[0]
        while isinstance(at, fx.Node) and self._is(at, (nn.Identity, nn.Dropout)):
            at = at.args[0]
        return at if isinstance(at, fx.Node) and self._is(at, (nn.Linear,)) else None

    def _visit(self, node: fx.Node, place: str) -> None:
        taken = [x for x in node.all_input_nodes if x not in self.shapes]
        positive = all(self.positive.get(x, False) for x in taken)
        if node.op != "call_module" and node.target in _SHAPES:
            self.shapes.add(node)
        elif self._is(node, (nn.Conv2d, nn.Linear)):
            self._layer(node, place, taken[0])
        elif self._is(node, _FLATTENS):
            self._flatten(node, place, taken[0])
        elif self._is(node, _PADS):
            self._pad(node, place, taken[0])
        elif self._is(node, _MOVES):
            self._keep(node, place, positive)
            self.pictures |= {node} if taken[0] in self.pictures else set()
        elif any(x in self.pictures for x in taken):
            raise BadInput(f"{place}: takes pixels, which only a convolution or a linear layer can")
        elif self._is(node, (nn.BatchNorm1d, nn.BatchNorm2d)):
            self._once(place)
            self._put(node, place, batch_norm(place, self._module(node), self.offsets.get(node)), False, taken)
        elif self._is(node, _ADDS):
            if len(taken) != 2 or node.kwargs.get("alpha", 1) != 1:
                raise BadInput(f"{place}: expected an add of two tensors, found {node.args} {node.kwargs or ''}")
            self._put(node, self._free(node, "add"), QuantAdd(**self.steps), positive, taken)
        elif self._is(node, (*_POOLS, *_GLOBAL_POOLS, *_MEANS)):
            self._average(node, place, taken[0])
        elif self._is(node, _DROPOUTS):
            # As a function it would go on to drop, or not, as it did when it was traced.
            rate = self._given(node, "p").get("p", 0.5)
            self._put(node, self._free(node, "dropout"), nn.Dropout(rate), positive, taken)
        elif self._is(node, _RELUS):
            self._keep(node, place, True)
        elif self._is(node, _HARDTANHS):
            self._keep(node, place, positive or self._given(node, "min_val").get("min_val", -1) >= 0)
        elif self._is(node, _KEPT) or hasattr(self._module(node), "act_quant"):
            self._keep(node, place, positive)
        else:
            raise BadInput(
                f"{place}: {self._what(node)} has no integer form; expected Conv2d, Linear, batch norms, ReLU and its "
                "kin, pools, adds, cat and flattening"
            )

    def _module(self, node: fx.Node) -> Any:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def _what(self, node: fx.Node) -> str:
        module = self._module(node)
        return str(type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target))

    def _is(self, node: fx.Node, kinds: tuple[Any, ...]) -> bool:
        """Whether the node calls a module of these classes, one of these functions, or a method of these names."""
        module = self._module(node)
        if module is None:
            return node.op != "get_attr" and node.target in kinds
        kind: Any = next((k for k in kinds if isinstance(k, type) and isinstance(module, k)), None)
        # A subclass with a forward of its own computes something else.
        return kind is not None and (type(module).forward is kind.forward or isinstance(module, _OURS))

    def _given(self, node: fx.Node, *names: str) -> dict[str, Any]:
        """A module's attributes, or a function's arguments behind the first, by these names where they are given."""
        module = self._module(node)
        if module is not None:
            return {name: getattr(module, name) for name in names if hasattr(module, name)}
        return {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}

    def _layer(self, node: fx.Node, place: str, source: fx.Node) -> None:
        """A convolution or a linear layer; its bias goes into a batch norm where one follows."""
        self._once(place)
        module, reads_pixels, is_last = self._module(node), source in self.pictures, node is self.last
        weight_bits, act_bits = self.bits["first" if reads_pixels else "last" if is_last else "inner"]
        settings = {
            **self.layers,
            **{"weight_bits": weight_bits, "act_bits": act_bits, "pixels": self.pixels if reads_pixels else None},
            **{"signed": not self.positive[source], "per_channel": self.layers["per_channel"] and not is_last},
        }
        weight, bias, more = module.weight, module.bias, ""
        if reads_pixels:
            weight, bias = of_pixels(place, module, self.pixels, self.normalization)
        behind = next(iter(node.users), node)
        if bias is not None and len(node.users) == 1 and self._is(behind, (nn.BatchNorm1d, nn.BatchNorm2d)):
            self.offsets[behind], bias, more = bias, None, f", bias into {behind.target}"
        padding = four_sides(place, module, self.around.get(node, (0, 0, 0, 0)))
        layer = quantized_layer(module, weight, bias, padding, settings)
        codes = f"pixels - {self.pixels}" if self.pixels else "pixels as they are"
        inputs = codes if reads_pixels else f"{layer.act_quant.format} activations"
        self._put(node, place, layer, False, [source], f", {layer.weight_quant.format} weights, {inputs}{more}")

    def _pad(self, node: fx.Node, place: str, source: fx.Node) -> None:
        """Zeros around a map: the convolution behind pads with them."""
        given = self._given(node, "padding" if node.op == "call_module" else "pad", "mode", "value")
        sides = given.get("padding", given.get("pad", ()))
        whole = len(sides) == 4 and all(isinstance(side, int) and side >= 0 for side in sides)
        if not whole or given.get("mode", "constant") != "constant" or given.get("value"):
            raise BadInput(f"{place}: expected zeros on the four sides of a map, found {given}")
        behind = next(iter(node.users), node)
        if len(node.users) != 1 or not self._is(behind, (nn.Conv2d,)):
            raise BadInput(f"{place}: expected one convolution behind the padding, which pads itself then")
        left, right, top, bottom = sides
        self.around[behind] = (top, bottom, left, right)
        node.replace_all_uses_with(source)
        self.graph.erase_node(node)
        self.lines.append(f"{place}: padding into {behind.target}")

    def _average(self, node: fx.Node, place: str, source: fx.Node) -> None:
        """An average pool of a window or of the whole map, or the mean over it."""
        window, stride, flat = None, None, False
        if self._is(node, _POOLS):
            given = self._given(node, "kernel_size", "stride", "padding", "ceil_mode", "", "divisor_override")
            window, stride = given["kernel_size"], given.get("stride")
            known = given.get("padding", 0) in (0, (0, 0)) and not given.get("ceil_mode")
            known = known and not given.get("divisor_override")
        elif self._is(node, _MEANS):
            given = self._given(node, "dim", "keepdim")
            dims, flat = given.get("dim"), not given.get("keepdim", False)
            known = isinstance(dims, (tuple, list)) and sorted(d % 4 for d in dims) == [2, 3]
        else:
            given = self._given(node, "output_size")
            known = given["output_size"] in (1, (1, 1), [1, 1])
        if not known:
            raise BadInput(
                f"{place}: expected an average over a window without padding, or over the whole map, found {given}"
            )
        positive = self.positive[source]
        # One without weights may be called in many places: each has a clip value of its own.
        name = place if node.op == "call_module" and place not in self.called else self._free(node, "avgpool")
        self.called.add(name)
        pool = QuantAvgPool2d(window, stride, signed=not positive, **self.steps)
        new = self._put(node, name, pool, positive, [source])
        if flat:
            with self.graph.inserting_after(new):
                vector = self.graph.call_function(torch.flatten, (new, 1))
            new.replace_all_uses_with(vector, delete_user_cb=lambda user: user is not vector)
            self.positive[vector] = positive

    def _flatten(self, node: fx.Node, place: str, source: fx.Node) -> None:
        """Flattening of all but the batch, however it is written."""
        if node.target in ("view", "reshape", torch.reshape):
            shape: Any = node.args[1:]
            shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
            # (batch, -1), or (-1, features): of another number of features the layer behind would not take it.
            known = len(shape) == 2 and (
                (shape[0] in self.shapes and (shape[1] == -1 or isinstance(shape[1], int)))
                or (shape[0] == -1 and isinstance(shape[1], int))
            )
        else:
            given = {"start_dim": 0, "end_dim": -1, **self._given(node, "start_dim", "end_dim")}
            known = (given["start_dim"], given["end_dim"]) in ((1, -1), (1, 3))
        if not known:
            raise BadInput(
                f"{place}: expected flattening of all but the batch, found {node.args[1:]} {node.kwargs or ''}"
            )
        self.lines.append(f"{place}: {self._what(node)} kept")
        if node.op != "call_module":
            with self.graph.inserting_before(node):
                new = self.graph.call_function(torch.flatten, (source, 1))
            node.replace_all_uses_with(new)
            self.graph.erase_node(node)
            node = new
        self.positive[node] = self.positive[source]
        self.pictures |= {node} if source in self.pictures else set()

    def _keep(self, node: fx.Node, place: str, positive: bool) -> None:
        if getattr(self._module(node), "mode", "nearest") != "nearest":
            raise BadInput(f"{place}: expected an Upsample of mode nearest, found {self._module(node).mode}")
        self.positive[node] = positive
        self.lines.append(f"{place}: {self._what(node)} kept")

    def _put(
        self, node: fx.Node, name: str, module: nn.Module, positive: bool, inputs: Sequence[fx.Node], more: str = ""
    ) -> fx.Node:
        """Call `module`, by the name `name`, in the place of `node`."""
        self.lines.append(f"{name}: {self._what(node)} -> {type(module).__name__}{more}")
        self.traced.add_submodule(name, module)
        with self.graph.inserting_before(node):
            new = self.graph.call_module(name, tuple(inputs))
        node.replace_all_uses_with(new)
        self.graph.erase_node(node)
        self.positive[new] = positive
        return new

    def _free(self, node: fx.Node, base: str) -> str:
        """A module's name that is not taken, in the module in whose forward the operation stands."""
        within = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        within = within[:-1] if node.op == "call_module" else within
        stem = f"{within[-1]}.{base}" if within and within[-1] else base
        taken = {name for name, _ in self.traced.named_modules()}
        names = [stem, *(f"{stem}{number}" for number in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)

    def _once(self, place: str) -> None:
        if place in self.called:
            raise BadInput(f"{place}: is called twice, expected a layer of its own in each place")
        self.called.add(place)
