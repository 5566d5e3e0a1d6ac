from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import INT4, UINT4, layers
from network.nets import random_network
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.network.graph import AvgPool, Flatten, Linear, MaxPool, Requantize
from systolith.network.reference import run
from systolith.topologies import Layer, Topology, convolution, following, gemm, of_network, with_bits
from systolith.topologies.topology import distinct


@given(layers())
def test_multiply_accumulates_are_those_of_a_naive_loop(drawn: tuple[Conv, np.ndarray]) -> None:
    conv, act = drawn
    count = 0
    high, wide = conv.output_shape(*act.shape[1:])
    for _ in range(high * wide):
        for oc in range(conv.out_channels):
            group = oc // (conv.out_channels // conv.groups)
            first = group * (conv.in_channels // conv.groups)
            count += len(range(first, first + conv.in_channels // conv.groups)) * conv.kernel[0] * conv.kernel[1]
    layer = Layer(conv, *act.shape[1:])
    assert (layer.macs, layer.output_shape, layer.name) == (count, (high, wide), "layer")
    assert not layer.is_shape


def test_a_convolution_by_shape_is_the_convolution_of_such_weights() -> None:
    layer = convolution("c", (6, 8), (9, 7), (3, 2), (2, 1), (1, 0, 2, 3), (2, 1), 2, act_bits=4, weight_bits=4)
    conv = Conv("c", np.zeros((8, 3, 3, 2), np.int8), UINT4, INT4, (2, 1), (1, 0, 2, 3), (2, 1), 2)
    for name in ("name", "act_format", "weight_format", "stride", "padding", "dilation", "groups", "in_channels"):
        assert getattr(layer.conv, name) == getattr(conv, name)
    assert (layer.conv.weight == conv.weight).all()
    assert (layer.height, layer.width, layer.count, layer.kind) == (9, 7, 1, "conv")
    assert layer.output_shape == conv.output_shape(9, 7)


def test_padding_that_is_not_given_keeps_the_map() -> None:
    for kernel in ((1, 1), (3, 3), (5, 7)):
        assert convolution("c", (1, 1), (9, 9), kernel).output_shape == (9, 9)
        assert convolution("c", (1, 1), (9, 9), kernel, dilation=(2, 3)).output_shape == (9, 9)


def test_weights_by_shape_take_no_memory() -> None:
    # 2^42 weights: as int8 they were 4 TiB.
    layer = gemm("huge", 3, 1 << 21, 1 << 21)
    assert layer.is_shape
    assert layer.macs == 3 << 42
    assert layer.conv.weight.strides == (0, 0, 0, 0)


def test_a_matrix_product_is_a_convolution_of_a_column() -> None:
    layer = gemm("g", m=5, k=3, n=2, act_bits=6, weight_bits=7, count=9)
    assert (layer.height, layer.width, layer.kind, layer.count) == (5, 1, "gemm", 9)
    assert (layer.conv.in_channels, layer.conv.out_channels, layer.conv.kernel) == (3, 2, (1, 1))
    assert (layer.output_shape, layer.macs) == ((5, 1), 5 * 3 * 2)
    # Of attention both operands are signed.
    assert (layer.conv.act_format, layer.conv.weight_format) == (IntFormat(6, True), IntFormat(7, True))
    assert Topology("t", (layer,), "here").macs == 9 * 30


@pytest.mark.parametrize("seed", range(5))
def test_a_network_of_integers(seed: int) -> None:
    network = random_network(seed)
    topology = of_network(network, "mine")
    assert [layer.name for layer in topology.layers] == list(network.layers)
    assert topology.name == "mine"
    results = run(network, np.zeros((1, *network.values["input"].shape), np.uint8), *network.layers)
    for layer in topology.layers:
        node = network.layers[layer.name]
        assert (layer.conv.weight.reshape(node.weight.shape) == node.weight).all()
        assert (layer.conv.act_format, layer.conv.weight_format) == (node.act_format, node.weight_format)
        assert layer.kind == ("gemm" if isinstance(node, Linear) else "conv")
        assert layer.conv.bias is None
        maps = results[layer.name].shape[1:]
        assert (layer.conv.out_channels, *layer.output_shape) == (*maps, *[1] * (3 - len(maps)))


def test_other_widths_for_what_is_a_shape_only() -> None:
    own = Layer(Conv.of(np.ones((2, 3, 1, 1), int), name="own"), 4, 4)
    before = Topology("t", (own, convolution("c", (1, 1), (3, 3)), gemm("g", 1, 1, 1)), "here", ("a note",))
    after = with_bits(before, 3, 5)
    assert after.layers[0] is own
    assert [str(x.conv.act_format) for x in after.layers] == ["uint4", "uint3", "int3"]
    assert [str(x.conv.weight_format) for x in after.layers] == ["int4", "int5", "int5"]
    assert (after.macs, after.notes, after.source) == (before.macs, ("a note",), "here")
    with pytest.raises(BadInput, match="1 to 63 bits, not 0"):
        with_bits(before, 0, 8)


@given(st.lists(st.sampled_from(["a", "a (2)", "b"]), max_size=9))
def test_names_are_made_distinct(names: list[str]) -> None:
    found = distinct(gemm(name, 1, 1, 1, count=i + 1) for i, name in enumerate(names))
    assert [layer.count for layer in found] == list(range(1, len(names) + 1))
    assert len({layer.name for layer in found}) == len(names)
    assert all(layer.name.startswith(name) for layer, name in zip(found, names, strict=True))
    assert {layer.name for layer in found} >= set(names)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gemm("g", 1, 0, 2), "g: expected sizes of at least 1, found m 1, k 0, n 2"),
        (lambda: gemm("g", 1, 1, 1, count=0), "g: expected a map and a count of at least 1, found 1x1, 0 times"),
        (lambda: gemm("g", 1, 1 << 40, 1 << 40), r"g: expected weights of fewer than 2\^63 elements"),
        (lambda: convolution("c", (4, 6), (8, 8), groups=3), "c: expected channels that 3 groups divide"),
        (lambda: convolution("c", (3, 4), (8, 8), groups=3), "c: expected groups that divide the 4 output channels"),
        (lambda: convolution("c", (3, 4), (2, 8), padding=(0, 0)), "c: a kernel of reach .* does not fit"),
        (lambda: convolution("c", (3, 4), (8, 8), stride=(0, 1)), "c: expected stride and dilation of 1"),
        (lambda: convolution("c", (3, 4), (0, 8)), "c: expected a map and a count of at least 1, found 0x8"),
        (lambda: replace(gemm("g", 1, 1, 1), kind="pool"), "g: expected a conv or gemm without a bias, found 'pool'"),
        (lambda: Topology("t", (), "here"), "t: expected at least one convolution or matrix product, found none"),
        (lambda: Topology("t", (gemm("g", 1, 1, 1),) * 2, "here"), "t: 'g' is the name of two layers"),
    ],
)
def test_what_is_no_layer_and_no_topology(make: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()  # type: ignore[operator]


@given(st.integers(0, 50))
def test_what_follows_is_what_a_search_through_the_network_finds(seed: int) -> None:
    network = random_network(seed)
    weighted = [step.name for step in network.steps if isinstance(step.node, Conv | Linear)]

    def reads_alone(name: str, before: str) -> bool:
        """Whether every path from `before` leads, through one node after another, to `name`."""
        ahead = [step for step in network.steps if before in step.inputs]
        if len(ahead) != 1 or len(ahead[0].inputs) != 1:
            return False
        step = ahead[0]
        if step.name == name:
            return True
        return isinstance(step.node, Requantize | MaxPool | AvgPool | Flatten) and reads_alone(name, step.name)

    pairs = pairwise(weighted)
    assert following(network) == {name for before, name in pairs if reads_alone(name, before)}
    assert [x.follows for x in of_network(network, "n").layers] == [name in following(network) for name in weighted]
