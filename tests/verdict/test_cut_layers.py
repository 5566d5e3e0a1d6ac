"""Mistakes on layers that are packed into rows, output stationary, of a batch, or with several codes a lane: each
against whole numbers that are added up one by one, and through bundles, dumps and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, Mapping, run_mapped
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.vectors import find_layout, read_bundle, verify_bundle, write_bundle
from systolith.verdict.judge import judge
from systolith.verdict.mistakes import Mistaken, mistakes

UINT2 = IntFormat(2, signed=False)


def layer(name: str) -> ArrayResult:
    dataflow, simd, batch, groups, overflow = {
        "packed": ("ws", 1, 1, 1, "error"),
        "packed, batch": ("ws", 1, 2, 1, "error"),
        "packed, two codes": ("ws", 2, 1, 1, "error"),
        "packed, grouped, saturates": ("ws", 1, 1, 2, "saturate"),
        "stationary": ("os", 1, 1, 1, "error"),
        "stationary, two codes, batch": ("os", 2, 2, 1, "error"),
        "stationary, saturates": ("os", 1, 1, 1, "saturate"),
        "plain, two codes, batch": ("ws", 2, 2, 1, "error"),
    }[name]
    rng = np.random.default_rng(3)
    act = UINT2 if simd > 1 else UINT4
    weight = rng.integers(-8, 8, (6, 5, 2, 3))
    conv = Conv("layer", weight, act, INT4, (2, 1), (1, 0, 1, 2), (1, 1), groups)
    bits = 8 if overflow == "saturate" else 16
    spec = ArraySpec(4, 4, psum_bits=bits, dataflow=dataflow, overflow=overflow, simd=simd)
    mapping = Mapping(conv, spec, 5, 4, batch, packed=name.startswith("packed"))
    codes = rng.integers(act.lo, act.hi + 1, (*([batch] if batch > 1 else []), 5 * groups, 5, 4))
    return run_mapped(mapping, codes)


NAMES = ("packed", "packed, batch", "packed, two codes", "packed, grouped, saturates", "stationary")
NAMES += ("stationary, two codes, batch", "stationary, saturates", "plain, two codes, batch")
FLAT = NAMES[:-1]


@dataclass
class Wrong:
    """What a mistake changes; by default nothing.

    Attributes:
        act, weight: what is taken of a code.
        tap: the kernel position whose weight is taken instead of one's own.
        shift, width, stride: of addresses, instead of 0, the padded width and the layer's stride.
        address_tap: how many kernel positions further the activation is.
        missing: kernel positions left out.
        lane: the lane and code whose activation is taken, of a lane, a code, a tile's lanes and a lane's codes.
    """

    act: Callable[[int], int] = lambda a: a
    weight: Callable[[int], int] = lambda w: w
    tap: Callable[[int, int], int] = lambda tap, taps: tap
    shift: int = 0
    width: int | None = None
    stride: int | None = None
    address_tap: int = 0
    missing: tuple[int, ...] = ()
    lane: Callable[[int, int, int, int], tuple[int, int]] = lambda lane, code, lanes, codes: (lane, code)


def flat(result: ArrayResult, wrong: Wrong) -> tuple[np.ndarray, np.ndarray]:
    """Psums (band's tile, oc_tile, onij, col) and outputs (picture, lane, oi, oj), product after product."""
    m, conv = result.mapping, result.mapping.conv
    spec, simd, taps = m.spec, m.simd, m.taps
    fmt, saturates = spec.psum_format, spec.overflow == "saturate"
    kw, (oh, ow), (top, bottom, left, right) = conv.kernel[1], m.output_shape, conv.pads
    acts = result.act.reshape(m.batch, conv.in_channels, m.height, m.width)
    maps = np.pad(acts, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height, width = maps.shape[2:]
    line = maps.swapaxes(0, 1).reshape(conv.in_channels, -1).tolist()
    outs, ins = conv.out_channels // conv.groups, conv.in_channels // conv.groups

    def reads(oc_tile: int) -> range:
        last = min(conv.out_channels, (oc_tile + 1) * spec.cols) - 1
        return range(oc_tile * spec.cols // outs * ins, (last // outs + 1) * ins)

    bands = sorted({reads(t).start for t in range(m.oc_tiles)})
    widest = max(len(reads(t)) for t in range(m.oc_tiles))
    lanes_a_tap = -(-widest // simd)
    lanes = lanes_a_tap * taps
    depth = lanes if m.stationary else spec.rows
    tiles = -(-lanes // depth)
    psum = np.zeros((len(bands) * tiles, m.oc_tiles, m.batch * oh * ow, spec.cols), dtype=np.int64)
    out = np.zeros((m.batch, m.oc_tiles * spec.cols, oh, ow), dtype=np.int64)

    def of(lane: int, code: int, begin: int) -> tuple[int, int]:
        """Channel (beyond the last where there is none) and kernel position."""
        if m.stationary:
            group, tap = divmod(lane, taps)
        else:
            tap, group = divmod(lane, lanes_a_tap)
        within = group * simd + code
        return (begin + within if lane < lanes and within < widest else conv.in_channels), tap

    for o in range(m.oc_tiles):
        begin, band = reads(o).start, bands.index(reads(o).start)
        for onij in range(m.batch * oh * ow):
            picture, at = divmod(onij, oh * ow)
            oi, oj = divmod(at, ow)
            for col in range(spec.cols):
                oc, total = o * spec.cols + col, 0
                for tile in range(tiles):
                    held = 0
                    for row in range(depth):
                        for code in range(simd):
                            taken = wrong.lane(row, code, depth, simd)
                            channel, tap = of(tile * depth + taken[0], taken[1], begin)
                            its, its_tap = of(tile * depth + row, code, begin)
                            if oc >= conv.out_channels or not 0 <= its - oc // outs * ins < ins:
                                continue
                            if channel >= conv.in_channels or its >= conv.in_channels or tap in wrong.missing:
                                continue
                            ki, kj = divmod((tap + wrong.address_tap) % taps, kw)
                            sh, sw = (wrong.stride,) * 2 if wrong.stride else conv.stride
                            place = (oi * sh + ki * conv.dilation[0]) * (wrong.width or width)
                            place += oj * sw + kj * conv.dilation[1] + wrong.shift + picture * height * width
                            a = line[channel][place] if 0 <= place < len(line[0]) else 0
                            wi, wj = divmod(wrong.tap(its_tap, taps), kw)
                            w = int(conv.weight[oc, its - oc // outs * ins, wi, wj])
                            held += wrong.act(int(a)) * wrong.weight(w)
                        if saturates:
                            held = max(fmt.lo, min(fmt.hi, held))
                    psum[band * tiles + tile, o, onij, col] = held
                    total += held
                    if saturates:
                        total = max(fmt.lo, min(fmt.hi, total))
                out[picture, oc, oi, oj] = total
    return psum, out


def wrongs(result: ArrayResult) -> dict[str, Wrong]:
    """By the name that the verdict gives it."""
    m = result.mapping
    half = 1 << (m.code_format.bits - 1)
    axis = "steps" if m.stationary else "rows"
    found = {
        "no ReLU": Wrong(),
        "activations taken as signed": Wrong(act=lambda a: a - 2 * half if a >= half else a),
        "weights taken as unsigned": Wrong(weight=lambda w: w % 16),
        f"order of the {axis} reversed in one operand": Wrong(lane=lambda r, k, rows, codes: (rows - 1 - r, k)),
        "kij off by one: the weights of the kij before": Wrong(tap=lambda t, taps: (t - 1) % taps),
        "kij off by one: the weights of the kij behind": Wrong(tap=lambda t, taps: (t + 1) % taps),
        "kij off by one: the addresses of the kij before": Wrong(address_tap=-1),
        "kij off by one: the addresses of the kij behind": Wrong(address_tap=1),
        "one position late": Wrong(shift=1),
        "one position early": Wrong(shift=-1),
        "row stride wrong: the width without its padding": Wrong(width=m.width),
        "stride taken as 1": Wrong(stride=1),
        "kij 0 missing": Wrong(missing=(0,)),
        "kij 5 missing": Wrong(missing=(5,)),
    }
    if m.simd > 1:
        found["order of a lane's codes reversed in one operand"] = Wrong(
            lane=lambda r, k, rows, codes: (r, codes - 1 - k)
        )
    return found


def by_name(result: ArrayResult) -> dict[str, Mistaken]:
    return {one.name: one for one in mistakes(result)}


@pytest.mark.parametrize("name", FLAT)
def test_mistakes_are_what_products_added_one_by_one_make(name: str) -> None:
    result = layer(name)
    known, planted = by_name(result), wrongs(result)
    for mistake, wrong in planted.items():
        psum, out = flat(result, wrong)
        found = known[mistake]
        assert np.array_equal(found.psum[:, :, 0], psum), mistake
        assert np.array_equal(found.out.reshape(out.shape), out), mistake
    right = flat(result, Wrong())[1]
    assert np.array_equal(right[:, : result.mapping.conv.out_channels].reshape(result.out.shape), result.out)


def test_a_pass_off_by_one_has_the_weights_of_its_neighbour() -> None:
    result = layer("packed")
    m, known = result.mapping, by_name(result)
    acts, weights, order = m.act_tiles(result.act), m.weight_tiles(), m.order.tolist()
    for which, by in (("before", -1), ("behind", 1)):
        found = known[f"pass off by one: the weights of the pass {which}"].psum
        for number, (o, kij, i) in enumerate(order):
            other = number + by
            expected = np.zeros((m.nijs, m.spec.cols), dtype=np.int64)
            if 0 <= other < len(order):
                oo, okij, oi = order[other]
                expected = acts[i].astype(np.int64) @ weights[oi, oo, okij].astype(np.int64).T
            assert np.array_equal(found[i, o, kij], expected)


def test_sums_that_leave_top_row_first_are_reversed_within_their_fold() -> None:
    result = layer("stationary")  # 3 x 5 outputs in folds of 4: the last has an idle row
    found = by_name(result)["order of the rows reversed as sums leave"].psum[0, :, 0]
    psum, at = result.psum[0, :, 0], 0
    for fold in range(4):
        for row in (3, 2, 1, 0):
            if at < 15:
                place = fold * 4 + row
                assert np.array_equal(found[:, at], psum[:, place] if place < 15 else psum[:, 0] * 0)
                at += 1


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_of_it_holds_and_names_a_mistake(name: str, tmp_path: Path) -> None:
    result = layer(name)
    layout = find_layout("course-os" if result.mapping.stationary else "course")
    write_bundle(result, tmp_path / "b", layout)
    assert all(e.holds for e in verify_bundle(tmp_path / "b"))
    again, _ = read_bundle(tmp_path / "b")
    assert again.mapping.order.tolist() == result.mapping.order.tolist()
    assert (again.mapping.batch, again.mapping.packed, again.mapping.simd, again.mapping.spec.dataflow) == (
        *(result.mapping.batch, result.mapping.packed, result.mapping.simd),
        result.mapping.spec.dataflow,
    )
    assert judge(again, layout, tmp_path / "b").holds


@pytest.mark.parametrize("name", [name for name in NAMES if "saturates" not in name])
def test_weights_taken_as_unsigned_are_named(name: str, tmp_path: Path) -> None:
    result = layer(name)
    m, layout = result.mapping, find_layout("course-os" if result.mapping.stationary else "course")
    # A layer of its own, as far as its dump goes; its registers do not overflow.
    conv = replace(m.conv, weight=m.conv.weight & 15, weight_format=IntFormat(5, True))
    wrong = run_mapped(replace(m, conv=conv, spec=replace(m.spec, weight_bits=5)), result.act)
    write_bundle(wrong, tmp_path / "wrong", layout)
    verdict = judge(result, layout, tmp_path / "wrong")
    assert verdict.suspects == ("weights taken as unsigned",)
    assert "layer layer, " in verdict.first
