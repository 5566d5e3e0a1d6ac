"""A space of designs, whole: against `simulate`, cut off, and on a cluster that loses a worker."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import systolith as sl
from small_cluster import cluster
from systolith.formats import BadInput
from systolith.timing.mapper import WAYS

TABLES = ("points.parquet", "layers.parquet", "points.csv", "layers.csv")


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLES]


PORTS = ("act", "weight", "psum")
SLOW = [f"{port}_bandwidth={values}" for port, values in zip(PORTS, ("9,60,400", "7,50", "30,500"), strict=True)]


def same_as_simulate(count: int, folder: Path) -> int:
    """Compare random designs of the shipped model, layer by layer, with memories that keep up and slow ones; how many
    numbers were equal."""
    axes = ["rows=1..40", "cols=1..40", f"schedule={','.join([*WAYS, 'auto'])}", "batch=1,2,5", "latency=0,3"]
    equal = 0
    for name, more in (("fast", []), ("slow", SLOW)):
        found = sl.explore(axis=[*axes, *more], points=count // 2, out=folder / name, jobs=1)
        layers = _layers(folder / name)
        assert found.points == count // 2
        for row in found.rows:
            how = {port: row[port] for port in ("batch", "latency", *(f"{port}_bandwidth" for port in PORTS))}
            right = sl.simulate(
                array=f"{row['rows']}x{row['cols']}",
                schedule=row["schedule_asked"],
                psum_bits="auto",
                values=False,
                **how,
            )
            mine = [layer for layer in layers if layer["point"] == row["point"]]
            assert [one["layer"] for one in mine] == [layer["name"] for layer in right.layers]
            for one, layer in zip(mine, right.layers, strict=True):
                assert one["clocks"] == layer["clocks"], row
                for port in PORTS:
                    moved = layer["traffic"][port]
                    assert one[f"{port}_read_bits"] == moved["reads"] * moved["bits"], row
                equal += 4
            assert row["clocks"] == right.total.clocks
    return equal


def _layers(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found: list[dict[str, Any]] = pyarrow.parquet.read_table(folder / "layers.parquet").to_pylist()
    return found


def test_clocks_are_those_of_simulate(tmp_path: Path) -> None:
    assert same_as_simulate(12, tmp_path) == 12 * 14 * 4


@pytest.mark.slow
def test_clocks_of_a_thousand_designs_are_those_of_simulate(tmp_path: Path) -> None:
    assert same_as_simulate(1000, tmp_path) == 1000 * 14 * 4


def test_processes_find_what_one_finds_and_a_grown_space_works_out_what_is_new(tmp_path: Path) -> None:
    axes = ["rows=2..11", "cols=2..11", "batch=1,2"]
    one = sl.explore(model="resnet18", axis=axes, out=tmp_path / "one", jobs=1)
    two = sl.explore(model="resnet18", axis=axes, out=tmp_path / "two", jobs=2)
    assert (one.points, one.computed, two.computed) == (200, 200, 200)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    again = sl.explore(model="resnet18", axis=axes, out=tmp_path / "one")
    assert again.computed == 0
    grown = sl.explore(model="resnet18", axis=[*axes[:2], "batch=1,2,3"], out=tmp_path / "one", jobs=1)
    assert (grown.points, grown.computed) == (300, 100)


def test_a_search_that_is_cut_off_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    axes = ["rows=1..40", "cols=1..40", "batch=1..8"]
    how = {"model": "vgg16", "axis": axes, "search": "optuna", "jobs": 1}
    part = sl.explore(points=90, out=tmp_path / "cut", **how)  # type: ignore[arg-type]
    went_on = sl.explore(points=160, out=tmp_path / "cut", **how)  # type: ignore[arg-type]
    whole = sl.explore(points=160, out=tmp_path / "whole", **how)  # type: ignore[arg-type]
    assert (part.computed, whole.computed, whole.points) == (90, 160, 160)
    assert 0 < went_on.computed <= 80
    assert tables(tmp_path / "cut") == tables(tmp_path / "whole")


COMMAND = [sys.executable, "-m", "systolith", "explore", "--model", "resnet50"]
COMMAND += ["--axis", "rows=1..20", "--axis", "cols=1..20", "--out"]


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    with subprocess.Popen([*COMMAND, str(tmp_path / "cut"), "--jobs", "2"], stderr=subprocess.DEVNULL) as run:
        shards = tmp_path / "cut" / "points"
        while not (shards.is_dir() and len(list(shards.glob("*.jsonl"))) >= 2) and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "points.parquet").exists()
    went_on = sl.explore(model="resnet50", axis=["rows=1..20", "cols=1..20"], out=tmp_path / "cut", jobs=1)
    assert 0 < went_on.computed < 400
    sl.explore(model="resnet50", axis=["rows=1..20", "cols=1..20"], out=tmp_path / "whole", jobs=1)
    assert tables(tmp_path / "cut") == tables(tmp_path / "whole")


def test_a_cluster_that_loses_a_worker_gives_the_same_bytes(tmp_path: Path) -> None:
    with cluster(tmp_path) as found:
        command = [*COMMAND, str(tmp_path / "far"), "--scheduler", found.address]
        run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        shards = tmp_path / "far" / "points"
        while not (shards.is_dir() and len(list(shards.glob("*.jsonl"))) >= 3) and run.poll() is None:
            time.sleep(0.01)
        found.workers[0].kill()
        _, said = run.communicate(timeout=240)
        assert run.returncode == 0, said.decode()
    sl.explore(model="resnet50", axis=["rows=1..20", "cols=1..20"], out=tmp_path / "near", jobs=1)
    assert tables(tmp_path / "far") == tables(tmp_path / "near")


def test_designs_that_cannot_hold_a_layer_have_no_costs(tmp_path: Path) -> None:
    import pyarrow.parquet

    axes = ["act_kib=1,16,64", "weight_kib=8,64", "dram_bandwidth=64"]
    found = sl.explore(model="resnet18", axis=axes, out=tmp_path / "one", jobs=1)
    two = sl.explore(model="resnet18", axis=axes, out=tmp_path / "two", jobs=2)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    assert two.rows == found.rows
    assert (found.points, found.misfits) == (6, 2)
    assert found.misfit.startswith("conv1: its smallest chunk needs")
    assert found.verdict.endswith(f"2 cannot hold a layer; tables in {tmp_path / 'one'}")
    points = pyarrow.parquet.read_table(tmp_path / "one" / "points.parquet").to_pylist()
    for row in points:
        assert row["fits"] == (row["act_kib"] > 1) == (row["clocks"] is not None) == (row["misfit"] == "")
        assert row["fits"] or not row["pareto"]
    kept = [row for row in _layers(tmp_path / "one") if row["fits"]]
    for row in points:
        mine = [layer for layer in kept if layer["point"] == row["point"]]
        if row["fits"]:
            for name in ("clocks", "stall_clocks", "dram_read_bits", "psum_dram_written_bits"):
                assert row[name] == sum(layer[name] for layer in mine)
            assert row["dram_bits"] == row["dram_read_bits"] + row["dram_written_bits"]
            assert row["dram_read_bits"] == sum(row[f"{name}_dram_read_bits"] for name in ("act", "weight", "psum"))
    # Where none fits there is no front, and every table is there.
    none = sl.explore(model="resnet18", axis=["act_kib=1,2"], out=tmp_path / "none", jobs=1)
    assert (none.front, none.misfits, none.top) == (0, 2, ())
    assert len(tables(tmp_path / "none")) == 4


def test_what_cannot_be_is_said_before_anything_runs(tmp_path: Path) -> None:
    for options, said in (
        ({"axis": ["row=1"]}, "no axis 'row'"),
        ({"axis": ["rows=5..2"]}, "rows: expected at least one value"),
        ({"array": "0x4"}, "array 0x4: rows 0"),
        ({"axis": ["rows=1..1000", "cols=1..1000", "batch=1..1000"]}, "1,000,000,000 points"),
        ({"axis": ["simd=3"]}, "simd 3"),
        ({"model": "resnet19"}, "resnet19"),
        ({"seed": 3}, "--seed and --search are of --points"),
        ({"points": 5, "search": "walk"}, "search kind 'walk'"),
        ({"minimize": "speed"}, "--minimize 'speed': expected columns such as"),
    ):
        with pytest.raises(BadInput) as error:
            sl.explore(out=tmp_path / "out", **options)  # type: ignore[arg-type]
        assert said in str(error.value)
        assert not (tmp_path / "out" / "points").exists(), options
    with pytest.raises(BadInput, match="expected the address of a Dask scheduler that answers"):
        sl.explore(scheduler="tcp://127.0.0.1:1", out=tmp_path / "out")
