from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from conftest import INT4, UINT4, layers
from systolith.array import ArraySpec, Mapping, Schedule, clocks
from systolith.network import Conv


@given(layers())
def test_windows_pick_the_nij_of_each_output(case: tuple[Conv, np.ndarray]) -> None:
    conv, act = case
    mapping = Mapping(conv, ArraySpec(), *act.shape[1:])
    windows = mapping.windows()
    oh, ow = mapping.output_shape
    wp = mapping.padded_shape[1]
    assert windows.shape == (mapping.kijs, oh * ow)
    for kij, onij in np.ndindex(*windows.shape):
        i = onij // ow * conv.stride[0] + kij // conv.kernel[1] * conv.dilation[0]
        j = onij % ow * conv.stride[1] + kij % conv.kernel[1] * conv.dilation[1]
        assert windows[kij, onij] == i * wp + j


def test_tiles_by_hand() -> None:
    # 3 input channels on 2 rows, 1 output channel on 2 columns, a 1x2 kernel, one column of padding.
    weight = np.array([[1, 2], [3, 4], [5, 6]]).reshape(1, 3, 1, 2)
    conv = Conv("layer", weight, UINT4, INT4, padding=(0, 1))
    mapping = Mapping(conv, ArraySpec(2, 2), 1, 2)
    assert (mapping.ic_tiles, mapping.oc_tiles, mapping.kijs, mapping.nijs, mapping.passes) == (2, 1, 2, 4, 4)
    act = np.array([[[7, 8]], [[9, 10]], [[11, 12]]])
    assert mapping.act_tiles(act).tolist() == [
        [[0, 0], [7, 9], [8, 10], [0, 0]],
        [[0, 0], [11, 0], [12, 0], [0, 0]],
    ]
    # (ic_tile, oc_tile, kij, col, row)
    assert mapping.weight_tiles().tolist() == [
        [[[[1, 3], [0, 0]], [[2, 4], [0, 0]]]],
        [[[[5, 0], [0, 0]], [[6, 0], [0, 0]]]],
    ]


def test_clocks_of_the_squeezed_layer_by_hand() -> None:
    conv = Conv("layer", np.ones((8, 8, 3, 3), int), UINT4, INT4, padding=(1, 1))
    mapping = Mapping(conv, ArraySpec(), 4, 4)
    times = clocks(mapping)
    # 9 passes; 36 padded positions: 9*(1 + 8 + 36) + 8 + 8 - 2 = 419; 16 outputs: 9*(1 + 8 + 16) + 14 = 239
    assert (times.whole_map, times.useful) == (419, 239)
    # 8*8*9*16 = 9216 useful MACs on 64 multipliers
    assert times.utilisation == 9216 / (64 * 419)
    assert times.utilisation_useful == 9216 / (64 * 239)


@pytest.mark.parametrize(
    ("passes", "rows", "cols", "vectors", "expected"),
    # one PE, one vector: weight beat, pause beat, vector: 1*(1 + 1 + 1) + 1 + 1 - 2 = 3
    [(1, 1, 1, 1, 3), (2, 3, 5, 7, 2 * 13 + 6), (9, 8, 8, 36, 419)],
)
def test_clock_formula(passes: int, rows: int, cols: int, vectors: int, expected: int) -> None:
    conv = Conv("layer", np.ones((1, passes * rows, 1, 1), int), UINT4, INT4)
    mapping = Mapping(conv, ArraySpec(rows, cols), 1, vectors)
    assert (mapping.passes, mapping.onijs) == (passes, vectors)
    assert Schedule().clocks(mapping) == expected


# The convolutions of the squeezed VGG16: in, out, map.
SQUEEZED = [
    *[(3, 64, 32), (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8), (256, 256, 8)],
    *[(256, 8, 4), (8, 8, 4), (8, 512, 4), (512, 512, 2), (512, 512, 2), (512, 512, 2)],
]


def test_the_squeezed_vgg16_on_8x8() -> None:
    whole = useful = 0
    for channels, filters, size in SQUEEZED:
        conv = Conv("layer", np.zeros((filters, channels, 3, 3), np.int8), UINT4, INT4, padding=(1, 1))
        times = clocks(Mapping(conv, ArraySpec(), size, size))
        whole, useful = whole + times.whole_map, useful + times.useful
    # design, section 6: from 7.2 M to 4.73 M clocks
    assert round(whole / 1e6, 1) == 7.2
    assert round(useful / 1e6, 2) == 4.73
