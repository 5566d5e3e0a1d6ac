"""What is detected, what is proved undetectable, and what slips through."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.faults.faulty import columns_of, simulate
from systolith.faults.grade import Grade, grade, visible
from systolith.faults.lattice import Machine
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.stimulus.stimulus import Case, make_cases
from systolith.vectors import Layout, find_layout, presets
from systolith.vectors.layout import vector_files
from systolith.vectors.shape import Shape

COURSE = find_layout("course")
SQUEEZED = Shape(8, 8, (4, 4))


def without(layout: Layout, tensor: str) -> Layout:
    return replace(layout, files=tuple(file for file in layout.files if file.tensor != tensor))


def before_relu(layout: Layout) -> Layout:
    return replace(layout, files=tuple(replace(file, relu=False) for file in layout.files))


def stimuli(name: str, shape: Shape, spec: ArraySpec, seed: int = 0) -> Iterator[tuple[str, ArrayResult]]:
    for case in make_cases(name, shape, spec, seed):
        if isinstance(case, Case):
            try:
                yield case.name, run_layer(case.conv, case.act, spec)
            except BadInput:  # overflows where that is an error
                continue


def numbers(graded: Grade) -> tuple[int, int, int, int]:
    return len(graded.detected), len(graded.undetectable), len(graded.survivors), len(graded.unknown)


def test_the_corner_set_reveals_every_detectable_fault_of_an_8x8_array() -> None:
    graded = grade(stimuli("corner", SQUEEZED, ArraySpec()), COURSE)
    assert graded.holds
    assert graded.survivors == graded.unknown == ()
    assert len(graded.detected) >= 200
    assert len(graded.detected) + len(graded.undetectable) == len(graded.faults) == 6253
    table = {kind: rest for kind, *rest in graded.table()}
    assert table["weight bit"] == [512, 512, 0, 0, 0]
    assert table["carry of the adder dropped"] == [960, 840, 120, 0, 0]  # nothing enters row 0
    whys = {str(fault): reason for fault, reason in graded.undetectable.items()}
    assert whys["ReLU: col 5, above 0 instead of from 0"] == "the sum stays within -8640..7560, where nothing changes"
    assert "ReLU: col 5, from 2" not in whys
    assert "psum register: row 7, col 0, one bit narrower" in whys


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        (Shape(4, 4, (6, 5), stride=(2, 2)), ArraySpec(4, 4)),
        (Shape(4, 4, (4, 4), kernel=(1, 1), padding=(0, 0)), ArraySpec(4, 4)),
        (Shape(5, 11, (4, 3)), ArraySpec(4, 4)),
        (Shape(9, 5, (3, 5), kernel=(2, 3), padding=(0, 1)), ArraySpec(4, 3)),
        (Shape(3, 2, (5, 4), padding=(2, 1), dilation=(2, 1)), ArraySpec(4, 4)),
        (Shape(16, 10, (1, 1), kernel=(1, 1), padding=(0, 0)), ArraySpec(4, 4)),
        (Shape(4, 4, (4, 4)), ArraySpec(4, 4, psum_bits=8, overflow="wrap")),
        (Shape(4, 4, (4, 4)), ArraySpec(4, 4, psum_bits=9, overflow="saturate")),
        (Shape(4, 4, (4, 4)), ArraySpec(4, 4, psum_bits=9)),
        (Shape(8, 8, (4, 4), groups=8), ArraySpec(4, 4)),
        (Shape(8, 12, (4, 3), groups=4, padding=(0, 1, 1, 0)), ArraySpec(4, 3)),
        (Shape(10, 6, (4, 3), groups=2), ArraySpec(4, 4)),
        (Shape(6, 9, (3, 4), groups=3, kernel=(2, 2)), ArraySpec(4, 4, psum_bits=9, overflow="saturate")),
    ],
)
def test_the_corner_set_reveals_every_detectable_fault_of_other_layers(shape: Shape, spec: ArraySpec) -> None:
    graded = grade(stimuli("corner", shape, spec), COURSE)
    assert graded.holds
    assert graded.survivors == graded.unknown == ()


def test_a_weight_that_no_stimulus_has_is_asked_for() -> None:
    signed = replace(Shape(4, 4, (4, 4)), act_format=IntFormat(4, True))
    spec = ArraySpec(4, 4)
    graded = grade(stimuli("corner", signed, spec), COURSE)
    assert not graded.holds
    assert {(s.fault.kind, s.fault["how"]) for s in graded.survivors} == {("product", "one bit narrower")}  # -8 * -8
    assert {s.revealed_by for s in graded.survivors} == {"--stimulus all-min --most-negative"}
    assert grade(stimuli("corner", replace(signed, weight_range=(-8, 7)), spec), COURSE).holds


def test_what_slips_through_is_revealed_by_the_stimulus_that_is_named() -> None:
    shape, spec = Shape(4, 4, (3, 3)), ArraySpec(4, 4)
    graded = grade(stimuli("sparse", shape, spec), COURSE)
    assert not graded.holds
    assert len(graded.survivors) > 20
    assert graded.unknown == ()
    named = {s.revealed_by for s in graded.survivors}
    for name in named:
        _, case = name.split()
        revealed = grade([one for one in stimuli("corner", shape, spec) if one[0] == case], COURSE).detected
        assert {s.fault for s in graded.survivors if s.revealed_by == name} <= set(revealed)


def test_files_that_show_less_reveal_less() -> None:
    shape, spec = Shape(4, 4, (3, 3)), ArraySpec(4, 4)
    layouts = [
        COURSE,
        replace(COURSE, files=tuple(replace(f, first={"nij": 8}) if f.tensor == "psum" else f for f in COURSE.files)),
        without(COURSE, "psum"),
    ]
    found = [set(grade(stimuli("random", shape, spec), layout).detected) for layout in layouts]
    assert found[0] > found[1] > found[2]
    no_outputs = grade(stimuli("corner", shape, spec), without(COURSE, "out"))
    assert {f.kind for f in no_outputs.detected}.isdisjoint({"sum bit", "psum address", "pass of kij", "ReLU"})
    assert set(no_outputs.undetectable.values()) >= {"no golden file shows what it touches"}
    whole = grade(stimuli("corner", shape, spec), without(COURSE, "psum"))
    assert whole.holds  # outputs alone reveal every detectable fault to the whole corner set
    assert whole.unknown == ()


@pytest.mark.parametrize(
    "layout",
    [*(p for p in presets().values() if p.files), without(COURSE, "psum"), before_relu(COURSE)],
    ids=lambda layout: layout.name,
)
def test_what_is_visible_is_what_the_files_hold(layout: Layout) -> None:
    """A bit that flips in a psum or output changes a word exactly where it is said to be visible."""
    rng = np.random.default_rng(0)
    channels = 5 if layout.name in ("course",) else 8
    conv = Conv("layer", rng.integers(-8, 8, (channels, 8, 3, 3)), UINT4, INT4, padding=(1, 1))
    result = run_layer(conv, rng.integers(0, 16, (8, 4, 4)), ArraySpec(8, 8))
    result = replace(result, out=np.maximum(result.out, 1))  # where ReLU lets changes through

    def words(psum: np.ndarray, out: np.ndarray) -> list[np.ndarray]:
        files = vector_files(replace(result, psum=psum, out=out), layout)
        return [f.words & ((1 << f.fmt.bits) - 1) for f in files if f.spec.tensor in ("psum", "out", "out_os")]

    right = words(result.psum, result.out)
    seen = visible(layout, result.mapping)

    def changes(psum: np.ndarray, out: np.ndarray) -> bool:
        return any((a != b).any() for a, b in zip(words(psum, out), right, strict=True))

    outputs = (seen.out | seen.after).reshape(-1, *result.mapping.output_shape)
    for bit in (0, 7, 14):
        for _ in range(8):
            psum, at = result.psum.copy(), tuple(rng.integers(result.psum.shape))
            psum[at] ^= 1 << bit
            ic_tile, oc_tile, kij, nij, col = at
            assert changes(psum, result.out) == bool(seen.psum[oc_tile, col, ic_tile, kij, nij] >> bit & 1)
            out, at = result.out.copy(), tuple(rng.integers(result.out.shape))
            out[at] ^= 1 << bit
            assert changes(result.psum, out) == bool(outputs[at] >> bit & 1)


def test_a_lane_without_a_channel_is_a_word_too() -> None:
    shape, spec = Shape(3, 2, (3, 3)), ArraySpec(4, 4)
    lanes = grade(stimuli("corner", shape, spec), without(COURSE, "psum"))
    assert any(f.kind == "sum bit" and f["col"] == 3 for f in lanes.detected)
    files = tuple(replace(f, lanes=("oc",), name="out.txt") for f in without(COURSE, "psum").files if f.tensor == "out")
    channels = grade(stimuli("corner", shape, spec), replace(COURSE, files=files))
    assert not any(f.kind == "sum bit" and f["col"] == 3 for f in channels.detected)


TINY = {
    "one PE": ((1, 1), (1, 1), (1, 1)),
    "two rows": ((2, 1), (1, 1), (1, 1)),
    "two columns": ((1, 2), (1, 1), (1, 1)),
    "two positions": ((1, 1), (1, 2), (1, 1)),
    "two kij": ((1, 1), (1, 2), (1, 2)),
    "a row and a column without a channel": ((1, 1), (1, 1), (1, 1)),
    "two tiles": ((2, 1), (1, 1), (1, 1)),
    "two groups": ((2, 2), (1, 1), (1, 1)),
    "two groups, tiles of their own": ((2, 2), (1, 1), (1, 1)),
}


@pytest.mark.parametrize("layout", [COURSE, without(COURSE, "psum")], ids=["psums", "outputs"])
@pytest.mark.parametrize(("overflow", "psum_bits"), [("error", 6), ("error", 3), ("wrap", 3), ("saturate", 3)])
@pytest.mark.parametrize("name", list(TINY))
def test_undetectable_is_undetectable_by_every_stimulus_there_is(
    name: str, overflow: str, psum_bits: int, layout: Layout
) -> None:
    channels, size, kernel = TINY[name]
    act, weight = IntFormat(1 if channels[0] > 1 and size[1] > 1 else 2, False), IntFormat(2, True)
    array = (2, 2) if "without" in name else (1, 1) if "tiles" in name else channels
    spec = ArraySpec(*array, act.bits, weight.bits, psum_bits, overflow=overflow)
    groups = 2 if "groups" in name else 1
    act_shape, weight_shape = (channels[0], *size), (channels[1], channels[0] // groups, *kernel)
    every = []
    codes = [range(4)] * int(np.prod(act_shape)), [range(-2, 2)] * int(np.prod(weight_shape))
    for acts, weights in itertools.product(itertools.product(*codes[0]), itertools.product(*codes[1])):
        conv = Conv("tiny", np.array(weights).reshape(weight_shape), act, weight, groups=groups)
        try:
            every.append(("", run_layer(conv, np.array(acts).reshape(act_shape), spec)))
        except BadInput:
            assert overflow == "error"
    truth = grade(every, layout)
    first = grade(every[:1], layout)
    assert first.faults == truth.faults
    assert not set(first.undetectable) & set(truth.detected)
    assert set(first.detected) | {s.fault for s in first.survivors} <= set(truth.detected)
    # No stimulus is left that could reveal more. What the proofs miss, where a ReLU hides it, stays unknown.
    assert not truth.survivors
    assert layout is not COURSE or {f.kind for f in truth.unknown} <= {"sum register"}
    assert len(truth.unknown) <= 0.1 * len(truth.faults)


@pytest.mark.parametrize("shape", [Shape(3, 5, (3, 2), stride=(1, 2)), Shape(8, 4, (3, 2), groups=2)])
def test_a_fault_that_is_detected_differs_in_a_word(shape: Shape) -> None:
    """The grade against whole files: the words of a simulated fault in all columns, written and compared."""
    spec = ArraySpec(3, 3, psum_bits=7, overflow="saturate")
    (_, result), *_ = stimuli("sparse", shape, spec, seed=4)
    graded = grade([("it", result)], COURSE, most=400)
    machine, mapping = Machine(result), result.mapping
    right = {f.name: f.words for f in vector_files(result, COURSE)}
    for fault in graded.faults:
        if fault.kind == "ReLU":
            continue
        psum, out = result.psum.copy(), machine.out.copy()
        for o, c in itertools.product(range(mapping.oc_tiles), columns_of(fault, mapping)):
            found = simulate(machine, fault, o, c)
            psum[mapping.ic_range(o), o, :, :, c], out[o, c] = found.psum, found.out
        outputs = out.reshape(-1, *mapping.output_shape)
        wrong = replace(result, psum=psum, out=outputs[: shape.out_channels])
        differs = any((right[f.name] != f.words).any() for f in vector_files(wrong, COURSE))
        differs |= bool(np.maximum(outputs[shape.out_channels :], 0).any())  # lanes without a channel
        assert differs == (fault in graded.detected), str(fault)


def test_what_cannot_be_graded() -> None:
    shape, spec = Shape(2, 2, (3, 3)), ArraySpec(2, 2)
    (one,) = stimuli("all-max", shape, spec)
    (other,) = stimuli("all-min", replace(shape, stride=(2, 2)), spec)
    with pytest.raises(BadInput, match="all-min and all-max are of different layers or arrays"):
        grade([one, other], COURSE)
    with pytest.raises(BadInput, match="no vectors to grade"):
        grade([], COURSE)
    with pytest.raises(BadInput, match="layout course: has no psums or outputs that could reveal a fault"):
        grade([one], without(without(COURSE, "psum"), "out"))
