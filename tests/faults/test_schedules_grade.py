"""What the corner set reveals in every schedule, and that what is proved undetectable is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from systolith.array import ArrayResult, ArraySpec, Mapping
from systolith.array.layer import run_mapped
from systolith.faults.grade import Grade, grade
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.stimulus.stimulus import Case, make_cases
from systolith.vectors import Layout, find_layout
from systolith.vectors.shape import Shape

COURSE = find_layout("course")
OUTPUTS = replace(COURSE, files=tuple(file for file in COURSE.files if file.tensor != "psum"))
SQUEEZED = Shape(8, 8, (4, 4))
UINT2 = IntFormat(2, False)


@dataclass(frozen=True)
class Way:
    packed: bool = False
    double: bool = False
    batch: int = 1


def stimuli(name: str, shape: Shape, spec: ArraySpec, way: Way) -> Iterator[tuple[str, ArrayResult]]:
    for case in make_cases(name, shape, replace(spec, dataflow="ws")):
        if isinstance(case, Case):
            act = case.act
            if way.batch > 1:
                act = np.stack([np.roll(act, n, (0, 1, 2)) for n in range(way.batch)])
            try:
                yield case.name, run_mapped(Mapping(case.conv, spec, *shape.size, way.batch, way.packed), act)
            except BadInput:  # overflows where that is an error
                continue


@cache
def corner(shape: Shape, spec: ArraySpec, way: Way) -> Grade:
    return grade(stimuli("corner", shape, spec, way), COURSE, double=way.double)


STATIONARY, TWO = ArraySpec(dataflow="os"), ArraySpec(simd=2)
TWO_CODES = replace(SQUEEZED, in_channels=16, act_format=UINT2)


@pytest.mark.parametrize(
    ("shape", "spec", "way", "faults", "undetectable"),
    [
        (SQUEEZED, ArraySpec(), Way(double=True), 6893, 281),
        (SQUEEZED, ArraySpec(), Way(packed=True), 6247, 281),
        pytest.param(SQUEEZED, ArraySpec(), Way(packed=True, double=True), 6887, 281, marks=pytest.mark.slow),
        pytest.param(SQUEEZED, ArraySpec(), Way(batch=2), 6259, 280, marks=pytest.mark.slow),
        (TWO_CODES, TWO, Way(), 6909, 345),
        pytest.param(TWO_CODES, TWO, Way(packed=True, double=True), 7991, 345, marks=pytest.mark.slow),
        (SQUEEZED, STATIONARY, Way(), 8857, 321),
        pytest.param(TWO_CODES, replace(STATIONARY, simd=2), Way(), 9953, 393, marks=pytest.mark.slow),
        pytest.param(SQUEEZED, STATIONARY, Way(batch=2), 8869, 320, marks=pytest.mark.slow),
    ],
)
def test_the_corner_set_reveals_every_detectable_fault_of_an_8x8_array(
    shape: Shape, spec: ArraySpec, way: Way, faults: int, undetectable: int
) -> None:
    graded = corner(shape, spec, way)
    assert graded.holds
    assert graded.survivors == graded.unknown == ()
    assert (len(graded.faults), len(graded.undetectable)) == (faults, undetectable)


def test_the_registers_of_a_schedule_have_faults() -> None:
    double = {kind: rest for kind, *rest in corner(SQUEEZED, ArraySpec(), Way(double=True)).table()}
    assert double["shadow weight"] == [8 * 8 * 3, 8 * 8 * 3, 0, 0, 0]
    assert double["weight passing south bit"] == [7 * 8 * 4 * 2, 7 * 8 * 4 * 2, 0, 0, 0]
    stationary = {kind: rest for kind, *rest in corner(SQUEEZED, STATIONARY, Way()).table()}
    assert stationary["sum bit in the processing element"] == [8 * 8 * 16 * 2, 8 * 8 * 16 * 2, 0, 0, 0]
    assert stationary["drain register bit"] == [8 * 8 * 16 * 2, 8 * 8 * 16 * 2, 0, 0, 0]
    assert stationary["drain"] == [8 * 3, 8 * 3, 0, 0, 0]
    assert {"psum from above missing", "stale psum", "weight load"}.isdisjoint(stationary)
    with pytest.raises(BadInput, match="double-buffered weights: expected weights that stay"):
        corner(SQUEEZED, STATIONARY, Way(double=True))


LAYERS = [
    (Shape(4, 4, (6, 5), stride=(2, 2)), ArraySpec(4, 4)),
    (Shape(5, 7, (3, 4), kernel=(2, 3), padding=(0, 1)), ArraySpec(4, 3)),
    (Shape(3, 2, (5, 4), padding=(2, 1), dilation=(2, 1)), ArraySpec(4, 2)),
    (Shape(4, 4, (2, 2), kernel=(1, 1), padding=(0, 0)), ArraySpec(4, 3)),
    (Shape(4, 4, (4, 4)), ArraySpec(4, 4, psum_bits=8, overflow="wrap")),
    (Shape(6, 6, (3, 4), groups=3, kernel=(2, 2)), ArraySpec(4, 4, psum_bits=9, overflow="saturate")),
]


WAYS = [Way(double=True), Way(packed=True), Way(packed=True, double=True, batch=2)]


@pytest.mark.parametrize(("shape", "spec"), LAYERS)
def test_the_corner_set_reveals_every_detectable_fault_of_other_layers(shape: Shape, spec: ArraySpec) -> None:
    for graded in (
        *(corner(shape, spec, way) for way in WAYS),
        corner(shape, replace(spec, dataflow="os"), Way()),
    ):
        assert graded.holds
        assert graded.unknown == ()


@pytest.mark.parametrize(("shape", "spec"), LAYERS)
def test_with_two_codes_a_lane_nothing_is_unknown(shape: Shape, spec: ArraySpec) -> None:
    two = replace(shape, act_format=UINT2)
    for way, dataflow in ((Way(), "ws"), (Way(packed=True, double=True), "ws"), (Way(), "os")):
        assert corner(two, replace(spec, simd=2, dataflow=dataflow), way).unknown == ()


@pytest.mark.parametrize(
    ("spec", "way"), [(ArraySpec(3, 3, dataflow="os"), Way(batch=2)), (ArraySpec(3, 3), Way(packed=True, double=True))]
)
def test_what_slips_through_is_revealed_by_the_stimulus_that_is_named(spec: ArraySpec, way: Way) -> None:
    shape = Shape(3, 3, (3, 3))
    graded = grade(stimuli("sparse", shape, spec, way), COURSE, double=way.double)
    assert len(graded.survivors) > 20
    assert graded.unknown == ()
    for name in {s.revealed_by for s in graded.survivors}:
        case = name.split()[1]
        of = [one for one in stimuli("corner", shape, spec, way) if one[0] == case]
        revealed = grade(of, COURSE, double=way.double).detected
        assert {s.fault for s in graded.survivors if s.revealed_by == name} <= set(revealed)


def test_what_is_graded_together_is_mapped_alike() -> None:
    shape, spec = Shape(3, 3, (3, 3)), ArraySpec(3, 3)
    (one,) = stimuli("all-max", shape, spec, Way())
    for other in (Way(packed=True), Way(batch=2)):
        with pytest.raises(BadInput, match="all-min and all-max are of different layers or arrays"):
            grade([one, *stimuli("all-min", shape, spec, other)], COURSE)


Side = tuple[int, int]


@dataclass(frozen=True)
class Tiny:
    """A layer small enough for every stimulus there is; codes of 1 bit if there are many."""

    channels: Side = (1, 1)
    size: Side = (1, 1)
    kernel: Side = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    array: Side = (1, 1)
    bits: Side = (2, 2)
    simd: int = 1
    way: Way = Way()
    dataflow: str = "ws"


DOUBLE, PACKED, BOTH = Way(double=True), Way(packed=True), Way(packed=True, double=True)
TINY = {
    "double": Tiny(way=DOUBLE),
    "double, two rows": Tiny((2, 1), array=(2, 1), way=DOUBLE),
    "double, two tiles": Tiny((2, 1), way=DOUBLE),
    "double, two output tiles": Tiny((1, 2), way=DOUBLE),
    "double, two kij": Tiny(size=(1, 2), kernel=(1, 2), way=DOUBLE),
    "double, padded": Tiny(size=(1, 1), kernel=(1, 2), pads=(0, 0, 1, 0), way=DOUBLE),
    "packed": Tiny(size=(1, 2), kernel=(1, 2), array=(2, 1), way=PACKED),
    "packed, two tiles": Tiny(size=(1, 2), kernel=(1, 2), way=BOTH),
    "packed, padded": Tiny(size=(1, 1), kernel=(1, 2), pads=(0, 0, 1, 0), array=(2, 1), way=BOTH),
    "packed, two maps a bank": Tiny((2, 1), way=PACKED),
    "packed, a column": Tiny(size=(2, 1), kernel=(2, 1), array=(2, 2), way=PACKED),
    "two codes": Tiny((2, 1), bits=(1, 2), simd=2),
    "two codes, packed": Tiny((3, 1), array=(2, 1), bits=(1, 2), simd=2, way=BOTH),
    "batch": Tiny(way=Way(batch=2)),
    "stationary": Tiny(dataflow="os"),
    "stationary, two steps": Tiny((2, 1), dataflow="os"),
    "stationary, two rows": Tiny(size=(1, 2), array=(2, 1), dataflow="os"),
    "stationary, two folds": Tiny(size=(1, 3), kernel=(1, 1), array=(2, 1), bits=(1, 2), dataflow="os"),
    "stationary, two output tiles": Tiny((1, 2), dataflow="os"),
    "stationary, an idle row": Tiny((2, 1), array=(2, 2), bits=(1, 2), dataflow="os"),
    "stationary, padded": Tiny(size=(1, 2), kernel=(1, 2), pads=(0, 0, 1, 0), array=(2, 1), dataflow="os"),
    "stationary, two codes": Tiny((3, 1), bits=(1, 2), simd=2, dataflow="os"),
    "stationary, batch": Tiny(array=(2, 1), dataflow="os", way=Way(batch=2)),
}


def everything(tiny: Tiny, overflow: str, psum_bits: int) -> Iterator[tuple[str, ArrayResult]]:
    act, weight = IntFormat(tiny.bits[0], False), IntFormat(tiny.bits[1], True)
    lane = act.bits * tiny.simd
    spec = ArraySpec(*tiny.array, lane, weight.bits, psum_bits, tiny.dataflow, overflow, tiny.simd)
    way, conv_shape = tiny.way, (tiny.channels[1], tiny.channels[0], *tiny.kernel)
    shape = (way.batch, tiny.channels[0], *tiny.size)[way.batch == 1 :]
    integers = [(act, shape), (weight, conv_shape)]
    acts, weights = (itertools.product(range(f.lo, f.hi + 1), repeat=int(np.prod(of))) for f, of in integers)
    for a, w in itertools.product(acts, weights):
        conv = Conv("tiny", np.array(w).reshape(conv_shape), act, weight, padding=tiny.pads)
        try:
            yield "", run_mapped(Mapping(conv, spec, *tiny.size, way.batch, way.packed), np.array(a).reshape(shape))
        except BadInput:
            assert overflow == "error"


HIDDEN = {"sum register", "sum bit", "carry of the sum dropped", "ReLU"}
"""Kinds of fault of the SFP: where all but one psum of an output are of the padding, their bounds are not exact."""


@pytest.mark.parametrize(
    ("layout", "overflow", "psum_bits"), [(COURSE, "error", 6), (COURSE, "saturate", 3), (OUTPUTS, "wrap", 3)]
)
@pytest.mark.parametrize("name", list(TINY))
def test_undetectable_is_undetectable_by_every_stimulus_there_is(
    name: str, layout: Layout, overflow: str, psum_bits: int
) -> None:
    tiny = TINY[name]
    every = list(everything(tiny, overflow, psum_bits))
    truth, first = (grade(some, layout, double=tiny.way.double) for some in (every, every[:1]))
    assert first.faults == truth.faults
    assert not set(first.undetectable) & set(truth.detected)
    assert set(first.detected) | {s.fault for s in first.survivors} <= set(truth.detected)
    assert not truth.survivors
    assert layout is not COURSE or {f.kind for f in truth.unknown} <= HIDDEN
    assert len(truth.unknown) <= 0.1 * len(truth.faults)
