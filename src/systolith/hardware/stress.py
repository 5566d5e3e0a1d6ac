"""`cosim --random`: made-up layers on one core, up to the first that differs."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from systolith.cluster import in_order
from systolith.flows.flow import Report
from systolith.formats import BadInput
from systolith.requests.verbs import CosimRequest
from systolith.rtl.layer import Outcome, explain, parameters, run_on, shared
from systolith.rtl.simulators import Simulator, find_simulator
from systolith.rtl.stress import Trial, trials
from systolith.rtl.worker import bench_of, run_trial
from systolith.steps.common import go_without, make_spec


@dataclass(frozen=True, kw_only=True)
class StressReport(Report):
    """What the core made of made-up layers.

    Attributes:
        array, seed, simulator: what ran.
        layers: how many were run; words and timestamps compared.
        why: what is known of the first difference, a sentence each.
        layer: the shape of the one that differs, or None.
    """

    verb: ClassVar[str] = "cosim"
    array: str
    seed: int
    layers: int
    words: int
    timestamps: int
    simulator: str
    why: tuple[str, ...]
    layer: str | None


def run_stress(request: CosimRequest, core: Path | None) -> StressReport:
    """Run `request.random` made-up layers on one core.

    Raises:
        BadInput: options of a network's layer are given, or too many layers are wanted.
    """
    given = {"MODEL": request.model, "--image": request.image, "--data": request.data, "--index": request.index}
    given |= {"--waves": request.waves, "--out": request.out, "--layer": request.layer}
    go_without("--random makes its own layers: it", given)
    spec, simulator = replace(make_spec(request, "10"), simd=request.simd), find_simulator(request.sim)
    count, seed = request.random or 0, request.seed or 0
    if not 1 <= count <= 10_000:
        raise BadInput(f"--random {count}: expected 1 to 10,000 layers")
    every = list(trials(spec, count, seed))
    one_core = shared(parameters(trial.result.mapping, trial.schedule) for trial in every)
    words = times = ran = 0
    holds, why = True, []
    # In their order, so that the first that differs is the same however many run at a time.
    way = _here(request, simulator, core, every, one_core)
    if request.scheduler is not None:
        bench = bench_of(request.sim, simulator, core, request.timeout)
        way = in_order(run_trial, every, (bench, one_core), request.scheduler)
    with closing(way) as outcomes:
        for trial, found in outcomes:
            ran += 1
            words += found.psums[1] + 3 * found.outputs[1]
            times += found.timestamps
            request.progress("layers", ran, count)
            holds = found.holds
            if not holds:
                why = explain(trial.result.mapping, trial.schedule, found)
                break
    mapping = trial.result.mapping
    conv = mapping.conv
    shape = f"{conv.in_channels} -> {conv.out_channels} channels, {conv.act_format} x {conv.weight_format}, kernel "
    shape += f"{conv.kernel}, stride {conv.stride}, dilation {conv.dilation}, {mapping.spec.overflow}"
    verdict = f"all equal: {words:,} words and {times:,} timestamps of {ran:,} layers ({simulator.name})"
    return StressReport(
        holds=holds,
        verdict=verdict if holds else f"NOT EQUAL: layer {ran - 1}: {why[0] if why else 'differs'}"[:190],
        array=str(spec),
        seed=seed,
        layers=ran,
        words=words,
        timestamps=times,
        simulator=simulator.name,
        why=tuple(why),
        layer=None if holds else shape,
    )


def _here(
    request: CosimRequest, simulator: Simulator, core: Path | None, every: Sequence[Trial], one_core: dict[str, int]
) -> Generator[tuple[Trial, Outcome], None, None]:
    with tempfile.TemporaryDirectory(prefix="systolith-cosim-") as folder:
        for trial in every:
            how = trial.schedule, trial.requantize, 4, None, core, one_core
            yield trial, run_on(simulator, trial.result, Path(folder), *how, timeout=request.timeout)
