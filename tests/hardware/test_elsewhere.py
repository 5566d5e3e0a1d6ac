"""`cosim --scheduler` and `mutate --scheduler`: the reports of one machine, from the workers of a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import systolith as sl
from cli.calling import call, refuse
from projects.styles import STYLES, write
from small_cluster import Cluster, cluster
from systolith.rtl.simulators import RTL, Simulator


def timeless(value: Any) -> Any:
    """JSON values but for seconds."""
    if isinstance(value, dict):
        return {key: timeless(content) for key, content in value.items() if key != "seconds"}
    return [timeless(content) for content in value] if isinstance(value, list) else value


def same(verb: str, address: str, **given: Any) -> Any:
    near, far = (timeless(getattr(sl, verb)(scheduler=at, **given).plain()) for at in (None, address))
    assert far == near
    return far


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Our core with a wrong sum."""
    core = Path(shutil.copytree(RTL / "core", tmp_path / "core"))
    text = (core / "fit.sv").read_text()
    assert "saturate && !fits" in text
    (core / "fit.sv").write_text(text.replace("saturate && !fits", "!fits"))
    return core


def test_layers_that_stand_alone(two_workers: Cluster, icarus: Simulator) -> None:
    found = same("cosim", two_workers.address, layer="features.24,features.27", sim="icarus")
    assert [one["layer"] for one in found["layers"]] == ["features.24", "features.27"]
    assert found["holds"]


def test_made_up_layers_up_to_the_first_that_differs(two_workers: Cluster, icarus: Simulator, broken: Path) -> None:
    assert same("cosim", two_workers.address, random=4, sim="icarus")["layers"] == 4
    found = same("cosim", two_workers.address, random=12, sim="icarus", core=broken)
    assert not found["holds"]
    assert found["why"]
    assert found["layers"] < 12


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--layer", "all"), "--scheduler takes layers that stand alone"),
        (("--waves", "a.vcd"), "it goes without --waves"),
        (("--out", "kept"), "it goes without --out"),
        (("--project", "core.toml"), "it goes without --project"),
        ((), "expected the address of a Dask scheduler that answers"),
    ],
)
def test_refusals_of_cosim_elsewhere(given: tuple[str, ...], said: str) -> None:
    refuse(call("cosim", "--scheduler", "nowhere", *given), said)


@pytest.mark.parametrize("verb", ["mutate", "cosim", "verify"])
def test_without_the_extra(verb: str) -> None:
    code = (
        "import importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'distributed' else f(n, *a)\n"
        "from systolith.cli.main import main; main()"
    )
    found = call(verb, "--scheduler", "tcp://127.0.0.1:1", code=code)
    refuse(found, f"`{verb} on a cluster` needs distributed", "pip install 'systolith[cluster]'")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write(STYLES["no header"], tmp_path / "toy")


def fates(log: Path) -> tuple[str, list[str]]:
    head, *lines = log.read_text().splitlines()
    return head, sorted(lines)


def test_a_worker_is_killed_and_every_mutant_judged_as_on_one_machine(
    toy: Path, icarus: Simulator, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"project": toy, "limit": 6, "jobs": 2, "proofs": False}
    near = sl.mutate(out=tmp_path / "near", **given)
    with cluster(tmp_path) as found:
        command = [sys.executable, "-m", "systolith", "mutate", "--project", str(toy), "--limit", "6", "--json"]
        command += ["--no-proofs", "--out", str(tmp_path / "far"), "--scheduler", found.address]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        log = tmp_path / "far" / "fates.jsonl"
        while not (log.is_file() and len(log.read_text().splitlines()) > 1) and run.poll() is None:
            time.sleep(0.01)
        found.workers[0].kill()
        printed, said = run.communicate(timeout=120)
    assert run.returncode == (0 if near.holds else 1), said.decode()
    assert timeless(json.loads(printed)) == timeless(near.plain())
    assert fates(log) == fates(tmp_path / "near" / "fates.jsonl")


def test_what_was_begun_here_goes_on_there(
    toy: Path, two_workers: Cluster, icarus: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.parent)  # workers are elsewhere
    given: dict[str, Any] = {"project": Path(toy.name), "out": tmp_path / "out", "limit": 4}
    near = sl.mutate(**given)
    log = tmp_path / "out" / "fates.jsonl"
    whole = log.read_text().splitlines(keepends=True)
    log.write_text("".join(whole[:3]))
    far = sl.mutate(scheduler=two_workers.address, **given)
    assert timeless(far.plain()) == timeless(near.plain())
    assert fates(log) == ((whole[0].strip()), sorted(line.strip() for line in whole[1:]))


def test_a_worker_with_another_simulator_is_refused(toy: Path, icarus: Simulator, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in (("iverilog", "echo 'Icarus Verilog version 9.7'"), ("vvp", "exit 1")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    with cluster(tmp_path, workers=0) as found:
        found.work(PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        said = f"is icarus 9.7, expected icarus {icarus.version} as where the run was begun (on the worker "
        scheduler = ("--scheduler", found.address)
        for given in (("mutate", "--project", toy, "--limit", "1"), ("cosim", "--sim", "icarus")):
            assert said in call(*given, *scheduler).stderr.splitlines()[-1]


@pytest.mark.slow
def test_mutants_of_our_core(two_workers: Cluster, icarus: Simulator) -> None:
    found = same("mutate", two_workers.address, modules="ofifo", limit=3)
    assert found["mutants"] == 3
    assert found["holds"]
