"""The reduction as one axis: packed into rows, and output stationary; against direct arithmetic and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import INT4, UINT4, layers
from systolith.array import ArraySpec, Mapping, run_layer
from systolith.formats import BadInput
from systolith.network import Conv

SIDE = st.integers(1, 9)


@settings(max_examples=150)
@given(layers(), SIDE, SIDE, st.sampled_from(["plain", "packed", "os"]), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_psums_and_outputs_however_the_layer_is_cut(
    case: tuple[Conv, np.ndarray], rows: int, cols: int, how: str, simd: int, batch: int
) -> None:
    conv, act = case
    dataflow = "os" if how == "os" else "ws"
    spec = ArraySpec(rows, cols, act_bits=4 * simd, psum_bits=24, simd=simd, dataflow=dataflow)
    if batch > 1:
        act = np.stack([np.roll(act, n, -1) for n in range(batch)])
    result = run_layer(conv, act, spec, packed=how == "packed")
    mapping = result.mapping
    assert mapping.simd == simd
    assert result.out.shape == (*act.shape[:-3], conv.out_channels, *mapping.output_shape)
    assert result.check().holds
    assert result.check_psums().holds
    if how == "packed" and conv.groups == 1:
        lanes = -(-conv.in_channels // simd) * mapping.taps
        assert mapping.passes == -(-lanes // rows) * mapping.oc_tiles
        assert mapping.passes <= replace(mapping, packed=False).passes


def test_a_first_layer_by_hand() -> None:
    """3 channels, 3x3: 27 products in 4 tiles of 8 rows instead of 9 passes of 3."""
    weight = np.arange(27).reshape(1, 3, 3, 3) % 8
    conv = Conv("layer", weight, UINT4, INT4)
    mapping = Mapping(conv, ArraySpec(8, 1), 3, 3, packed=True)
    assert (mapping.passes, replace(mapping, packed=False).passes) == (4, 9)
    tiles = mapping.weight_tiles()[:, 0, 0, 0]  # (tile, row)
    # kij*3 + ic: the three channels at kij 0, then at kij 1; the last tile has 27 - 24 = 3 of them.
    assert tiles[0].tolist() == [weight.reshape(3, 9)[q % 3, q // 3] for q in range(8)]
    assert tiles[3].tolist() == [*(weight.reshape(3, 9)[ic, 8] for ic in range(3)), *[0] * 5]
    act = np.arange(27).reshape(3, 3, 3) % 16
    assert mapping.act_tiles(act)[0, 0].tolist() == [act.reshape(3, 9)[q % 3, q // 3] for q in range(8)]
    # 8 and 3 have no divisor in common: every row has all three maps, of 9 positions each.
    assert (mapping.slots, mapping.apart) == (3, 1)
    assert (replace(mapping, spec=ArraySpec(6, 1)).slots, replace(mapping, spec=ArraySpec(6, 1)).apart) == (1, 3)


def test_output_stationary_by_hand() -> None:
    """Steps go channel by channel, and in each over the kernel: ic*KH*KW + kij."""
    weight = np.array([[[[1, 2]], [[3, 4]], [[5, 6]]]])
    conv = Conv("layer", weight, UINT4, INT4)
    mapping = Mapping(conv, ArraySpec(2, 1, dataflow="os"), 1, 4)
    assert mapping.weight_tiles()[0, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert (mapping.steps, mapping.onijs, mapping.folds, mapping.rounds) == (6, 3, 2, 2)
    act = np.arange(12).reshape(3, 1, 4)
    assert mapping.act_tiles(act)[0].tolist() == [[j, j + 1, 4 + j, 5 + j, 8 + j, 9 + j] for j in range(3)]


def test_a_depthwise_layer_gains_where_its_groups_are_narrower_than_the_rows() -> None:
    conv = Conv("layer", np.ones((8, 1, 3, 3), int), UINT4, INT4, groups=8)
    mapping = Mapping(conv, ArraySpec(8, 4), 5, 5)
    # Two oc_tiles of four channels: 9 passes each; packed 36 products in 5 tiles of 8 rows.
    assert (mapping.passes, replace(mapping, packed=True).passes) == (2 * 9, 2 * 5)


def test_a_lane_takes_as_many_codes_as_are_narrow_enough() -> None:
    spec = ArraySpec(4, 4, act_bits=8, simd=4)
    for bits, codes in ((8, 1), (5, 1), (4, 2), (3, 2), (2, 4), (1, 4)):
        conv = Conv("layer", np.ones((1, 9, 1, 1), int), replace(UINT4, bits=bits), INT4)
        mapping = Mapping(conv, spec, 1, 1)
        assert (mapping.simd, mapping.lanes, mapping.ic_tiles) == (codes, 4 * codes, -(-9 // (4 * codes)))


def test_pictures_that_are_not_the_batch() -> None:
    conv = Conv("layer", np.ones((1, 2, 1, 1), int), UINT4, INT4)
    mapping = Mapping(conv, ArraySpec(), 3, 3, 2)
    with pytest.raises(BadInput, match=r"expected 2 pictures of 3x3, found shape \(3, 2, 3, 3\)"):
        mapping.require(np.ones((3, 2, 3, 3), int))
    with pytest.raises(BadInput, match="a batch of 0 pictures: expected at least 1"):
        Mapping(conv, ArraySpec(), 3, 3, 0)
