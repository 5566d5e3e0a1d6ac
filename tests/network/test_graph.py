from __future__ import annotations

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv


def conv(weight: np.ndarray, **changes: object) -> Conv:
    return Conv("layer", weight, UINT4, INT4, **changes)  # type: ignore[arg-type]


def test_shapes_by_hand() -> None:
    layer = conv(np.zeros((5, 3, 3, 2), np.int8), stride=(2, 1), padding=(1, 2), dilation=(1, 3))
    assert (layer.out_channels, layer.in_channels, layer.kernel) == (5, 3, (3, 2))
    assert layer.padded_shape(6, 7) == (8, 11)
    # vertical: (8 - 3)//2 + 1 = 3; horizontal: reach 4, 11 - 4 + 1 = 8
    assert layer.output_shape(6, 7) == (3, 8)
    with pytest.raises(BadInput, match=r"a kernel of reach \(3, 4\) does not fit the padded map \(8, 3\)"):
        conv(layer.weight, padding=(1, 1), dilation=(1, 3)).output_shape(6, 1)


def test_bounds_by_hand() -> None:
    weight = np.array([3, -2, -7, 7], np.int8).reshape(2, 2, 1, 1)
    lo, hi = conv(weight).bounds()
    assert (lo.tolist(), hi.tolist()) == ([-30, -105], [45, 105])
    lo, hi = Conv("layer", weight, IntFormat(8, True), INT4).bounds()
    # signed -128..127: channel 0: 3*-128 - 2*127 = -638 .. 3*127 + 2*128 = 637
    assert (lo.tolist(), hi.tolist()) == ([-638, -1785], [637, 1785])


@pytest.mark.parametrize(
    ("weight", "changes", "message"),
    [
        (np.zeros((2, 2)), {}, r"expected weights of shape \(O, C, KH, KW\), found \(2, 2\)"),
        (np.zeros((0, 1, 1, 1), int), {}, r"found \(0, 1, 1, 1\)"),
        (np.zeros((1, 1, 1, 1)), {}, "layer weight: expected integers, found dtype float64"),
        (np.full((1, 2, 1, 1), 8), {}, r"layer weight\[oc 0, ic 0, ki 0, kj 0\] is 8, outside the range -8..7"),
        (np.zeros((1, 1, 1, 1), int), {"stride": (0, 1)}, "expected stride and dilation of 1 to 65535"),
        (np.zeros((1, 1, 1, 1), int), {"padding": (0, -1)}, "padding of 0 to 65535"),
    ],
)
def test_what_is_not_a_layer(weight: np.ndarray, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        conv(weight, **changes)
