from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import is_made

from conftest import INT4, UINT4, layers
from systolith.array import ArraySpec, Mapping
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.timing import Schedule, clocks
from systolith.timing.account import Port, Split, split, traffic


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


@given(layers(max_channels=20, max_map=5), st.integers(1, 9), st.integers(1, 9))
def test_a_pass_is_made_where_some_weight_may_be_other_than_0(
    case: tuple[Conv, np.ndarray], rows: int, cols: int
) -> None:
    conv, act = case
    mapping = Mapping(conv, ArraySpec(rows, cols), *act.shape[1:])
    made = [
        (ic, oc) for ic, oc in np.ndindex(mapping.ic_tiles, mapping.oc_tiles) if is_made(conv, mapping.spec, oc, ic)
    ]
    assert [tuple(place) for place in np.argwhere(mapping.made)] == made
    # oc_tile outermost, then kij, then ic_tile.
    order = sorted((oc, kij, ic) for ic, oc in made for kij in range(mapping.kijs))
    assert [tuple(one) for one in mapping.order] == order
    assert mapping.passes == len(order)
    assert mapping.begins.tolist() == [sum(one[0] < oc for one in order) for oc in range(mapping.oc_tiles + 1)]
    if conv.groups == 1:
        assert mapping.passes == mapping.ic_tiles * mapping.oc_tiles * mapping.kijs
    # What is left out is 0 whatever the weights are.
    ones = mapping.weight_tiles_of(np.ones_like(conv.weight))
    assert (ones.any((2, 3, 4)) == mapping.made).all()
    dense = conv.dense.reshape(conv.out_channels, conv.in_channels, -1)
    for ic_tile, oc_tile, kij, col, row in np.argwhere(mapping.weight_tiles()):
        assert dense[oc_tile * cols + col, ic_tile * rows + row, kij] != 0
    assert np.count_nonzero(mapping.weight_tiles()) == np.count_nonzero(conv.weight)


def depthwise(channels: int = 16) -> Mapping:
    """3x3 on an 8x8 map, 8x8 array: every channel a group of its own, eight of them on the diagonal of a pass."""
    conv = Conv("layer", np.ones((channels, 1, 3, 3), int), UINT4, INT4, padding=(1, 1), groups=channels)
    return Mapping(conv, ArraySpec(), 8, 8)


def test_a_depthwise_layer_by_hand() -> None:
    mapping = depthwise()
    # 2 oc_tiles, 9 kij, each from the one ic_tile of the same channels: 18 passes; dense, 2*2*9 = 36.
    assert [mapping.ic_range(oc_tile) for oc_tile in (0, 1)] == [range(1), range(1, 2)]
    assert (mapping.ic_tiles, mapping.oc_tiles, mapping.passes) == (2, 2, 18)
    # 64 outputs, 100 positions of the padded map: 18*(1 + 8 + 64) + 14 = 1328; 18*(1 + 8 + 100) + 14 = 1976.
    times = clocks(mapping)
    assert (times.useful, times.whole_map) == (1328, 1976)
    # 16 channels * 9 products * 64 outputs = 9216 multiplications on 64 multipliers: an eighth of what a dense one has.
    assert mapping.macs == 9216
    assert times.utilisation_useful == 9216 / (64 * 1328)
    # Drained: each pass another 14.
    assert Schedule(drained=True).clocks(mapping) == 18 * (1 + 8 + 64 + 14)
    assert split(mapping, Schedule()) == Split(load=144, useful=1152, padding=0, turnaround=18, drain=14)
    found = traffic(mapping, Schedule())
    assert (found.act, found.weight) == (Port(18 * 64, 200, 32), Port(144, 144, 32))
    assert (found.psum, found.out) == (Port(18 * 64, 18 * 64, 128), Port(0, 128, 128))
    # The second oc_tile begins with pass 9: at 9*73 the first weight, its last psum of the first pass 9 + 63 clocks on.
    events = Schedule().events(mapping, 1)
    assert events.load[:9].tolist() == [*range(657, 665), 657 + 73]
    assert events.psum[[0, 63]].tolist() == [657 + 9 + 14 + 2, 657 + 9 + 63 + 14 + 2]


def test_groups_wider_than_the_array_and_across_its_tiles() -> None:
    # Three groups of 6 -> 4 channels on 4 rows and 5 columns: input channels 0-5, 6-11, 12-17.
    conv = Conv("layer", np.ones((12, 6, 1, 1), int), UINT4, INT4, groups=3)
    mapping = Mapping(conv, ArraySpec(4, 5), 1, 1)
    # Output channels 0-4: groups 0, 1; 5-9: groups 1, 2; 10, 11: group 2.
    assert [mapping.ic_range(oc_tile) for oc_tile in range(3)] == [range(3), range(1, 5), range(3, 5)]
    assert mapping.passes == 3 + 4 + 2


def test_a_bias_is_not_the_arrays() -> None:
    conv = Conv("layer", np.ones((2, 1, 1, 1), int), UINT4, INT4, bias=np.array([3, -4]))
    with pytest.raises(BadInput, match=r"^layer: an array adds products alone: expected no bias"):
        Mapping(conv, ArraySpec(), 2, 2)
    assert Mapping(conv.product(), ArraySpec(), 2, 2).passes == 1


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
