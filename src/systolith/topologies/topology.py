"""What a network is to a design-space exploration: convolutions and matrix products by shape and format.

Nothing here looks at a weight: those that are not given are zeros, one element broadcast to the layer's shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from systolith.formats import BadInput, IntFormat
from systolith.network import Conv, IntegerNetwork
from systolith.network.graph import AvgPool, Flatten, Linear, MaxPool, Pair, Requantize, Sides

KINDS = ("conv", "gemm")
BITS = 8
"""Of activations and weights, where nobody says."""
_ON_THE_WAY = (Requantize, MaxPool, AvgPool, Flatten)
"""What can be done with outputs as they leave."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution or matrix product.

    Attributes:
        conv: without a bias. Of a layer by shape alone the weights are zeros that take no memory (`is_shape`).
        height, width: of the input map, unpadded.
        count: how often the network has it: heads of attention, pictures, repeated blocks.
        kind: "conv", or "gemm" for a matrix product as a 1x1 convolution.
        follows: what it reads is what the layer before it leaves, through activations, pooling and requantization
            alone, and nothing else reads that; so it need not leave the chip.

    Raises:
        BadInput: a kernel that does not fit the padded map, a bias, a count or a map smaller than 1.
    """

    conv: Conv
    height: int
    width: int
    count: int = 1
    kind: str = "conv"
    follows: bool = False

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.count) < 1:
            raise BadInput(
                f"{self.name}: expected a map and a count of at least 1, "
                f"found {self.height}x{self.width}, {self.count} times"
            )
        if self.kind not in KINDS or self.conv.bias is not None:
            raise BadInput(f"{self.name}: expected a conv or gemm without a bias, found {self.kind!r}")
        self.conv.output_shape(self.height, self.width)

    @property
    def name(self) -> str:
        return self.conv.name

    @property
    def output_shape(self) -> Pair:
        """(OH, OW)"""
        return self.conv.output_shape(self.height, self.width)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one: OH * OW * O * (C/groups) * KH * KW."""
        high, wide = self.output_shape
        return high * wide * self.conv.weight.size

    @property
    def is_shape(self) -> bool:
        """Whether the weights are only a shape: one element, repeated along every axis."""
        return not any(self.conv.weight.strides)


@dataclass(frozen=True, eq=False)
class Topology:
    """A network's layers with products, in order.

    Attributes:
        name: for people.
        layers: at least one; no two of one name.
        source: "built in", a file's name, or where else it came from.
        notes: what was left out, and what to know of the source; a sentence each.
    """

    name: str
    layers: tuple[Layer, ...]
    source: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise BadInput(f"{self.name}: expected at least one convolution or matrix product, found none")
        times = Counter(layer.name for layer in self.layers)
        twice = next((name for name, count in times.items() if count > 1), None)
        if twice is not None:
            raise BadInput(f"{self.name}: {twice!r} is the name of two layers")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, each layer as often as it is there."""
        return sum(layer.count * layer.macs for layer in self.layers)


def convolution(
    name: str,
    channels: Pair,
    size: Pair,
    kernel: Pair = (3, 3),
    stride: Pair = (1, 1),
    padding: Pair | Sides | None = None,
    dilation: Pair = (1, 1),
    groups: int = 1,
    act_bits: int = BITS,
    weight_bits: int = BITS,
    count: int = 1,
    follows: bool = False,
) -> Layer:
    """A convolution by its shape; activations are unsigned, weights signed.

    Args:
        name: of the layer.
        channels: (in, out), of all groups together.
        size: (H, W) of the input map, unpadded.
        kernel, stride, dilation: (vertical, horizontal).
        padding: (vertical, horizontal), or top, bottom, left, right. None: half of the dilated kernel, so that an odd
            one keeps the map's size at stride 1.
        groups: of channels; `channels[0]` of them for a depthwise convolution.
        act_bits, weight_bits: of a code.
        count: how often the network has it.
        follows: as of `Layer`.

    Raises:
        BadInput: numbers that are no convolution.

    Examples:
        >>> from systolith.topologies import convolution
        >>> layer = convolution("stem", (3, 64), (224, 224), (7, 7), (2, 2))
        >>> layer.output_shape, layer.macs == 112 * 112 * 64 * 3 * 7 * 7
        ((112, 112), True)
    """
    if padding is None:
        padding = dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2
    if min(*channels, *kernel, groups) < 1 or channels[0] % groups:
        raise BadInput(
            f"{name}: expected channels that {groups} groups divide and a kernel, of at least 1, "
            f"found {channels[0]} channels in, {channels[1]} out, kernel {kernel}"
        )
    shape = channels[1], channels[0] // groups, *kernel
    formats = IntFormat(act_bits, False), IntFormat(weight_bits, True)
    conv = Conv(name, _zeros(name, shape), *formats, stride, padding, dilation, groups)
    return Layer(conv, *size, count, follows=follows)


def gemm(
    name: str,
    m: int,
    k: int,
    n: int,
    act_bits: int = BITS,
    weight_bits: int = BITS,
    count: int = 1,
    follows: bool = False,
) -> Layer:
    """A matrix product by its shape, C[m, n] = A[m, k] @ B[k, n]; both operands are signed.

    An array sees a 1x1 convolution of k to n channels on a map of m x 1: A streams, B is the weights. A matrix times a
    vector has m = 1.

    Args:
        name: of the layer.
        m, k, n: rows of A, columns of A, columns of B.
        act_bits, weight_bits: of a code of A and of B.
        count: how often the network has it.
        follows: as of `Layer`.

    Raises:
        BadInput: a size or a count smaller than 1.

    Examples:
        >>> from systolith.topologies import gemm
        >>> gemm("scores", m=128, k=64, n=128, count=12).macs == 128 * 64 * 128
        True
    """
    if min(m, k, n) < 1:
        raise BadInput(f"{name}: expected sizes of at least 1, found m {m}, k {k}, n {n}")
    formats = IntFormat(act_bits, True), IntFormat(weight_bits, True)
    return Layer(Conv(name, _zeros(name, (n, k, 1, 1)), *formats), m, 1, count, "gemm", follows)


def _zeros(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """int8 weights of a shape alone: one zero, repeated."""
    try:
        return np.broadcast_to(np.int8(0), shape)
    except ValueError:
        raise BadInput(f"{name}: expected weights of fewer than 2^63 elements, found {shape}") from None


def of_network(network: IntegerNetwork, name: str) -> Topology:
    """Every layer with weights of one of our networks; weights and formats stay.

    Args:
        network: of integers.
        name: for people.
    """
    layers, follow = [], following(network)
    for step in network.steps:
        follows = step.name in follow
        if isinstance(step.node, Linear):
            layers.append(Layer(step.node.as_conv(), 1, 1, kind="gemm", follows=follows))
        elif isinstance(step.node, Conv):
            _, height, width = network.values[step.inputs[0]].shape
            layers.append(Layer(step.node.product(), height, width, follows=follows))
    return Topology(name, tuple(layers), "a network of integers, with its weights")


def following(network: IntegerNetwork) -> frozenset[str]:
    """The layers that read what the one with weights before them leaves, and alone do (`Layer.follows`)."""
    readers = Counter(name for step in network.steps for name in step.inputs)
    before, found = "", set()
    for step in network.steps:
        if isinstance(step.node, (Conv, Linear)):
            (name,) = step.inputs
            while readers[name] == 1 and isinstance(network[name].node, _ON_THE_WAY):
                (name,) = network[name].inputs
            if name == before and readers[name] == 1:
                found.add(step.name)
            before = step.name
    return frozenset(found)


def with_bits(topology: Topology, act_bits: int, weight_bits: int) -> Topology:
    """The same with codes of other widths, where layers are shapes; layers with weights keep their formats.

    Raises:
        BadInput: a width that no format has.
    """
    layers = tuple(_with_bits(layer, act_bits, weight_bits) if layer.is_shape else layer for layer in topology.layers)
    return replace(topology, layers=layers)


def _with_bits(layer: Layer, act_bits: int, weight_bits: int) -> Layer:
    conv = layer.conv
    act, weight = IntFormat(act_bits, conv.act_format.signed), IntFormat(weight_bits, conv.weight_format.signed)
    return replace(layer, conv=replace(conv, act_format=act, weight_format=weight))


def distinct(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The same layers, those whose name an earlier one has renamed: "name", "name (2)", "name (3)"."""
    found: dict[str, Layer] = {}
    for layer in layers:
        name, number = layer.name, 2
        while name in found:
            name, number = f"{layer.name} ({number})", number + 1
        found[name] = layer if name == layer.name else replace(layer, conv=replace(layer.conv, name=name))
    return tuple(found.values())
