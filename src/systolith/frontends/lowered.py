"""What a lowering makes: the integer network, and what each of its maps and outputs is in the trained model."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from systolith.formats import BadInput
from systolith.frontends import operations as ops
from systolith.network.graph import Conv, Flatten, MaxPool
from systolith.network.integer import IntegerNetwork
from systolith.quant import QuantConv2d, QuantLinear


@dataclass(frozen=True)
class Edge:
    """One accumulator-to-code map, as the trained model has it.

    Attributes:
        epilogue: accumulators int64 (O, n) to codes int64, by the model's own layers.
        tap: the torch.fx node whose value is quantized (before pooling).
        codes: the value of `tap` to codes, whole fp32 numbers.
        real: accumulators to what the quantizer takes, fp32, as `epilogue` takes and gives them.
    """

    epilogue: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    tap: str
    codes: Callable[[Tensor], Tensor]
    real: Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class Output:
    """One of the model's outputs: the torch.fx node, and what makes its value of the network's integers (N, ...)."""

    tap: str
    dequantize: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Lowered:
    """The integer network, and what it was made from: the traced model, an `Edge` for each `Requantize`, an `Output`
    for each of the network's, and the node that holds the codes of each `QuantIdentity`."""

    network: IntegerNetwork
    traced: fx.GraphModule
    edges: Mapping[str, Edge]
    outputs: Mapping[str, Output]
    quantized: Mapping[str, str]


@dataclass(frozen=True)
class Real:
    """Some channels of a real-valued tensor: `steps` of what `dequantize` makes of the integers of `source`, moved.

    Attributes:
        source: the node; "" for the pixels.
        tap: the last torch.fx node before anything was moved.
        steps: functions by name, each of all values of a channel.
        sign: a channel's, -1 where a larger integer gives a smaller value; () for 1 everywhere.
        moves: what was done behind `tap`.
        moved: whether anything was, concatenation included.
        after: how many of the steps were done behind `tap`: they are nondecreasing, so they commute with a maximum.
        quantizer: whose codes `source` holds, or None.
        uniform: one scale for all channels.
        slack: by how much the value that torch computes can differ from this one.
    """

    source: str
    dequantize: ops.Function
    tap: str
    steps: tuple[tuple[str, ops.Function], ...] = ()
    sign: tuple[int, ...] = ()
    moves: tuple[ops.Move, ...] = ()
    moved: bool = False
    after: int = 0
    quantizer: Any = None
    uniform: bool = True
    slack: float = 0.0

    def then(self, step: tuple[str, ops.Function], tap: str) -> Real:
        """One function more."""
        more = replace(self, steps=(*self.steps, step))
        return replace(more, after=self.after + 1) if self.moved else replace(more, tap=tap)

    def by(self, move: ops.Move) -> Real:
        """One move more."""
        return replace(self, moves=(*self.moves, move), moved=True)


def moved_shape(move: ops.Move, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(move, Flatten):
        return (int(np.prod(shape)),)
    if len(shape) != 3:
        raise BadInput(f"{move.name}: expected a map (C, H, W), found shape {shape}")
    if isinstance(move, ops.Pad):
        top, bottom, left, right = move.pads
        return (shape[0], shape[1] + top + bottom, shape[2] + left + right)
    if isinstance(move, MaxPool):
        return (shape[0], *move.output_shape(*shape[1:]))
    return (shape[0], shape[1] * move.factor[0], shape[2] * move.factor[1])


def channels_of(module: nn.Module, size: tuple[int, ...]) -> int:
    """The channels of the pictures that the layer would take; 0 if it does not say."""
    if isinstance(module, QuantConv2d):
        return module.in_channels
    return module.in_features // int(np.prod(size)) if isinstance(module, QuantLinear) else 0


def carried(layer: QuantConv2d | QuantLinear) -> Callable[[Tensor], Tensor]:
    """`y = fp32(acc*s)` of the layer; the product of an integer below 2^24 and a 24-bit scale is exact in float64,
    so rounding it once gives the same whichever of the two carriers eval uses."""
    return lambda acc: layer.dequantize(acc.double())


def padded(conv: Conv, parts: tuple[Real, ...], quantizer: Any) -> tuple[Conv, tuple[Real, ...]]:
    """The convolution with the zeros that wait around all of what it takes as its own padding, and the rest of that."""
    waiting = [move for part in parts for move in part.moves[-1:] if isinstance(move, ops.Pad)]
    if len(waiting) < len(parts) or len({pad.pads for pad in waiting}) > 1:
        return conv, parts
    if is_offset(quantizer):
        raise BadInput(f"{conv.name}: the padding of pixels by zeros is not code 0 here: use its own padding")
    pads = tuple(own + more for own, more in zip(conv.pads, waiting[0].pads, strict=True))
    rest = tuple(replace(part, moves=part.moves[:-1]) for part in parts)
    return replace(conv, padding=pads), rest  # type: ignore[arg-type]


def is_offset(quantizer: Any) -> bool:
    """Whether the quantizer makes anything but code 0 of 0."""
    return bool(quantizer.codes(torch.zeros(1)).any())


def same_codes(one: Any, other: Any) -> bool:
    """Whether two quantizers make the same codes of everything."""
    return one is other or getattr(one, "key", None) == getattr(other, "key", 0)


def numbered(name: str, known: Container[str]) -> str:
    """The name, with a number where it is known already."""
    taken, number = name, 2
    while taken in known:
        taken, number = f"{name}#{number}", number + 1
    return taken
