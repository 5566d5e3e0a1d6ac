"""The integer network: the nodes wired together, checked on construction, pixel to class without a float."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, least_signed_bits
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
    Upsample,
)

Range = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Step:
    """A node and the names of the nodes whose results it takes."""

    node: Node
    inputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(frozen=True, eq=False)
class Value:
    """What a node produces.

    Attributes:
        shape: (C, H, W), (F,), or () for the class.
        is_codes: codes with `format`; otherwise accumulators.
        format: the least that holds it, or the quantizer's own.
        lo, hi: int64 (C,): what each channel can reach.
    """

    shape: tuple[int, ...]
    is_codes: bool
    format: IntFormat
    lo: NDArray[np.int64]
    hi: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """A network of integers: the first step is the `Input`, each step stands after those it takes.

    Attributes:
        outputs: the steps whose accumulators or codes the network answers with. Where none is named: what the `Argmax`
            takes, the logits of a classifier. An `Argmax` stands last, and a network has at most one.

    Raises:
        BadInput: naming the node, where shapes, formats or ranges do not fit together.

    Examples:
        >>> import systolith as sl
        >>> network = sl.lower("vgg16-w4a4-s8").network
        >>> isinstance(network, sl.Network), network.classes
        (True, 10)
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...] = ()
    values: dict[str, Value] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values: dict[str, Value] = {}
        for step in self.steps:
            if step.name in values:
                raise BadInput(f"{step.name}: the name of two nodes")
            missing = [name for name in step.inputs if name not in values]
            if missing:
                raise BadInput(f"{step.name}: takes {missing[0]!r}, which no node before it produces")
            values[step.name] = produced(step.node, [values[name] for name in step.inputs])
        kinds = [type(step.node) for step in self.steps]
        if not kinds or kinds[0] is not Input or Input in kinds[1:] or Argmax in kinds[:-1]:
            raise BadInput("an integer network begins with its one input, and an argmax can only end it")
        if not self.outputs:
            if kinds[-1] is not Argmax:
                raise BadInput("an integer network ends with an argmax, or names its outputs")
            object.__setattr__(self, "outputs", self.steps[-1].inputs)
        odd = [name for name in self.outputs if name not in values or not values[name].shape]
        if odd or len(set(self.outputs)) < len(self.outputs):
            raise BadInput(
                f"expected outputs that are nodes of the network, each once, found {', '.join(self.outputs)}"
            )
        used = {name for step in self.steps for name in step.inputs} | set(self.outputs)
        unused = [step.name for step in self.steps if step.name not in used and not isinstance(step.node, Argmax)]
        if unused:
            raise BadInput(f"{unused[0]}: nothing takes what it produces")
        object.__setattr__(self, "values", values)

    def __getitem__(self, name: str) -> Step:
        """The step of that name; `BadInput` naming the layers if there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise BadInput(f"no layer {name!r} in this network; its layers are {', '.join(self.layers)}")

    @property
    def input(self) -> Input:
        node = self.steps[0].node
        assert isinstance(node, Input)
        return node

    @property
    def layers(self) -> dict[str, Conv | Linear]:
        """What has weights, by name, in order."""
        return {s.name: s.node for s in self.steps if isinstance(s.node, (Conv, Linear))}

    @property
    def requantizes(self) -> dict[str, Requantize]:
        """The accumulator-to-code maps, by name, in order."""
        return {s.name: s.node for s in self.steps if isinstance(s.node, Requantize)}

    @property
    def classifies(self) -> bool:
        """Whether it ends with an `Argmax`."""
        return isinstance(self.steps[-1].node, Argmax)

    @property
    def results(self) -> tuple[str, ...]:
        """The names of all that leaves the network: its outputs, and the class of a classifier."""
        return (*self.outputs, *[self.steps[-1].name] * self.classifies)

    @property
    def classes(self) -> int:
        """Of a classifier; `BadInput` for another network."""
        if not self.classifies:
            raise BadInput(f"this network answers with {', '.join(self.outputs)}, not with a class")
        return self.values[self.steps[-1].inputs[0]].shape[0]

    def producer(self, name: str) -> str:
        """The node whose accumulators the `Requantize` called `name` takes."""
        return self[name].inputs[0]

    def table(self) -> list[tuple[str, ...]]:
        """Rows of (name, kind, takes, shape, format, detail): what `print` shows."""
        rows: list[tuple[str, ...]] = []
        for step in self.steps:
            value = self.values[step.name]
            shape = "x".join(map(str, value.shape)) or "1"
            what = "codes" if value.is_codes else "accumulators" if value.shape else "class"
            rows.append(
                (
                    step.name,
                    type(step.node).__name__,
                    ", ".join(step.inputs),
                    shape,
                    f"{value.format} {what}",
                    _detail(step.node),
                )
            )
        return rows

    def __str__(self) -> str:
        rows = [("name", "node", "takes", "shape", "result", ""), *self.table()]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join(
            "  ".join([*(c.ljust(w) for c, w in zip(r[:5], widths, strict=True)), r[5]]).rstrip() for r in rows
        )


def _detail(node: Node) -> str:
    if isinstance(node, Conv):
        kernel = f"{node.kernel[0]}x{node.kernel[1]} kernel"
        more = f", {node.groups} groups" * (node.groups > 1) + ", integer bias" * (node.bias is not None)
        return f"{node.weight_format} weights, {kernel}, stride {node.stride}, padding {node.padding}{more}"
    if isinstance(node, Linear):
        return f"{node.weight_format} weights, integer bias"
    if isinstance(node, Requantize):
        negative = int((node.thresholds.sign < 0).sum())
        folded = f" for {', '.join(node.folded)}" if node.folded else ""
        return f"{node.thresholds.values.shape[1]} thresholds a channel{folded}" + (
            f", {negative} falling" if negative else ""
        )
    if isinstance(node, Add) and node.gains != (1, 1):
        return f"gains {node.gains[0]} and {node.gains[1]}"
    if isinstance(node, Upsample):
        return f"{node.factor[0]}x{node.factor[1]} times"
    if isinstance(node, (MaxPool, AvgPool)):
        return f"{node.kernel[0]}x{node.kernel[1]} window, stride {node.stride}"
    return ""


def assembled(
    steps: Iterable[Mapping[str, Any]],
    node_of: Callable[[Mapping[str, Any], list[Value]], Node],
    outputs: Iterable[Any],
) -> IntegerNetwork:
    """The network of a file's steps, each with its `inputs`; `node_of` makes a step's node for what it takes."""
    made: list[Step] = []
    values: dict[str, Value] = {}
    for facts in steps:
        inputs = tuple(map(str, facts["inputs"]))
        taken = [values[name] for name in inputs]
        node = node_of(facts, taken)
        values[node.name] = produced(node, taken)
        made.append(Step(node, inputs))
    return IntegerNetwork(tuple(made), tuple(map(str, outputs)))


def produced(node: Node, inputs: list[Value]) -> Value:
    """What `node` produces from `inputs`; `BadInput` naming it where it cannot take them."""
    wanted = 0 if isinstance(node, Input) else 2 if isinstance(node, Add) else 1
    if len(inputs) != wanted and not (isinstance(node, Concat) and inputs):
        raise BadInput(f"{node.name}: expected {wanted} inputs, found {len(inputs)}")
    for value in inputs:
        if not value.shape or not (value.is_codes or isinstance(node, (Requantize, Argmax, Upsample, Flatten))):
            raise BadInput(f"{node.name}: expected codes to take")
    if isinstance(node, Input):
        lo, hi = node.table.min(1).astype(np.int64), node.table.max(1).astype(np.int64)
        return Value((node.table.shape[0], *node.size), True, node.format, lo, hi)
    first = inputs[0]
    if isinstance(node, (Conv, Linear)):
        return _product(node, first)
    if isinstance(node, Requantize):
        _require_range(node, first)
        low, high = node.code_range
        return Value(first.shape, True, node.format, np.full(len(first.lo), low), np.full(len(first.lo), high))
    if isinstance(node, Argmax):
        if len(first.shape) != 1:
            raise BadInput(f"{node.name}: expected one number a class, found shape {first.shape}")
        return Value((), False, _least(0, first.shape[0] - 1), np.zeros(1, np.int64), np.full(1, first.shape[0] - 1))
    if isinstance(node, Concat):
        return _joined(node, inputs)
    if isinstance(node, Add):
        other, (one, two) = inputs[1], node.gains
        if first.shape != other.shape or (node.gains == (1, 1) and first.format != other.format):
            raise BadInput(
                f"{node.name}: expected operands of one shape and format, "
                f"found {first.shape} {first.format}, {other.shape} {other.format}"
            )
        return _accumulators(first.shape, one * first.lo + two * other.lo, one * first.hi + two * other.hi)
    if len(first.shape) != 3:
        raise BadInput(f"{node.name}: expected a map (C, H, W), found shape {first.shape}")
    if isinstance(node, Flatten):
        area = first.shape[1] * first.shape[2]
        return replace(first, shape=(first.shape[0] * area,), lo=first.lo.repeat(area), hi=first.hi.repeat(area))
    if isinstance(node, Upsample):
        size = first.shape[1] * node.factor[0], first.shape[2] * node.factor[1]
        return replace(first, shape=(first.shape[0], *size))
    shape = (first.shape[0], *node.output_shape(*first.shape[1:]))
    if isinstance(node, MaxPool):
        return replace(first, shape=shape)
    area = node.kernel[0] * node.kernel[1]
    return _accumulators(shape, first.lo * area, first.hi * area)


def _joined(node: Concat, inputs: list[Value]) -> Value:
    first = inputs[0]
    for value in inputs:
        if (value.shape[1:], value.format) != (first.shape[1:], first.format):
            raise BadInput(
                f"{node.name}: expected operands of one map and format, "
                f"found {first.shape} {first.format}, {value.shape} {value.format}"
            )
    channels = sum(value.shape[0] for value in inputs)
    lo, hi = (np.concatenate([getattr(value, side) for value in inputs]) for side in ("lo", "hi"))
    return Value((channels, *first.shape[1:]), True, first.format, lo, hi)


def _product(node: Conv | Linear, act: Value) -> Value:
    if act.format != node.act_format:
        raise BadInput(f"{node.name}: expected {node.act_format} codes, found {act.format}")
    channels = node.in_channels if isinstance(node, Conv) else node.weight.shape[1]
    if act.shape[0] != channels or len(act.shape) != (3 if isinstance(node, Conv) else 1):
        raise BadInput(f"{node.name}: expected {channels} channels to take, found shape {act.shape}")
    lo, hi = node.bounds()
    if isinstance(node, Linear):
        return _accumulators((len(lo),), lo, hi)
    return _accumulators((len(lo), *node.output_shape(*act.shape[1:])), lo, hi)


def _accumulators(shape: tuple[int, ...], lo: NDArray[np.int64], hi: NDArray[np.int64]) -> Value:
    return Value(shape, False, _least(int(lo.min()), int(hi.max())), lo, hi)


def _least(lo: int, hi: int) -> IntFormat:
    return IntFormat(least_signed_bits(lo, hi), signed=True)


def _require_range(node: Requantize, acc: Value) -> None:
    t = node.thresholds
    if len(t.values) != len(acc.lo):
        raise BadInput(f"{node.name}: expected thresholds for {len(acc.lo)} channels, found {len(t.values)}")
    if not ((t.lo == acc.lo) & (t.hi == acc.hi)).all():
        raise BadInput(f"{node.name}: its thresholds were made for accumulators of another range")
