"""The text of `cosim`, and its timing diagram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from systolith.array import ArraySpec
from systolith.array.spec import parse_size
from systolith.hardware.cosim import CosimReport, LayerRun
from systolith.hardware.stress import StressReport
from systolith.hardware.testbenches import ProjectReport
from systolith.report.diagram import write_diagram
from systolith.report.parts import Part, Rows, Table
from systolith.report.project import project_text
from systolith.report.simulate import WORDS


def text(report: CosimReport | StressReport | ProjectReport) -> list[Part]:
    """A row a layer, or what was compared of a single one; then what is known of a difference."""
    if isinstance(report, ProjectReport):
        return project_text(report)
    if isinstance(report, StressReport):
        rows: list[tuple[str, str]] = []
        if report.layer is not None:
            rows.append(("layer", f"{report.layers - 1} of seed {report.seed}: {report.layer}"))
        return [Rows([*rows, *(("why", why) for why in report.why), ("verdict", report.verdict)])]
    parts: list[Part] = []
    if report.several:
        counts = ("passes", "psum words", "outputs", "codes", "clocks", "predicted", "s")
        auto = ("schedule",) if report.schedule["schedule"] == "auto" else ()
        headings = ("layer", "channels", "map", *auto, "lanes", "psum bits", *counts)
        parts.append(Table(headings, [_table_row(one, bool(auto)) for one in report.layers], headings[4 + len(auto) :]))
        rows = [("simulated", f"{report.clocks:,} clocks, {report.predicted:,} predicted, {_time(report)}")]
    else:
        rows = _rows(report, report.layers[0])
    return [*parts, Rows([*rows, *(("why", why) for why in report.why), ("verdict", report.verdict)])]


def draw(report: Any, waves: Path, picture: Path) -> None:
    """Draw the timing diagram of a single layer's run from its waveform into `picture` (.svg); `BadInput` if it has
    not the core's signals."""
    one, sim = report.layers[0], report.simulator
    lanes = one.array
    spec = ArraySpec(*parse_size(lanes["size"]), lanes["act"], lanes["weight"], lanes["psum"])
    write_diagram(waves, spec, picture, f"{one.layer} on the {spec} core ({sim['name']} {sim['version']})")


def _time(report: CosimReport) -> str:
    return f"{report.seconds['run']:.1f} s after {report.seconds['build']:.1f} s of compiling"


def _table_row(one: LayerRun, auto: bool) -> tuple[str, ...]:
    return (
        one.layer,
        " -> ".join(map(str, one.channels)),
        "x".join(map(str, one.map)),
        *((one.schedule,) if auto else ()),
        f"{one.array['act']} x {one.array['weight']}",
        str(one.array["psum"]),
        *(f"{n:,}" for n in (one.passes, one.psums, one.outputs, one.codes, one.clocks, one.predicted)),
        f"{one.seconds:.1f}",
    )


def _rows(report: CosimReport, one: LayerRun) -> list[tuple[str, str]]:
    lanes: Any = one.array
    size = f"{one.channels[0]} -> {one.channels[1]} channels, {'x'.join(map(str, one.map))} map"
    sim, how = report.simulator, report.schedule
    what = "folds" if one.schedule == "os" else "passes"
    passes = f"{one.passes:,} {what} {'one by one' if how['drained'] else 'overlapping'}"
    streamed = WORDS[one.schedule.removesuffix(" drained")] + (" alone" if one.schedule.startswith("useful") else "")
    counted = (
        *(("psums", "psums", one.psums), ("outputs", "outputs", one.outputs)),
        *(("after ReLU", "relu", one.outputs), ("codes", "codes", one.codes)),
    )
    return [
        ("simulator", f"{sim['name']} {sim['version']} ({sim['command']}), {_time(report)}"),
        ("core", f"{lanes['size']}, {lanes['act']}-bit x {lanes['weight']}-bit, {lanes['psum']}-bit psums"),
        ("layer", f"{one.layer}, {size}, {passes}, {streamed}"),
        *((what, f"{one.equal[key]:,} of {count:,} equal") for what, key, count in counted if count),
        ("times", f"{one.equal['times']:,} of {one.timestamps:,} as predicted"),
        ("clocks", f"{one.clocks:,}, predicted {one.predicted:,}"),
    ]
