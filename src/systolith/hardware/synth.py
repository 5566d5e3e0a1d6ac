"""`synth`: what the core, or another design, takes in a target's cells, an estimate by Yosys."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from systolith.array.spec import parse_size
from systolith.flows.flow import Report, flow
from systolith.flows.simulate import simulate
from systolith.formats import BadInput
from systolith.hardware.testbenches import trials_of
from systolith.projects.dut import dut_of
from systolith.projects.project import read_project
from systolith.requests.shared import DEFAULT_MODEL
from systolith.requests.verbs import CosimRequest, SynthRequest
from systolith.rtl.simulators import RTL
from systolith.steps.common import go_without, require_extra
from systolith.synthesis.area import LIBERTY, TARGETS, Area, synthesize
from systolith.synthesis.yosys import Source, yosys_version
from systolith.timing.mapper import AUTO, WAYS


@dataclass(frozen=True)
class Design:
    """What is synthesized.

    Attributes:
        name: for people.
        source: as Yosys takes it.
        operations: a clock, a MAC being two; 0 where it is not known.
        clocks: a picture of the network; None of a design of yours.
        utilisation: the share of the multipliers at work in them.
    """

    name: str
    source: Source
    operations: int
    clocks: int | None = None
    utilisation: float | None = None


@dataclass(frozen=True)
class Row:
    """A design in a target.

    Attributes:
        design, target: which.
        parameters: of its top module.
        luts, ffs, dsps, rams, cells, area: of `synthesis.area.Area`.
        operations, clocks, utilisation: of `Design`.
        pictures_per_s, tops: at the frequency given, all multipliers at work; tops_per_w, tops_per_mm2 at the power and
            the area given.
    """

    design: str
    target: str
    parameters: Mapping[str, int]
    luts: int
    ffs: int
    dsps: int
    rams: int
    cells: Mapping[str, int]
    area: float | None
    operations: int
    clocks: int | None
    utilisation: float | None
    pictures_per_s: float | None
    tops: float | None
    tops_per_w: float | None
    tops_per_mm2: float | None


@dataclass(frozen=True, kw_only=True)
class SynthReport(Report):
    """What designs take, an estimate.

    Attributes:
        tool: Yosys and its version.
        model: the network whose clocks are counted, None of designs of yours.
        rows: a design in a target each.
    """

    verb: ClassVar[str] = "synth"
    tool: str
    model: str | None
    rows: tuple[Row, ...]


@flow(SynthRequest)
def synth(request: SynthRequest) -> SynthReport:
    """Estimate by Yosys what the core, or a design of yours, takes in gates, in an FPGA's or in a library's cells.

    Returns:
        A row for each design and target: cells by kind and by type, operations a clock, clocks a picture.

    Raises:
        BadInput: no such target or size, pyosys is missing, or Yosys refuses the design.

    Examples:
        >>> import systolith as sl
        >>> (row,) = sl.synth(sizes="2x2").rows
        >>> row.operations
        8
    """
    require_extra("pyosys", "synth", "synth")
    targets = [LIBERTY] if request.liberty is not None else request.target.split(",")
    unknown = [name for name in targets if name not in (*TARGETS, LIBERTY)]
    if unknown or (LIBERTY in targets and request.liberty is None):
        raise BadInput(f"--target {request.target}: expected some of {', '.join(TARGETS)}, or --liberty FILE")
    if request.liberty is not None and not Path(request.liberty).is_file():
        raise BadInput(f"--liberty {request.liberty}: no such file")
    for flag, value in (("frequency", request.frequency), ("power", request.power), ("area", request.area)):
        if value is not None and value <= 0:
            raise BadInput(f"--{flag} {value:g}: expected more than 0")
    if request.jobs < 1:
        raise BadInput(f"--jobs {request.jobs}: expected at least 1")
    if request.frequency is None:
        go_without("without --frequency it", {"--power": request.power, "--area": request.area})
    designs = _projects(request) if request.project else [_given(request)] if request.sources else _ours(request)
    if request.power is not None or request.area is not None:
        one = len(designs) == len(targets) == 1
        if not one:
            raise BadInput("--power and --area are of one design in one target: expected one size, width and target")
    pairs = [(design, target) for design in designs for target in targets]
    rows: list[Row] = []

    def area(pair: tuple[Design, str]) -> Area:
        design, target = pair
        liberty = None if request.liberty is None else Path(request.liberty)
        return synthesize(design.source, target, liberty, request.timeout)

    with ThreadPoolExecutor(request.jobs) as pool:
        for (design, target), found in zip(pairs, pool.map(area, pairs), strict=True):
            rows.append(_row(request, design, target, found))
            request.progress("syntheses", len(rows), len(pairs))
    tool, noun = f"Yosys {yosys_version()}", "synthesis" if len(rows) == 1 else "syntheses"
    return SynthReport(
        holds=True,
        verdict=f"an estimate by {tool} before placing and routing: {len(rows)} {noun}",
        tool=tool,
        model=None if request.sources or request.project else request.model or DEFAULT_MODEL,
        rows=tuple(rows),
    )


def _ours(request: SynthRequest) -> list[Design]:
    """Our core, of each size and width."""
    go_without("our core (no --sources)", {"--top": request.top, "--parameter": request.parameter})
    go_without("our core (no --sources)", {"--operations": request.operations})
    sources = tuple(sorted((RTL / "core").glob("*.sv")))
    found = []
    for size in (request.sizes or "8x8").split(","):
        rows, cols = parse_size(size)
        for text in (request.bits or "4").split(","):
            if text not in ("1", "2", "3", "4", "5", "6", "7", "8"):
                raise BadInput(f"--bits {text!r}: expected widths of 1 to 8, with commas between")
            bits = int(text)
            psum_bits = request.psum_bits or 2 * bits + 8
            given = {"ROWS": rows, "COLS": cols, "ACT_BITS": bits, "WEIGHT_BITS": bits, "PSUM_BITS": psum_bits}
            for schedule in (request.schedule or "useful").split(","):
                simd = request.simd or 1
                clocks = simulate(
                    request.model or DEFAULT_MODEL,
                    array=size,
                    act_bits=bits,
                    weight_bits=bits,
                    psum_bits="auto",
                    schedule=schedule,
                    simd=simd,
                    values=False,
                ).total
                name = f"core {size}, {bits} bits" + (f", {schedule}" if request.schedule else "")
                numbers = 2 * rows * cols * simd, clocks.clocks, clocks.utilisation
                source = Source(sources, "core", {**given, **_modes(schedule), "SIMD": simd})
                found.append(Design(name, source, *numbers))
    return found


def _modes(schedule: str) -> dict[str, int]:
    """The core's parameters for what a schedule asks of it; of "auto", for everything."""
    ways = list(WAYS.values()) if schedule == AUTO else [WAYS[schedule]]
    stationary = any(way.dataflow == "os" for way in ways)
    return {
        "DOUBLE": int(any(way.schedule.double for way in ways)),
        "STATIONARY": int(stationary),
        "PACKED": int(stationary or any(way.packed for way in ways)),
    }


def _given(request: SynthRequest) -> Design:
    """A design of the user's."""
    go_without("a design of yours (--sources)", {"--sizes": request.sizes, "--bits": request.bits})
    go_without("a design of yours (--sources)", {"--psum-bits": request.psum_bits, "--model": request.model})
    go_without("a design of yours (--sources)", {"--schedule": request.schedule, "--simd": request.simd})
    if request.top is None:
        raise BadInput("--sources: expected --top with it, the module to synthesize")
    sources = tuple(Path(path) for path in request.sources or ())
    for path in sources:
        if not path.is_file():
            raise BadInput(f"--sources {path}: no such file")
    parameters = {}
    for text in request.parameter or ():
        name, _, value = text.partition("=")
        if not name or not value.lstrip("-").isdigit():
            raise BadInput(f"--parameter {text!r}: expected NAME=VALUE, a whole number")
        parameters[name] = int(value)
    return Design(request.top, Source(sources, request.top, parameters), request.operations or 0)


def _projects(request: SynthRequest) -> list[Design]:
    """The designs that projects' testbenches test, with the parameters of the first layer."""
    given = {"--sources": request.sources, "--top": request.top, "--parameter": request.parameter}
    go_without("--project names its own design: it", given)
    go_without("a design of yours (--project)", {"--sizes": request.sizes, "--bits": request.bits})
    go_without("a design of yours (--project)", {"--psum-bits": request.psum_bits, "--model": request.model})
    go_without("a design of yours (--project)", {"--schedule": request.schedule, "--simd": request.simd})
    require_extra("pyslang", "rtl", "synth --project")
    designs = []
    for path in request.project or ():
        project = read_project(Path(path))
        with tempfile.TemporaryDirectory(prefix="systolith-") as folder:
            trial = next(trials_of(project, CosimRequest(project=path), Path(folder) / "vectors"))
        dut = dut_of(project, trial.result.mapping)
        top, parameters = dut.only(project)
        files, include = (
            tuple(project.root / one for one in paths) for paths in (dut.sources, (*project.include, "."))
        )
        source = Source(files, top, parameters, include, project.design(trial.result.mapping).defines)
        designs.append(Design(f"{project.root.name}: {top}", source, request.operations or 0))
    return designs


def _row(request: SynthRequest, design: Design, target: str, area: Area) -> Row:
    hertz = None if request.frequency is None else request.frequency * 1e6
    tops = design.operations * hertz / 1e12 if hertz and design.operations else None
    return Row(
        design=design.name,
        target=target,
        parameters=design.source.parameters,
        luts=area.luts,
        ffs=area.ffs,
        dsps=area.dsps,
        rams=area.rams,
        cells=area.cells,
        area=area.area,
        operations=design.operations,
        clocks=design.clocks,
        utilisation=design.utilisation,
        pictures_per_s=hertz / design.clocks if hertz and design.clocks else None,
        tops=tops,
        tops_per_w=tops / (request.power / 1e3) if tops and request.power else None,
        tops_per_mm2=tops / request.area if tops and request.area else None,
    )
