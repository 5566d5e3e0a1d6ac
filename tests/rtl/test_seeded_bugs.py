"""Bugs in a copy of the core: every one is caught, and what is said of it points at the stage where it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import Find
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.network.requantize import FixedPoint, Thresholds
from systolith.rtl import simulators
from systolith.rtl.layer import explain, parameters, run_on, shared
from systolith.rtl.simulators import Simulator
from systolith.rtl.stress import trials
from systolith.timing import Schedule

# Where it is, what is right there, what stands there instead, and what differs first.
BUGS = {
    "adds instead of multiplying": (
        "mac_tile",
        "* PRODUCT'($signed(factor",
        "+ PRODUCT'($signed(factor",
        "psum",
    ),
    "subtracts": ("mac_tile", "SUM'($signed(addend)) + SUM", "SUM'($signed(addend)) - SUM", "psum"),
    "activation always unsigned": ("mac_tile", "{act_signed & west_code[", "{1'b0 & west_code[", "psum"),
    "weight unsigned": (
        "mac_tile",
        "PRODUCT'($signed(factor[n*WEIGHT_BITS+:WEIGHT_BITS]))",
        "PRODUCT'(factor[n*WEIGHT_BITS+:WEIGHT_BITS])",
        "psum",
    ),
    "psum not extended": ("mac_tile", "SUM'($signed(addend))", "SUM'(addend)", "psum"),
    "weight replaced by later beats": (
        "mac_tile",
        "loaded <= (loaded || west_load) && !west_stream",
        "loaded <= 1'b0",
        "psum",
    ),
    "load beat passed on": ("mac_tile", "east_load <= west_load && loaded", "east_load <= west_load", "psum"),
    "weight kept for ever": ("mac_tile", "(loaded || west_load) && !west_stream", "loaded || west_load", "psum"),
    "saturates too late": (
        "fit",
        "value[WIDE-1:BITS-1] == {(WIDE - BITS + 1)",
        "value[WIDE-1:BITS] == {(WIDE - BITS)",
        "psum",
    ),
    "saturates to the wrong side": ("fit", "most = value[WIDE-1] ?", "most = !value[WIDE-1] ?", "psum"),
    "skew of one": ("l0", "way[(n-1)*LANE+:LANE]", "way[0+:LANE]", "psum"),
    "rows upside down": ("mac_array", "west_code[r*CODE_BITS+:", "west_code[(ROWS-1-r)*CODE_BITS+:", "psum"),
    "columns reversed": ("mac_row", "north_psum[c*PSUM_BITS+:", "north_psum[(COLS-1-c)*PSUM_BITS+:", "psum"),
    "queue of another width": (
        "ofifo",
        ".in(south_psum[c*PSUM_BITS+:PSUM_BITS])",
        ".in({1'b0, south_psum[c*PSUM_BITS+:PSUM_BITS-1]})",
        "psum",
    ),
    "queue without reset": ("fifo", "    if (reset) begin", "    if (1'b0) begin", "words"),
    "no accumulation": ("sfp_lane", "fresh ? '0 :", "1'b1 ? '0 :", "output"),
    "accumulator not cleared": ("sfp_lane", "fresh ? '0 :", "1'b0 ? '0 :", "output"),
    "accumulator of a neighbour": ("sfp", ".held(held[c*PSUM_BITS+:", ".held(held[(COLS-1-c)*PSUM_BITS+:", "output"),
    "written a place early": ("sfp", "write_at <= onij", "write_at <= onij - 1'b1", "output"),
    "output of the wrong pass": ("sfp", "valid && needed && last", "valid && needed && first", "output"),
    "ReLU turned round": ("sfp_lane", "total < 0 ? '0 : total", "total > 0 ? '0 : total", "relu"),
    "threshold above instead of at": ("sfp_lane", "turned >= $signed(store", "turned > $signed(store", "code"),
    "sign of the gain forgotten": ("sfp_lane", "store[0] ? -wide : wide", "store[0] ? wide : wide", "code"),
    "thresholds of oc_tile 0": ("sfp_lane", "store <= stores[oc_tile]", "store <= stores[0]", "code"),
    "logical shift": ("sfp_lane", "+ WIDE'(b)) >>> s", "+ WIDE'(b)) >> s", "code"),
    "no lower clamp": ("sfp_lane", "scaled < 0 ? '0 : scaled > most", "scaled > most", "code"),
    "input tiles of a dense layer": ("core", "common = AT'(range_reading[31:0]) + at", "common = at", "psum"),
    "input tiles of another oc_tile": (
        "core",
        "range_reading = ranges[TILE_AT'(tile_in)]",
        "range_reading = ranges[0]",
        "psum",
    ),
    "places of another oc_tile": (
        "core",
        "range_placing = ranges[TILE_AT'(tile_out)]",
        "range_placing = ranges[0]",
        "words",
    ),
    "row of the padded map": ("walk", "row_at <= row_at + row_step", "row_at <= row_at + col_step", "psum"),
    "stride along the wrong axis": ("walk", "want <= row_at + row_step", "want <= row_at + col_step", "psum"),
    "dilation along the wrong axis": ("taps", "(slot_over ? kj_unit : '0)", "(slot_over ? ki_unit : '0)", "psum"),
    "walk without restart": ("walk", "    if (restart || step_pass) begin", "    if (step_pass) begin", "words"),
    "a weight beat short": ("core", "(doubled ? ROWS : COLS)", "(doubled ? ROWS : COLS - 1)", "psum"),
    "no turnaround": ("core", "state <= doubled ? STREAM : GAP", "state <= STREAM", "psum"),
    "weights of the pass before": ("core", "weight_begin : weight_next + 1'b1", "weight_begin : weight_next", "psum"),
}

# Those that a schedule of its own is needed for, to be found by layers in all of them.
IN_SCHEDULES = {
    "shadow replaced by later weights": ("mac_tile", "if (north_load && !keeps) shadow", "if (north_load) shadow"),
    "shadow taken a beat late": ("mac_tile", "resident = west_fresh ? shadow : weight", "resident = weight"),
    "sum that goes on": ("mac_tile", "west_fresh ? '0 : acc", "acc"),
    "rows above pass through for too long": ("mac_array", "left > COUNT'(ROWS - r)", "left != 0"),
    "a weight for all codes of a lane": ("mac_tile", "factor[n*WEIGHT_BITS+:", "factor[0+:"),
    "rows all alike": ("core", "begins <= {AT'(row_in[64+:32])", "begins <= {AT'(row_in[0+:32])"),
    "rows beyond the end": ("core", "taken ? given : '0", "given"),
    "weights of the next oc_tile": ("core", "again ? weight_begin", "1'b0 ? weight_begin"),
    "no waiting for a memory": ("core", "act_take = act_ask && act_give && (", "act_take = act_ask && ("),
    "weights before the first position": ("core", "(begun || act_take)", "1'b1"),
    "the next pass too early": ("core", ">= COUNT'(LEAST - 1)", ">= COUNT'(0)"),
    "pictures on top of one another": ("walk", "want <= map_at + map_step", "want <= map_at"),
}


def layer() -> ArrayResult:
    """Two groups on three input tiles and two output tiles, the second of which takes the last two; signed codes, every
    geometry not square, and sums that a narrow accumulator saturates."""
    rng = np.random.default_rng(5)
    act, weight = IntFormat(4, True), IntFormat(4, True)
    codes = rng.integers(-8, 8, (6, 4, 3, 2))
    conv = Conv("layer", codes, act, weight, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    return run_layer(conv, rng.integers(-8, 8, (8, 6, 5)), ArraySpec(3, 4, psum_bits=7, overflow="saturate"))


def requantizers(result: ArrayResult) -> tuple[Thresholds, FixedPoint]:
    rng = np.random.default_rng(6)
    channels, out = result.mapping.conv.out_channels, result.out.reshape(6, -1)
    sign = np.where(np.arange(channels) % 2, -1, 1).astype(np.int8)
    # Among the accumulators themselves, so that some are met exactly.
    values = np.sort(sign[:, None] * rng.permuted(out, axis=1)[:, :3], axis=1)
    ends = np.full(channels, -64), np.full(channels, 63)
    fixed = FixedPoint(rng.integers(-40, 40, channels), rng.integers(-99, 99, channels), np.full(channels, 10), 3)
    return Thresholds(values, sign, *ends), fixed


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_core_is_caught_and_located(bug: str, icarus: Simulator, models: Path, tmp_path: Path) -> None:
    name, right, wrong, stage = BUGS[bug]
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    path = core / f"{name}.sv"
    assert path.read_text().count(right) == 1
    path.write_text(path.read_text().replace(right, wrong))
    result, said = layer(), []
    for requantize in requantizers(result):
        found = run_on(icarus, result, tmp_path, Schedule(), requantize, 2, models, core)
        if not found.holds:
            said += explain(result.mapping, Schedule(), found, 2)
    kinds = ["words" if "words came" in text else text.split(" ")[0] for text in said]
    assert stage in kinds
    # Nothing before the stage differs: what is compared first is right.
    order = ["psum", "output", "relu", "code"]
    if stage in order:
        assert not set(order[: order.index(stage)]) & set(kinds), said


@pytest.mark.parametrize("bug", ["queue without reset", "walk without restart", "never reset"])
def test_a_missing_reset_is_caught_where_registers_are_never_x(
    bug: str, simulator: Find, models: Path, tmp_path: Path
) -> None:
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    for path in core.glob("*.sv"):
        text = path.read_text()
        if bug == "never reset":
            path.write_text(text.replace("if (reset)", "if (1'b0)"))
        elif path.stem == BUGS[bug][0]:
            path.write_text(text.replace(*BUGS[bug][1:3]))
    result = layer()
    found = run_on(simulator("verilator"), result, tmp_path, Schedule(), requantizers(result)[0], 2, models, core)
    assert not found.holds


def test_the_core_itself_has_none(icarus: Simulator, models: Path, tmp_path: Path) -> None:
    result = layer()
    for requantize in requantizers(result):
        found = run_on(icarus, result, tmp_path, Schedule(), requantize, 2, models)
        assert found.holds
        assert explain(result.mapping, Schedule(), found, 2) == []


def test_what_is_said_is_true(icarus: Simulator, models: Path, tmp_path: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    text = (core / "sfp_lane.sv").read_text()
    (core / "sfp_lane.sv").write_text(text.replace("relu <= total < 0 ? '0 : total", "relu <= total"))
    result = layer()
    found = run_on(icarus, result, tmp_path, Schedule(), requantizers(result)[0], 2, models, core)
    (said,) = explain(result.mapping, Schedule(), found, 2)
    # The first negative output in the order of the words: oc_tile, onij, col.
    out = np.zeros((8, result.mapping.onijs), dtype=np.int64)
    out[:6] = result.out.reshape(6, -1)
    words = out.reshape(2, 4, -1).swapaxes(1, 2)
    oc_tile, onij, col = (int(axis[0]) for axis in np.nonzero(words < 0))
    clock = Schedule().out_clocks(result.mapping)[oc_tile, onij]
    value = words[oc_tile, onij, col]
    where = f"oc_tile {oc_tile}, onij {onij}, col {col}, at clock {clock}"
    assert said == f"relu of {where}: expected 0, found {value}"


@pytest.mark.parametrize("bug", [bug for bug in BUGS if BUGS[bug][3] != "words"])
def test_made_up_layers_find_it_too(bug: str, icarus: Simulator, models: Path, tmp_path: Path) -> None:
    """What `cosim --random 32` runs on a small array; those that leave nothing to compare are found by any layer."""
    name, right, wrong, _ = BUGS[bug]
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    path = core / f"{name}.sv"
    path.write_text(path.read_text().replace(right, wrong))
    spec = ArraySpec(3, 4, psum_bits=8, overflow="wrap")
    every = list(trials(spec, 32, 0))
    given = shared(parameters(trial.result.mapping, trial.schedule, 4) for trial in every)
    for trial in every:
        what = trial.schedule, trial.requantize, 4
        if not run_on(icarus, trial.result, tmp_path, *what, models, core, given).holds:
            return
    pytest.fail("not found")


@pytest.mark.parametrize("bug", IN_SCHEDULES)
def test_layers_in_all_schedules_find_it(bug: str, icarus: Simulator, models: Path, tmp_path: Path) -> None:
    """What `cosim --random 90 --simd 2` runs, on the array where the bug shows."""
    name, right, wrong = IN_SCHEDULES[bug]
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    path = core / f"{name}.sv"
    assert path.read_text().count(right) == 1
    path.write_text(path.read_text().replace(right, wrong))
    spec = ArraySpec(*((1, 1) if bug == "the next pass too early" else (3, 4)), psum_bits=8, simd=2)
    every = list(trials(spec, 90, 0))
    given = shared(parameters(trial.result.mapping, trial.schedule, 4) for trial in every)
    for trial in every:
        what = trial.schedule, trial.requantize, 4
        if not run_on(icarus, trial.result, tmp_path, *what, models, core, given).holds:
            return
    pytest.fail(f"no layer finds it: {bug}")
