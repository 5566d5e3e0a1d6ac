"""`cosim --project`: somebody's own testbench, fed with layers of ours, judged by its own words and by ours."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from systolith.flows.flow import Report
from systolith.flows.vectors import vectors
from systolith.formats import BadInput
from systolith.projects.control import control, is_blind, judgement
from systolith.projects.failures import KINDS, Outcome
from systolith.projects.project import Project, read_project
from systolith.projects.questions import edits, passing
from systolith.projects.running import Trial, Workshop, run_trials
from systolith.requests.option import options_of
from systolith.requests.shared import Geometry
from systolith.requests.verbs import CosimRequest, VectorsRequest
from systolith.rtl.simulators import find_simulator
from systolith.steps.common import go_without
from systolith.store import atomic_folder, require_free
from systolith.vectors import read_bundle
from systolith.vectors.bundle import MANIFEST
from systolith.vectors.layout import vector_files
from systolith.vectors.layout_file import to_toml

ASKED = ("failed", "no verdict", "silent", "all x", "no file", "crashed")
"""Ends for which another layout may be the answer."""
MADE_UP = (*(f.name for f in fields(Geometry)), "act_range", "weight_range", "most_negative", "density", "seed")
"""What a project says of made-up layers alone."""
_NOT_FILL = ("out", "force", "yes", "layout", "progress", "jobs")


@dataclass(frozen=True)
class ProjectRun:
    """One layer through the testbench.

    Attributes:
        name: the layer or made-up case.
        files: vector files that were placed.
        end: how it ended (`projects.failures.KINDS`).
        said: the testbench's or simulator's own words about it.
        change: what to change, or "".
        lines: the testbench's own lines, at most three.
        words, different: of a dump that was judged; None without one.
        seconds: of the simulation.
    """

    name: str
    files: int
    end: str
    said: str
    change: str
    lines: tuple[str, ...]
    words: int | None
    different: int | None
    seconds: float


@dataclass(frozen=True)
class Looked:
    """Of one kind of file: bits flipped, how many of those the testbench noticed, and that in words."""

    flipped: int
    noticed: int
    said: str


@dataclass(frozen=True, kw_only=True)
class ProjectReport(Report):
    """What a testbench makes of our vectors.

    Attributes:
        project: its file.
        simulator: its name, version and command.
        runs: each layer's.
        passed: how many of them passed.
        controls: by kind of file, what the testbench noticed of flipped bits; None without that.
        hints: single changes of the layout with which the first failing run passes.
        edits: the first of them as lines of the layout in core.toml, each behind its file's name.
        tried: whether such changes were looked for.
        seconds: of everything.
    """

    verb: ClassVar[str] = "cosim"
    project: str
    simulator: Mapping[str, str]
    runs: tuple[ProjectRun, ...]
    passed: int
    controls: Mapping[str, Looked] | None
    hints: tuple[str, ...]
    edits: tuple[str, ...]
    tried: bool
    seconds: float


def run_project(request: CosimRequest) -> ProjectReport:
    """Run the project's testbench on each layer that its `core.toml` or the request names.

    Raises:
        BadInput: the project cannot be read, its vectors cannot be made, or there is no simulator.
    """
    given = {"--random": request.random, "--core": request.core, "--waves": request.waves}
    go_without("--project brings its own design: it", given)
    if request.project is None:
        raise BadInput("--project: expected a core.toml")
    if request.jobs < 1:
        raise BadInput(f"--jobs {request.jobs}: expected at least 1")
    begin = time.perf_counter()
    project = read_project(Path(request.project))
    for note in project.notes:
        request.progress(note)
    simulator = find_simulator(project.simulator if request.sim == "auto" else request.sim)
    out = None if request.out is None else Path(request.out)
    if out is not None:
        require_free(out, request.force)
    kept = atomic_folder(out, request.force) if out is not None else tempfile.TemporaryDirectory(prefix="systolith-")
    with kept as made:
        folder = Path(made)
        (folder / "runs").mkdir()
        trials = list(trials_of(project, request, folder / "vectors"))
        shop = Workshop(project, simulator, folder / "runs", request.jobs, keep=out is not None)
        request.progress(f"{len(trials)} runs of {project.file} by {simulator.name} {simulator.version}")
        outcomes = run_trials(shop, trials)
        bad = next((i for i, one in enumerate(outcomes) if not one.passed), None)
        hints, tried, found = [], False, None
        with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
            aside = Workshop(project, simulator, Path(scratch), request.jobs)
            if bad is not None and outcomes[bad].kind in ASKED:
                request.progress("asking whether another layout passes")
                hints, tried = passing(aside, trials[bad]), True
            good = next((i for i, one in enumerate(outcomes) if one.passed), None)
            if bad is None and good is not None and request.control:
                request.progress("flipping bits")
                found = control(aside, trials[good])
                if is_blind(found):  # perhaps it reads nothing, and compares x with x
                    hints, tried = passing(aside, trials[good]), True
        runs = tuple(_run(trial, outcome) for trial, outcome in zip(trials, outcomes, strict=True))
    passed = sum(outcome.passed for outcome in outcomes)
    unseen = judgement(found) if found is not None else ""
    blind = is_blind(found or ())
    return ProjectReport(
        holds=passed == len(runs) and not blind,
        verdict=_verdict(outcomes, hints, found is not None, unseen, blind, f"({simulator.name} {simulator.version})"),
        notes=project.notes,
        project=str(project.file),
        simulator={"name": simulator.name, "version": simulator.version, "command": simulator.command},
        runs=runs,
        passed=passed,
        controls=None if found is None else {c.kind: Looked(len(c.flips), c.noticed, str(c)) for c in found},
        hints=tuple(hints),
        edits=edits(project.layout, project, hints[0]) if hints else (),
        tried=tried,
        seconds=round(time.perf_counter() - begin, 2),
    )


def trials_of(project: Project, request: CosimRequest, out: Path) -> Iterator[Trial]:
    """A run for each layer that the project or the request names; their bundles are written below `out`."""
    for bundle in _bundles(project, request, out):
        yield _trial(project, bundle, out)


def _bundles(project: Project, request: CosimRequest, out: Path) -> Iterator[Path]:
    """The bundles of the project's layers, below `out`."""
    fill = dict(project.fill)
    known = {f.name for f in fields(VectorsRequest)} - set(_NOT_FILL)
    if "input" in fill:  # as the option is called
        fill["size"] = fill.pop("input")
    if unknown := sorted(set(fill) - known):
        raise BadInput(
            f"{project.file}: [vectors]: unknown key {unknown[0]!r}; expected layout, folder, places, "
            f"{', '.join(sorted(known))}"
        )
    for name in ("model", "layer", "image", "data", "index"):
        if getattr(request, name) is not None:
            fill[name] = getattr(request, name)
            fill.pop("stimulus", None)
    stimulus = fill.pop("stimulus", None) if request.stimulus is None else request.stimulus
    if "tensors" in fill:
        fill["tensors"] = project.file.parent / fill["tensors"]
    if stimulus is not None and request.layer is None:
        for name in ("model", "layer", "tensors", "image", "data", "index"):
            fill.pop(name, None)
        yield from _made_up(project, fill, stimulus, out)
        return
    for name in MADE_UP:
        fill.pop(name, None)
    report = vectors(
        **_options(fill), layout=str(_layout_of(project, out)), out=out / "layers", progress=request.progress
    )
    yield from [out / "layers"] if report.bundles is None else [Path(b.folder) for b in report.bundles]


def _made_up(project: Project, fill: dict[str, Any], stimulus: str, out: Path) -> Iterator[Path]:
    """Of "random:50,corner": fifty random layers by their seeds, and each corner case."""
    first = fill.pop("seed", None) or 0
    for one in stimulus.split(","):
        name, colon, count = one.strip().partition(":")
        if colon and (not count.isdecimal() or not 1 <= int(count) <= 100_000 or name == "corner"):
            raise BadInput(f"--stimulus {one!r}: expected a case's name, or random:N with N of 1 to 100,000")
        for number in range(int(count or 1)):
            place = out / f"{name}{number}"
            options = _options({**fill, "stimulus": name, "seed": first + number})
            report = vectors(**options, layout=str(_layout_of(project, out)), out=place)
            cases = [Path(case.folder) for case in report.cases or ()]
            for case in cases:
                if count:  # the seeds tell them apart
                    case = case.rename(case.with_name(f"{case.name}, seed {first + number}"))
                yield case


def _options(fill: Mapping[str, Any]) -> dict[str, Any]:
    """A project's values as those of a request: numbers where it takes text, too."""
    kinds = {name: str(kind) for name, (kind, _, _) in options_of(VectorsRequest).items()}
    options = {k: str(v) if type(v) is int and "str" in kinds[k] else v for k, v in fill.items()}
    if isinstance(options.get("image"), str):
        options["image"] = [Path(options["image"])]
    return options


def _layout_of(project: Project, out: Path) -> Path:
    """The project's layout as a file, next to the bundles."""
    out.mkdir(exist_ok=True)
    path = out / "layout.toml"
    path.write_text(to_toml(project.layout))
    return path


def _trial(project: Project, bundle: Path, out: Path) -> Trial:
    if not (bundle / MANIFEST).is_file():
        raise BadInput(f"{bundle}: no bundle")
    result, _ = read_bundle(bundle)
    relative = bundle.relative_to(out).parts
    name = result.mapping.conv.name if relative[0] == "layers" else relative[-1]
    return Trial(name, result, project.layout, tuple(vector_files(result, project.layout)))


def _run(trial: Trial, outcome: Outcome) -> ProjectRun:
    levels = outcome.verdict.levels if outcome.verdict is not None else None
    words, different = (
        (None, None) if levels is None else (sum(x.words for x in levels), sum(x.different for x in levels))
    )
    return ProjectRun(
        *(trial.name, len(trial.files), outcome.kind, outcome.said, outcome.change, outcome.lines),
        *(words, different, outcome.seconds),
    )


def _verdict(outcomes: list[Outcome], hints: list[str], control: bool, unseen: str, blind: bool, by: str) -> str:
    passed, total = sum(one.passed for one in outcomes), len(outcomes)
    if passed < total:
        bad = next(one for one in outcomes if not one.passed)
        hint = f"; passes with {hints[0]}" if hints else ""
        end = f"NOT PASSED: {passed} of {total}; {bad.name}: "
        return f"{end}{KINDS[bad.kind]}: {bad.said}"[: 190 - len(hint)] + hint
    runs = "passed: 1 run" if total == 1 else f"passed: {total} of {total} runs"
    if blind:
        hint = f"; proved with {hints[0]}" if hints else ""
        return f"NOT PROVED: {runs}, but {unseen}"[: 190 - len(hint)] + hint
    if not control:
        return f"{runs} {by}"
    return f"{runs}, every kind of flipped bit noticed {by}" if not unseen else f"{runs}, but {unseen} {by}"[:190]
