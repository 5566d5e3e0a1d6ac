"""`systolith cosim`: layers on the core in a real simulator, every word and every clock compared. Needs no torch."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, options
from systolith.cli.options import DEFAULT_LAYER, DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from systolith.array import ArraySpec, Schedule
    from systolith.network import IntegerNetwork
    from systolith.rtl.network import Planned, Ran
    from systolith.rtl.simulators import Simulator

_MOST_JUDGED = 100_000
"""Psum words of a layer in which a known mistake is still looked for."""


def cosim(
    positional: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="The same as --model.")] = None,
    model: Annotated[str | None, typer.Option("--model", help=f"As in `run`. [default: {DEFAULT_MODEL}]")] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            help="A layer, several with commas between, or `all`: an inference, layer after layer. "
            f"[default: {DEFAULT_LAYER}]",
        ),
    ] = None,
    random: Annotated[
        int | None,
        typer.Option("--random", help="Instead: so many made-up layers, of any shape, sign, stride and overflow."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of --random. [default: 0]")] = None,
    image: options.Image = None,
    data: options.Data = None,
    index: options.Index = None,
    array: options.Array = "8x8",
    act_bits: options.ActBits = 4,
    weight_bits: options.WeightBits = 4,
    psum_bits: Annotated[
        str | None,
        typer.Option(
            "--psum-bits",
            help="Width of the accumulator, or `auto`: the least safe one. [default: 16; with several layers auto]",
        ),
    ] = None,
    overflow: options.Overflow = "error",
    schedule: options.Streamed = "useful",
    drained: options.Drained = False,
    requantize: Annotated[
        str, typer.Option("--requantize", help="How the core makes codes: thresholds, or fixed (M, B, S).")
    ] = "thresholds",
    sim: Annotated[
        str,
        typer.Option("--sim", help="auto (Verilator, else Icarus), icarus, verilator, or the path of one's compiler."),
    ] = "auto",
    core: Annotated[
        Path | None, typer.Option("--core", help="A folder with your version of the core's .sv files.")
    ] = None,
    waves: Annotated[
        Path | None, typer.Option("--waves", help="Write every signal to this .fst or .vcd (of a single layer).")
    ] = None,
    diagram: Annotated[
        Path | None, typer.Option("--diagram", help="Draw the run's timing diagram into this .svg (of a single layer).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep the vectors and what the core dumped in this folder.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that a simulation may take.")] = 900,
    jobs: Annotated[int, typer.Option("--jobs", help="Compilers and simulators at a time.")] = 2,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Run layers on the RTL core in a real simulator; compare every psum, output and code, and the clock of each."""
    from systolith.array.account import Depths, require_capacity
    from systolith.formats import BadInput
    from systolith.network import Conv
    from systolith.network.reference import run as execute
    from systolith.rtl.network import build_all, plan
    from systolith.rtl.simulators import WAVES, find_simulator
    from systolith.store import atomic_folder, require_free

    how = common.make_schedule(schedule, drained)
    if requantize not in ("thresholds", "fixed"):
        raise BadInput(f"--requantize {requantize!r}: expected thresholds or fixed")
    if core is not None and not (core / "core.sv").is_file():
        raise BadInput(f"--core {core}: expected a folder with core.sv and the modules below it")
    if random is not None:
        given = {"MODEL": positional, "--model": model, "--image": image, "--data": data, "--index": index}
        given |= {"--waves": waves, "--diagram": diagram, "--out": out, "--layer": layer}
        common.go_without("--random makes its own layers: it", given)
        spec = common.make_spec(array, act_bits, weight_bits, psum_bits or "10", overflow)
        _run_random(spec, random, seed or 0, find_simulator(sim), core, timeout, as_json)
        return
    common.go_without("a layer of a network (no --random given)", {"--seed": seed})
    layer = layer or DEFAULT_LAYER
    model = common.one_model(positional, model) or DEFAULT_MODEL
    if jobs < 1:
        raise BadInput(f"--jobs {jobs}: expected at least 1")
    if waves is not None and waves.suffix[1:] not in WAVES:
        raise BadInput(f"--waves {waves}: expected a name that ends in .{' or .'.join(WAVES)}")
    if diagram is not None:
        common.require_extra("pywellen", "waves", "cosim --diagram")
        if diagram.suffix != ".svg":
            raise BadInput(f"--diagram {diagram}: expected a name that ends in .svg")
    several = layer == "all" or "," in layer
    if several and (waves or diagram):
        raise BadInput(f"--waves and --diagram are of a single layer, found --layer {layer}")
    if out is not None:
        require_free(out, force)
    bits = psum_bits or ("auto" if several else "16")
    spec = common.make_spec(array, act_bits, weight_bits, bits, overflow)
    simulator = find_simulator(_writes(sim, waves, diagram))
    pixels, source, notes = common.find_picture(image, data, index)
    for text in notes:
        common.note(f"{source}: {text}")
    network, _ = common.find_network(model, "cosim")
    nodes = common.find_layers(network, layer)
    names = [name for name, node in nodes.items() if layer != "all" or isinstance(node, Conv)]
    if not names:
        raise BadInput("--layer all: no convolution in this network; --layer NAME takes a linear layer")
    planned = plan(network, names, spec, bits == "auto", requantize == "fixed", widen=layer == "all")
    for one in planned:
        require_capacity(one.mapping, how, Depths())
    kind = waves.suffix[1:] if waves else "vcd" if diagram else ""
    until = () if layer == "all" else [network[name].inputs[0] for name in names]
    run = _Run(
        simulator, network, pixels, execute(network, pixels[None], *until), planned, how, jobs, core, kind, timeout
    )
    begin = time.perf_counter()
    cores = build_all(simulator, planned, jobs, core=core, waves=kind)
    built = time.perf_counter() - begin
    common.note(f"{cores} core{'s' * (cores > 1)} compiled by {simulator.name} {simulator.version} in {built:.1f} s")
    kept = atomic_folder(out, force) if out is not None else tempfile.TemporaryDirectory(prefix="systolith-cosim-")
    with kept as made:
        begin = time.perf_counter()
        ran, found = _run_all(run, Path(made), keep=out is not None, whole=layer == "all")
        seconds = time.perf_counter() - begin
        why = [] if ran[-1].holds else _explain(run, ran[-1], Path(made))
        _keep_waves(run, Path(made), out, waves, diagram)
    facts = _facts(run, ran, found, built, seconds)
    if as_json:
        common.print_json({**facts, "why": why})
    else:
        _print(run, facts, why)
    if not facts["holds"]:
        raise typer.Exit(1)


@dataclass(frozen=True, eq=False)
class _Run:
    """What is to be run, and how; `values` are what the network's own nodes make of the picture."""

    simulator: Simulator
    network: IntegerNetwork
    pixels: NDArray[np.uint8]
    values: dict[str, NDArray[np.int64]]
    planned: list[Planned]
    schedule: Schedule
    jobs: int
    core: Path | None
    waves: str
    timeout: float


def _run_random(
    spec: ArraySpec, count: int, seed: int, simulator: Simulator, core: Path | None, timeout: float, as_json: bool
) -> None:
    """`--random`: made-up layers on one core, up to the first that differs."""
    from systolith.formats import BadInput
    from systolith.rtl.layer import explain, parameters, run_on, shared
    from systolith.rtl.stress import trials

    if not 1 <= count <= 10_000:
        raise BadInput(f"--random {count}: expected 1 to 10,000 layers")
    every = list(trials(spec, count, seed))
    given = shared(parameters(trial.result.mapping) for trial in every)
    words = times = ran = 0
    holds, why = True, []
    with common.progress("layers", count) as show, tempfile.TemporaryDirectory(prefix="systolith-cosim-") as folder:
        for trial in every:
            how = trial.schedule, trial.requantize, 4, None, core, given
            found = run_on(simulator, trial.result, Path(folder), *how, timeout=timeout)
            ran += 1
            words += found.psums[1] + 3 * found.outputs[1]
            times += found.timestamps
            show(ran)
            holds = found.holds
            if not holds:
                why = explain(trial.result.mapping, trial.schedule, found)
                break
    mapping = trial.result.mapping
    conv = mapping.conv
    shape = f"{conv.in_channels} -> {conv.out_channels} channels, {conv.act_format} x {conv.weight_format}, kernel "
    shape += f"{conv.kernel}, stride {conv.stride}, dilation {conv.dilation}, {mapping.spec.overflow}"
    facts = {"array": str(spec), "seed": seed, "layers": ran, "words": words, "timestamps": times, "holds": holds}
    if as_json:
        common.print_json({**facts, "simulator": simulator.name, "why": why, "layer": None if holds else shape})
    else:
        said = f"all equal: {words:,} words and {times:,} timestamps of {ran:,} layers ({simulator.name})"
        rows = [] if holds else [("layer", f"{ran - 1} of seed {seed}: {shape}"), *(("why", text) for text in why)]
        verdict = said if holds else f"NOT EQUAL: layer {ran - 1}: {why[0] if why else 'differs'}"[:190]
        common.print_rows([*rows, ("verdict", verdict)])
    if not holds:
        raise typer.Exit(1)


def _writes(sim: str, waves: Path | None, diagram: Path | None) -> str:
    """The simulator to take: for waveforms Icarus, which needs no core compiled anew for them."""
    return "icarus" if sim == "auto" and (waves or diagram) and shutil.which("iverilog") else sim


def _keep_waves(run: _Run, made: Path, out: Path | None, waves: Path | None, diagram: Path | None) -> None:
    """Copy the waveform from the run's folder and draw it; what lies inside `out` goes there with it."""
    from systolith.formats import BadInput
    from systolith.report.diagram import write_diagram
    from systolith.store import atomic_file

    def place(path: Path) -> Path:
        if out is None or not path.resolve().is_relative_to(out.resolve()):
            return path
        return made / path.resolve().relative_to(out.resolve())

    found = made / f".waves.{run.waves}"
    if waves is not None:
        with atomic_file(place(waves)) as temporary:
            shutil.copyfile(found, temporary)
    if diagram is not None:
        mapping = run.planned[0].mapping
        title = f"{mapping.conv.name} on the {mapping.spec} core ({run.simulator.name} {run.simulator.version})"
        try:
            write_diagram(found, mapping.spec, place(diagram), title)
        except BadInput as error:  # of a core that does something else: the verdict is what matters
            common.note(f"no diagram: {error}")
    found.unlink(missing_ok=True)


def _act(run: _Run, planned: Planned) -> NDArray[np.integer]:
    """What the network gives the layer, codes (C, H, W)."""
    taken = run.values[run.network[planned.name].inputs[0]][0]
    return common.as_conv(run.network.layers[planned.name], taken)[1]


def _run_all(run: _Run, folder: Path, keep: bool, whole: bool) -> tuple[list[Ran], int | None]:
    """Every layer's run, up to the first that differs; and the class, of a whole inference."""
    from systolith.rtl.network import run_network

    ran: list[Ran] = []
    total = sum(run.schedule.clocks(one.mapping) for one in run.planned)
    with common.progress("clocks", total) as show:

        def ended(one: Ran) -> None:
            ran.append(one)
            show(sum(run.schedule.clocks(r.planned.mapping) for r in ran))

        if whole:
            for one in run_network(
                run.simulator,
                run.network,
                run.pixels,
                run.values,
                run.planned,
                folder,
                run.schedule,
                core=run.core,
                keep=keep,
                timeout=run.timeout,
            ):
                if isinstance(one, int):
                    return ran, one
                ended(one)
            return ran, None
        _run_alone(run, folder, keep, ended)
    # The one that differs stands last: it is what is explained.
    return sorted(ran, key=lambda one: (not one.holds, run.planned.index(one.planned))), None


def _run_alone(run: _Run, folder: Path, keep: bool, ended: Callable[[Ran], None]) -> None:
    """Layers that take what the network gives them, side by side."""
    from systolith.rtl.network import run_one

    waves = folder / f".waves.{run.waves}" if run.waves else None

    def one(planned: Planned) -> Ran:
        place = folder / planned.name if len(run.planned) > 1 else folder
        place.mkdir(exist_ok=True)
        how = run.schedule, None, 1 if keep else 0, waves, run.core, run.timeout
        return run_one(run.simulator, planned, _act(run, planned), place, *how)

    if len(run.planned) == 1:  # in this thread: what stops us stops the simulator
        ended(one(run.planned[0]))
        return
    with ThreadPoolExecutor(run.jobs) as pool:
        for future in as_completed([pool.submit(one, planned) for planned in run.planned]):
            ended(future.result())


def _explain(run: _Run, ran: Ran, folder: Path) -> list[str]:
    """Why a layer does not hold: the first of each kind that is wrong, and the known mistake that would do that."""
    from systolith.array import run_layer
    from systolith.rtl.layer import explain, layout
    from systolith.rtl.network import run_one
    from systolith.verdict.judge import judge
    from systolith.verdict.words import How

    planned, mapping = ran.planned, ran.planned.mapping
    why = explain(mapping, run.schedule, ran.outcome, planned.code_bits)
    if ran.equal is not None and not ran.equal.holds:
        why.append(ran.equal.first)
    wrong_psums, wrong_outputs, *_ = ran.outcome.wrong
    if not (wrong_psums or wrong_outputs) or ran.outcome.psums[1] > _MOST_JUDGED:
        return why
    act = _act(run, planned)
    place = folder / "explained"
    place.mkdir()
    run_one(run.simulator, planned, act, place, run.schedule, None, 1, None, run.core, run.timeout)
    level, log = ("psum", "psum.log") if wrong_psums else ("output", "out.log")
    verdict = judge(run_layer(mapping.conv, act, mapping.spec), layout(run.schedule), place / log, How(level, "bin"))
    shutil.rmtree(place)
    right = verdict.matched
    why += [f"it matches '{name}' at {right[0]:,} of {right[1]:,} words" for name in verdict.suspects]
    return why + [f"closest is '{one.name}', at {one.words:,} of {right[1]:,} words" for one in verdict.closest]


def _facts(run: _Run, ran: list[Ran], found: int | None, built: float, seconds: float) -> dict[str, Any]:
    """What `--json` prints."""
    layers = [_layer_facts(run, one) for one in ran]
    facts: dict[str, Any] = {
        "simulator": {"name": run.simulator.name, "version": run.simulator.version, "command": run.simulator.command},
        "schedule": {"streamed": "useful" if run.schedule.useful else "whole", "drained": run.schedule.drained},
        "layers": layers,
        **{key: sum(layer[key] for layer in layers) for key in ("words", "timestamps", "clocks", "predicted")},
        "seconds": {"build": round(built, 2), "run": round(seconds, 2)},
        "holds": len(ran) == len(run.planned) and all(one.holds for one in ran),
    }
    if found is not None:
        expected = int(run.values[run.network.steps[-1].name][0])
        facts |= {"class": found, "network_class": expected, "holds": facts["holds"] and found == expected}
    return facts


def _layer_facts(run: _Run, ran: Ran) -> dict[str, Any]:
    mapping, outcome = ran.planned.mapping, ran.outcome
    spec, psums, outputs = mapping.spec, ran.outcome.psums[1], ran.outcome.outputs[1]
    codes = outputs if ran.planned.requantize is not None else 0
    (came, out_came), wrong = (min(outcome.psums), min(outcome.outputs)), outcome.wrong
    equal = {"psums": came - wrong[0], "outputs": out_came - wrong[1], "relu": out_came - wrong[2]}
    equal |= {"codes": min(out_came, codes) - wrong[3], "times": came + out_came + min(outcome.events) - outcome.late}
    return {
        "layer": ran.planned.name,
        "channels": [mapping.conv.in_channels, mapping.conv.out_channels],
        "map": [mapping.height, mapping.width],
        "array": {"size": str(spec), "act": spec.act_bits, "weight": spec.weight_bits, "psum": spec.psum_bits},
        "passes": mapping.passes,
        "psums": psums,
        "outputs": outputs,
        "codes": codes,
        "words": psums + 2 * outputs + codes,  # an output is compared before and after ReLU
        "equal": equal,
        "clocks": outcome.clocks,
        "predicted": run.schedule.clocks(mapping),
        "timestamps": outcome.timestamps,
        "network": None if ran.equal is None else {"compared": ran.equal.compared, "different": ran.equal.different},
        "seconds": round(ran.seconds, 3),
        "holds": ran.holds,
    }


def _print(run: _Run, facts: dict[str, Any], why: list[str]) -> None:
    layers = facts["layers"]
    if len(run.planned) > 1:
        counts = ("passes", "psum words", "outputs", "codes", "clocks", "predicted", "s")
        headings = ("layer", "channels", "map", "lanes", "psum bits", *counts)
        common.print_table(headings, [_table_row(one) for one in layers], right=headings[4:])
        rows = [("simulated", f"{facts['clocks']:,} clocks, {facts['predicted']:,} predicted, {_time(facts)}")]
    else:
        rows = _rows(facts, layers[0])
    common.print_rows([*rows, *(("why", text) for text in why), ("verdict", _verdict(run, facts, why))])


def _verdict(run: _Run, facts: dict[str, Any], why: list[str]) -> str:
    from systolith.pictures import CIFAR10_CLASSES

    if facts["holds"]:
        text = f"all equal: {facts['words']:,} words and {facts['timestamps']:,} timestamps, {facts['clocks']:,} clocks"
        if "class" in facts:
            number, classes = facts["class"], run.network.values[run.network.steps[-2].name].shape
            name = CIFAR10_CLASSES[number] if classes == (len(CIFAR10_CLASSES),) else str(number)
            text += f", class {name} as the network's"
        return f"{text} ({run.simulator.name} {run.simulator.version})"
    bad = next((one["layer"] for one in facts["layers"] if not one["holds"]), None)
    if bad is None:
        return f"NOT EQUAL: class {facts['class']} from the core, {facts['network_class']} from the network"
    return f"NOT EQUAL: {bad}: {why[0] if why else 'differs'}"[:190]


def _time(facts: dict[str, Any]) -> str:
    seconds = facts["seconds"]
    return f"{seconds['run']:.1f} s after {seconds['build']:.1f} s of compiling"


def _table_row(layer: dict[str, Any]) -> tuple[str, ...]:
    lanes = layer["array"]
    return (
        layer["layer"],
        " -> ".join(map(str, layer["channels"])),
        "x".join(map(str, layer["map"])),
        f"{lanes['act']} x {lanes['weight']}",
        str(lanes["psum"]),
        *(f"{layer[key]:,}" for key in ("passes", "psums", "outputs", "codes", "clocks", "predicted")),
        f"{layer['seconds']:.1f}",
    )


def _rows(facts: dict[str, Any], layer: dict[str, Any]) -> list[tuple[str, str]]:
    lanes, equal = layer["array"], layer["equal"]
    size = f"{layer['channels'][0]} -> {layer['channels'][1]} channels, {'x'.join(map(str, layer['map']))} map"
    sim, how = facts["simulator"], facts["schedule"]
    passes = f"{layer['passes']:,} passes {'one by one' if how['drained'] else 'overlapping'}"
    streamed = "useful positions alone" if how["streamed"] == "useful" else "the whole padded map"
    kinds = (("psums", "psums"), ("outputs", "outputs"), ("after ReLU", "outputs"), ("codes", "codes"))
    counted = zip(kinds, ("psums", "outputs", "relu", "codes"), strict=True)
    return [
        ("simulator", f"{sim['name']} {sim['version']} ({sim['command']}), {_time(facts)}"),
        ("core", f"{lanes['size']}, {lanes['act']}-bit x {lanes['weight']}-bit, {lanes['psum']}-bit psums"),
        ("layer", f"{layer['layer']}, {size}, {passes}, {streamed}"),
        *((what, f"{equal[key]:,} of {layer[of]:,} equal") for (what, of), key in counted if layer[of]),
        ("times", f"{equal['times']:,} of {layer['timestamps']:,} as predicted"),
        ("clocks", f"{layer['clocks']:,}, predicted {layer['predicted']:,}"),
    ]
