"""Which schedule is chosen, by how much, and what slow memories cost; golden numbers with their arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import INT4, UINT4
from systolith.array import ArraySpec, Mapping
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.timing import WAYS, Schedule, choose, observe
from systolith.timing import schedule as schedules
from systolith.timing.account import queues, split
from systolith.timing.memory import Memory, Port

# The convolutions of the squeezed VGG16: in, out, map.
SQUEEZED = [
    *[(3, 64, 32), (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8), (256, 256, 8)],
    *[(256, 8, 4), (8, 8, 4), (8, 512, 4), (512, 512, 2), (512, 512, 2), (512, 512, 2)],
]


def layer(channels: int, filters: int, size: int, batch: int = 1) -> Mapping:
    conv = Conv("layer", np.ones((filters, channels, 3, 3), np.int8), UINT4, INT4, padding=(1, 1))
    return Mapping(conv, ArraySpec(psum_bits=24), size, size, batch)


def test_each_schedule_of_the_squeezed_layer_by_hand() -> None:
    """9 passes or 72 steps, 16 positions; 14 clocks across the array."""
    clocks = {name: choose(layer(8, 8, 4), name).clocks for name in WAYS}
    assert clocks == {
        "useful": 9 * (8 + 1 + 16) + 14,
        "whole": 9 * (8 + 1 + 36) + 14,
        "double": 8 + 8 * 16 + 16 + 14,  # the first weights; then max(8, 16) a pass
        "packed": 9 * (8 + 1 + 16) + 14,  # 72 products are 9 tiles, too
        "packed-double": 8 + 8 * 16 + 16 + 14,
        "os": 72 + 72 + 14 + 7,  # two folds of 8 positions; 7 more sums leave
    }
    best = choose(layer(8, 8, 4))
    assert (best.name, best.clocks, best.others[0]) == ("os", 165, ("double", 166))
    # What is packed and takes as many passes is no schedule of its own.
    assert [name for name, _ in best.others] == ["double", "useful", "whole"]


def test_vgg16_at_batch_one_and_four() -> None:
    for batch, total, most in ((1, 3_875_736, 3_950_000), (4, 13_732_689, 4 * 3_500_000)):
        clocks = sum(choose(layer(*sizes, batch)).clocks for sizes in SQUEEZED)
        assert clocks == total <= most
    # Of the 2x2 maps: 8 rows of weights take longer than 4 positions.
    assert choose(layer(512, 512, 2)).clocks == 8 + (36_864 - 1) * 8 + 4 + 14
    first = {name: choose(layer(3, 64, 32), name).clocks for name in WAYS}
    assert first["useful"] == 72 * (8 + 1 + 1024) + 14
    assert first["packed"] == 32 * (8 + 1 + 1024) + 14  # 27 products: 4 tiles, of 8 oc_tiles
    assert first["os"] == 1024 * 27 + 14 + 7


def test_the_least_traffic_is_another_schedule() -> None:
    one, other = choose(layer(64, 64, 32)), choose(layer(64, 64, 32), least="traffic")
    assert (one.name, other.name) == ("os", "os")
    assert other.bits_moved == min(choose(layer(64, 64, 32), name).bits_moved for name in WAYS)
    small = choose(layer(512, 512, 2), least="traffic")
    assert small.name != choose(layer(512, 512, 2)).name == "double"
    assert small.bits_moved < choose(layer(512, 512, 2)).bits_moved


@pytest.mark.parametrize("name", ["useful", "double", "os", "packed"])
@pytest.mark.parametrize("constant", ["LEAD", "TURNAROUND", "HOP", "OFIFO", "UPDATE", "SFP", "LEAST"])
def test_each_constant_is_pinned_in_each_schedule(constant: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed form with one constant changed is not what the machine does, if the schedule has to do with it."""
    conv = Conv("layer", np.ones((3, 1, 1, 1), np.int8), UINT4, INT4)
    # A single row, step and position, where passes follow one another as closely as they may.
    mapping = choose(Mapping(conv, ArraySpec(1, 1), 1, 1), name).mapping
    act, schedule = np.ones((1, 1, 1), int), WAYS[name].schedule
    assert observe(mapping, act, schedule).holds
    matters = {
        "TURNAROUND": name in ("useful", "packed"),
        "LEAST": name in ("double", "os"),
        "UPDATE": name != "os",
    }
    if constant == "HOP":
        mapping = replace(mapping, spec=replace(mapping.spec, rows=3, cols=2))
    rules = schedules.contract(mapping.spec, schedule.double)
    for change in (-1, 1):
        with monkeypatch.context() as patch:
            patch.setattr(schedules, constant, getattr(schedules, constant) + change)
            found = observe(mapping, act, schedule, rules=rules)
        assert found.holds != matters.get(constant, True), change


def test_what_a_slow_memory_costs_by_hand() -> None:
    """Activations of 32 bits at 16 a clock: 2 clocks each; weights the same; 3 clocks for the first of a burst."""
    mapping = layer(8, 8, 4)
    slow = Memory(act=16, weight=16, latency=3)
    schedule = Schedule(memory=slow)
    # A pass: 3 + 8*2 weights, a beat, 3 + 16*2 positions; counted from the first weight, which is there after 3 + 2.
    assert schedule.period(mapping) == 19 + 1 + 35
    assert schedule.clocks(mapping) == 9 * 55 - (3 + 2 - 1) + 14
    assert split(mapping, schedule).stalls == schedule.clocks(mapping) - 239
    double = Schedule(double=True, memory=slow)
    # The first position comes after 3 + 2 clocks; then 15 more, each 2: longer than 3 + 8*2 weights.
    assert double.period(mapping) == 5 + 15 * 2
    stationary = choose(mapping, "os", memory=slow)
    assert stationary.schedule.period(stationary.mapping) == 5 + 71 * 2
    # The psum memory takes a word of 8 * 24 bits.
    assert Schedule(memory=Memory(psum=64)).beat(mapping) == Port(3, 0)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 200))
def test_a_queue_of_that_length_and_no_shorter_hides_a_slow_port(words: int, every: int, clocks: int) -> None:
    clocks = max(clocks, words)
    needed = Port(every).queue(words, clocks)
    if needed is None:
        assert words * every > clocks
        return

    def late(depth: int) -> bool:
        """Bursts of `words`, one a clock, every `clocks`: whether some word is not there, the first burst left out."""
        held, fetching, is_late = depth, 0, False
        for clock in range(3 * clocks):
            wanted = clock % clocks < words
            if wanted and not held:
                is_late = True
                break
            held -= wanted
            if held + 1 <= depth:
                fetching += 1
                if fetching == every:
                    held, fetching = held + 1, 0
        return is_late

    assert not late(needed)
    assert needed == 1 or late(needed - 1)


def test_queues_of_slow_memories_alone() -> None:
    mapping = layer(8, 8, 4)
    assert queues(mapping, Schedule()) == {}
    # 8 weights of 2 clocks each in a pass of 25: 8 - 7 // 2; 16 positions of 2 clocks are more than 25.
    assert queues(mapping, Schedule(memory=Memory(act=16, weight=16))) == {"act": None, "weight": 5}


def test_what_is_no_schedule() -> None:
    with pytest.raises(BadInput, match="with double-buffered weights is not drained"):
        Schedule(drained=True, double=True)
    for name, drained, least, said in (
        ("fast", False, "clocks", "--schedule 'fast': expected useful, whole"),
        ("os", True, "clocks", "found --schedule os, which overlaps"),
        ("auto", True, "clocks", "found auto"),
        ("auto", False, "joules", "--least 'joules': expected clocks or traffic"),
    ):
        with pytest.raises(BadInput, match=said):
            choose(layer(8, 8, 4), name, drained, least)
