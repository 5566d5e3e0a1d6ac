"""The core in real simulators: every psum, output and code, and the clock of each."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import INT4, UINT4, Find
from systolith.array import ArrayResult, ArraySpec, Mapping, run_layer, run_mapped
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.network.requantize import FixedPoint, Thresholds
from systolith.rtl.layer import Outcome, parameters, run_on, run_sequence, shared
from systolith.rtl.simulators import SIMULATORS, Simulator
from systolith.rtl.stress import (
    SCHEDULES,
    random_act,
    random_batch,
    random_fixed_point,
    random_layer,
    random_memory,
    random_thresholds,
)
from systolith.timing import WAYS, Schedule, choose, observe
from systolith.timing import schedule as timing
from systolith.timing.mapper import EVERY_WAY

Runs = list[tuple[ArrayResult, Thresholds | FixedPoint]]
Draw = tuple[Runs, int]


def draw(seed: int) -> Draw:
    """Two layers for one core of 1..9 rows and columns and any lanes, what makes their codes, and these codes' bits."""
    rng = np.random.default_rng(seed)
    rows, cols = 1 + seed % 9, 1 + (4 * seed + seed // 9) % 9
    act_bits, weight_bits = (int(n) for n in rng.integers(1, 9, 2))
    psum_bits, code_bits = int(rng.integers(5, 19)), int(rng.integers(1, 5))
    simd = max(n for n in (1, 2, 4, 8) if act_bits % n == 0 and n <= (8, 1, 2)[seed % 3])
    runs: list[tuple[ArrayResult, Thresholds | FixedPoint]] = []
    for number in range(2):
        overflow = ("wrap", "saturate")[(seed + number) % 2]
        spec = ArraySpec(rows, cols, act_bits, weight_bits, psum_bits, overflow=overflow, simd=simd)
        result = random_layer(rng, spec)
        if number:  # of several pictures, with codes that share lanes
            mapping = random_batch(rng, result.mapping)
            result = run_mapped(mapping, random_act(rng, mapping))
        make = (random_thresholds, random_fixed_point)[seed // 2 % 2]
        runs.append((result, make(rng, result, code_bits)))
    return runs, code_bits


def in_every_schedule(seed: int, runs: Runs) -> list[tuple[ArrayResult, Thresholds | FixedPoint, Schedule]]:
    """The layers in all nine schedules, every other one with memories of some speed."""
    rng, found = np.random.default_rng((seed, 1)), []
    for result, requantize in runs:
        for name, drained in EVERY_WAY:
            choice = choose(result.mapping, name, drained, memory=random_memory(rng))
            found.append((run_mapped(choice.mapping, result.act), requantize, choice.schedule))
    return found


SEEDS = [("icarus", seed) for seed in range(23)] + [("verilator", seed) for seed in range(2)]
SEEDS += [pytest.param("verilator", seed, marks=pytest.mark.slow) for seed in range(2, 23)]


@pytest.mark.parametrize(("name", "seed"), SEEDS)
def test_random_layers_word_for_word_and_clock_for_clock(
    name: str, seed: int, simulator: Find, models: Path, tmp_path: Path
) -> None:
    """One core; by stimulus and descriptor two layers, in all nine schedules: 23 cores, 414 configurations."""
    runs, code_bits = draw(seed)
    every = in_every_schedule(seed, runs)
    core = shared(parameters(result.mapping, schedule, code_bits) for result, _, schedule in every)
    assert core["DOUBLE"] == core["STATIONARY"] == core["PACKED"] == 1
    found_simulator = simulator(name)
    for result, requantize, schedule in every:
        mapping = result.mapping
        found = run_on(found_simulator, result, tmp_path, schedule, requantize, code_bits, models, None, core)
        assert found.psums == (mapping.rounds * schedule.vectors(mapping),) * 2
        assert found.outputs == (mapping.oc_tiles * mapping.onijs,) * 2
        assert found.holds, (schedule, found)
        assert found.clocks == schedule.clocks(mapping)
        seen = observe(mapping, result.act, schedule)
        assert seen.holds
        assert seen.clocks == found.clocks
        if mapping.flat is None and mapping.spec.psum_bits >= max(mapping.least_psum_bits()):
            assert result.check().holds


@pytest.mark.parametrize("name", SIMULATORS)
def test_one_core_is_switched_from_schedule_to_schedule(
    name: str, simulator: Find, models: Path, tmp_path: Path
) -> None:
    """Four-bit codes, weight stationary; two-bit ones, two in a lane; output stationary; all others; and back: one
    simulation, without a reset."""
    code_bits = 4
    spec = ArraySpec(4, 3, 4, 4, 14, overflow="wrap", simd=2)
    rng = np.random.default_rng(3)
    conv = Conv("layer", rng.integers(-7, 8, (5, 6, 3, 2)), UINT4, INT4, padding=(1, 1))
    narrow = replace(conv, act_format=IntFormat(2, False))
    acts = rng.integers(0, 16, (6, 4, 5)), rng.integers(0, 4, (6, 4, 5))
    ways = [(conv, "useful"), (narrow, "useful"), (conv, "os"), (narrow, "os"), *((conv, way) for way in WAYS)]
    ways += [(narrow, "packed-double"), (narrow, "double"), (conv, "useful")]
    layers = []
    for one, way in ways:
        choice = choose(Mapping(one, spec, 4, 5), way)
        assert choice.mapping.simd == (2 if one is narrow else 1)
        result = run_mapped(choice.mapping, acts[int(one is narrow)])
        layers.append((result, choice.schedule, random_thresholds(rng, result, code_bits)))
    found = run_sequence(simulator(name), layers, tmp_path, code_bits, models)
    assert found.holds, found
    assert found.outputs == (sum(m.mapping.oc_tiles * m.mapping.onijs for m, _, _ in layers),) * 2
    assert len(layers) == 13


def test_the_random_cores_cover_what_they_should() -> None:
    """23 cores of 18 configurations are 414 in each simulator: every size, stride and overflow is at work in some."""
    drawn = [result for seed in range(23) for result, _ in draw(seed)[0]]
    mappings = [result.mapping for result in drawn]
    assert {m.spec.rows for m in mappings} == {m.spec.cols for m in mappings} == set(range(1, 10))
    assert len({m.conv.stride for m in mappings}) == len({m.conv.dilation for m in mappings}) == 4
    assert {m.kijs for m in mappings} == {1, 2, 3, 4, 6, 9}
    assert max(m.onijs for m in mappings) <= 64
    assert any(m.oc_tiles > 1 and m.ic_tiles > 1 for m in mappings)
    # Groups that leave passes out, that begin behind the first tile and take several, that share an input tile.
    ranges = [[m.ic_range(oc_tile) for oc_tile in range(m.oc_tiles)] for m in mappings]
    assert sum(not m.made.all() for m in mappings) >= 8
    assert any(
        tiles.start and len(tiles) > 1 and m.kijs > 1 for m, r in zip(mappings, ranges, strict=True) for tiles in r
    )
    assert any(0 < b.start < a.stop < b.stop for r in ranges for a, b in itertools.pairwise(r))
    assert sum(len(m.conv.padding) == 4 for m in mappings) >= 8
    for overflow in ("wrap", "saturate"):
        assert sum(r.mapping.spec.overflow == overflow and not r.check().holds for r in drawn) >= 3


@pytest.mark.parametrize("name", SIMULATORS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_core_is_free_when_it_says_so(
    name: str, schedule: Schedule, simulator: Find, models: Path, tmp_path: Path
) -> None:
    """A layer again, and again, each started as soon as `busy` falls, without a reset."""
    result = squeezed()
    found = run_on(simulator(name), result, tmp_path, schedule, cache=models, runs=3)
    assert found.holds, found
    assert found.outputs == (3 * 16, 3 * 16)


@pytest.mark.parametrize("name", SIMULATORS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_depthwise_layer(name: str, schedule: Schedule, simulator: Find, models: Path, tmp_path: Path) -> None:
    """16 channels, 3x3, on an 8x8 map: 18 passes of 8 weight beats, 1 beat, and 100 or 64 positions."""
    rng = np.random.default_rng(3)
    conv = Conv("layer", rng.integers(-7, 8, (16, 1, 3, 3)), UINT4, INT4, padding=(1, 1), groups=16)
    result = run_layer(conv, rng.integers(0, 16, (16, 8, 8)), ArraySpec())
    found = run_on(simulator(name), result, tmp_path, schedule, cache=models)
    assert found.holds, found
    positions = 64 if schedule.useful else 100
    assert (found.psums, found.outputs) == ((18 * positions,) * 2, (2 * 64,) * 2)
    assert found.clocks == 18 * (1 + 8 + positions) + (18 if schedule.drained else 1) * 14
    stepped = observe(result.mapping, result.act, schedule)
    assert stepped.holds
    assert stepped.clocks == found.clocks == schedule.clocks(result.mapping)
    # The files hold the weights of the passes that are made, and which they are.
    assert len((tmp_path / "weight.txt").read_text().split()) == 18 * 8
    assert (tmp_path / "range.txt").read_text().split() == [f"{100:032b}{0:032b}", f"{100:032b}{100:032b}"]


def squeezed(act: np.ndarray | None = None) -> ArrayResult:
    rng = np.random.default_rng(1)
    conv = Conv("layer", rng.integers(-7, 8, (8, 8, 3, 3)), UINT4, INT4, padding=(1, 1))
    return run_layer(conv, rng.integers(0, 16, (8, 4, 4)) if act is None else act, ArraySpec())


def test_the_clocks_of_the_squeezed_layer() -> None:
    """9 passes of 8 weight beats, 1 beat, and 36 or 16 positions, and 14 clocks across the array."""
    mapping = squeezed().mapping
    assert Schedule(useful=False).clocks(mapping) == 9 * (1 + 8 + 36) + 14 == 419
    assert Schedule(useful=True).clocks(mapping) == 9 * (1 + 8 + 16) + 14 == 239
    assert Schedule(useful=True, drained=True).clocks(mapping) == 9 * (1 + 8 + 16 + 14)
    # The first position enters after 9 beats; its psum crosses 7 rows and 7 columns, is registered and queued.
    assert Schedule().psum_clocks(mapping)[0, 0] == 9 + 7 + 7 + 2
    assert Schedule().psum_clocks(mapping).max() == 239 + 1
    assert Schedule().out_clocks(mapping)[0, -1] == 239 + 1 + 3


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_trained_layer_in_each_simulator(name: str, simulator: Find, models: Path, tmp_path: Path) -> None:
    from systolith.network.graph import Requantize
    from systolith.network.reference import run
    from systolith.requests.option import quiet
    from systolith.requests.shared import OnePicture
    from systolith.steps.common import find_network, find_picture

    network, _ = find_network("vgg16-w4a4-s8", "test")
    conv = network.layers["features.27"]
    assert isinstance(conv, Conv)
    values = run(network, find_picture(OnePicture(), quiet)[0][None])
    act = values[network["features.27"].inputs[0]][0].astype(np.int16)
    consumer = next(s.node for s in network.steps if s.inputs == ("features.27",))
    assert isinstance(consumer, Requantize)
    result = run_layer(conv, act, ArraySpec())
    found = run_on(simulator(name), result, tmp_path, Schedule(), consumer.thresholds, 4, models, dump=1)
    assert found == Outcome((144, 144), (16, 16), (0, 0, 0, 0), (504, 504), 0, 0, 239, ())
    # 72 weight beats; 144 activation beats, and as many reads and writes.
    # The dump is what `check` reads: time,value.
    lines = (tmp_path / "out.log").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines] == Schedule().out_clocks(result.mapping).reshape(-1).tolist()


@pytest.mark.parametrize("constant", ["LEAD", "TURNAROUND", "HOP", "OFIFO", "UPDATE", "SFP"])
def test_each_constant_is_pinned(
    constant: str, icarus: Simulator, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in (-1, 1):
        with monkeypatch.context() as patch:
            patch.setattr(timing, constant, getattr(timing, constant) + change)
            assert run_on(icarus, squeezed(), tmp_path, cache=models).late > 0


def test_control_is_independent_of_data(icarus: Simulator, models: Path, tmp_path: Path) -> None:
    times = set()
    for number, act in enumerate((np.zeros((8, 4, 4), int), np.full((8, 4, 4), 15), None)):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert run_on(icarus, squeezed(act), folder, cache=models, dump=1).holds
        logs = [(folder / f"{n}.log").read_text().splitlines() for n in ("psum", "out")]
        times.add(tuple(line.split(",")[0] for log in logs for line in log))
    assert len(times) == 1


@pytest.mark.parametrize(
    ("depths", "enough"),
    [({"OFIFO_DEPTH": 8}, True), ({"OFIFO_DEPTH": 7}, False), ({"L0_DEPTH": 2}, True), ({"L0_DEPTH": 1}, False)],
)
def test_the_queues_are_just_deep_enough(
    depths: dict[str, int], enough: bool, icarus: Simulator, models: Path, tmp_path: Path
) -> None:
    """A column of the OFIFO holds 8 words when its last column gets one; the L0 one, and takes the next then."""
    core = {**parameters(squeezed().mapping, Schedule()), **depths}
    found = run_on(icarus, squeezed(), tmp_path, cache=models, given=core)
    assert found.holds == enough
    assert (found.overruns == 0) == enough
