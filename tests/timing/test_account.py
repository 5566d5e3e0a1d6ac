"""Where the clocks go, what the memories do, and what they must hold: by hand; the machine counts the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArraySpec, Mapping
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.timing import Schedule, clocks, contract
from systolith.timing.account import Depths, Port, Split, needed_depths, require_capacity, sfp_clocks, split, traffic

# 9 passes of 8 weight beats; 36 positions of the padded map, of which 16 are needed under each kij.
SQUEEZED = Mapping(Conv("layer", np.ones((8, 8, 3, 3), int), UINT4, INT4, padding=(1, 1)), ArraySpec(), 4, 4)


def test_the_clocks_of_the_squeezed_layer_by_hand() -> None:
    assert split(SQUEEZED, Schedule()) == Split(load=72, useful=144, padding=0, turnaround=9, drain=14)
    assert split(SQUEEZED, Schedule(useful=False)) == Split(72, 144, 9 * 20, 9, 14)
    assert split(SQUEEZED, Schedule(drained=True)) == Split(72, 144, 0, 9, 9 * 14)
    assert split(SQUEEZED, Schedule()).clocks == 72 + 144 + 9 + 14 == 239
    assert sfp_clocks(SQUEEZED, Schedule()) == 5
    # Of the whole map the last needed position is the last one: kij 8 is the corner.
    assert sfp_clocks(SQUEEZED, Schedule(useful=False)) == 5


def test_the_words_of_the_squeezed_layer_by_hand() -> None:
    found = traffic(SQUEEZED, Schedule())
    assert found.act == Port(reads=9 * 16, writes=36, bits=32)
    assert found.weight == Port(reads=72, writes=72, bits=32)
    assert found.psum == Port(reads=144, writes=144, bits=128)
    assert found.out == Port(reads=0, writes=16, bits=128)
    assert found.bits_moved == (144 + 36) * 32 + (72 + 72) * 32 + (144 + 144) * 128 + 16 * 128
    whole = traffic(SQUEEZED, Schedule(useful=False))
    assert whole == replace(found, act=Port(reads=9 * 36, writes=36, bits=32))


def test_utilisation_is_one_definition() -> None:
    times = clocks(SQUEEZED)
    assert times.utilisation_useful == 9216 / (64 * split(SQUEEZED, Schedule()).clocks)
    assert times.utilisation == 9216 / (64 * split(SQUEEZED, Schedule(useful=False)).clocks)


def test_the_contract_is_data() -> None:
    assert contract(ArraySpec(3, 5)).as_dict() == {
        **{"rows": 3, "cols": 5, "load_port": "west", "load_beats": 5, "turnaround": 1, "lead": 2, "hop": 1},
        **{"crossing": 6, "ofifo": 2, "update": 1, "sfp": 3, "l0_depth": 2, "ofifo_depth": 5},
        **{"psum_reads": 1, "psum_writes": 1},
    }


def test_what_is_needed_is_enough_and_no_less() -> None:
    needed = needed_depths(SQUEEZED, Schedule())
    assert needed == Depths(l0=2, ofifo=8, act=36, weight=72, psum=16)
    require_capacity(SQUEEZED, Schedule(), needed)
    require_capacity(SQUEEZED, Schedule(), Depths())
    for name, depth in vars(needed).items():
        with pytest.raises(BadInput, match=rf"^layer: .* must hold {depth} words, its depth is {depth - 1}$"):
            require_capacity(SQUEEZED, Schedule(), replace(needed, **{name: depth - 1}))


@pytest.mark.parametrize(
    ("said", "weights", "size", "batch"),
    [
        ("output map 1x65536", (1, 1, 1, 1), (1, 65536), 1),
        ("output channel tiles 65536", (65536, 1, 1, 1), (1, 1), 1),
        ("pictures 65536", (1, 1, 1, 1), (1, 1), 65536),
    ],
)
def test_numbers_beyond_the_descriptor_are_refused(
    said: str, weights: tuple[int, ...], size: tuple[int, int], batch: int
) -> None:
    for extra, refused in ((0, True), (1, False)):
        shape = tuple(n - extra if n > 1 else n for n in weights)
        conv = Conv("layer", np.ones(shape, np.int8), UINT4, INT4)
        mapping = Mapping(conv, ArraySpec(1, 1), size[0], size[1] - extra * (size[1] > 1), max(1, batch - extra))
        if refused:
            with pytest.raises(BadInput, match=f"^layer: {said}: expected at most 65,535"):
                require_capacity(mapping, Schedule(), Depths())
        else:
            require_capacity(mapping, Schedule(), Depths())
