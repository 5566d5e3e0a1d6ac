"""What is refused, and the cases that corner what others leave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from test_stimulus import SIZES, SQUEEZED, WIDE, on_array, one, shapes, spec_of

from systolith.array import ArraySpec
from systolith.formats import BadInput, IntFormat
from systolith.stimulus.stimulus import Case, LeftOut, make_cases
from systolith.vectors.shape import Shape


def test_refusals() -> None:
    for change, message in (
        ({"in_channels": 0}, "expected channels, a map and a kernel of at least 1, found 0x8, 4x4 and 3x3"),
        ({"size": (4, 0)}, "of at least 1"),
        ({"kernel": (0, 3)}, "of at least 1"),
        ({"in_channels": 10**6, "out_channels": 10**6}, "expected at most 268,435,456 of each"),
        ({"act_range": (0, 16)}, r"activation range 0..16: expected one within 0..15 that holds 0"),
        ({"act_range": (1, 3)}, r"activation range 1..3"),
        ({"act_range": (0, 0)}, r"activation range 0..0"),
        ({"weight_range": (5, -5)}, r"weight range 5..-5"),
        ({"weight_range": (-9, 7)}, r"weight range -9..7: expected one within -8..7"),
        ({"stride": (0, 1)}, "expected stride and dilation of 1 to 65535"),
        ({"padding": (0, -1)}, "padding of 0 to 65535"),
        ({"kernel": (7, 3)}, "does not fit the padded map"),
        ({"groups": 3}, "3 groups: expected a number that divides the channels, 8x8"),
        ({"groups": 0}, "0 groups"),
        ({"padding": (1, 1, 1)}, "expected a padding of 2 or 4 numbers"),
    ):
        with pytest.raises(BadInput, match=message):
            replace(SQUEEZED, **change)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no stimulus 'nonsense': expected one of corner, random, all-zero"):
        make_cases("nonsense", SQUEEZED, WIDE)
    with pytest.raises(BadInput, match="seed -1: expected 0 or more"):
        make_cases("random", SQUEEZED, WIDE, seed=-1)
    for density in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadInput, match="expected 0 to 1"):
            make_cases("sparse", SQUEEZED, WIDE, density=density)


@given(shapes(most_bits=3), SIZES)
@settings(max_examples=30)
def test_cancelling_products_meet_in_every_pair_of_rows(shape: Shape, size: tuple[int, int]) -> None:
    spec = spec_of(shape, size)
    made = list(make_cases("cancel", shape, spec))
    if shape.groups > 1 and shape.group[0] == 1:
        assert made == [LeftOut("cancel", "a column adds one product a pass: there is nothing to cancel")]
        return
    if shape.weights[1] <= 0 and shape.acts[0] == 0:
        assert made == [LeftOut("cancel", "every product has the same sign")]
        return
    met: dict[int, set[int]] = {}
    for case in (m for m in made if isinstance(m, Case)):
        result = on_array(case, spec)
        acts, weights = result.mapping.act_tiles(case.act), result.mapping.weight_tiles()
        products = acts[:, None, None, :, None, :] * weights[:, :, :, None]  # (ic, oc, kij, nij, col, row)
        assert set(np.unique(products)) <= {-1, 0, 1}
        assert (abs(products).sum(-1) <= 2).all()
        for row in range(min(shape.group[0], size[0]) - 1):  # the first column's group is the first
            pair = products[0, 0, 0, :, 0, row : row + 2]
            met.setdefault(row, set()).update(pair.sum(-1)[abs(pair).sum(-1) == 2].tolist())
    assert all(sums == {0} for sums in met.values())


def test_stairs_leave_the_array_after_each_row() -> None:
    for name, product in (("stairs-max", 15 * 7), ("stairs-min", 15 * -7)):
        result = on_array(one(name), WIDE)
        assert set(np.unique(result.psum)) == {product * rows for rows in range(9)}


def test_outputs_of_one() -> None:
    for name, value in (("out-plus-one", 1), ("out-minus-one", -1)):
        for shape in (SQUEEZED, replace(SQUEEZED, stride=(3, 2), kernel=(1, 2)), Shape(1, 1, (1, 1), (1, 1), (0, 0))):
            out = on_array(one(name, shape), WIDE).out
            assert set(np.unique(out)) <= {0, value}
            assert (out == value).any((1, 2)).all()
    bit = replace(SQUEEZED, weight_format=IntFormat(1, True))
    (left,) = make_cases("out-plus-one", bit, replace(WIDE, weight_bits=1))
    assert left == LeftOut("out-plus-one", "no product of these codes is 1")


@pytest.mark.parametrize(("name", "lowest"), [("acc-dip", -1), ("acc-turn", -2048)])
@pytest.mark.parametrize("size", [(8, 8), (3, 8)])
def test_sums_that_turn(name: str, lowest: int, size: tuple[int, int]) -> None:
    spec = ArraySpec(*size, psum_bits=12)
    result = on_array(one(name, SQUEEZED, spec), spec)  # overflow "error": nothing overflows on the way
    windows = result.mapping.windows()
    onij = next(n for n in range(16) if (result.out[:, n // 4, n % 4] == 1).all())
    sums = [result.psum[tile, :, kij, windows[kij, onij]] for kij in range(9) for tile in range(len(result.psum))]
    assert (np.cumsum(sums, axis=0).min(0).reshape(-1)[:8] == lowest).all()
    # In groups of 16 -> 4 channels too, two tiles each, and in those of 8 -> 2, each on a tile of its own.
    for groups in (2, 4):
        shape = Shape(32, 8, (4, 4), groups=groups)
        case = one(name, shape, replace(spec, rows=8))
        assert case.note.endswith(f"in every channel at onij {onij}")
        again = on_array(case, replace(spec, rows=8))
        sums = [again.psum[tile, 0, kij, windows[kij, onij]] for kij in range(9) for tile in range(4)]
        assert (np.cumsum(sums, axis=0).min(0) == lowest).all()
        assert (again.out.reshape(8, -1)[:, onij] == 1).all()
    point = replace(SQUEEZED, kernel=(1, 1), padding=(0, 0))
    (left,) = make_cases(name, point, ArraySpec(psum_bits=12))
    assert left == LeftOut(name, f"{lowest} is out of reach in half of the passes")
