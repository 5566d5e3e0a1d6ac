"""Every case has the property that it is named for, over shapes and arrays."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_products import reachable

from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import IntFormat
from systolith.stimulus.stimulus import STIMULI, Case, LeftOut, make_cases
from systolith.vectors import verify_bundle, write_bundle
from systolith.vectors.shape import Shape
from systolith.vectors.text import decode_file

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SQUEEZED = Shape(8, 8, (4, 4))
WIDE = ArraySpec(psum_bits=40)


@st.composite
def shapes(draw: st.DrawFn, max_channels: int = 11, max_map: int = 6, most_bits: int = 4) -> Shape:
    """Any channels, groups and formats, non-square maps and kernels, stride, dilation, padding of four sides."""
    kernel, stride = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    dilation, padding = draw(st.tuples(st.integers(1, 2), st.integers(1, 2))), draw(st.tuples(*[st.integers(0, 2)] * 4))
    least = [max(1, dilation[d] * (kernel[d] - 1) + 1 - sum(padding[2 * d :][:2])) for d in (0, 1)]
    size = tuple(draw(st.integers(n, max(n, max_map))) for n in least)
    groups = draw(st.sampled_from([1, 1, *range(2, max_channels + 1)]))
    ins, outs = draw(st.tuples(*[st.integers(1, max_channels // groups)] * 2))
    channels = groups * ins, groups * outs
    act = IntFormat(draw(st.integers(1, most_bits)), draw(st.booleans()))
    weight = IntFormat(draw(st.integers(1, most_bits)), True)
    span = (weight.lo, weight.hi) if draw(st.booleans()) else None
    return Shape(
        *channels, (size[0], size[1]), kernel, padding, stride, dilation, act, weight, weight_range=span, groups=groups
    )


def spec_of(shape: Shape, size: tuple[int, int], bits: int = 40, overflow: str = "error") -> ArraySpec:
    return ArraySpec(*size, shape.act_format.bits, shape.weight_format.bits, bits, overflow=overflow)


def cases(name: str, shape: Shape = SQUEEZED, spec: ArraySpec = WIDE, **more: float) -> list[Case]:
    made = list(make_cases(name, shape, spec, **more))  # type: ignore[arg-type]
    return [m for m in made if isinstance(m, Case)]


def one(name: str, shape: Shape = SQUEEZED, spec: ArraySpec = WIDE, **more: float) -> Case:
    (case,) = cases(name, shape, spec, **more)
    return case


def on_array(case: Case, spec: ArraySpec) -> ArrayResult:
    return run_layer(case.conv, case.act, spec)


@given(shapes(), SIZES)
def test_every_case_is_a_layer_of_the_shape_and_keeps_the_ring_zero(shape: Shape, size: tuple[int, int]) -> None:
    spec = spec_of(shape, size)
    made = cases("random", shape, spec) + cases("corner", shape, spec)
    assert len({c.name for c in made}) == len(made)
    for case in made:
        assert case.act.shape == shape.act_shape
        assert case.conv.weight.shape == shape.weight_shape
        assert case.act.dtype == case.conv.weight.dtype == np.int32
        assert shape.acts[0] <= case.act.min() <= case.act.max() <= shape.acts[1]
        assert shape.weights[0] <= case.conv.weight.min() <= case.conv.weight.max() <= shape.weights[1]
        result = on_array(case, spec)
        assert result.check().holds
        ring = np.ones(result.mapping.padded_shape, dtype=bool)
        top, _, left, _ = result.mapping.conv.pads
        ring[top : top + shape.size[0], left : left + shape.size[1]] = False
        assert not result.mapping.act_tiles(case.act)[:, ring.reshape(-1)].any()
        assert not result.psum[:, :, :, ring.reshape(-1)].any()
        assert on_array(case, replace(spec, psum_bits=shape.least_psum_bits())).check().holds


def test_the_ring_is_zero_in_the_files(tmp_path: Path) -> None:
    for case in cases("random") + cases("corner"):
        write_bundle(on_array(case, ArraySpec()), tmp_path / case.name)
        assert all(e.holds for e in verify_bundle(tmp_path / case.name))
        lines = (tmp_path / case.name / "activation_tile0.txt").read_text().split()[3:]
        ring = [line for n, line in enumerate(lines) if not (1 <= n // 6 <= 4 and 1 <= n % 6 <= 4)]
        assert set(ring) == {"0" * 32}
        assert len(ring) == 20


def test_the_same_seed_gives_the_same_integers_and_no_case_depends_on_the_others() -> None:
    corner = {case.name: case for case in cases("corner", seed=5)}
    for name in STIMULI[1:]:
        for case in cases(name, seed=5):
            again = corner.get(case.name, one("random", seed=5))
            assert (again.act == case.act).all()
            assert (again.conv.weight == case.conv.weight).all()
    for name in ("random", "sparse", "worst-max", "worst-min", "all-zero"):
        assert (one(name, seed=5).conv.weight != one(name, seed=6).conv.weight).any()
    assert (one("random").act != one("random", seed=1).act).any()


def test_constant_cases() -> None:
    case = one("all-max")
    assert (case.act == 15).all()
    assert (case.conv.weight == 7).all()
    case = one("all-min")
    assert (case.act == 15).all()  # with 0 no weight would show
    assert (case.conv.weight == -7).all()
    signed = replace(SQUEEZED, act_format=IntFormat(4, True), weight_range=(-8, 7))
    case = one("all-min", signed)
    assert (case.act == -8).all()
    assert (case.conv.weight == -8).all()
    case = one("all-zero")
    assert not case.act.any()
    assert case.conv.weight.any()
    case = one("repeated")
    assert np.unique(case.act).size == np.unique(case.conv.weight).size == 1
    assert case.act.all()
    assert case.conv.weight.all()


def test_random_fills_its_ranges_and_no_more() -> None:
    case = one("random", replace(SQUEEZED, act_range=(0, 3), weight_range=(-2, 5)))
    assert set(np.unique(case.act)) == {0, 1, 2, 3}
    assert set(np.unique(case.conv.weight)) == set(range(-2, 6))
    assert set(np.unique(one("random").conv.weight)) == set(range(-7, 8))
    assert one("random", replace(SQUEEZED, act_format=IntFormat(4, True))).act.min() == -8


@given(shapes(), st.floats(0, 1))
def test_sparse_has_exactly_its_share(shape: Shape, density: float) -> None:
    case = one("sparse", shape, spec_of(shape, (8, 8)), density=density)
    for tensor in (case.act, case.conv.weight):
        assert np.count_nonzero(tensor) == round(density * tensor.size)


def test_alternating_checkerboard_and_ramp() -> None:
    for fmt in (IntFormat(4, False), IntFormat(4, True)):
        shape = replace(SQUEEZED, act_format=fmt, in_channels=5)
        result = on_array(one("alternating", shape), WIDE)
        assert set(np.unique(result.mapping.conv.weight)) == {-7, 7}
        products = result.act[None, :, None, None] * result.mapping.conv.weight[..., None, None]
        for axis in range(4):
            pairs = np.moveaxis(products, axis, 0)
            assert (np.sign(pairs[1:]) == -np.sign(pairs[:-1])).all()
        case = one("checkerboard", shape)
        for tensor, span in ((case.act, (fmt.lo, fmt.hi)), (case.conv.weight, (-7, 7))):
            for axis in range(tensor.ndim):
                pairs = np.moveaxis(tensor, axis, 0)
                assert (pairs[1:] + pairs[:-1] == sum(span)).all()
            assert set(np.unique(tensor)) == set(span)
        case = one("ramp", shape)
        for tensor, most in ((case.act.reshape(5, -1), 16), (case.conv.weight.reshape(8, 5, -1), 15)):
            for axis in range(tensor.ndim):
                assert set(np.unique(np.diff(tensor, axis=axis))) <= {1, 1 - most}


def windowed(result: ArrayResult) -> np.ndarray:
    """bool (kij, nij): the position is inside the map, and its psum reaches an output."""
    mapping = result.mapping
    used = np.zeros((mapping.kijs, mapping.nijs), dtype=bool)
    np.put_along_axis(used, mapping.windows(), True, axis=1)
    top, bottom, left, right = mapping.conv.pads
    inside = np.pad(np.ones(result.act.shape[1:], bool), [(top, bottom), (left, right)])
    return used & inside.reshape(-1)


@given(shapes(), SIZES)
def test_one_hot_walks_every_pe_alone_and_where_an_output_sees_it(shape: Shape, size: tuple[int, int]) -> None:
    spec = spec_of(shape, size)
    for name in ("one-hot", "walk"):
        made = cases(name, shape, spec)
        assume(made)
        streamed = seen = None
        for case in made:
            result = on_array(case, spec)
            # (ic_tile, nij, row): at most one row at any position.
            active = result.mapping.act_tiles(case.act) != 0
            assert active.sum(2).max() == 1
            if name == "one-hot":
                assert abs(case.act).max() == 1
                assert (abs(case.conv.weight) == 1).all()
                assert set(np.unique(abs(result.psum))) <= {0, 1}
            assert (case.conv.weight != 0).all()
            products = np.einsum("tnr,tokcr->tokcrn", active, result.mapping.weight_tiles() != 0)
            here = products.any(-1)
            out = (products & windowed(result)[None, None, :, None, None]).any(-1)
            streamed, seen = (here, out) if streamed is None else (streamed | here, seen | out)
        pes = result.mapping.weight_tiles() != 0
        assert (streamed == pes).all()
        reaching = windowed(result).any(1)
        assert (seen == (pes & reaching[None, None, :, None, None])).all()


@pytest.mark.parametrize("weight_bits", [2, 4])
@pytest.mark.parametrize(("size", "padding"), [((2, 3), 1), ((1, 2), 0)])
def test_a_wrong_or_swapped_weight_shows_in_the_walk(weight_bits: int, size: tuple[int, int], padding: int) -> None:
    shape = Shape(3, 3, size, (1, 2), (padding, padding), weight_format=IntFormat(weight_bits, True))
    spec = ArraySpec(2, 2, weight_bits=weight_bits)
    made = cases("walk", shape, spec)
    golden = [on_array(case, spec) for case in made]

    def changes(n: int, weight: np.ndarray) -> tuple[bool, bool]:
        """Whether psums change, and outputs."""
        result = run_layer(shape.conv("changed", weight), made[n].act, spec)
        return bool((result.psum != golden[n].psum).any()), bool((result.out != golden[n].out).any())

    places = list(np.ndindex(*shape.weight_shape))
    for place in places:
        for code in range(shape.weight_format.lo, shape.weight_format.hi + 1):
            found = []
            for n, case in enumerate(made):
                weight = case.conv.weight.copy()
                if weight[place] != code:
                    weight[place] = code
                    found.append(changes(n, weight))
            assert any(psum for psum, _ in found)
            assert any(out for _, out in found)
    for one_place, other in combinations(places, 2):
        found = []
        for n, case in enumerate(made):
            weight = case.conv.weight.copy()
            weight[one_place], weight[other] = weight[other], weight[one_place]
            found.append(changes(n, weight)[0])
        assert any(found), (one_place, other)


def test_few_cases_walk_the_squeezed_layer_and_many_where_the_map_is_small() -> None:
    assert [c.name for c in cases("one-hot")] == ["one-hot"]
    assert [c.name for c in cases("walk")] == [f"walk-{n}" for n in range(4)]  # 14^3 > 8*8*9
    point = Shape(8, 3, (1, 1))
    assert [c.name for c in cases("one-hot", point)] == [f"one-hot-{n}" for n in range(8)]
    (left,) = make_cases("walk", replace(point, weight_format=IntFormat(1, True)), replace(WIDE, weight_bits=1))
    assert left == LeftOut("walk", "one weight code beside 0 cannot tell the weights apart")


@given(shapes(), SIZES, st.sampled_from([1, -1]), st.integers(0, 99))
def test_the_worst_case_is_the_largest_psum_there_can_be(
    shape: Shape, size: tuple[int, int], sign: int, seed: int
) -> None:
    spec = spec_of(shape, size)
    case = one("worst-max" if sign > 0 else "worst-min", shape, spec, seed=seed)
    result = on_array(case, spec)
    weight = case.conv.weight.astype(int).reshape(shape.out_channels, shape.group[0], -1)
    gain = np.maximum(sign * shape.acts[0] * weight, sign * shape.acts[1] * weight)
    inside = shape.windows(spec)[2]
    largest = max(
        int(gain[oc][:, inside[:, onij]].sum()) for oc in range(shape.out_channels) for onij in range(inside.shape[1])
    )
    assert (sign * result.out).max() == largest
    bound = case.conv.bounds()[1].max() if sign > 0 else -case.conv.bounds()[0].min()
    if inside.all(0).any():
        assert largest == bound
    if inside.sum(0).max() < shape.size[0] * shape.size[1]:
        assert (sign * result.psum).max() == sign * result.mapping.pass_bounds()[1 if sign > 0 else 0]


def test_the_worst_case_of_the_squeezed_layer_reaches_its_bound() -> None:
    for name, which in (("worst-max", 1), ("worst-min", 0)):
        case = one(name)
        result = on_array(case, ArraySpec())
        bound = case.conv.bounds()[which]
        assert (result.out.max() if which else result.out.min()) == (bound.max() if which else bound.min())
        assert case.note.endswith(f"is {bound.max() if which else bound.min()}")


EXTREMES = [f"{what}-{name}" for what in ("acc", "pass") for name in ("max", "min", "above-max", "below-min")]


@given(shapes(most_bits=3), SIZES, st.integers(2, 9), st.sampled_from(["wrap", "saturate"]))
def test_extremes_are_exact_or_out_of_reach(shape: Shape, size: tuple[int, int], bits: int, overflow: str) -> None:
    spec, fmt = spec_of(shape, size, bits, overflow), IntFormat(bits, True)
    inside = shape.windows(spec)[2]
    most = int(inside.sum(0).max())
    for name in EXTREMES:
        sign = 1 if "max" in name else -1
        beyond = sign * (name.count("above") + name.count("below"))
        target = (fmt.hi if sign > 0 else fmt.lo) + beyond
        (made,) = make_cases(name, shape, spec)
        if isinstance(made, LeftOut):
            ins = shape.group[0]
            count = min(ins, size[0]) * min(most, 1) if "pass" in name else ins * most
            a, w = max(((a, w) for a in shape.acts for w in shape.weights), key=lambda p: sign * p[0] * p[1])
            assert sign * a * w <= 0 or not reachable(count, abs(a), abs(w), abs(target))
            assert made.reason.startswith(f"{target} is out of reach")
            continue
        exact = on_array(made, replace(spec, psum_bits=40, overflow="error"))
        values = exact.psum[:, :, :, :, : shape.out_channels] if "pass" in name else exact.out
        assert (sign * values).max() == sign * target
        assert (sign * exact.out).max() == sign * target
        onij = int(re.search(r"onij (\d+)$", made.note)[1])  # type: ignore[index]
        assert (exact.out.reshape(shape.out_channels, -1)[:, onij] == target).all()
        narrow = on_array(made, spec).out.reshape(shape.out_channels, -1)[:, onij]
        opposite = fmt.lo if sign > 0 else fmt.hi
        expected = target if not beyond else target - beyond if overflow == "saturate" else opposite
        assert (narrow == expected).all()
        strict = list(make_cases(name, shape, replace(spec, overflow="error")))
        if beyond:
            assert isinstance(strict[0], LeftOut)
            assert "--overflow wrap or saturate" in strict[0].reason
        else:
            assert on_array(strict[0], replace(spec, overflow="error")).check().holds  # type: ignore[arg-type]


@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), (1, 1)), ((1, 1), (0, 0))])
def test_an_accumulated_extreme_is_reached_by_accumulating(kernel: tuple[int, int], padding: tuple[int, int]) -> None:
    shape, spec = Shape(20, 3, (4, 4), kernel, padding), ArraySpec(psum_bits=10, overflow="saturate")
    case = one("acc-above-max", shape, spec)
    exact = on_array(case, replace(spec, psum_bits=40))
    assert exact.out.max() == 512
    assert exact.psum.max() < 512
    case = one("pass-above-max", shape, spec)
    assert on_array(case, replace(spec, psum_bits=40)).psum.max() == 512
    assert on_array(case, spec).psum.max() == 511


def test_sixteen_bits_of_64_channels_and_what_8_cannot_reach() -> None:
    shape, spec = Shape(64, 8, (4, 4)), ArraySpec(overflow="saturate")
    outs = {name: on_array(one(name, shape, spec), replace(spec, psum_bits=40)).out for name in EXTREMES[:4]}
    found = (outs["acc-max"].max(), outs["acc-min"].min(), outs["acc-above-max"].max(), outs["acc-below-min"].min())
    assert found == (32767, -32768, 32768, -32769)
    (left,) = make_cases("acc-max", SQUEEZED, ArraySpec())
    assert left == LeftOut("acc-max", "32767 is out of reach: 72 products reach 7560")
    (left,) = make_cases("acc-min", replace(SQUEEZED, weight_range=(0, 7)), ArraySpec())
    assert left == LeftOut("acc-min", "-32768 is out of reach: 72 products reach 0")


@given(shapes(), SIZES, st.sampled_from(["wrap", "saturate"]))
def test_any_shape_makes_bundles_that_hold(shape: Shape, size: tuple[int, int], overflow: str) -> None:
    spec = spec_of(shape, size, 6, overflow)
    case = cases("random", shape, spec)[0]
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(on_array(case, spec), Path(folder) / "b")
        assert all(e.holds for e in verify_bundle(Path(folder) / "b"))


def test_the_most_negative_code_is_in_the_files(tmp_path: Path) -> None:
    write_bundle(on_array(one("all-min", replace(SQUEEZED, weight_range=(-8, 7))), ArraySpec()), tmp_path / "b")
    assert (tmp_path / "b" / "weight_itile0_otile0_kij4.txt").read_text().split()[3:] == ["1000" * 8] * 8
    header = tuple((tmp_path / "b" / "weight_itile0_otile0_kij4.txt").read_text().split()[:3])
    words = decode_file(tmp_path / "b" / "weight_itile0_otile0_kij4.txt", 8, IntFormat(4, True), header)
    assert (words == -8).all()
