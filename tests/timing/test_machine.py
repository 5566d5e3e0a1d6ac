"""The register-level machine against a core stepped clock by clock, against the psums, and against the closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_core import Core

from conftest import INT4, UINT4, layers
from systolith.array import ArraySpec, Mapping, run_mapped
from systolith.array.psums import leaving
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.timing import Choice, Schedule, choose, contract, observe
from systolith.timing import schedule as timing
from systolith.timing.account import Depths, needed_depths, sfp_clocks, split
from systolith.timing.elements import registers_of
from systolith.timing.machine import REGISTERS, Block, machine
from systolith.timing.mapper import EVERY_WAY
from systolith.timing.memory import Memory
from systolith.timing.sums import Sums

SIDE = st.integers(1, 9)
SCHEDULES = [Schedule(useful, drained) for useful in (True, False) for drained in (False, True)]
SPECS = st.builds(ArraySpec, SIDE, SIDE, psum_bits=st.integers(4, 18), overflow=st.sampled_from(["wrap", "saturate"]))
BANDWIDTH = st.one_of(st.none(), st.integers(1, 60))
MEMORIES = st.one_of(st.just(Memory()), st.builds(Memory, BANDWIDTH, BANDWIDTH, BANDWIDTH, st.integers(0, 5)))


@st.composite
def scheduled(
    draw: st.DrawFn, max_channels: int = 11, max_map: int = 7, side: int = 9, batch: int = 3
) -> tuple[Choice, np.ndarray]:
    """A layer in any schedule: of several pictures, of codes that share lanes, with slow memories."""
    conv, act = draw(layers(max_channels, max_map))
    simd = draw(st.sampled_from([1, 1, 2, 4]))
    rows, cols = draw(st.integers(1, side)), draw(st.integers(1, side))
    overflow = draw(st.sampled_from(["wrap", "saturate"]))
    spec = ArraySpec(rows, cols, 4 * simd, 4, draw(st.integers(4, 18)), overflow=overflow, simd=simd)
    pictures = draw(st.integers(1, batch))
    if pictures > 1:
        act = np.stack([np.roll(act, n, (1, 2)) for n in range(pictures)])
    mapping = Mapping(conv, spec, *act.shape[-2:], pictures)
    name, drained = draw(st.sampled_from(EVERY_WAY))
    choice = choose(mapping, name, drained, memory=draw(MEMORIES))
    if draw(st.booleans()) and choice.schedule.double:  # a schedule without a name
        choice = replace(choice, schedule=replace(choice.schedule, useful=False))
    return choice, act


def squeezed(act: np.ndarray | None = None) -> tuple[Mapping, np.ndarray]:
    """8 -> 8 channels, 3x3, on a 4x4 map: 9 passes."""
    rng = np.random.default_rng(1)
    conv = Conv("layer", rng.integers(-7, 8, (8, 8, 3, 3)), UINT4, INT4, padding=(1, 1))
    return Mapping(conv, ArraySpec(), 4, 4), rng.integers(0, 16, (8, 4, 4)) if act is None else act


def joined(blocks: list[Block], name: str) -> np.ndarray:
    return np.concatenate([getattr(block, name) for block in blocks])


@settings(max_examples=80)
@given(scheduled(4, 5, 5, 2), st.integers(1, 60))
def test_every_register_in_every_clock(case: tuple[Choice, np.ndarray], block: int) -> None:
    (mapping, schedule), act = (case[0].mapping, case[0].schedule), case[1]
    naive = Core(mapping, act, schedule)
    blocks = list(machine(mapping, act, schedule, block=block, trace=True))
    names = registers_of(mapping, schedule.double)
    # Both go on for some clocks after the last word has left.
    stepped = min(len(joined(blocks, "beats")), len(naive.registers))
    assert blocks[0].begin + stepped > naive.outs[-1][0] - naive.base
    for name in names:
        found = np.concatenate([b.registers[name] for b in blocks], axis=2)[:, :, :stepped]
        bits = mapping.spec.act_bits // mapping.simd if name == "code" else mapping.spec.weight_bits
        assert (found == naive.history(name, stepped, bits)).all(), name
    assert blocks[0].begin == -naive.base
    for name, events in {"psum": naive.psums, "out": naive.outs}.items():
        assert joined(blocks, name).tolist() == [clock - naive.base for clock, _ in events]
        assert joined(blocks, f"{name}s").tolist() == [word for _, word in events]
    assert joined(blocks, "read").tolist() == [clock - naive.base for clock in naive.reads]
    assert joined(blocks, "write").tolist() == [clock - naive.base for clock, _ in naive.writes]
    if not mapping.stationary:
        assert np.concatenate([b.registers["sums"] for b in blocks]).tolist() == [word for _, word in naive.writes]


@settings(max_examples=200)
@given(scheduled(), st.sampled_from([1, 100, None]))
def test_words_and_clocks(case: tuple[Choice, np.ndarray], block: int | None) -> None:
    (mapping, schedule), act = (case[0].mapping, case[0].schedule), case[1]
    result, spec = run_mapped(mapping, act), mapping.spec
    blocks = list(machine(mapping, act, schedule, block=block))
    tiles = [result.psum[mapping.ic_range(oc_tile), oc_tile] for oc_tile in range(mapping.oc_tiles)]
    psum = np.concatenate([leaving(mapping, block, schedule.useful) for block in tiles])
    assert (joined(blocks, "psums") == psum).all()
    assert (joined(blocks, "psum") == schedule.psum_clocks(mapping).reshape(-1)).all()
    pictures = result.out if act.ndim == 4 else result.out[None]
    outs = np.zeros((mapping.oc_tiles * spec.cols, mapping.onijs), dtype=np.int64)
    outs[: pictures.shape[1]] = pictures.swapaxes(0, 1).reshape(pictures.shape[1], -1)
    outs = outs.reshape(mapping.oc_tiles, spec.cols, -1).swapaxes(1, 2)
    assert (joined(blocks, "outs") == outs.reshape(-1, spec.cols)).all()
    assert (joined(blocks, "out") == schedule.out_clocks(mapping).reshape(-1)).all()
    assert max(b.last for b in blocks if b.last is not None) + 1 == schedule.clocks(mapping)
    found = observe(mapping, act, schedule)
    assert found.holds, found
    assert found.clocks == found.split.clocks == schedule.clocks(mapping)
    assert found.split == split(mapping, schedule)
    assert (found.overruns, found.hazards) == (0, 0)
    assert found.ofifo <= needed_depths(mapping, schedule).ofifo <= spec.cols
    if schedule.memory == Memory() and spec.rows > 1:
        assert found.split.stalls == 0
    # What comparing covers: each psum and output value, and six clocks; output stationary, four.
    words, count = len(psum), mapping.oc_tiles * mapping.onijs
    beats = mapping.rounds * schedule.beats(mapping)
    loads = beats if mapping.stationary else mapping.passes * (spec.rows if schedule.double else spec.cols)
    updates = [] if mapping.stationary else [mapping.passes * mapping.onijs] * 2
    each = [words * spec.cols, count * spec.cols, loads, beats, words, *updates, count]
    assert [e.compared for e in found.equalities[: len(each)]] == each


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("psum_bits", [2, 15, 16, 17, 31, 32, 33, 48])
@pytest.mark.parametrize(("act_bits", "weight_bits"), [(4, 4), (8, 8), (16, 1), (16, 16)])
def test_the_widest_codes(act_bits: int, weight_bits: int, psum_bits: int, overflow: str) -> None:
    """Whatever carries the codes and sums in NumPy is wide enough; weights of 0 too, where the sums say nothing."""
    rng = np.random.default_rng(0)
    act_format, weight_format = IntFormat(act_bits, False), IntFormat(weight_bits, True)
    for weights in ((weight_format.lo, weight_format.hi), (weight_format.lo,), (0,)):
        weight = rng.choice(weights, (3, 5, 2, 1))
        act = rng.choice([0, act_format.hi], (5, 3, 2))
        spec = ArraySpec(4, 2, act_bits, weight_bits, psum_bits, overflow=overflow)
        mapping = Mapping(Conv("layer", weight, act_format, weight_format), spec, 3, 2)
        assert observe(mapping, act, Schedule()).holds
        naive = Core(mapping, act, Schedule())
        blocks = list(machine(mapping, act, Schedule(), trace=True))
        for name in REGISTERS:
            traced = np.concatenate([b.registers[name] for b in blocks], axis=-1)
            assert (traced == naive.history(name, traced.shape[-1], 0)).all()


def test_the_squeezed_layer_by_hand() -> None:
    mapping, act = squeezed()
    blocks = list(machine(mapping, act, Schedule()))
    assert blocks[0].begin == -2  # read, queued, in
    beats = joined(blocks, "beats")[2:]
    assert beats[:25].tolist() == [1] * 8 + [0] + [2] * 16
    assert joined(blocks, "psum")[0] == 9 + 7 + 7 + 2
    assert joined(blocks, "out")[-1] == 239 + 1 + 3
    found = observe(mapping, act, Schedule())
    assert (found.clocks, found.sfp, found.l0, found.ofifo) == (239, 5, 1, 8)


def test_outputs_may_come_before_the_last_psum() -> None:
    """Of the whole padded map only the first position is needed, and nothing is left for the SFP to do at the end."""
    conv = Conv("layer", np.ones((1, 1, 1, 1), int), UINT4, INT4, stride=(9, 9))
    mapping = Mapping(conv, ArraySpec(1, 1), 9, 9)
    found = observe(mapping, np.ones((1, 9, 9), int), Schedule(useful=False))
    assert found.holds
    assert found.sfp == sfp_clocks(mapping, Schedule(useful=False)) == 0
    assert found.split.padding == 80


def test_the_clocks_do_not_depend_on_the_values() -> None:
    times = set()
    for act in (np.zeros((8, 4, 4), int), np.full((8, 4, 4), 15), None):
        mapping, codes = squeezed(act)
        blocks = list(machine(mapping, codes, Schedule()))
        times.add(tuple(np.concatenate([joined(blocks, name) for name in ("psum", "write", "out")]).tolist()))
    assert len(times) == 1


@pytest.mark.parametrize("constant", ["LEAD", "TURNAROUND", "HOP", "OFIFO", "UPDATE", "SFP"])
def test_each_constant_is_pinned(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed form with one constant changed is not what the machine, with the core's contract, does."""
    mapping, act = squeezed()
    rules = contract(mapping.spec)
    for change in (-1, 1):
        with monkeypatch.context() as patch:
            patch.setattr(timing, constant, getattr(timing, constant) + change)
            found = observe(mapping, act, Schedule(drained=True), rules=rules)
        assert not all(e.holds for e in found.equalities)
    assert observe(mapping, act, Schedule(drained=True), rules=rules).holds


def test_a_queue_one_word_shorter_overruns() -> None:
    mapping, act = squeezed()
    rules = contract(mapping.spec)
    for short in (replace(rules, l0_depth=rules.l0_depth - 1), replace(rules, ofifo_depth=rules.ofifo_depth - 1)):
        found = observe(mapping, act, Schedule(), rules=short)
        assert found.overruns > 0
        assert not found.holds
    with pytest.raises(BadInput, match="each column of the OFIFO must hold 8 words, its depth is 7"):
        observe(mapping, act, Schedule(), Depths(ofifo=7))


def test_stalls_are_counted() -> None:
    mapping, act = squeezed()
    rules = contract(mapping.spec)
    found = observe(mapping, act, Schedule(), rules=replace(rules, turnaround=3))
    assert (found.split.turnaround, found.split.stalls) == (9, 18)
    assert found.split.clocks == found.clocks == 239 + 18
    assert not found.holds


def test_a_sum_that_is_not_written_yet_is_a_hazard() -> None:
    """A word each clock for one place: the memory would be read before the sum is in it."""
    mapping = Mapping(Conv("layer", np.ones((1, 3, 1, 1), int), UINT4, INT4), ArraySpec(1, 1), 1, 1)
    words = np.ones((3, 1), dtype=np.int64)
    for gap, hazards in ((1, 2), (2, 0)):
        assert Sums(mapping, Schedule()).step(np.arange(3) * gap, words, None)[-1] == hazards


def altered(name: str, blocks: Iterator[Block]) -> Iterator[Block]:
    for block in blocks:
        psums, psum, outs = block.psums.copy(), block.psum.copy(), block.outs.copy()
        if name == "psum value" and len(psums) > 5:
            psums[5, 2] += 1
        if name == "psum clock" and len(psum) > 5:
            psum[5] += 1
        if name == "output lost":
            outs = outs[:-1]
        if name == "output twice":
            outs = np.concatenate([outs, outs[-1:]])
        yield replace(block, psums=psums, psum=psum, outs=outs)


@pytest.mark.parametrize(
    ("name", "index", "said"),
    [
        ("psum value", 0, "[5, 2] expected"),
        ("psum clock", 4, "[5] expected 30, found 31"),
        ("output lost", 1, "[15] expected"),
        ("output twice", 1, "[16] nothing was expected, found"),
    ],
)
def test_what_differs_is_found(name: str, index: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("systolith.timing.observation.machine", lambda *a: altered(name, machine(*a)))
    mapping, act = squeezed()
    found = observe(mapping, act, Schedule())
    assert not found.holds
    assert [i for i, e in enumerate(found.equalities) if not e.holds] == [index]
    assert said in found.equalities[index].first


def test_other_activations_are_refused() -> None:
    mapping, _ = squeezed()
    with pytest.raises(BadInput):
        next(machine(mapping, np.full((8, 4, 4), 16), Schedule()))
    wide = replace(mapping.conv, act_format=IntFormat(8, False))
    with pytest.raises(BadInput, match="wider than the array's lanes"):
        Mapping(wide, ArraySpec(), 4, 4)
