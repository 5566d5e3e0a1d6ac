"""Outputs that stay on the chip as the next layer's activations, against arithmetic written out and a naive loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from systolith.designs.energy import read_table
from systolith.designs.point import evaluate
from systolith.designs.results import PORTS
from systolith.designs.space import space_of
from systolith.designs.work import Work
from systolith.topologies import convolution

TABLE = read_table()


def rows_of(works: list[Work], **axes: Any) -> list[dict[str, Any]]:
    (point,) = space_of({"model": "m", **axes})
    return evaluate(point, works, TABLE)


def test_two_layers_written_out() -> None:
    # 2 channels on a map of 2x2, 1x1 kernels, a 2x2 array of 4-bit lanes: a pass a layer.
    layers = [Work.of(convolution(name, (2, 2), (2, 2), (1, 1), follows=name == "b")) for name in ("a", "b")]
    act, weight = 4 * 2 * 4, 2 * 2 * 4  # positions or columns, times lanes, times bits
    out = 4 * 2 * 9  # two products of 15 * -8 at worst, -240: 9 bits
    leave = rows_of(layers, array="2x2", dram_bandwidth=8)
    stay = rows_of(layers, array="2x2", dram_bandwidth=8, outputs="stay")
    for row in leave:
        assert (row["dram_read_bits"], row["dram_written_bits"]) == (act + weight, out)
        assert row["stall_clocks"] == (32 + 16) / 8 + 72 / 8 == 15
        assert row["act_capacity_bits"] == act
    a, b = stay
    assert (a["dram_read_bits"], a["dram_written_bits"], a["stall_clocks"]) == (48, 0, 6)
    assert (b["dram_read_bits"], b["dram_written_bits"], b["stall_clocks"]) == (16, 72, 2 + 9)
    assert (a["inputs_stay"], b["inputs_stay"]) == (False, True)
    # The memory holds what a reads and what it writes.
    assert (a["act_capacity_bits"], b["act_capacity_bits"]) == (2 * act, act)
    for one, other in zip(leave, stay, strict=True):
        assert [one[name] for name in PORTS] == [other[name] for name in PORTS]
        assert one["clocks"] - one["stall_clocks"] == other["clocks"] - other["stall_clocks"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_naive_loop_finds_the_same_layers(data: st.DataObject) -> None:
    number, layers = st.integers(1, 9), []
    for name in "abcd"[: data.draw(st.integers(2, 4))]:
        channels, size = (data.draw(number), data.draw(number)), (data.draw(number), data.draw(number))
        follows, count = data.draw(st.booleans()), data.draw(st.sampled_from([1, 1, 2]))
        layers.append(replace(Work.of(convolution(name, channels, size)), follows=follows, count=count))
    kib = data.draw(st.sampled_from([None, 1, 2]))
    bandwidth = data.draw(st.sampled_from([None, 5, 64]))
    axes: dict[str, Any] = {"array": data.draw(st.sampled_from(["2x3", "4x4"])), "batch": data.draw(st.integers(1, 4))}
    axes |= {name: value for name, value in (("act_kib", kib), ("dram_bandwidth", bandwidth)) if value is not None}
    leave, stay = rows_of(layers, **axes), rows_of(layers, **axes, outputs="stay")
    for at, (before, after) in enumerate(zip(leave, stay, strict=True)):
        if not before["fits"]:
            assert after == before
            continue
        read, written, count = before["act_dram_read_bits"], before["out_dram_written_bits"], before["count"]
        taken = at > 0 and _fit(leave[at - 1], before, layers[at], kib)
        left = at + 1 < len(layers) and _fit(before, leave[at + 1], layers[at + 1], kib)
        assert after["act_dram_read_bits"] == (0 if taken else read)
        assert after["out_dram_written_bits"] == (0 if left else written)
        assert after["weight_dram_read_bits"] == before["weight_dram_read_bits"]
        if before["chunks"] == "1x1x1" and bandwidth:
            came = -(-(0 if taken else read) // count - before["weight_dram_read_bits"] // count)
            went = 0 if left else written // count
            assert after["stall_clocks"] == count * (-(-came // bandwidth) - (-went // bandwidth))
        if kib is None:
            both = read + leave[at + 1]["act_dram_read_bits"] if left else read
            assert after["act_capacity_bits"] == max(before["act_capacity_bits"], both // count)


def _fit(one: dict[str, Any], other: dict[str, Any], reader: Work, kib: int | None) -> bool:
    """Whether what `one` leaves can stay for `other`."""
    if not (reader.follows and one["fits"] and other["fits"] and one["count"] == other["count"]):
        return False
    if one["chunks"] != "1x1x1" or other["chunks"] != "1x1x1":
        return False
    both = (one["act_dram_read_bits"] + other["act_dram_read_bits"]) // one["count"]
    return kib is None or both <= kib * 8192
