"""A layer's run on a worker of a cluster: the same core and the same simulator, in a folder that goes afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput
from systolith.rtl.compiling import fingerprint
from systolith.rtl.layer import Outcome, run_on
from systolith.rtl.network import Planned, run_one
from systolith.rtl.simulators import Simulator, same_simulator
from systolith.rtl.stress import Trial


@dataclass(frozen=True)
class Bench:
    """What a worker is told besides the layer.

    Attributes:
        sim: how the simulator is found: auto, a name, or an absolute path.
        simulator: what was found where the run was begun.
        core: the absolute path of another core's folder, or None.
        sources: the core's `fingerprint` there.
        timeout: seconds that a simulation may take.
    """

    sim: str
    simulator: Simulator
    core: Path | None
    sources: str
    timeout: float


def bench_of(sim: str, simulator: Simulator, core: Path | None, timeout: float) -> Bench:
    """What workers are told, of what was found here."""
    there = str(Path(sim).absolute()) if "/" in sim else sim
    return Bench(there, simulator, None if core is None else core.absolute(), fingerprint(core), timeout)


def run_planned(layer: tuple[Planned, NDArray[np.integer]], bench: Bench) -> tuple[Outcome, float]:
    """A planned layer, for its activation codes; and the seconds, as in `Ran`.

    Raises:
        BadInput: the worker's simulator or core is another one, or as of `run_one`.
    """
    simulator = _same(bench)
    with tempfile.TemporaryDirectory(prefix="systolith-cosim-") as folder:
        ran = run_one(simulator, *layer, Path(folder), core=bench.core, timeout=bench.timeout)
    return ran.outcome, ran.seconds


def run_trial(trial: Trial, shared: tuple[Bench, Mapping[str, int]]) -> Outcome:
    """A made-up layer, on a core of the parameters that are given with the bench; raises as `run_planned`."""
    bench, given = shared
    simulator = _same(bench)
    with tempfile.TemporaryDirectory(prefix="systolith-cosim-") as folder:
        how = trial.schedule, trial.requantize, 4, None, bench.core, given
        return run_on(simulator, trial.result, Path(folder), *how, timeout=bench.timeout)


def _same(bench: Bench) -> Simulator:
    if bench.core is not None and not bench.core.is_dir():
        raise BadInput(f"--core {bench.core}: no such folder")
    if fingerprint(bench.core) != bench.sources:
        raise BadInput(f"{bench.core or 'our core'}: other sources than where the run was begun")
    return same_simulator(bench.sim, bench.simulator)
