"""One run of somebody's testbench, in a copy of the project: files placed, compiled, simulated, judged."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from systolith.array import ArrayResult
from systolith.formats import BadInput
from systolith.projects.failures import SILENT, Ended, Outcome, classify, of_compiler
from systolith.projects.project import Project
from systolith.rtl.compiling import CompileError, Design, compile_design
from systolith.rtl.simulators import Simulator, started
from systolith.vectors import Layout, find_layout
from systolith.vectors.layout import VectorFile
from systolith.verdict.judge import judge
from systolith.verdict.words import How

MOST_BYTES = 1 << 30
"""Of a project's folder, which is copied for every run."""
MOST_PRINTED = 16 << 20
"""Of what a simulation may print."""
NOT_COPIED = (".git", ".hg", ".svn", "__pycache__", ".venv", "node_modules")
_INCLUDE = re.compile(r'`include\s+"([^"]+)"')


@dataclass(frozen=True, eq=False)
class Trial:
    """One run to make.

    Attributes:
        name: how it is told apart.
        result: the layer, which says the sizes and what a dump should hold.
        layout: of the files, and of a dump that has none of its own.
        files: what is placed.
    """

    name: str
    result: ArrayResult
    layout: Layout
    files: tuple[VectorFile, ...]


@dataclass(frozen=True)
class Workshop:
    """Where a project's runs are made.

    Attributes:
        project: the project.
        simulator: found.
        folder: an empty folder, which takes a copy of the project a run.
        jobs: runs at a time.
        keep: leave the copies there.
    """

    project: Project
    simulator: Simulator
    folder: Path
    jobs: int = 2
    keep: bool = False


def run_trials(workshop: Workshop, trials: Iterable[Trial]) -> list[Outcome]:
    """The outcome of each, in order; a design is compiled once, unless it includes vector files.

    Raises:
        BadInput: the project cannot be copied.
    """
    trials = list(trials)
    require_small(workshop.project)
    models: dict[str, Path | CompileError] = {}
    for trial in trials:
        key = _key(workshop.project, trial)
        if key not in models:
            models[key] = _compiled(workshop, trial, f"model{_number(workshop.folder)}")
    with ThreadPoolExecutor(max(1, workshop.jobs)) as pool:
        return list(pool.map(lambda t: _run(workshop, t, models[_key(workshop.project, t)]), trials))


def require_small(project: Project) -> None:
    """Raise `BadInput` where the project's folder is too large to be copied for every run."""
    total = 0
    for path in project.root.rglob("*"):
        if not set(path.relative_to(project.root).parts) & set(NOT_COPIED) and path.is_file():
            total += path.stat().st_size
            if total > MOST_BYTES:
                raise BadInput(
                    f"{project.root}: more than {MOST_BYTES >> 30} GB, and every run is made in a copy: "
                    f"root = in {project.file.name} names a smaller folder"
                )


def place(project: Project, files: Iterable[VectorFile], root: Path) -> list[str]:
    """Write the files where the testbench expects them, below `root`; their paths relative to it."""
    placed: dict[str, str] = {}
    for file in files:
        where = project.place(file.name)
        if where in placed:
            raise BadInput(f"{project.file}: places: {placed[where]} and {file.name} would both be {where}")
        placed[where] = file.name
        path = root / where
        if not path.resolve().is_relative_to(root.resolve()):
            raise BadInput(f"{project.file}: places: {where}: expected a path inside {project.root}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for piece in file.encode():
                out.write(piece)
    return list(placed)


def included(project: Project) -> set[str]:
    """The names that the sources include: a vector file among them is part of what is compiled."""
    found: set[str] = set()
    for source in project.sources:
        found |= {Path(one).name for one in _INCLUDE.findall((project.root / source).read_text(errors="replace"))}
    return found


def _key(project: Project, trial: Trial) -> str:
    """What is compiled for a trial, as text."""
    design = project.design(trial.result.mapping)
    names = included(project)
    inside = [b"".join(file.encode()) for file in trial.files if Path(project.place(file.name)).name in names]
    return repr((design, inside))


def _number(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _copied(workshop: Workshop, trial: Trial, name: str) -> tuple[Path, list[str]]:
    copy = workshop.folder / name
    ignored = shutil.ignore_patterns(*NOT_COPIED)
    shutil.copytree(workshop.project.root, copy, ignore=ignored, ignore_dangling_symlinks=True)
    return copy, place(workshop.project, trial.files, copy)


def _compiled(workshop: Workshop, trial: Trial, name: str) -> Path | CompileError:
    """The model of a trial's design, in a copy of its own."""
    copy, _ = _copied(workshop, trial, name)
    dump = workshop.project.dump
    waves = Path(dump.waves).suffix[1:] if dump is not None else ""
    try:
        compile_design(workshop.simulator, _inside(workshop.project.design(trial.result.mapping)), copy, waves)
    except CompileError as error:
        return error
    return copy / "model"


def _inside(design: Design) -> Design:
    """With the working folder as an include folder, as file lists assume."""
    return replace(design, include=(*design.include, "."))


def _run(workshop: Workshop, trial: Trial, model: Path | CompileError) -> Outcome:
    if isinstance(model, CompileError):
        return of_compiler(trial.name, model)
    project, result = workshop.project, trial.result
    copy, placed = _copied(workshop, trial, _safe(trial.name))
    try:
        where = copy / project.run_in
        if not where.is_dir():
            raise BadInput(f"{project.file}: run_in {project.run_in!r}: no such folder in {project.root}")
        command = [*started(workshop.simulator, model, "-n"), *project.options(result.mapping)]
        ended = _ended(command, where, project.time_limit)
        outcome = classify(project, trial.name, ended, copy, placed)
        if project.dump is None or outcome.kind not in ("passed", *SILENT):
            return outcome
        return _judged(project, outcome, trial, copy)
    finally:
        if not workshop.keep:
            shutil.rmtree(copy, ignore_errors=True)


def _safe(name: str) -> str:
    return "run-" + re.sub(r"[^\w.+-]+", "-", name)


def _ended(command: list[str], where: Path, limit: float) -> Ended:
    """Run it until its end, the limit, or until it has printed too much."""
    log, begin = where / ".systolith.log", time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=where, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        code: int | None = None
        pause = 0.002
        while code is None:
            try:
                code = process.wait(pause)
            except subprocess.TimeoutExpired:
                pause = min(0.1, 2 * pause)
                if time.perf_counter() - begin > limit or log.stat().st_size > MOST_PRINTED:
                    process.kill()
                    process.wait()
                    break
            except BaseException:
                process.kill()
                raise
    with log.open("rb") as file:
        text = file.read(MOST_PRINTED).decode(errors="replace")
    log.unlink()
    return Ended(text, code, time.perf_counter() - begin)


def _judged(project: Project, outcome: Outcome, trial: Trial, copy: Path) -> Outcome:
    """What the dump says of a run that came to its end."""
    dump = project.dump
    assert dump is not None
    layout = trial.layout
    if dump.layout:
        beside = project.file.parent / dump.layout
        layout = find_layout(str(beside) if dump.layout.endswith(".toml") else dump.layout)
    options = (dump.level, dump.radix, dump.signal, dump.valid, dump.clock)
    against = copy / dump.place
    if not against.exists():
        said = f"the dump {dump.place} was not written"
        return replace(
            outcome, kind="no dump", said=said, change="the dump's path in core.toml, or what the testbench writes"
        )
    try:
        verdict = judge(trial.result, layout, against, How(*(one or None for one in options)))
    except BadInput as error:
        said = str(error).replace(str(copy), str(project.root))
        return replace(outcome, kind="failed", said=said, change="the dump's options in core.toml")
    if verdict.holds:
        return replace(outcome, kind="passed", said="every dumped word is right", verdict=verdict)
    known = f"; it is as if {' or '.join(verdict.suspects)}" if verdict.suspects else ""
    return replace(outcome, kind="failed", said=f"{verdict.first}{known}", change="", verdict=verdict)
