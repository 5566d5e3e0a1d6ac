"""`cosim`: layers on the core in a real simulator, every word and every clock compared."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.hardware.stress import StressReport, run_stress
from systolith.hardware.testbenches import ProjectReport, run_project
from systolith.network import Conv
from systolith.network.reference import run as execute
from systolith.pictures import CIFAR10_CLASSES
from systolith.requests.shared import DEFAULT_LAYER, DEFAULT_MODEL
from systolith.requests.verbs import CosimRequest
from systolith.rtl.network import Ran, build_all, plan
from systolith.rtl.simulators import WAVES, find_simulator
from systolith.steps.common import (
    find_batch,
    find_layers,
    find_network,
    go_without,
    make_spec,
    require_cluster,
    require_schedule,
    said_schedule,
    scheduled,
)
from systolith.steps.running import Run, explained, run_all
from systolith.steps.values import called, hidden, optional
from systolith.store import atomic_file, atomic_folder, require_free
from systolith.timing.account import Depths, require_capacity


@dataclass(frozen=True)
class LayerRun:
    """A layer's run on the core: what was compared, how much of it is equal, and the clocks.

    `schedule` is by name, `others` what those that were not chosen would have cost. `words` counts an output twice,
    before and after ReLU; `network` compares what the network itself has there.
    """

    layer: str
    channels: tuple[int, int]
    map: tuple[int, int]
    array: Mapping[str, Any]
    schedule: str
    others: Mapping[str, int]
    passes: int
    psums: int
    outputs: int
    codes: int
    words: int
    equal: Mapping[str, int]
    clocks: int
    predicted: int
    timestamps: int
    network: Mapping[str, int] | None
    seconds: float
    holds: bool


@dataclass(frozen=True, kw_only=True)
class CosimReport(Report):
    """What the core made of the layers, beside what it should.

    Attributes:
        simulator: its name, version and command.
        schedule: what was asked for: its name, whether passes wait, what is least, codes of a lane, pictures.
        layers: each layer's run, up to the first that differs.
        words, timestamps, clocks, predicted: sums over the layers.
        seconds: of building and of running.
        number, network_class: of a whole inference, the core's class and the network's; of a batch, of each picture.
        why: what is known of the first difference, a sentence each.
        several: more than one layer was planned.
        ran: the layers as objects.
    """

    verb: ClassVar[str] = "cosim"
    simulator: Mapping[str, str]
    schedule: Mapping[str, Any]
    layers: tuple[LayerRun, ...]
    words: int
    timestamps: int
    clocks: int
    predicted: int
    seconds: Mapping[str, float]
    number: int | tuple[int, ...] | None = field(default=None, metadata={**called("class"), **optional()})
    network_class: int | tuple[int, ...] | None = field(default=None, metadata=optional())
    why: tuple[str, ...]
    several: bool = field(metadata=hidden())
    ran: tuple[Ran, ...] = field(metadata=hidden(), repr=False)


@flow(CosimRequest)
def cosim(request: CosimRequest) -> CosimReport | StressReport | ProjectReport:
    """Run layers on the RTL core in a real simulator; compare every psum, output and code, and the clock of each.

    Returns:
        Words and timestamps equal, layer by layer; with `random` a `StressReport`, with `project` a `ProjectReport`.

    Raises:
        BadInput: no such model, layer or picture; no simulator; a layer that the core cannot hold.

    Examples:
        >>> import systolith as sl
        >>> report = sl.cosim("vgg16-w4a4-s8", layer="features.27", sim="icarus")
        >>> report.clocks == report.predicted, report.words
        (True, 192)
    """
    if request.scheduler is not None:
        _require_alone(request, request.scheduler)
    if request.project is not None:
        return run_project(request)
    go_without("our core (no --project given)", {"--stimulus": request.stimulus})
    require_schedule(request)
    if request.requantize not in ("thresholds", "fixed"):
        raise BadInput(f"--requantize {request.requantize!r}: expected thresholds or fixed")
    core = None if request.core is None else Path(request.core)
    if core is not None and not (core / "core.sv").is_file():
        raise BadInput(f"--core {core}: expected a folder with core.sv and the modules below it")
    if request.random is not None:
        return run_stress(request, core)
    go_without("a layer of a network (no --random given)", {"--seed": request.seed})
    layer = request.layer or DEFAULT_LAYER
    several = layer == "all" or "," in layer
    waves = None if request.waves is None else Path(request.waves)
    out = None if request.out is None else Path(request.out)
    if request.jobs < 1:
        raise BadInput(f"--jobs {request.jobs}: expected at least 1")
    if waves is not None and waves.suffix[1:] not in WAVES:
        raise BadInput(f"--waves {waves}: expected a name that ends in .{' or .'.join(WAVES)}")
    if several and waves:
        raise BadInput(f"--waves and --diagram are of a single layer, found --layer {layer}")
    if out is not None:
        require_free(out, request.force)
    bits = request.psum_bits or ("auto" if several else "16")
    spec = replace(make_spec(request, bits), simd=request.simd)
    simulator = find_simulator(_writes(request.sim, waves))
    network, _ = find_network(request.model or DEFAULT_MODEL, "cosim")
    shape = network.values[network.input.name].shape
    pixels, _, notes = find_batch(request, request.batch, request.progress, shape)
    nodes = find_layers(network, layer)
    names = [name for name, node in nodes.items() if layer != "all" or isinstance(node, Conv)]
    if not names:
        raise BadInput("--layer all: no convolution in this network; --layer NAME takes a linear layer")
    how = bits == "auto", request.requantize == "fixed", layer == "all"
    planned = plan(network, names, spec, *how, lambda mapping: scheduled(request, mapping), request.batch)
    for one in planned:
        require_capacity(one.mapping, one.schedule, Depths())
    kind = waves.suffix[1:] if waves else ""
    until = () if layer == "all" else [network[name].inputs[0] for name in names]
    values = execute(network, pixels, *until)
    run = Run(
        *(simulator, network, pixels, values, planned, request.jobs, core, kind, request.timeout),
        progress=request.progress,
        sim=request.sim,
        scheduler=request.scheduler,
    )
    begin = time.perf_counter()
    if request.scheduler is None:  # workers compile what they need
        cores = build_all(simulator, planned, request.jobs, core=core, waves=kind)
        request.progress(
            f"{cores} core{'s' * (cores > 1)} compiled by {simulator.name} {simulator.version} "
            f"in {time.perf_counter() - begin:.1f} s"
        )
    built = time.perf_counter() - begin
    begin = time.perf_counter()
    kept = atomic_folder(out, request.force) if out is not None else tempfile.TemporaryDirectory(prefix="systolith-")
    with kept as made:
        ran, found = run_all(run, Path(made), keep=out is not None, whole=layer == "all")
        seconds = time.perf_counter() - begin
        why = [] if ran[-1].holds else explained(run, ran[-1], Path(made))
        _keep_waves(Path(made), out, waves)
    return _report(request, run, ran, found, {"build": round(built, 2), "run": round(seconds, 2)}, tuple(why), notes)


def _require_alone(request: CosimRequest, scheduler: str) -> None:
    """Raise `BadInput` unless the layers can run on the workers of a cluster, and there is one."""
    here = {"--project": request.project, "--waves (or --diagram)": request.waves, "--out": request.out}
    go_without("--scheduler runs layers elsewhere: it", here)
    if request.layer == "all":
        raise BadInput(
            "--scheduler takes layers that stand alone, named with commas between: those of an inference (--layer all) "
            "take what the ones before them gave"
        )
    require_cluster(scheduler, "cosim")


def _writes(sim: str, waves: Path | None) -> str:
    """The simulator to take: for waveforms Icarus, which needs no core compiled anew for them."""
    return "icarus" if sim == "auto" and waves and shutil.which("iverilog") else sim


def _keep_waves(made: Path, out: Path | None, waves: Path | None) -> None:
    """Copy the waveform out of the run's folder; what lies inside `out` goes there with it."""
    if waves is None:
        return
    place = waves
    if out is not None and waves.resolve().is_relative_to(out.resolve()):
        place = made / waves.resolve().relative_to(out.resolve())
    found = made / f".waves{waves.suffix}"
    with atomic_file(place) as temporary:
        shutil.copyfile(found, temporary)
    found.unlink(missing_ok=True)


def _report(
    request: CosimRequest,
    run: Run,
    ran: list[Ran],
    found: tuple[int, ...] | None,
    seconds: dict[str, float],
    why: tuple[str, ...],
    notes: tuple[str, ...],
) -> CosimReport:
    layers = tuple(_layer_run(one) for one in ran)
    expected = None if found is None else tuple(int(n) for n in run.values[run.network.steps[-1].name])
    holds = len(ran) == len(run.planned) and all(one.holds for one in ran) and found == expected
    sim = run.simulator
    words, timestamps, clocks, predicted = (
        sum(getattr(one, key) for one in layers) for key in ("words", "timestamps", "clocks", "predicted")
    )
    if holds:
        verdict = f"all equal: {words:,} words and {timestamps:,} timestamps, {clocks:,} clocks"
        if request.batch > 1:
            verdict += f" ({clocks / request.batch:,.0f} a picture)"
        if found is not None:
            ten = run.network.values[run.network.steps[-2].name].shape == (len(CIFAR10_CLASSES),)
            names = dict.fromkeys(CIFAR10_CLASSES[n] if ten else str(n) for n in found)
            verdict += f", class{'es' * (len(found) > 1)} {', '.join(names)} as the network's"
        verdict += f" ({sim.name} {sim.version})"
    else:
        bad = next((one.layer for one in layers if not one.holds), None)
        verdict = f"NOT EQUAL: {bad}: {why[0] if why else 'differs'}"[:190]
        if bad is None:
            verdict = f"NOT EQUAL: class {_one(found)} from the core, {_one(expected)} from the network"
    return CosimReport(
        holds=holds,
        verdict=verdict,
        notes=notes,
        simulator={"name": sim.name, "version": sim.version, "command": sim.command},
        schedule=said_schedule(request),
        layers=layers,
        words=words,
        timestamps=timestamps,
        clocks=clocks,
        predicted=predicted,
        seconds=seconds,
        number=_one(found),
        network_class=_one(expected),
        why=why,
        several=len(run.planned) > 1,
        ran=tuple(ran),
    )


def _one(numbers: tuple[int, ...] | None) -> int | tuple[int, ...] | None:
    """The number where there is one."""
    return numbers[0] if numbers is not None and len(numbers) == 1 else numbers


def _layer_run(ran: Ran) -> LayerRun:
    mapping, outcome = ran.planned.mapping, ran.outcome
    spec, psums, outputs = mapping.spec, ran.outcome.psums[1], ran.outcome.outputs[1]
    codes = outputs if ran.planned.requantize is not None else 0
    (came, out_came), wrong = (min(outcome.psums), min(outcome.outputs)), outcome.wrong
    equal = {"psums": came - wrong[0], "outputs": out_came - wrong[1], "relu": out_came - wrong[2]}
    equal |= {"codes": min(out_came, codes) - wrong[3], "times": came + out_came + min(outcome.events) - outcome.late}
    compared = None
    if ran.equal is not None:
        compared = {"compared": ran.equal.compared, "different": ran.equal.different}
    return LayerRun(
        layer=ran.planned.name,
        channels=(mapping.conv.in_channels, mapping.conv.out_channels),
        map=(mapping.height, mapping.width),
        array={"size": str(spec), "act": spec.act_bits, "weight": spec.weight_bits, "psum": spec.psum_bits},
        schedule=ran.planned.choice.name,
        others=dict(ran.planned.choice.others),
        passes=mapping.rounds,
        psums=psums,
        outputs=outputs,
        codes=codes,
        words=psums + 2 * outputs + codes,
        equal=equal,
        clocks=outcome.clocks,
        predicted=ran.planned.choice.clocks,
        timestamps=outcome.timestamps,
        network=compared,
        seconds=round(ran.seconds, 3),
        holds=ran.holds,
    )
