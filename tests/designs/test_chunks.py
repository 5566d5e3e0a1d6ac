from __future__ import annotations

from itertools import product

import naive_chunks as naive
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_chunks import on_core

from systolith.designs.chunks import cuts_of, sizes
from systolith.designs.hierarchy import LOOPS, ORDERS, refetched
from systolith.designs.overlap import Picks, overlapped
from systolith.timing.account import memory_words, traffic
from systolith.timing.mapper import Choice


@given(st.tuples(*[st.integers(1, 4)] * 3), st.sampled_from(ORDERS), st.integers(0, 2), st.data())
def test_fetches_are_those_of_three_loops(
    counts: tuple[int, int, int], order: tuple[int, ...], third: int, data: st.DataObject
) -> None:
    kinds = [(i, j) for i in range(4) for j in range(4)]
    size = {kind: data.draw(st.integers(1, 9)) for kind in kinds}
    depends = [axis for axis in range(3) if axis != third]
    there, bits, found = None, 0, 0
    for steps in product(*(range(counts[axis]) for axis in order)):
        at = dict(zip(order, steps, strict=True))
        chunk = at[depends[0]], at[depends[1]]
        if chunk != there:
            there, bits, found = chunk, bits + size[chunk], found + 1
    once = sum(size[i, j] for i in range(counts[depends[0]]) for j in range(counts[depends[1]]))
    arrays = tuple(np.array([count]) for count in counts)
    often = int(refetched((arrays[0], arrays[1], arrays[2]), order, third)[0])
    assert often * once == bits
    # As the product of the counts from the outermost loop down to the innermost one that matters.
    matter = [n for n, axis in enumerate(order) if axis != third and counts[axis] > 1]
    assert found == np.prod([counts[axis] for axis in order[: matter[-1] + 1]] if matter else 1)


def test_sizes_are_the_least_for_each_number_of_chunks() -> None:
    for count in range(1, 200):
        least = {}
        for size in range(count, 0, -1):
            least[-(-count // size)] = size
        assert sizes(count) == sorted(least.values(), reverse=True)


@settings(max_examples=150)
@given(on_core(), st.data())
def test_bits_and_clocks_of_a_cut_are_those_of_a_walk_over_its_rows_and_channels(
    choice: Choice, data: st.DataObject
) -> None:
    found = cuts_of(choice.mapping, choice.schedule)
    counts = [len(axis) for axis in found.axes]
    ways = [data.draw(st.integers(0, count - 1)) for count in counts]
    every = naive.cuts(choice, sizes)
    assert len(every) == np.prod(counts)
    cut = every[int(np.ravel_multi_index(ways, counts))]
    chunks, grouped = naive.chunks(choice, cut), found.grouped
    order = data.draw(st.sampled_from(ORDERS))
    held = {name: data.draw(st.booleans()) for name in ("act", "weight", "out")}
    for chunk in chunks:  # a chunk as a layer stores the rows that the walk has found
        words = memory_words(*chunk.how)["act"]  # type: ignore[arg-type]
        assert words * found.act_bits == chunk.act
    moved = naive.walk(chunks, [LOOPS[axis] for axis in order], held, grouped)

    def at(values: np.ndarray) -> int:
        return int(np.broadcast_to(values, counts)[tuple(ways)])

    assert at(found.clocks()) == sum(chunk.layer.clocks for chunk in chunks)
    asked = naive.sizes_of(chunks, grouped)
    assert at(found.whole()) * found.act_bits == asked.act[1]
    assert at(found.most("act")) * found.act_bits == asked.act[0]
    assert at(found.most("weight")) * found.weight_bits == asked.weight[0]
    assert at(found.total("weight", without=2)) * found.weight_bits == asked.weight[1]
    if not found.stationary:
        assert at(found.most("out")) * found.psum_bits == asked.out[0]
        assert at(found.most("one")) * found.psum_bits == asked.one
    ports = [traffic(*chunk.how) for chunk in chunks]  # type: ignore[arg-type]
    assert at(found.total("rounds", "act_reads")) == sum(port.act.reads for port in ports)
    assert at(found.total("rounds", "weight_reads")) == sum(port.weight.reads for port in ports)
    assert at(found.total("rounds", "sums")) == sum(port.psum.reads for port in ports)
    assert at(found.total("out", without=1)) * found.psum_bits == moved.out
    one = [np.array([way]) for way in ways]
    picks = Picks((one[0], one[1], one[2]), {name: np.array([value]) for name, value in held.items()})
    for bandwidth in (1, 37, 1000, 1 << 40):
        if bandwidth == 1 << 40:
            # A clock at least for whatever moves; beside a chunk it is hidden.
            assert naive.clocks(moved, None) <= naive.clocks(moved, bandwidth) <= naive.clocks(moved, None) + 2
        assert overlapped(found, picks, order, bandwidth).tolist() == [naive.clocks(moved, bandwidth)]
