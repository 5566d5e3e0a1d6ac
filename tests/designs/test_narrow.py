from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from systolith.array import ArraySpec
from systolith.array.overflow import Adding
from systolith.designs.narrow import addings
from systolith.designs.space import space_of
from systolith.designs.work import Work
from systolith.network import Conv
from systolith.topologies import Layer, convolution


def work(groups: int = 1) -> Work:
    """Nine ones a channel, two channels: codes of 4 bits sum to 270, which takes 10 bits."""
    return Work.of(Layer(Conv.of(np.ones((4, 2 // groups, 3, 3), int), groups=groups), 6, 6))


def found(works: list[Work], schedule: str = "useful", chunks: str = "1x1x1", **axes: Any) -> Any:
    (point,) = space_of({"model": "m", "array": "4x2", **axes})
    rows = [{"fits": True, "schedule": schedule, "chunks": chunks} for _ in works]
    return addings(point, works, rows)


def test_only_layers_that_can_overflow_are_there() -> None:
    assert work().least_bits == 10
    assert found([work()], psum_bits=10) == found([work()], psum_bits="auto") == {}
    assert found([work()], psum_bits=9) == {"layer": Adding(ArraySpec(1, 1, 4, 4, 9, overflow="wrap"))}


@pytest.mark.parametrize(
    ("schedule", "packed", "rows", "flow"), [("double", 0, 4, "ws"), ("packed", 1, 4, "ws"), ("os", 0, 1, "os")]
)
def test_of_saturating_sums_all_that_orders_them(schedule: str, packed: int, rows: int, flow: str) -> None:
    made = found([work()], schedule, psum_bits=9, overflow="saturate", act_bits=8, simd=2)
    spec = ArraySpec(rows, 1, 8, 4, 9, flow, "saturate", 2)
    assert made == {"layer": Adding(spec, bool(packed))}
    # A lane of 4 bits takes one code of 4.
    alone = found([work()], schedule, psum_bits=9, overflow="saturate", act_bits=4, simd=2)
    assert alone["layer"].spec == ArraySpec(rows, 1, 4, 4, 9, flow, "saturate")


def test_groups_are_of_columns_and_chunks_of_input_channels_are_sums_of_their_own() -> None:
    made = found([work(groups=2)], psum_bits=8, overflow="saturate")
    assert made["layer"].spec.cols == 2
    assert found([work()], chunks="2x3x1", psum_bits=9, overflow="saturate")["layer"].parts == 3
    assert found([work()], chunks="2x3x1", psum_bits=9)["layer"].parts == 1  # wrapping


def test_what_is_not_known() -> None:
    assert found([Work.of(convolution("shape", (2, 4), (6, 6)))], psum_bits=9) is None
    (point,) = space_of({"model": "m", "psum_bits": 9})
    assert addings(point, [work()], [{"fits": False}]) is None
