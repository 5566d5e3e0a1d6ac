from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import layers
from systolith.array import ArraySpec, Mapping
from systolith.designs.energy import read_table
from systolith.designs.live import live_products
from systolith.designs.point import Design, cost, evaluate
from systolith.designs.space import space_of
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.timing import observe
from systolith.timing.account import Depths
from systolith.timing.mapper import WAYS, choose
from systolith.timing.memory import Memory
from systolith.topologies import Layer, convolution, gemm


def work_of(conv: Conv, act: np.ndarray) -> Work:
    return Work.of(Layer(conv, *act.shape[-2:]))


@settings(max_examples=200, deadline=None)
@given(layers(max_channels=7, max_map=5), st.data())
def test_clocks_and_traffic_are_what_the_register_machine_counts(
    layer: tuple[Conv, np.ndarray], data: st.DataObject
) -> None:
    conv, act = layer
    number = st.integers(1, 5)
    spec = ArraySpec(data.draw(number), data.draw(number), psum_bits=24)
    memory = data.draw(st.sampled_from([Memory(), Memory(3, 20, 9, 2), Memory(weight=2), Memory(latency=4)]))
    name, batch = data.draw(st.sampled_from([*WAYS, "auto"])), data.draw(st.integers(1, 2))
    act = act if batch == 1 else np.stack([act, act[:, ::-1]])
    found = cost(work_of(conv, act), Design(spec, 24, name, "clocks", batch, memory))
    choice = choose(Mapping(conv, spec, *act.shape[-2:], batch), name, memory=memory)
    seen = observe(choice.mapping, act, choice.schedule, Depths())
    assert seen.holds
    assert (found.clocks, found.traffic) == (seen.clocks, seen.traffic)
    assert found.macs == conv.weight.size * choice.mapping.onijs


@given(layers(max_channels=6, max_map=5))
def test_accumulators_are_as_wide_as_the_weights_need(layer: tuple[Conv, np.ndarray]) -> None:
    conv, act = layer
    design = Design(ArraySpec(3, 2), None, "auto", "clocks", 1, Memory())
    mapping = Mapping(conv, ArraySpec(3, 2), *act.shape[-2:])
    assert cost(work_of(conv, act), design).spec.psum_bits == max(2, *mapping.least_psum_bits())


@given(layers(max_channels=5, max_map=5))
def test_live_products_are_those_of_a_loop(layer: tuple[Conv, np.ndarray]) -> None:
    conv, act = layer
    act = act * (np.arange(act.size).reshape(act.shape) % 3 > 0)
    (top, bottom, left, right), dense = conv.pads, conv.dense
    padded = np.pad(act, ((0, 0), (top, bottom), (left, right)))
    oh, ow = conv.output_shape(*act.shape[1:])
    live = 0
    for oc, ic, ki, kj in np.ndindex(*dense.shape):
        if dense[oc, ic, ki, kj]:
            rows = np.arange(oh) * conv.stride[0] + ki * conv.dilation[0]
            cols = np.arange(ow) * conv.stride[1] + kj * conv.dilation[1]
            live += int((padded[ic][np.ix_(rows, cols)] != 0).sum())
    assert live_products(conv, act) == (live, conv.weight.size * oh * ow)
    assert live_products(conv, np.stack([act, act]))[0] == 2 * live


def test_a_shape_alone_takes_the_designs_bits_and_a_layer_keeps_its_own() -> None:
    table = read_table()
    (point,) = space_of({"model": "m", "act_bits": 4, "weight_bits": 2, "simd": 2, "array": "4x4"})
    shape = Work.of(convolution("shape", (8, 4), (6, 6)))
    own = Work.of(Layer(Conv.of(np.ones((4, 8, 3, 3), int), act_bits=8, weight_bits=8), 6, 6))
    one, other = evaluate(point, [shape, own], table)
    # Codes of 2 bits, two in a lane of 4: 72 products of 3 * -2 at worst need 10 bits.
    assert (one["psum_bits"], one["layer"]) == (10, "shape")
    # 72 products of 255 * 1 need 16 bits; its lanes widen, and hold one code.
    assert (other["psum_bits"], other["act_capacity_bits"] % 32) == (16, 0)
    assert one["act_read_bits"] < other["act_read_bits"]


def test_products_of_matrices_have_signed_codes() -> None:
    work = Work.of(gemm("g", 4, 9, 2))
    # 9 products of -128 * -128 are 147,456, beyond 2^17 - 1 = 131,071.
    assert (work.conv(8, 8).act_format.signed, work.psum_bits(8, 8)) == (True, 19)


def test_a_matrix_by_a_vector_is_another_size_than_by_a_matrix() -> None:
    """SCALE-Sim's issue 51: M = 1 and M = 2 took the same clocks. Here one picture's position more takes one clock."""
    design = Design(ArraySpec(8, 8, 8, 8, 32), None, "useful", "clocks", 1, Memory())
    clocks = [cost(Work.of(gemm("g", m, 64, 8)), design).clocks for m in (1, 2, 3)]
    # 8 passes of 8 weights, a turnaround and m positions, 14 clocks for the last to leave.
    assert clocks == [8 * (8 + 1 + m) + 14 for m in (1, 2, 3)]


def test_depthwise_layers_take_their_own_passes() -> None:
    """SCALE-Sim's issues 38 and 24: a depthwise layer was one of a single filter."""
    design = Design(ArraySpec(8, 8), None, "packed", "clocks", 1, Memory())
    deep = cost(Work.of(convolution("d", (32, 32), (8, 8), groups=32)), design)
    assert deep.macs == 32 * 9 * 64
    assert deep.clocks > 4 * 64  # at least a pass of 64 positions for each of four oc_tiles


def test_repeated_layers_count_as_often_and_are_worked_out_once() -> None:
    (point,) = space_of({"model": "m"})
    work = Work.of(gemm("g", 5, 16, 16))
    once, thrice = evaluate(point, [work, replace(work, name="other", count=3)], read_table())
    of_the_core = ("psum_bits", "act_lane_bits", "weight_lane_bits")
    for name, value in once.items():
        if type(value) is int and name not in ("count", *of_the_core) and "capacity" not in name:
            assert thrice[name] == 3 * value
    assert thrice["act_capacity_bits"] == once["act_capacity_bits"]


def test_values_that_do_not_go_together_are_refused() -> None:
    (point,) = space_of({"model": "m", "simd": 3})
    with pytest.raises(BadInput, match="simd 3"):
        Design.of(point)
