from __future__ import annotations

from dataclasses import astuple, replace
from itertools import product
from unittest.mock import patch

import naive_chunks as naive
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive_chunks import memories, of_bits, on_core

from conftest import layers
from systolith.array import ArraySpec, Mapping
from systolith.designs import hierarchy
from systolith.designs.chunks import sizes
from systolith.designs.energy import read_table
from systolith.designs.hierarchy import KIB, Hierarchy, TooSmall, plan
from systolith.designs.point import Design, cost, evaluate
from systolith.designs.space import space_of
from systolith.designs.work import Work
from systolith.network import Conv
from systolith.timing.account import memory_words, traffic
from systolith.timing.mapper import WAYS, Choice, choose
from systolith.timing.memory import Memory
from systolith.topologies import Layer, built_in, convolution, gemm

# --- the best cut -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(on_core(largest=6), st.sampled_from([None, 3, 40]), st.data())
def test_the_cut_is_the_best_of_all(choice: Choice, dram: int | None, data: st.DataObject) -> None:
    room = data.draw(memories(choice))
    every = naive.cuts(choice, sizes)
    assume(len(every) <= 60)
    right = None
    for order, cut in product(naive.ORDERS, every):
        moved = naive.plan(choice, cut, order, room)
        if moved is not None:
            one = (
                (cut != naive.whole(choice), moved.bits, naive.clocks(moved, dram)),
                moved,
                cut,
                order,
            )
            right = min(right or one, one, key=lambda found: found[0])  # the first of equals
    try:
        found = plan(choice, of_bits(*room, dram))
    except TooSmall:
        assert right is None
        return
    assert right is not None
    (_, bits, clocks), moved, cut, order = right
    assert (found.off_chip.bits, found.clocks) == (bits, clocks)
    assert (found.counts, found.order) == naive.said(choice, cut, order)
    assert found.computing == sum(step.clocks for step in moved.steps)
    written = moved.psum_written, moved.out
    assert astuple(found.off_chip) == (moved.act, moved.weight, moved.psum_read, *written)
    # Whatever comes is written into the memories, and what leaves unfinished is read from them.
    ports = found.traffic
    assert (ports.act.writes * ports.act.bits, ports.weight.writes * ports.weight.bits) == (moved.act, moved.weight)


@settings(max_examples=40)
@given(on_core(ungrouped=True, largest=6), st.data())
def test_no_other_sizes_move_less(choice: Choice, data: st.DataObject) -> None:
    room = data.draw(memories(choice))
    every = naive.cuts(choice, lambda count: range(1, count + 1))
    assume(len(every) <= 150)
    found = [naive.plan(choice, cut, order, room) for order in naive.ORDERS for cut in every]
    bits = [moved.bits for moved in found if moved is not None]
    try:
        assert plan(choice, of_bits(*room)).off_chip.bits == min(bits)
    except TooSmall:
        assert not bits


@settings(max_examples=40)
@given(
    st.sampled_from(built_in("vgg16").layers), st.sampled_from(list(WAYS)), st.sampled_from([16, 64, 1000]), st.data()
)
def test_the_fewest_clocks_are_found_however_many_are_worked_out_at_once(
    layer: Layer, name: str, dram: int, data: st.DataObject
) -> None:
    mapping = Mapping(Work.of(layer).conv(4, 4), ArraySpec(16, 8, psum_bits=24), layer.height, layer.width)
    kib = st.sampled_from([4, 16, 64, None])
    some = Hierarchy(data.draw(kib), data.draw(kib), data.draw(kib), dram)
    found = []
    for block in (1, 7, 1 << 20):
        with patch.object(hierarchy, "_BLOCK", block):
            try:
                found.append(plan(choose(mapping, name), some))
            except TooSmall:
                return
    assert found[0] == found[1] == found[2]


# --- what a larger memory gives -----------------------------------------------------------------------------------


@settings(max_examples=200)
@given(on_core(ungrouped=True), st.data())
def test_traffic_never_rises_with_a_memory(choice: Choice, data: st.DataObject) -> None:
    """SCALE-Sim's issue 27: more memory, more traffic."""
    small = data.draw(memories(choice))
    large = [data.draw(st.integers(bits, 2 * bits)) for bits in small]
    try:
        before = plan(choice, of_bits(*small)).off_chip
    except TooSmall:
        return
    after = plan(choice, of_bits(*large)).off_chip
    assert after.bits <= before.bits
    assert after.out_written == before.out_written


def test_traffic_of_vgg16_falls_with_its_memories() -> None:
    works = [Work.of(layer) for layer in built_in("vgg16").layers]
    values = [4, 8, 16, 32, 64, 128, 256, 512]
    for few, axes in (
        (0, {"act_kib": values}),  # where all else fits, each is needed once however small its memory is
        (0, {"weight_kib": values}),
        (4, {"weight_kib": 16, "psum_kib": 4, "act_kib": values}),
        (4, {"act_kib": 16, "psum_kib": 4, "weight_kib": values}),
        (2, {"act_kib": 16, "weight_kib": 16, "psum_kib": values}),
    ):
        space = space_of({"model": "vgg16", "schedule": "useful", **axes})
        rows = [evaluate(point, works, read_table()) for point in space]
        bits = [sum(row["dram_read_bits"] + row["dram_written_bits"] for row in found) for found in rows]
        assert bits == sorted(bits, reverse=True)
        assert len(set(bits)) > few


# --- what a layer that fits costs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["vgg16", "resnet18"])
def test_without_limits_each_layer_is_whole(model: str) -> None:
    works = [Work.of(layer) for layer in built_in(model).layers]
    table = read_table()
    for axes in ({}, {"array": "16x8", "schedule": "double", "batch": 3}, {"act_bandwidth": 17, "latency": 3}):
        (point,) = space_of({"model": model, **axes})
        (large,) = space_of({"model": model, "act_kib": 1 << 20, "weight_kib": 1 << 20, "psum_kib": 1 << 20, **axes})
        (slow,) = space_of({"model": model, "dram_bandwidth": 64, **axes})
        design = Design.of(point)
        costs = [evaluate(one, works, table) for one in (point, large, slow)]
        for work, row, same, late in zip(works, *costs, strict=True):
            conv = work.conv(4, 4)
            spec = replace(design.array, psum_bits=work.psum_bits(4, 4))
            mapping = Mapping(conv, spec, *work.size, design.batch)
            choice = choose(mapping, design.schedule, memory=design.memory)
            moved, words = traffic(choice.mapping, choice.schedule), memory_words(choice.mapping, choice.schedule)
            assert row["clocks"] == work.count * choice.clocks
            assert (row["chunks"], row["loop_order"], row["stall_clocks"]) == ("1x1x1", "", 0)
            for name in ("act", "weight", "psum"):
                port = getattr(moved, name)
                assert row[f"{name}_read_bits"] == work.count * port.reads * port.bits
                assert row[f"{name}_written_bits"] == work.count * port.writes * port.bits
                assert row[f"{name}_capacity_bits"] == words[name] * port.bits
                assert same[f"{name}_capacity_bits"] == KIB << 20
            ins = words["act"] * moved.act.bits + words["weight"] * moved.weight.bits
            outs = moved.out.writes * moved.out.bits
            assert (row["dram_read_bits"], row["dram_written_bits"]) == (work.count * ins, work.count * outs)
            assert row["out_written_bits"] == work.count * outs
            low = (ins + outs) * table.dram[0] / table.dram_bits
            assert row["dram_energy_low_pj"] == work.count * low
            differ = {name for name in row if row[name] != same[name]}
            assert differ <= {"act_capacity_bits", "weight_capacity_bits", "psum_capacity_bits", "memory_energy_pj"}
            if late["schedule"] == row["schedule"]:
                ends = work.count * (-(-ins // 64) + -(-outs // 64))
                assert late["clocks"] == row["clocks"] + ends
                assert late["stall_clocks"] == ends


# --- an example, written out --------------------------------------------------------------------------------------


def test_an_example_written_out() -> None:
    """16 channels of 6x6, 3x3, to 16 channels of 4x4, on 4x4: 4 oc_tiles, 4 ic_tiles, 9 kernel positions."""
    work = Work.of(convolution("c", (16, 16), (6, 6), padding=(0, 0)))
    spec = ArraySpec(4, 4, 8, 8, 24)
    mapping = Mapping(work.conv(8, 8), spec, 6, 6)
    useful = choose(mapping, "useful")
    # Words of 4 codes of 8 bits: 36 a map and ic_tile; 4 a pass, 9 passes an oc_tile and ic_tile.
    act, weight = 4 * 36 * 32, 4 * 4 * 9 * 4 * 32
    # A psum memory of one oc_tile: 16 words of 4 accumulators of 24 bits.
    psum = 16 * 96
    assert plan(useful, of_bits(act, weight, psum)).counts == (1, 1, 1)

    # Half of the weights: two chunks of them, each a quarter of the weights, would be in the memory at once; so four
    # chunks along output channels. Maps stay, so everything comes once.
    found = plan(useful, of_bits(act, weight // 2, psum))
    assert (found.counts, found.order) == ((4, 1, 1), "oc")
    assert (found.off_chip.act_read, found.off_chip.weight_read) == (act, weight)
    # A chunk: 36 passes of 4 weights, a turnaround and 16 positions, 6 clocks for the last to leave.
    assert found.computing == 4 * (36 * 21 + 6) == found.clocks

    # Half of the maps too. A row of outputs needs 3 of the 6 rows, two chunks of which are not half. Input channels in
    # 4 chunks: one beside the next is half. Outside of the output channels psums would leave, and two oc_tiles' do not
    # fit; so inside, and the maps come 4 times.
    found = plan(useful, of_bits(act // 2, weight // 2, psum))
    assert (found.counts, found.order) == ((4, 4, 1), "oc, ic")
    assert found.off_chip.bits == weight + 4 * act + 4 * psum

    # Psums of two oc_tiles fit: output channels in 2 chunks, and the maps come twice.
    found = plan(useful, of_bits(act // 2, weight // 2, 2 * psum))
    assert (found.counts, found.order) == ((2, 4, 1), "oc, ic")
    assert found.off_chip.bits == weight + 2 * act + 4 * psum

    # Those of all: input channels outside, and everything comes once.
    found = plan(useful, of_bits(act // 2, weight // 2, 4 * psum))
    assert (found.counts, found.order) == ((1, 4, 1), "ic")
    assert found.off_chip.bits == weight + act + 4 * psum
    assert found.computing == 4 * (36 * 21 + 6)

    # At 64 bits a clock 2 x 4 chunks take less: while each of 18 passes is computed, an eighth of the weights comes in
    # 36 clocks, every other time with a quarter of the maps in 18 more. The first come before; half of the outputs
    # leaves in 48 clocks behind.
    found = plan(useful, of_bits(act // 2, weight // 2, 4 * psum, 64))
    assert (found.counts, found.order) == ((2, 4, 1), "ic, oc")
    assert found.computing == 8 * (18 * 21 + 6)
    assert found.clocks == (36 + 18) + found.computing + 48
    # A psum memory without a limit is as large as that asks for.
    assert plan(useful, replace(of_bits(act // 2, weight // 2, 1), psum=None)).capacity == (
        act / 2,
        weight / 2,
        4 * psum,
    )


def test_whole_input_channels_need_room_for_one_oc_tile_alone() -> None:
    mapping = Mapping(Work.of(convolution("c", (16, 16), (6, 6), (1, 1))).conv(8, 8), ArraySpec(4, 4, 8, 8, 24), 6, 6)
    # Two chunks of a row of 4 oc_tiles each, one after another in 6 words of the memory, with weights that stay.
    found = plan(choose(mapping, "useful"), of_bits(2 * 4 * 6 * 32, 4 * 4 * 4 * 32, 6 * 96))
    assert (found.counts, found.order) == ((1, 1, 6), "rows")
    assert found.computing == 6 * (4 * 4 * (4 + 1 + 6) + 6)


def test_psums_that_leave_come_back() -> None:
    """A vector by a matrix whose sums do not fit: 16 ic_tiles in 3 chunks, outside of 8 oc_tiles."""
    mapping = Mapping(Work.of(gemm("g", 1, 64, 16)).conv(8, 8), ArraySpec(4, 2, 8, 8, 20), 1, 1)
    act, weight, sums = 16 * 32, 8 * 16 * 2 * 32, 8 * 40
    # Two chunks of 8 ic_tiles would be all of the activations; a word of sums and the next one are 80 bits.
    found = plan(choose(mapping, "useful"), of_bits(act - 1, weight, 80))
    assert (found.counts, found.order) == ((8, 3, 1), "ic, oc")
    assert astuple(found.off_chip) == (act, weight, 2 * sums, 2 * sums, sums)
    # 16 * 8 passes read and write a word each; besides, 2 * 8 words leave and come back.
    assert (found.traffic.psum.reads, found.traffic.psum.writes) == (128 + 16, 128 + 16)
    # Staying, 2 oc_tiles' sums would fit: the activations would come 4 times.
    assert 4 * sums < 3 * act
    found = plan(choose(mapping, "useful"), of_bits(act - 1, weight, 79))
    assert (found.counts, found.order) == ((8, 3, 1), "oc, ic")
    assert astuple(found.off_chip) == (8 * act, weight, 0, 0, sums)


# --- what does not fit --------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named() -> None:
    work = Work.of(convolution("conv4", (64, 64), (224, 224)))
    design = Design(ArraySpec(8, 8), None, "useful", "clocks", 1, Memory(), Hierarchy(act=1))
    with pytest.raises(TooSmall) as error:
        cost(work, design)
    # 3 rows of 226 words of 8 codes of 4 bits, twice.
    assert 2 * 3 * 226 * 32 / KIB == 5.296875
    assert str(error.value) == (
        "conv4: its smallest chunk needs 5.30 KiB of the activation memory, two of them at once, "
        "and there are 1 (act_kib)"
    )
    (point,) = space_of({"model": "m", "weight_kib": 1, "array": "64x64"})
    (row,) = evaluate(point, [work], read_table())
    assert (row["layer"], row["fits"]) == ("conv4", False)
    assert row["misfit"].startswith("conv4: its smallest chunk needs")
    assert row["misfit"].endswith("weight memory, two of them at once, and there are 1 (weight_kib)")
    wide = replace(design, hierarchy=Hierarchy(psum=1), array=ArraySpec(8, 64))
    with pytest.raises(TooSmall, match=r"KiB of the psum memory, and there are 1 \(psum_kib\)"):
        cost(work, wide)


# --- schedules ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(layers(max_channels=7, max_map=5), st.sampled_from(["clocks", "traffic"]), st.data())
def test_auto_is_the_best_schedule_that_fits(layer: tuple[Conv, np.ndarray], least: str, data: st.DataObject) -> None:
    conv, act = layer
    work = Work("l", (conv.in_channels, conv.out_channels), (act.shape[1], act.shape[2]), conv.kernel, conv.stride)
    work = replace(work, dilation=conv.dilation, pads=conv.pads, groups=conv.groups)
    number = st.integers(1, 4)
    spec = ArraySpec(data.draw(number), data.draw(number))
    auto = Design(spec, None, "auto", least, 1, data.draw(st.sampled_from([Memory(), Memory(3, 5, 9, 40)])))
    bits = st.integers(1, 4000)
    dram = data.draw(st.sampled_from([None, 7, 100]))
    auto = replace(auto, hierarchy=of_bits(data.draw(bits), data.draw(bits), data.draw(bits), dram))
    costs = []
    mapping = Mapping(work.conv(4, 4), spec, *work.size)
    for name in WAYS:
        if name.startswith("packed") and replace(mapping, packed=True).passes >= mapping.passes:
            continue
        try:
            one = cost(work, replace(auto, schedule=name))
            costs.append(one.clocks if least == "clocks" else one.traffic.bits_moved)
        except TooSmall:
            pass
    try:
        found = cost(work, auto)
    except TooSmall:
        assert not costs
        return
    assert (found.clocks if least == "clocks" else found.traffic.bits_moved) == min(costs)


def test_depthwise_layers_take_their_maps_with_them() -> None:
    work = Work.of(convolution("d", (32, 32), (8, 8), groups=32))
    mapping = Mapping(work.conv(8, 8), ArraySpec(8, 8, 8, 8), 8, 8)
    choice = choose(mapping, "useful")
    found = plan(choice, Hierarchy(act=2, weight=2))
    # 4 chunks of 8 channels: 100 words of 64 bits each, two of which are 1.6 KiB; each comes once.
    assert (found.counts, found.order) == ((4, 1, 1), "oc")
    assert found.off_chip.act_read == 4 * 100 * 64
