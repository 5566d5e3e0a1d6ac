"""The clocks of VGG16's convolutions on an 8x8 weight-stationary array: predicted, stepped, simulated, and SCALE-Sim's.

    python -m benchmarks.simulation                      # four layers, a few minutes
    python -m benchmarks.simulation --layers all         # all 13: SCALE-Sim and Verilator take a quarter of an hour

- closed form: `Schedule.clocks`, useful positions, passes pipelined;
- machine: `systolith.timing.machine`, every register, with a picture's activation codes, best of three; then `observe`,
  which also compares every word and the clock of every event;
- Verilator: the core in SystemVerilog through `systolith.rtl.layer.run_on`, every word and clock compared there; the
  model is compiled before;
- SCALE-Sim 3.0.0 (PyPI `scalesim`) as its own `scalesim.scale` runs it, after its import: a config and a topology file,
  WS, all six trace files written (it has a switch for them, and ignores it). It needs NumPy < 2.3, so it has its own
  environment, made once by pip in build/scalesim-env. It has no values: it lists the addresses of each clock.

Each runs in a process of its own, on Linux (/proc). Peak memory is that process's, imports and network and all; that of
Verilator is the simulation's, which is counted as no less than the Python process that starts it.

SCALE-Sim maps a convolution as a matrix product: F = ceil(C_in*KH*KW/R) * ceil(C_out/C) folds. A fold loads R beats
of weights from the top, streams T = OH*OW vectors, and drains for R + C - 2 clocks before the next one, so in all
F*(2R + C + T - 2). Its report has one clock less a layer: the number of the last clock, counted from 0.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL, LEAST, MOST_CHECKED = "vgg16-w4a4-s8", 100, 20_000
LAYERS = "features.0,features.14,features.27,features.33"
ENVIRONMENT = Path(__file__).parents[1] / "build" / "scalesim-env"
# Channels in and out, and map, of VGG16 as it was before its squeeze.
UNSQUEEZED = (
    *((3, 64, 32), (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8), (256, 256, 8)),
    *((256, 512, 4), (512, 512, 4), (512, 512, 4), (512, 512, 2), (512, 512, 2), (512, 512, 2)),
)

CONFIG = """
[general]
run_name = systolith
[architecture_presets]
ArrayHeight : {rows}
ArrayWidth : {cols}
IfmapSramSzkB : 256
FilterSramSzkB : 256
OfmapSramSzkB : 128
IfmapOffset : 0
FilterOffset : 10000000
OfmapOffset : 20000000
Dataflow : {flow}
Bandwidth : 10
ReadRequestBuffer : 32
WriteRequestBuffer : 32
[layout]
IfmapCustomLayout : False
IfmapSRAMBankBandwidth : 10
IfmapSRAMBankNum : 10
IfmapSRAMBankPort : 2
FilterCustomLayout : False
FilterSRAMBankBandwidth : 10
FilterSRAMBankNum : 10
FilterSRAMBankPort : 2
[sparsity]
SparsitySupport : false
SparseRep : ellpack_block
OptimizedMapping : false
BlockSize : 8
RandomNumberGeneratorSeed : 40
[run_presets]
InterfaceBandwidth : CALC
UseRamulatorTrace : False
"""
# What `python -m scalesim.scale` does, with a stopwatch for the whole and for its trace files.
DRIVER = """
import json, time
from scalesim.scale_sim import scalesim
from scalesim.single_layer_sim import single_layer_sim
traces, save = [], single_layer_sim.save_traces
def timed(*args):
    begin = time.perf_counter()
    save(*args)
    traces.append(time.perf_counter() - begin)
single_layer_sim.save_traces = timed
begin = time.perf_counter()
simulator = scalesim(save_disk_space=False, verbose=True, config="scale.cfg", topology="topology.csv",
                     layout="layout.csv")
simulator.run_scale(top_path="out")
taken = time.perf_counter() - begin
peak = int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")))
print("\\n" + json.dumps({"seconds": taken, "traces": sum(traces), "peak": peak}))
"""


def scalesim_python() -> Path:
    """The interpreter of SCALE-Sim's own environment, made on the first call."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / ".ready"
    if not ready.exists():
        print(f"making {ENVIRONMENT} with scalesim 3.0.0", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "scalesim==3.0.0", "numpy<2.3"], check=True)
        ready.touch()
    return python


def scalesim(mapping: Any, flow: str = "ws") -> dict[str, Any]:
    """SCALE-Sim on one layer: seconds, those of its trace files, peak memory in KiB, clocks as reported."""
    conv, python = mapping.conv, scalesim_python()
    numbers = [*mapping.padded_shape, *conv.kernel, conv.in_channels, conv.out_channels, conv.stride[0]]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "scale.cfg").write_text(CONFIG.format(rows=mapping.spec.rows, cols=mapping.spec.cols, flow=flow))
        headings = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
        (place / "topology.csv").write_text(f"{headings}\n{conv.name}, {', '.join(map(str, numbers))},\n")
        (place / "layout.csv").write_text(f"Layer name,\n{conv.name},\n")
        done = subprocess.run(
            [str(python), "-c", DRIVER], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"scalesim failed on {conv.name}: {done.stdout[-300:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        report = (place / "out" / "systolith" / "COMPUTE_REPORT.csv").read_text().splitlines()
    heading = [cell.strip() for cell in report[0].split(",")]
    found["clocks"] = int(report[1].split(",")[heading.index("Total Cycles")])
    return found


def layers(executed: bool) -> list[tuple[Any, Any]]:
    """(mapping, activations) of each convolution, lanes and accumulators as wide as it needs."""
    from systolith.array import Mapping
    from systolith.requests.option import quiet
    from systolith.requests.shared import Array
    from systolith.steps.layers import layers_of

    found = layers_of(MODEL, "all", [], None, None, Array(), "simulation", quiet, executed=executed)
    pairs = [(Mapping(one.conv, one.spec, *one.act.shape[1:]), one.act) for one in found]
    return [pair for pair in pairs if pair[0].kijs > 1]


def work(job: str, name: str) -> dict[str, Any]:
    """One of ours on one layer: seconds, clocks, whether all was equal, peak memory in KiB."""
    from systolith.array import run_layer
    from systolith.timing import Schedule, observe
    from systolith.timing.machine import machine

    mapping, act = next(pair for pair in layers(True) if pair[0].conv.name == name)
    peak, holds = own_peak, True
    begin = time.perf_counter()
    if job == "machine":
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            clocks = max(block.last for block in machine(mapping, act, Schedule()) if block.last is not None) + 1
            taken.append(time.perf_counter() - begin)
        begin = time.perf_counter() - min(taken)
    elif job == "observe":
        seen = observe(mapping, act, Schedule())
        clocks, holds = seen.clocks, seen.holds
    else:
        from systolith.rtl.layer import run_on
        from systolith.rtl.simulators import find_simulator

        result, simulator = run_layer(mapping.conv, act, mapping.spec), find_simulator(job)
        peak = childrens_peak
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            outcome = run_on(simulator, result, Path(folder), Schedule())
        clocks, holds = outcome.clocks, outcome.holds
    return {"seconds": time.perf_counter() - begin, "clocks": clocks, "holds": holds, "peak": peak()}


def own_peak() -> int:
    """KiB; that of `getrusage` would not be less than that of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def childrens_peak() -> int:
    """KiB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def ours(job: str, name: str) -> dict[str, Any]:
    """`work` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.simulation", "--job", job, "--layers", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{job} of {name}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def folds(channels: int, filters: int, kijs: int, rows: int, cols: int) -> int:
    """SCALE-Sim's folds of a convolution."""
    return -(-channels * kijs // rows) * -(-filters // cols)


def theirs_by_dataflow(mapping: Any) -> dict[str, int]:
    """SCALE-Sim's clocks of a layer in each of its dataflows, by their formula; its reports have one less.

    A layer is a matrix product, of which two axes lie on the array: each fold streams the third, T, and drains; ws and
    is fill the array before that, os counts no clock for the sums that leave.
    """
    conv, (rows, cols) = mapping.conv, (mapping.spec.rows, mapping.spec.cols)
    pixels, depth, filters = mapping.onijs, conv.in_channels * mapping.taps, conv.out_channels
    stays = {"ws": (depth, filters, pixels), "os": (pixels, filters, depth), "is": (depth, pixels, filters)}
    return {
        name: -(-down // rows) * -(-across // cols) * ((name != "os") * rows + rows + cols + streamed - 2)
        for name, (down, across, streamed) in stays.items()
    }


def explain() -> None:
    """Print both schedules' clocks by what they are for, of all layers; and the sums of VGG16 before its squeeze."""
    import numpy as np

    from systolith.array import ArraySpec, Mapping
    from systolith.formats import IntFormat
    from systolith.network import Conv
    from systolith.timing import Schedule
    from systolith.timing.account import split

    print(
        f"{'clocks':<22}{'ours: load':>9}{'stream':>9}{'turn':>7}{'drain':>6}{'total':>12} |"
        f"{'SCALE-Sim: load':>15}{'stream':>10}{'drain':>9}{'total':>11}"
    )
    sums = [0, 0]
    for mapping, _ in layers(False):
        conv, (rows, cols) = mapping.conv, (mapping.spec.rows, mapping.spec.cols)
        parts = split(mapping, Schedule())
        count = folds(conv.in_channels, conv.out_channels, mapping.kijs, rows, cols)
        both = parts.clocks, theirs_by_dataflow(mapping)["ws"]
        left = f"{parts.load:>9,}{parts.useful:>9,}{parts.turnaround:>7,}{parts.drain:>6,}{both[0]:>12,}"
        right = f"{count * rows:>15,}{count * mapping.onijs:>10,}{count * (rows + cols - 2):>9,}{both[1]:>11,}"
        print(f"{conv.name:<12}{conv.in_channels:>4} ->{conv.out_channels:>4}{left} |{right}")
        sums = [total + clocks for total, clocks in zip(sums, both, strict=True)]
    print(f"all 13 convolutions of {MODEL}: ours {sums[0]:,}, SCALE-Sim's {sums[1]:,}")
    sums = [0, 0]
    for channels, filters, size in UNSQUEEZED:
        weight = np.zeros((filters, channels, 3, 3), dtype=np.int8)
        conv = Conv("layer", weight, IntFormat(4, False), IntFormat(4, True), padding=(1, 1))
        mapping = Mapping(conv, ArraySpec(), size, size)
        sums[0] += Schedule().clocks(mapping)
        sums[1] += theirs_by_dataflow(mapping)["ws"]
    print(f"the same before the squeeze:       ours {sums[0]:,}, SCALE-Sim's {sums[1]:,}")


def compare() -> bool:
    """Print each layer's clocks: our best schedule, the one that streams useful positions, SCALE-Sim's three; whether
    ours is the least in every layer."""
    from systolith.timing import choose

    headings = ("ours (auto)", "which", "ours (useful)", "SCALE-Sim ws", "os", "is")
    print(f"\n{'clocks':<14}" + "".join(f"{text:>15}" for text in headings))
    least, sums = True, [0] * 5
    every = layers(False)
    taken = []
    for _ in range(5):
        begin = time.perf_counter()
        chosen = [choose(mapping) for mapping, _ in every]
        taken.append(time.perf_counter() - begin)
    for (mapping, _), best in zip(every, chosen, strict=True):
        useful, others = choose(mapping, "useful").clocks, list(theirs_by_dataflow(mapping).values())
        numbers = [best.clocks, useful, *others]
        least &= best.clocks <= min(useful, *others)
        sums = [total + number for total, number in zip(sums, numbers, strict=True)]
        cells = [f"{numbers[0]:,}", best.name, *(f"{number:,}" for number in numbers[1:])]
        print(f"{mapping.conv.name:<14}" + "".join(f"{cell:>15}" for cell in cells))
    print(f"{'all 13':<14}" + "".join(f"{c:>15}" for c in (f"{sums[0]:,}", "", *(f"{n:,}" for n in sums[1:]))))
    print(f"all schedules of all layers in closed form: {1000 * min(taken):.1f} ms")
    return least and min(taken) < 0.02


def main() -> None:
    """Print clocks, wall times and peak memory, and whether each aim is met; exit code 1 if one is not."""
    parser = argparse.ArgumentParser(
        description="VGG16 on an 8x8 array: clocks, seconds and memory of four simulations"
    )
    parser.add_argument("--layers", default=LAYERS, help="names with commas between, or all (default: %(default)s)")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(work(options.job, options.layers)))
        return
    explain()
    least = compare()
    every = {mapping.conv.name: mapping for mapping, _ in layers(False)}
    names = list(every) if options.layers == "all" else options.layers.split(",")
    unknown = [name for name in names if name not in every]
    if unknown:
        raise SystemExit(f"no convolution {', '.join(unknown)}; there are {', '.join(every)}")
    print(f"\n{'layer':<14}{'by':<22}{'clocks':>10}{'seconds':>10}{'clocks/s':>15}{'MiB':>7}")
    right, sums = True, {"machine": [0, 0.0], "SCALE-Sim": [0, 0.0], "its clocks alone": [0, 0.0]}
    for name in names:
        right &= measure(every[name], sums)
    speed = {by: clocks / seconds for by, (clocks, seconds) in sums.items()}
    ratio, bare = speed["machine"] / speed["SCALE-Sim"], speed["machine"] / speed["its clocks alone"]
    said = f"the machine steps {speed['machine']:,.0f} clocks/s, SCALE-Sim {speed['SCALE-Sim']:,.0f}: {ratio:.0f}x"
    outcomes = [
        ("our best schedule has the least clocks in every layer; all closed forms in 20 ms", least),
        ("closed form = machine = Verilator, every word and clock; SCALE-Sim's report = its formula less 1", right),
        (f"{said}, at least {LEAST}x ({bare:.0f}x without its trace files)", ratio >= LEAST),
    ]
    for text, holds in outcomes:
        print(f"{'met' if holds else 'NOT MET'}: {text}")
    if not all(holds for _, holds in outcomes):
        raise SystemExit(1)


def measure(mapping: Any, sums: dict[str, list[Any]]) -> bool:
    """Print a layer's rows and add to `sums`, (clocks, seconds) by simulation; whether all clocks are as predicted."""
    from systolith.timing import Schedule

    name = mapping.conv.name
    begin = time.perf_counter()
    predicted = Schedule().clocks(mapping)
    rows = [("closed form", predicted, time.perf_counter() - begin, 0)]
    right = True
    ours("verilator", name)  # compiles
    for job, by in (("machine", "machine"), ("observe", "  and compared"), ("verilator", "Verilator, compared")):
        found = ours(job, name)
        right &= found["clocks"] == predicted and found["holds"]
        rows.append((by, found["clocks"], found["seconds"], found["peak"]))
    formulas = theirs_by_dataflow(mapping)
    found = scalesim(mapping)
    right &= found["clocks"] + 1 == formulas["ws"]
    for flow, clocks in formulas.items():
        if flow != "ws" and clocks < MOST_CHECKED:  # it takes minutes for more
            right &= scalesim(mapping, flow)["clocks"] + 1 == clocks
    rows.append(("SCALE-Sim", found["clocks"], found["seconds"], found["peak"]))
    rows.append(("  its clocks alone", found["clocks"], found["seconds"] - found["traces"], found["peak"]))
    for by, clocks, seconds, peak in rows:
        memory = f"{peak / 1024:.0f}" if peak else "-"
        print(f"{name:<14}{by:<22}{clocks:>10,}{seconds:>10.5f}{clocks / seconds:>15,.0f}{memory:>7}", flush=True)
        key = by.strip()
        if key in sums:
            sums[key] = [sums[key][0] + clocks, sums[key][1] + seconds]
    return right


if __name__ == "__main__":
    main()
