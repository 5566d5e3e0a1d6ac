"""Layers on the core, in a simulator: alone or as a whole inference, and why one differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import run_mapped
from systolith.cluster import spread
from systolith.network import IntegerNetwork
from systolith.requests.option import Progress
from systolith.rtl.layer import explain, layout
from systolith.rtl.network import Planned, Ran, run_network, run_one
from systolith.rtl.simulators import Simulator
from systolith.rtl.worker import bench_of, run_planned
from systolith.steps.common import as_conv
from systolith.verdict.judge import judge
from systolith.verdict.words import How

_MOST_JUDGED = 100_000
"""Psum words of a layer in which a known mistake is still looked for."""


@dataclass(frozen=True, eq=False)
class Run:
    """What is to be run, and how; `values` are what the network's own nodes make of the picture.

    With a `scheduler` layers that stand alone run on that cluster, in the simulator that `sim` finds there.
    """

    simulator: Simulator
    network: IntegerNetwork
    pixels: NDArray[np.uint8]
    values: dict[str, NDArray[np.int64]]
    planned: list[Planned]
    jobs: int
    core: Path | None
    waves: str
    timeout: float
    progress: Progress
    sim: str = "auto"
    scheduler: str | None = None


def act_of(run: Run, planned: Planned) -> NDArray[np.integer]:
    """What the network gives the layer, codes (C, H, W), of a batch (picture, C, H, W)."""
    taken = run.values[run.network[planned.name].inputs[0]]
    each = [as_conv(run.network.layers[planned.name], one)[1] for one in taken]
    return np.stack(each) if len(each) > 1 else each[0]


def run_all(run: Run, folder: Path, keep: bool, whole: bool) -> tuple[list[Ran], tuple[int, ...] | None]:
    """Every layer's run, up to the first that differs; and the classes, of a whole inference."""
    ran: list[Ran] = []
    total = sum(one.choice.clocks for one in run.planned)

    def ended(one: Ran) -> None:
        ran.append(one)
        run.progress("clocks", sum(r.planned.choice.clocks for r in ran), total)

    if not whole:
        if run.scheduler is None:
            _run_alone(run, folder, keep, ended)
        else:
            _run_on_workers(run, run.scheduler, ended)
        # The one that differs stands last: it is what is explained.
        return sorted(ran, key=lambda one: (not one.holds, run.planned.index(one.planned))), None
    inference = run_network(
        *(run.simulator, run.network, run.pixels, run.values, run.planned, folder),
        core=run.core,
        keep=keep,
        timeout=run.timeout,
    )
    for one in inference:
        if isinstance(one, tuple):
            return ran, one
        ended(one)
    return ran, None


def _run_alone(run: Run, folder: Path, keep: bool, ended: Callable[[Ran], None]) -> None:
    """Layers that take what the network gives them, side by side."""
    waves = folder / f".waves.{run.waves}" if run.waves else None

    def one(planned: Planned) -> Ran:
        place = folder / planned.name if len(run.planned) > 1 else folder
        place.mkdir(exist_ok=True)
        how = None, 1 if keep else 0, waves, run.core, run.timeout
        return run_one(run.simulator, planned, act_of(run, planned), place, *how)

    if len(run.planned) == 1:  # in this thread: what stops us stops the simulator
        ended(one(run.planned[0]))
        return
    with ThreadPoolExecutor(run.jobs) as pool:
        for future in as_completed([pool.submit(one, planned) for planned in run.planned]):
            ended(future.result())


def _run_on_workers(run: Run, scheduler: str, ended: Callable[[Ran], None]) -> None:
    bench = bench_of(run.sim, run.simulator, run.core, run.timeout)
    layers = ((planned, act_of(run, planned)) for planned in run.planned)
    with closing(spread(run_planned, layers, bench, scheduler)) as found:
        for (planned, act), (outcome, seconds) in found:
            ended(Ran(planned, act, outcome, None, seconds))


def explained(run: Run, ran: Ran, folder: Path) -> list[str]:
    """Why a layer does not hold: the first of each kind that is wrong, and the known mistake that would do that."""
    planned, mapping = ran.planned, ran.planned.mapping
    why = explain(mapping, planned.schedule, ran.outcome, planned.code_bits)
    if ran.equal is not None and not ran.equal.holds:
        why.append(ran.equal.first)
    wrong_psums, wrong_outputs, *_ = ran.outcome.wrong
    if not (wrong_psums or wrong_outputs) or ran.outcome.psums[1] > _MOST_JUDGED:
        return why
    act = act_of(run, planned)
    place = folder / "explained"
    place.mkdir()
    run_one(run.simulator, planned, act, place, None, 1, None, run.core, run.timeout)
    # Output stationary a psum is an output, and idle rows' words come besides.
    level, log = ("psum", "psum.log") if wrong_psums and not mapping.stationary else ("output", "out.log")
    verdict = judge(run_mapped(mapping, act), layout(planned.schedule), place / log, How(level, "bin"))
    shutil.rmtree(place)
    matched = verdict.matched
    why += [f"it matches '{name}' at {matched[0]:,} of {matched[1]:,} words" for name in verdict.suspects]
    return why + [f"closest is '{one.name}', at {one.words:,} of {matched[1]:,} words" for one in verdict.closest]
