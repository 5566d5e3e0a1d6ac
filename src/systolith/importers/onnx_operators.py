"""The operators of ONNX that have a place in an integer network, each as a module or function of the torch graph."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from systolith.formats import BadInput
from systolith.importers.onnx_file import name_of, scalar
from systolith.importers.onnx_graph import Act, Operator, Walk, Weight
from systolith.importers.onnx_window import pads_of, resized, window_of
from systolith.quant import ExactBatchNorm1d, ExactBatchNorm2d, QuantAdd, QuantAvgPool2d
from systolith.quant.foreign import (
    ReadBack,
    ScaledAct,
    ScaledAdd,
    SidedMaxPool2d,
    format_of,
    frozen_conv,
    frozen_linear,
)
from systolith.quant.layers import QuantLayer


def _conv(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    act, weight, name = values[0], values[1], name_of(node)
    quantizer = _coded(name, act)
    _require_weight(name, weight)
    kernel = weight.codes.shape[2:]
    if len(kernel) != 2:
        raise BadInput(f"{name}: expected weights (O, C, KH, KW), found shape {weight.codes.shape}")
    stride, dilation = tuple(given.get("strides", (1, 1))), tuple(given.get("dilations", (1, 1)))
    pads = pads_of(name, given)
    bias, rest = _bias(walk, node, values, weight, quantizer)
    layer = frozen_conv(
        torch.from_numpy(weight.codes),
        torch.from_numpy(weight.scale),
        quantizer,
        stride,
        pads,
        dilation,
        int(given.get("group", 1)),
        weight.bits,
        bias,
    )
    made = walk.module(node, layer, act)
    return made if rest is None else walk.constant(node, operator.add, made, rest.reshape(1, -1, 1, 1))


def _linear(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    act, weight, name = values[0], values[1], name_of(node)
    if not isinstance(act, Act):
        raise BadInput(f"{name}: expected activations times weights, found weights times activations")
    quantizer = _coded(name, act)
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA"):
        raise BadInput(f"{name}: expected alpha 1, beta 1 and no transA")
    if isinstance(weight, Weight) and not given.get("transB"):
        weight = transposed(weight)
    _require_weight(name, weight)
    if weight.codes.ndim != 2:
        raise BadInput(f"{name}: expected weights of two axes, found shape {weight.codes.shape}")
    bias, rest = _bias(walk, node, values, weight, quantizer)
    layer = frozen_linear(
        torch.from_numpy(np.ascontiguousarray(weight.codes)),
        torch.from_numpy(weight.scale),
        quantizer,
        weight.bits,
        bias,
    )
    made = walk.module(node, layer, act, rank=2)
    return made if rest is None else walk.constant(node, operator.add, made, rest.reshape(1, -1))


def transposed(weight: Weight) -> Weight:
    """Of two axes."""
    return replace(weight, codes=weight.codes.T, axis=1 - weight.axis % 2)


def _coded(name: str, act: Any) -> ScaledAct:
    if not isinstance(act, Act):
        raise BadInput(f"{name}: expected activations, found a constant")
    if act.quantizer is None:
        raise BadInput(f"{name}: what it takes is not quantized: a quantizer must stand before it")
    return act.quantizer


def _require_weight(name: str, weight: Any) -> None:
    if not isinstance(weight, Weight):
        raise BadInput(f"{name}: its weights are not quantized")
    if weight.scale.size > 1 and weight.axis % weight.codes.ndim:
        raise BadInput(f"{name}: expected scales of output channels, found those of axis {weight.axis}")


def _bias(
    walk: Walk, node: Any, values: list[Any], weight: Weight, quantizer: ScaledAct
) -> tuple[torch.Tensor | None, NDArray[np.float32] | None]:
    """The integers of a bias that is quantized by the accumulator's own scale, or the floats of another."""
    if len(values) < 3 or values[2] is None:
        return None, None
    name, bias = name_of(node), values[2]
    scale = (quantizer.scale() * torch.from_numpy(weight.scale.reshape(-1))).numpy()
    if isinstance(bias, Weight):
        own = np.broadcast_to(bias.scale.reshape(-1), bias.codes.shape)
        if np.allclose(own, scale, rtol=1e-6, atol=0):
            return torch.from_numpy(bias.codes), None
        bias = (bias.codes * own).astype(np.float32)
    if not isinstance(bias, np.ndarray) or bias.shape != (weight.codes.shape[0],):
        raise BadInput(f"{name}: expected a bias of {weight.codes.shape[0]} constants")
    if walk.is_answer(node.output[0]):
        return walk.rounded_bias(name, bias, scale), None
    return None, bias.astype(np.float32)


def _norm(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    act, gamma, beta, mean, var = values[:5]
    if given.get("training_mode"):
        raise BadInput(f"{node.name}: a batch norm in training cannot be taken")
    kind: Any = ExactBatchNorm2d if act.rank == 4 else ExactBatchNorm1d
    norm = kind(len(gamma), eps=float(given.get("epsilon", 1e-5)))
    with torch.no_grad():
        for target, value in (
            (norm.weight, gamma),
            (norm.bias, beta),
            (norm.running_mean, mean),
            (norm.running_var, var),
        ):
            target.copy_(torch.from_numpy(np.array(value)))
    return walk.module(node, norm, act)


def _clip(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act | Weight:
    taken, bounds = values[0], [values[at] if len(values) > at else None for at in (1, 2)]
    if any(isinstance(bound, np.ndarray) and bound.dtype.kind in "iu" for bound in bounds):
        # Of codes between a QuantizeLinear and its DequantizeLinear: Brevitas says so how many bits they have.
        low, high = (None if bound is None else int(bound.reshape(-1)[0]) for bound in bounds)
        if isinstance(taken, Weight):
            codes = np.clip(taken.codes, low, high)
            return replace(taken, codes=codes, bits=max(2, format_of(int(codes.min()), int(codes.max())).bits))
        return walk.narrow(node, taken, low, high)
    ends = [given.get(key) if bound is None else bound for key, bound in zip(("min", "max"), bounds, strict=True)]
    numbers = [None if end is None else scalar(end) for end in ends]
    return Act(walk.fx.call_function(torch.clamp, (taken.node, *numbers)), taken.rank)


def _prelu(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    slope = np.asarray(values[1], dtype=np.float32).reshape(-1)
    act = nn.PReLU(len(slope))
    with torch.no_grad():
        act.weight.copy_(torch.from_numpy(slope))
    return walk.module(node, act, values[0])


def _max_pool(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    (kernel, stride, pads, dilation), name = window_of(node.name, given), name_of(node)
    if given.get("ceil_mode"):
        if pads[0] != pads[1] or pads[2] != pads[3]:
            raise BadInput(f"{name}: ceil_mode with unequal sides of padding cannot be taken")
        pool: nn.Module = nn.MaxPool2d(kernel, stride, (pads[0], pads[2]), dilation, ceil_mode=True)
    else:
        pool = SidedMaxPool2d(kernel, stride, pads, dilation)
    return replace(walk.module(node, pool, values[0]), quantizer=values[0].quantizer)


def _average(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    name, act, kernel, stride = name_of(node), values[0], None, None
    quantizer = _coded(name, act)
    if node.op_type == "AveragePool":
        kernel, stride, pads, dilation = window_of(name, given)
        if any(pads) or dilation != (1, 1) or given.get("ceil_mode"):
            raise BadInput(f"{name}: an average pool with padding, dilation or ceil_mode cannot be taken")
    elif node.op_type == "ReduceMean":
        axes = values[1].tolist() if len(values) > 1 else list(given.get("axes", ()))
        if sorted(a % 4 for a in axes) != [2, 3]:
            raise BadInput(f"{name}: only a mean over the two axes of a map can be taken, found {axes}")
    pool = QuantAvgPool2d(kernel, stride)
    pool.act_quant = ReadBack.of(quantizer)  # type: ignore[assignment]
    made = walk.module(node, pool, act)
    if node.op_type == "ReduceMean" and not given.get("keepdims", 1):
        return Act(walk.fx.call_function(torch.flatten, (made.node, 1)), 2)
    return made


def _sum(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    name = name_of(node)
    if not all(isinstance(value, Act) for value in values):
        act, value = (values[0], values[1]) if isinstance(values[0], Act) else (values[1], values[0])
        layer = walk.root.get_submodule(str(act.node.target)) if act.node.op == "call_module" else None
        if isinstance(layer, QuantLayer) and layer.bias_codes() is None and walk.is_answer(node.output[0]):
            # MatMul and Add, as some write a linear layer.
            bias = np.broadcast_to(np.asarray(value, np.float32).reshape(-1), layer.weight_codes().shape[:1])
            scale = layer.scale().numpy()
            layer.frozen_bias = walk.rounded_bias(name, bias, scale).double()
            return act
        return walk.constant(node, operator.add, act, value)
    one, two = (_coded(name, value) for value in values)
    if one.key == two.key:
        add: nn.Module = QuantAdd()
        add.act_quant = ReadBack.of(one)
    else:
        add = ScaledAdd(one, two)
    return walk.module(node, add, *values)


def _scale(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    act, value = values
    if node.op_type == "Mul" and isinstance(act, np.ndarray):
        act, value = value, act
    if not isinstance(act, Act) or not isinstance(value, np.ndarray):
        raise BadInput(f"{name_of(node)}: {node.op_type} of two activations cannot be taken")
    function = {"Mul": operator.mul, "Div": operator.truediv, "Sub": operator.sub}[node.op_type]
    return walk.constant(node, function, act, value)


def _concat(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    made = walk.fx.call_function(torch.cat, ([value.node for value in values], int(given["axis"])))
    keys = {value.quantizer.key if value.quantizer else None for value in values}
    return Act(made, values[0].rank, values[0].quantizer if len(keys) == 1 else None)


def _flat(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    act, name, op = values[0], name_of(node), node.op_type
    if op == "Reshape":
        shape = values[1].tolist()
        fits = len(shape) == 2 and shape[0] in (-1, 0, walk.graph.batch or 1)
    elif op == "Squeeze":
        axes = values[1].tolist() if len(values) > 1 else list(given.get("axes", ()))
        fits = sorted(a % 4 for a in axes) == [2, 3]
    else:
        fits = given.get("axis", 1) == 1
    if not fits:
        raise BadInput(f"{name}: only flattening of all but the batch can be taken")
    return Act(walk.fx.call_function(torch.flatten, (act.node, 1)), 2, act.quantizer)


def _resize(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    up = nn.Upsample(scale_factor=resized(node, given, values))
    return replace(walk.module(node, up, values[0]), quantizer=values[0].quantizer)


def _pad(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act:
    pads = values[1].tolist() if len(values) > 1 else list(given["pads"])
    value = scalar(values[2]) if len(values) > 2 and values[2] is not None else 0.0
    if given.get("mode", "constant") != "constant" or value or len(pads) != 8 or any(pads[:2] + pads[4:6]):
        raise BadInput(f"{name_of(node)}: only zeros around the maps can be taken, found {pads}")
    return replace(
        walk.module(node, nn.ZeroPad2d((pads[3], pads[7], pads[2], pads[6])), values[0]), quantizer=values[0].quantizer
    )


def _constant(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Any:
    return np.asarray(next(iter(given.values())))


def _same(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Any:
    return values[0]


def _softmax(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Any:
    name = name_of(node)
    if not walk.is_answer(node.output[0]):
        raise BadInput(f"{name}: {node.op_type} inside a network cannot be taken; as its last operation it is left out")
    walk.notes.append(f"{name}: the {node.op_type} is left out, the largest stays the largest")
    return values[0]


def _transpose(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Any:
    weight, perm = values[0], given.get("perm")
    if not isinstance(weight, Weight) or weight.codes.ndim != 2 or perm not in (None, [1, 0]):
        raise BadInput(f"{name_of(node)}: only the transposition of weights can be taken")
    return transposed(weight)


OPERATORS: dict[str, Operator] = {
    "Constant": _constant,
    "Conv": _conv,
    "Gemm": _linear,
    "MatMul": _linear,
    "BatchNormalization": _norm,
    "Relu": lambda walk, node, given, values: walk.module(node, nn.ReLU(), values[0]),
    "LeakyRelu": lambda walk, node, given, values: walk.module(
        node, nn.LeakyReLU(float(given.get("alpha", 0.01))), values[0]
    ),
    "PRelu": _prelu,
    "Clip": _clip,
    "MaxPool": _max_pool,
    "AveragePool": _average,
    "GlobalAveragePool": _average,
    "ReduceMean": _average,
    "Add": _sum,
    "Sub": _scale,
    "Mul": _scale,
    "Div": _scale,
    "Concat": _concat,
    "Flatten": _flat,
    "Reshape": _flat,
    "Squeeze": _flat,
    "Resize": _resize,
    "Upsample": _resize,
    "Pad": _pad,
    "Identity": _same,
    "Dropout": _same,
    "Transpose": _transpose,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
}
