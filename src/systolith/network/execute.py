"""The fast executor: batches, all cores, the integers of `reference.py`. The one file of this room that uses torch.

Every kernel is proved exact for its layer when the plan is made. Products: int8 kernels where the accumulators they
keep cannot overflow, else fp32 below 2^24, else float64. Codes: one multiplication, addition and clamp where that
equals the thresholds at both points of each (both sides are monotone, so everywhere), else two such lines that enclose
them and a look at the threshold in between, else a table, else a search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from systolith.formats import BadInput
from systolith.network import reference
from systolith.network.execute_codes import FP32_LIMIT, Kernel, carrier_of, code_dtype, reach_of, requantize_kernel
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
    pooled_shape,
    reach,
    sides,
)
from systolith.network.integer import IntegerNetwork, Step, Value

BATCH = 32

Watch = Callable[[str, Tensor], Tensor | None]


@dataclass(frozen=True, eq=False)
class Plan:
    """A network and the kernel chosen for each of its steps.

    Attributes:
        network: the network.
        kernels: what computes each step, from the tensors of its inputs.
        choices: the kind of each kernel, by the step's name.
        batch: pictures at a time; the maps of so many stay in the caches, and int8 kernels take them as they are.
    """

    network: IntegerNetwork
    kernels: tuple[Kernel, ...]
    choices: dict[str, str]
    batch: int = BATCH

    def __str__(self) -> str:
        kinds: dict[str, int] = {}
        for kind in self.choices.values():
            kinds[kind] = kinds.get(kind, 0) + 1
        return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if kind)


def plan(network: IntegerNetwork, batch: int = BATCH) -> Plan:
    """Choose the fastest kernel that is exact for each step.

    Raises:
        RuntimeError: if this torch's convolution or product is not exact on integers (a Winograd, TF32 or bf16 kernel).
    """
    chosen = [_choose(step, network.values) for step in network.steps]
    choices = {step.name: kind for step, (_, kind) in zip(network.steps, chosen, strict=True)}
    return Plan(network, tuple(kernel for kernel, _ in chosen), choices, batch)


@torch.no_grad()
def answer(plan: Plan, pixels: Tensor, watch: Watch | None = None) -> dict[str, Tensor]:
    """The network's outputs, int64 (N, ...), by name, of uint8 pictures (N, C, H, W) (or vectors (N, C)).

    Args:
        plan: of the network.
        pixels: at most `plan.batch` pictures run fastest; any number is taken.
        watch: called with the name and the result of each step, (N, C, H, W) or (N, F); codes are integers,
            accumulators whole numbers in their carrier. What it returns, unless None, takes the result's place.
    """
    network = plan.network
    if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != network.values[network.input.name].shape:
        size = ", ".join(map(str, network.values[network.input.name].shape))
        raise BadInput(f"expected uint8 pictures (N, {size}), found {pixels.dtype} {tuple(pixels.shape)}")
    last_use = {name: i for i, step in enumerate(network.steps) for name in step.inputs}
    last_use |= dict.fromkeys(network.outputs, len(network.steps))
    results: dict[str, Tensor] = {}
    for i, (step, kernel) in enumerate(zip(network.steps, plan.kernels, strict=True)):
        if isinstance(step.node, Argmax):
            break
        taken = [results[name] for name in step.inputs] or [pixels]
        result = kernel(*taken)
        changed = watch(step.name, result) if watch is not None else None
        results[step.name] = result if changed is None else changed
        for name in step.inputs:
            if last_use[name] == i:
                results.pop(name, None)
    return {name: results[name].to(torch.int64) for name in network.outputs}


def execute(plan: Plan, pixels: Tensor, watch: Watch | None = None) -> Tensor:
    """The network's first output, of a classifier the logits: int64 (N, classes). Otherwise as `answer`."""
    return answer(plan, pixels, watch)[plan.network.outputs[0]]


def classify(plan: Plan, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The class of each picture, int64 (N,): the largest logit, the first of equals."""
    parts = [execute(plan, part) for part in torch.from_numpy(pixels).split(plan.batch)]
    return torch.cat(parts).numpy().argmax(1)


def _choose(step: Step, values: dict[str, Value]) -> tuple[Kernel, str]:
    """The kernel of one step, and its kind."""
    node, taken = step.node, [values[name] for name in step.inputs]
    result = values[step.name]
    if isinstance(node, Input):
        table = torch.from_numpy(np.ascontiguousarray(node.table)).to(code_dtype(result))
        if (node.table == np.arange(256)).all():
            return _channels_last, "pixels as they are"
        return (lambda x: _look_up(table, x)), "pixel table"
    if isinstance(node, Conv):
        return _conv(node, taken[0], result)
    if isinstance(node, Linear):
        return _linear(node, result)
    if isinstance(node, Requantize):
        return requantize_kernel(node, taken[0], result)
    carrier = carrier_of(result)
    if isinstance(node, Add):
        return _add(node, taken, carrier), ""
    if isinstance(node, Concat):
        return (lambda *parts: torch.cat(parts, 1)), ""
    if isinstance(node, Upsample):
        down, right = node.factor
        return (lambda x: x.repeat_interleave(down, 2).repeat_interleave(right, 3)), ""
    if isinstance(node, AvgPool):
        # The kernel sums and divides by one.
        pool = node
        return (lambda x: F.avg_pool2d(x.to(carrier), pool.kernel, pool.stride, divisor_override=1)), ""
    if isinstance(node, MaxPool):
        return _max_pool(node, taken[0]), ""
    if isinstance(node, Flatten):
        return (lambda x: x.flatten(1)), ""
    return (lambda x: x.argmax(1)), ""


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _look_up(table: Tensor, pixels: Tensor) -> Tensor:
    channel = torch.arange(len(table)).reshape(-1, *[1] * (pixels.ndim - 2))
    return _channels_last(table[channel, pixels.to(torch.int64)])


def _add(node: Add, operands: list[Value], carrier: torch.dtype) -> Kernel:
    one, two = node.gains
    if max(gain * reach_of(value) for gain, value in zip(node.gains, operands, strict=True)) > FP32_LIMIT:
        carrier = torch.float64
    # Codes are never of the carrier's type: the first line of it is a new tensor.
    return lambda x, y: x.to(carrier).mul_(one).add_(y, alpha=two)


# Products


def _conv(node: Conv, act: Value, result: Value) -> tuple[Kernel, str]:
    weight = torch.from_numpy(np.ascontiguousarray(node.weight))
    product, candidates = node.product(), list[tuple[Kernel | None, str]]()
    bound = max(reach_of(result), *(int(np.abs(side).max()) for side in product.bounds()))
    if _int8_is_exact(product, act, min(bound, FP32_LIMIT)):
        if bound <= FP32_LIMIT:
            candidates.append((_int8_conv(node, act), "int8 convolution"))
        else:
            candidates.append((_int8_parts(node, act), "int8 convolution in parts"))
    carrier = torch.float32 if bound <= FP32_LIMIT else torch.float64
    wide, bias = _channels_last(weight.to(carrier)), _bias_of(node, carrier)
    around, rest = _padding(node)

    def conv(x: Tensor) -> Tensor:
        x = F.pad(x.to(carrier), around) if any(around) else x.to(carrier)
        with torch.backends.nnpack.flags(enabled=False):  # its Winograd multiplies by fractions
            acc = F.conv2d(x, wide, None, node.stride, rest, node.dilation, node.groups)
        return acc if bias is None else acc.add_(bias)

    candidates.append((conv, f"{'fp32' if carrier == torch.float32 else 'float64'} convolution"))
    for kernel, kind in candidates:
        if kernel is not None and _agrees(node, kernel, act):
            return kernel, kind
    raise RuntimeError(f"{node.name}: this torch's convolution is not exact on integers; reset its precision settings")


def _padding(node: Conv) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What must be padded before (`F.pad`'s order), and what the convolution itself pads."""
    top, bottom, left, right = node.pads
    return ((left, right, top, bottom), (0, 0)) if len(node.padding) == 4 else ((0, 0, 0, 0), (top, left))


def _bias_of(node: Conv, carrier: torch.dtype) -> Tensor | None:
    """(O, 1, 1), or None."""
    return None if node.bias is None else torch.from_numpy(node.bias).to(carrier).reshape(-1, 1, 1)


def _int8_is_exact(node: Conv, act: Value, bound: int) -> bool:
    """Whether an int8 kernel can be exact: codes of one byte, and no intermediate that overflows.

    Without VNNI instructions products are added in pairs that saturate at 16 bits. What comes out is fp32.
    """
    if act.format.signed or act.format.bits > 8 or node.weight_format.bits > 8 or bound > FP32_LIMIT:
        return False
    if any(pad >= most for pad, most in zip(_padding(node)[1], reach(node.kernel, node.dilation), strict=True)):
        return False  # a window wholly in the padding can end the process
    pair = 2 * int(act.hi.max()) * int(np.abs(node.weight.astype(np.int64)).max())
    return pair < 1 << 15 or _has_vnni()


def _has_vnni() -> bool:
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(supported is not None and supported())


def _int8_conv(node: Conv, act: Value) -> Kernel | None:
    """oneDNN's convolution of uint8 with int8, its accumulators as fp32; None where this torch has none.

    The library chooses a kernel by the shape, the number of pictures included (that of one channel into one column was
    right for 2 and wrong for 12): it always gets BATCH of them, zeros where there are fewer, the shape that was tried.
    """
    weight = torch.from_numpy(np.ascontiguousarray(node.weight)).to(torch.int8)
    bias = None if node.bias is None else torch.from_numpy(node.bias).to(torch.float32)
    ones, zeros = torch.ones(node.out_channels), torch.zeros(node.out_channels, dtype=torch.int64)
    around, rest = _padding(node)
    geometry = list(node.stride), list(rest), list(node.dilation), node.groups
    try:
        op = torch.ops.onednn.qconv2d_pointwise
        shape = [BATCH, act.shape[0], act.shape[1] + sum(around[2:]), act.shape[2] + sum(around[:2])]
        *where, groups = geometry
        packed = torch.ops.onednn.qconv_prepack(weight, ones, 1.0, 0, *where, groups, shape)
    except (AttributeError, RuntimeError):
        return None

    def conv(x: Tensor) -> Tensor:
        parts = []
        x = F.pad(x, around) if any(around) else x
        for part in x.split(BATCH):
            whole = part
            if len(part) < BATCH:
                whole = torch.zeros((BATCH, *part.shape[1:]), dtype=part.dtype).to(memory_format=torch.channels_last)
                whole[: len(part)] = part
            acc = op(whole, 1.0, 0, packed, ones, zeros, bias, *geometry, 1.0, 0, torch.float32, "none", [], "")
            parts.append(acc[: len(part)])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return conv


def _int8_parts(node: Conv, act: Value) -> Kernel | None:
    """Beyond 2^24: parts of the input channels, the accumulators of each of which fp32 holds, added in float64."""
    for count in (2, 3, 4, 6, 8):
        if node.groups > 1 or node.in_channels < count:
            return None
        ends = [node.in_channels * i // count for i in range(count + 1)]
        spans = [slice(a, b) for a, b in pairwise(ends)]
        parts = [replace(node, weight=np.ascontiguousarray(node.weight[:, span]), bias=None) for span in spans]
        if max(int(np.abs(side).max()) for part in parts for side in part.bounds()) > FP32_LIMIT:
            continue
        found = [_int8_conv(part, replace(act, shape=(part.in_channels, *act.shape[1:]))) for part in parts]
        kernels = [kernel for kernel in found if kernel is not None]
        return _summed(kernels, spans, _bias_of(node, torch.float64)) if len(kernels) == count else None
    return None


def _summed(kernels: list[Kernel], spans: list[slice], bias: Tensor | None) -> Kernel:
    def conv(x: Tensor) -> Tensor:
        parts = (
            kernel(x[:, span].contiguous(memory_format=torch.channels_last))
            for kernel, span in zip(kernels, spans, strict=True)
        )
        total = next(parts).to(torch.float64)
        for part in parts:
            total.add_(part)
        return total if bias is None else total.add_(bias)

    return conv


def _agrees(node: Conv, kernel: Kernel, act: Value) -> bool:
    """Whether the kernel gives the referee's accumulators for the largest codes and for random ones, few and many."""
    rng = np.random.default_rng(0)
    shape = (2, *act.shape)
    codes = rng.integers(act.lo.min(), act.hi.max() + 1, shape)
    codes[0] = act.hi.max()
    wanted = reference.conv2d(node, codes)
    for times in (1, BATCH // 2):
        many = torch.from_numpy(codes).to(code_dtype(act)).repeat(times, 1, 1, 1)
        try:
            found = kernel(many.contiguous(memory_format=torch.channels_last))
        except RuntimeError:  # a geometry that the library refuses
            return False
        if not (found.double().numpy().reshape(times, *wanted.shape) == wanted).all():
            return False
    return True


def _linear(node: Linear, result: Value) -> tuple[Kernel, str]:
    carrier = carrier_of(result)
    # The product alone is within the bounds of the sum with its bias, give or take the bias: count it twice.
    if reach_of(result) + 2 * int(np.abs(node.bias).max()) > FP32_LIMIT:
        carrier = torch.float64
    weight, bias = torch.from_numpy(node.weight.copy()).to(carrier), torch.from_numpy(node.bias).to(carrier)
    kind = "fp32 product" if carrier == torch.float32 else "float64 product"
    return (lambda x: F.linear(x.to(carrier), weight) + bias), kind


def _max_pool(node: MaxPool, act: Value) -> Kernel:
    least = int(act.lo.min())
    (kh, kw), (sh, sw), (dh, dw) = node.kernel, node.stride, node.dilation
    top, bottom, left, right = sides(node.padding)

    def kernel(x: Tensor) -> Tensor:
        if any(node.padding):
            x = F.pad(x, (left, right, top, bottom), value=least)
        oh, ow = pooled_shape(node.name, (x.shape[2], x.shape[3]), node.reach, node.stride)
        best: Tensor | None = None
        # torch's own pooling of bytes refuses large maps; a maximum of shifted maps is as fast.
        for i in range(0, kh * dh, dh):
            for j in range(0, kw * dw, dw):
                view = x[:, :, i : i + (oh - 1) * sh + 1 : sh, j : j + (ow - 1) * sw + 1 : sw]
                best = view if best is None else torch.maximum(best, view)
        assert best is not None
        return _channels_last(best)

    return kernel
