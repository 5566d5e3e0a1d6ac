"""What a torch.fx node does to real values: a monotone function of each, or moving them about, or neither.

What is monotone waits for the quantizer behind it, and is bisected with it. What only moves values (pooling,
flattening, upsampling, padding) is done on the codes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from systolith.formats import BadInput
from systolith.network.graph import Flatten, MaxPool, Sides, Upsample, reach
from systolith.quant import (
    ExactBatchNorm1d,
    ExactBatchNorm2d,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
)
from systolith.quant.foreign import ScaledAdd, SidedMaxPool2d
from systolith.quant.norm import affine

Function = Callable[[Tensor], Tensor]
NORMS = (ExactBatchNorm1d, ExactBatchNorm2d)
SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_RELU = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
_RELU6 = (F.relu6,)
_CLAMP = (torch.clamp, torch.clip, "clamp", "clip", "clamp_", "clip_")
_HARDTANH = (F.hardtanh, F.hardtanh_)
_LEAKY = (F.leaky_relu, F.leaky_relu_)


@dataclass(frozen=True)
class Pad:
    """Zeros around a map, until a convolution takes them as its own padding: top, bottom, left, right."""

    name: str
    pads: Sides


LEAVES = (ScaledAdd, QuantConv2d, QuantLinear, QuantAdd, QuantAvgPool2d, QuantIdentity, *NORMS)

Move = MaxPool | Flatten | Upsample | Pad


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        # What has no children is asked about as a whole: it is known, or refused by its own name. An empty Sequential
        # is how many write an identity.
        childless = not any(True for _ in m.children()) and not isinstance(m, nn.Sequential)
        return isinstance(m, LEAVES) or childless or super().is_leaf_module(m, qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """The model's operations in order; `BadInput` if its forward cannot be traced."""
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except BadInput:
        raise
    except Exception as error:  # torch.fx runs the user's forward with proxies: anything may come of it
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise BadInput(f"the model cannot be traced ({reason})") from None


def given(node: fx.Node, names: Sequence[str]) -> dict[str, Any]:
    """The arguments of a function or method by the names of its parameters, the tensor's own first."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _settings(node: fx.Node, module: nn.Module | None, names: Sequence[str]) -> dict[str, Any]:
    """A module's own attributes, or what a function is given, by name."""
    return vars(module) if module is not None else given(node, names)


def monotone(node: fx.Node, name: str, module: nn.Module | None, channels: slice) -> Function | None:
    """The nondecreasing function that the node is, for `channels` of what it takes; None if it is no such.

    Raises:
        BadInput: a slope that makes it fall.
    """
    target = node.target if module is None else None
    if isinstance(module, nn.ReLU) or target in _RELU:
        return torch.relu
    if isinstance(module, nn.ReLU6) or target in _RELU6:
        return F.relu6
    if isinstance(module, nn.Hardtanh) or target in _HARDTANH:
        found = _settings(node, module, ("input", "min_val", "max_val"))
        low, high = float(found.get("min_val", -1.0)), float(found.get("max_val", 1.0))
        return lambda x: F.hardtanh(x, low, high)
    if target in _CLAMP:
        found = given(node, ("input", "min", "max"))
        ends = found.get("min"), found.get("max")
        if any(isinstance(end, fx.Node) for end in ends):
            raise BadInput(f"{name}: a clamp by tensors cannot be lowered; by numbers it can")
        return lambda x: torch.clamp(x, *ends)
    if isinstance(module, nn.LeakyReLU) or target in _LEAKY:
        slope = float(_settings(node, module, ("input", "negative_slope")).get("negative_slope", 0.01))
        _require_rising(name, slope)
        return lambda x: F.leaky_relu(x, slope)
    if isinstance(module, nn.PReLU):
        weight = module.weight.detach()
        _require_rising(name, float(weight.min()))
        part = weight[channels] if weight.numel() > 1 else weight
        return lambda x: F.prelu(x, part)
    return None


_NUMBERS = {operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.sub, torch.mul, torch.div}
_CASTS = ("float", "to")


def arithmetic(node: fx.Node, name: str, owner: nn.Module, channels: slice, is_map: bool) -> Function | None:
    """`x + c`, `x - c`, `x * c` and `x / c` of numbers or a number a channel, and `x.float()`; None if it is no such.

    Raises:
        BadInput: a factor that is not positive, or a tensor of another shape.
    """
    if node.op == "call_method" and node.target in _CASTS:
        wanted = [a for a in (*node.args[1:], *node.kwargs.values()) if isinstance(a, torch.dtype)]
        if (node.target == "to" and not wanted) or any(dtype != torch.float32 for dtype in wanted):
            raise BadInput(f"{name}: only a conversion to float32 is lowered, found {node.args[1:]}")
        return lambda x: x.to(torch.float32)
    if node.op != "call_function" or node.target not in _NUMBERS or len(node.args) != 2 or node.kwargs:
        return None
    first, second = node.args
    function: Any = node.target
    if not isinstance(first, fx.Node) or first.op == "get_attr":
        raise BadInput(f"{name}: expected the tensor before the number, as in x / 255")
    constant = second
    if isinstance(second, fx.Node):
        if second.op != "get_attr":
            return None
        constant = operator.attrgetter(str(second.target))(owner).detach()
        if constant.numel() > 1:
            axis = -3 if is_map else -1
            if constant.ndim < -axis or constant.numel() != constant.shape[axis]:
                raise BadInput(f"{name}: expected a number or one a channel, found a tensor {tuple(constant.shape)}")
            constant = constant.reshape(-1)[channels]
    if "mul" in function.__name__ or "div" in function.__name__:
        least = float(constant.min()) if isinstance(constant, Tensor) else float(constant)  # type: ignore[arg-type]
        if least <= 0:
            raise BadInput(f"{name}: a factor of {least:g} cannot be lowered; positive ones can")

    def apply(x: Tensor) -> Tensor:
        each = constant.reshape(1, -1, *[1] * (x.ndim - 2)) if isinstance(constant, Tensor) else constant
        result: Tensor = function(x, each)
        return result

    return apply


def _require_rising(name: str, slope: float) -> None:
    if slope < 0:
        raise BadInput(f"{name}: a slope of {slope:g} below 0 makes it fall and rise: no thresholds hold that")


def per_channel(module: nn.Module | None) -> bool:
    """Whether the function differs from channel to channel."""
    return isinstance(module, (*NORMS, nn.PReLU)) and not (isinstance(module, nn.PReLU) and module.weight.numel() == 1)


def normalized(module: Any, channels: slice) -> tuple[Function, np.ndarray]:
    """The batch norm of `channels`, and the sign of each one's gain, 1 or -1."""
    gain, offset = (term[channels] for term in module.affine_terms())
    return (lambda y: affine(y, gain, offset)), np.where(gain.cpu().numpy() < 0, -1, 1)


def in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it writes into the tensor that it takes."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") or bool(node.kwargs.get("inplace"))


def is_size(node: fx.Node) -> str:
    """ "shape" of `x.shape` and `x.size()`, "batch" of `x.shape[0]` and `x.size(0)`, else ""."""
    if node.op == "call_method" and node.target == "size":
        dim = given(node, ("self", "dim")).get("dim")
        return "shape" if dim is None else "batch" if dim == 0 else ""
    if node.target is getattr and node.args[1:2] == ("shape",):
        return "shape"
    if node.target is operator.getitem and node.args[1] == 0:
        of = node.args[0]
        return "batch" if isinstance(of, fx.Node) and is_size(of) == "shape" else ""
    return ""


def flattens(node: fx.Node, name: str, module: nn.Module | None, features: int) -> bool:
    """Whether it makes vectors of maps, all but the batch into `features`; `BadInput` for another reshaping."""
    if isinstance(module, nn.Flatten):
        start, end = module.start_dim, module.end_dim
    elif module is None and node.target in (torch.flatten, "flatten"):
        found = given(node, ("input", "start_dim", "end_dim"))
        start, end = found.get("start_dim", 0), found.get("end_dim", -1)
    elif module is None and node.target in (torch.reshape, "view", "reshape"):
        shape = node.args[1:] if not isinstance(node.args[1], (tuple, list)) else tuple(node.args[1])
        first, *rest = shape
        whole = isinstance(first, fx.Node) and is_size(first) == "batch" and rest in ([-1], [features])
        if not whole and (first, rest) != (-1, [features]):
            raise BadInput(f"{name}: only a reshaping to (batch, {features}) is lowered, found {shape}")
        return True
    else:
        return False
    if (start, end) not in ((1, -1), (1, 3)):
        raise BadInput(f"{name}: only flattening of all but the batch is lowered, found start {start}, end {end}")
    return True


def move(node: fx.Node, name: str, module: nn.Module | None, size: tuple[int, ...]) -> Move | None:
    """The max pool, upsampling or padding that the torch.fx node is, of a map (H, W), or None."""
    if isinstance(module, SidedMaxPool2d):
        return MaxPool(name, module.kernel, module.stride, module.pads, module.dilation)
    if isinstance(module, nn.MaxPool2d) or node.target in (F.max_pool2d, torch.max_pool2d):
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        found = _settings(node, module, names)
        return _max_pool(name, size, *(found[n] for n in names[1:2]), **{n: found[n] for n in names[2:] if n in found})
    if isinstance(module, nn.Upsample) or node.target is F.interpolate:
        found = _settings(node, module, ("input", "size", "scale_factor", "mode"))
        return _upsample(name, size, found.get("size"), found.get("scale_factor"), found.get("mode", "nearest"))
    if isinstance(module, nn.ZeroPad2d):
        left, right, top, bottom = _four(module.padding)
        return Pad(name, (top, bottom, left, right))
    if node.target is F.pad:
        found = given(node, ("input", "pad", "mode", "value"))
        if found.get("mode", "constant") != "constant" or found.get("value") not in (None, 0) or len(found["pad"]) != 4:
            raise BadInput(f"{name}: only zeros around the maps are lowered, found {found['pad']}, {found.get('mode')}")
        left, right, top, bottom = found["pad"]
        return Pad(name, (top, bottom, left, right))
    return None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _four(value: Any) -> Sides:
    return (value,) * 4 if isinstance(value, int) else tuple(value)


def _max_pool(
    name: str,
    size: tuple[int, ...],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> MaxPool:
    kernel, pad, dilated = _pair(kernel_size), _pair(padding), _pair(dilation)
    step = _pair(stride) if stride else kernel
    after = list(pad)
    if ceil_mode and len(size) == 2:
        # torch's rule: rounded up, but no window begins behind the map and its padding before it.
        for axis, extent in enumerate(reach(kernel, dilated)):
            room = size[axis] + 2 * pad[axis] - extent
            count = -(-room // step[axis]) + 1
            if (count - 1) * step[axis] >= size[axis] + pad[axis]:
                count -= 1
            after[axis] = max(pad[axis], (count - 1) * step[axis] + extent - size[axis] - pad[axis])
    return MaxPool(name, kernel, step, (pad[0], after[0], pad[1], after[1]), dilated)


def _upsample(name: str, size: tuple[int, ...], wanted: Any, factor: Any, mode: str) -> Upsample:
    times: list[float] = []
    if factor is not None:
        times = [float(f) for f in (factor if isinstance(factor, (tuple, list)) else (factor,) * 2)]
    elif wanted is not None:
        times = [w / s for w, s in zip(_pair(wanted), size, strict=False)]
    if mode not in ("nearest", "nearest-exact") or len(times) != 2 or any(t != int(t) or t < 1 for t in times):
        raise BadInput(f"{name}: only nearest upsampling by whole factors is lowered, found {mode} {times}")
    return Upsample(name, (int(times[0]), int(times[1])))


def average(node: fx.Node, name: str, module: nn.Module | None, size: tuple[int, ...]) -> tuple[Any, Any, bool] | None:
    """(window, stride, keeps the map) of an average over windows, or None."""
    if isinstance(module, nn.AdaptiveAvgPool2d) or node.target is F.adaptive_avg_pool2d:
        wanted = module.output_size if module else given(node, ("input", "output_size"))["output_size"]
        if wanted not in (1, (1, 1), [1, 1]):
            raise BadInput(f"{name}: an adaptive average pool to {wanted} cannot be lowered; to 1 it can")
        return size, size, True
    if isinstance(module, nn.AvgPool2d) or node.target is F.avg_pool2d:
        names = ("input", "kernel_size", "stride", "padding", "ceil_mode")
        found = _settings(node, module, names)
        if _pair(found.get("padding", 0)) != (0, 0) or found.get("ceil_mode"):
            raise BadInput(f"{name}: an average pool with padding or ceil_mode cannot be lowered")
        kernel = _pair(found["kernel_size"])
        return kernel, _pair(found["stride"]) if found.get("stride") else kernel, True
    if module is None and node.target in (torch.mean, "mean"):
        found = given(node, ("input", "dim", "keepdim"))
        dims = found.get("dim")
        if not isinstance(dims, (tuple, list)) or sorted(d % 4 for d in dims) != [2, 3]:
            raise BadInput(f"{name}: only a mean over the two axes of a map is lowered, found {dims}")
        return size, size, bool(found.get("keepdim", False))
    return None


def refusal(node: fx.Node, module: nn.Module | None) -> str:
    """Why this operation cannot be lowered, and what takes its place."""
    what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
    if what in ("add", "iadd", "add_"):
        return "a float add cannot be lowered; QuantAdd gives both operands one scale"
    if "avg_pool" in what or "AvgPool" in what or what == "mean":
        return "an average of floats cannot be lowered; QuantAvgPool2d quantizes what it sums, as QuantIdentity does"
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        return f"a {what} without quantizers cannot be lowered; QuantConv2d and QuantLinear can (`quantize`)"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return f"a {what} cannot be lowered, its result changes with the machine; Exact{what} can"
    return f"{what} cannot be lowered"
