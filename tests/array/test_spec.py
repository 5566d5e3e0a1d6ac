from __future__ import annotations

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArraySpec
from systolith.array.spec import parse_size, require_lanes
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv


def test_sizes() -> None:
    assert parse_size("8x16") == (8, 16)
    assert parse_size("-8x8") == (-8, 8)
    for text in ("8", "8x", "axb", "8x8x8", ""):
        with pytest.raises(BadInput, match="expected ROWSxCOLS"):
            parse_size(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "array 0x8: expected at least one row and one column"),
        ({"cols": -8}, "array 8x-8: expected at least one row"),
        ({"rows": 5000}, "at most 1024"),
        ({"act_bits": 0}, "act_bits 0: expected 1 to 16"),
        ({"weight_bits": 17}, "weight_bits 17: expected 1 to 16"),
        ({"psum_bits": 1}, "psum_bits 1: expected 2 to 48"),
        ({"dataflow": "is"}, "dataflow 'is': expected ws .weight stationary. or os .output stationary."),
        ({"simd": 3}, "simd 3: expected 1, 2, 4 or 8 codes in a lane of 4 bits"),
        ({"simd": 8}, "simd 8: expected 1, 2, 4 or 8 codes in a lane of 4 bits, evenly"),
        ({"overflow": "ignore"}, "overflow 'ignore': expected one of error, wrap, saturate"),
    ],
)
def test_what_is_not_an_array(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ArraySpec(**changes)  # type: ignore[arg-type]


def test_a_layer_too_wide_for_the_lanes_is_refused_by_name_with_the_flag() -> None:
    weight = np.zeros((1, 1, 1, 1), int)
    require_lanes(Conv("conv", weight, UINT4, INT4), ArraySpec())
    with pytest.raises(BadInput, match=r"conv has 8-bit activations .* --act-bits 8 would take it"):
        require_lanes(Conv("conv", weight, IntFormat(8, False), INT4), ArraySpec())
    with pytest.raises(BadInput, match="--act-bits 8 --weight-bits 8 would take it"):
        require_lanes(Conv("conv", weight, IntFormat(8, False), IntFormat(8, True)), ArraySpec())
    require_lanes(Conv("conv", weight, IntFormat(8, False), INT4), ArraySpec(act_bits=8))
