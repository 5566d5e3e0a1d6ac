"""`project new`, `check` and `start`: a core.toml proposed, tried, or written with a design that passes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.hardware.testbenches import trials_of
from systolith.projects.failures import of_compiler
from systolith.projects.filelist import spelled
from systolith.projects.project import read_project
from systolith.projects.proposal import propose
from systolith.projects.running import place, require_small
from systolith.projects.start import write_start
from systolith.projects.testbench import opened, read_testbench
from systolith.requests.verbs import CosimRequest, ProjectCheckRequest, ProjectNewRequest, ProjectStartRequest
from systolith.rtl.compiling import CompileError, compile_design
from systolith.rtl.simulators import find_simulator
from systolith.steps.common import require_extra
from systolith.store import atomic_file, atomic_folder, require_free


@dataclass(frozen=True)
class FileOpened:
    """A file that a testbench opens, and where ours is that it will find ("": none)."""

    file: str
    line: int
    name: str
    reads: bool
    found: str


@dataclass(frozen=True, kw_only=True)
class ProjectCheckReport(Report):
    """What a project names, and whether it fits.

    Attributes:
        project, simulator: which.
        sources: in order.
        placed: the first layer's files, where they go.
        opened: files that the sources open.
        problems: what does not fit, a sentence each.
    """

    verb: ClassVar[str] = "project check"
    project: str
    simulator: str
    sources: tuple[str, ...]
    placed: tuple[str, ...]
    opened: tuple[FileOpened, ...]
    problems: tuple[str, ...]


@flow(ProjectCheckRequest)
def project_check(request: ProjectCheckRequest) -> ProjectCheckReport:
    """Read a core.toml, compile what it names, and compare the files that its testbench opens with ours.

    Returns:
        Every file opened beside the one placed there, and what does not fit.

    Raises:
        BadInput: the project cannot be read, or there is no simulator.
    """
    project = read_project(Path(request.project))
    simulator = find_simulator(request.sim or project.simulator)
    require_extra("pyslang", "rtl", "project check")
    require_small(project)
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
        import shutil

        copy = Path(scratch) / "copy"
        shutil.copytree(project.root, copy, ignore_dangling_symlinks=True)
        ask = CosimRequest(project=request.project, progress=request.progress)
        trial = next(iter(trials_of(project, ask, Path(scratch) / "vectors")))
        placed = place(project, trial.files, copy)
        files = []
        for one in opened(project):
            folder = copy / project.run_in
            parent = folder / Path(one.name).parent
            there = sorted(p for p in parent.iterdir() if one.pattern.fullmatch(p.name)) if parent.is_dir() else []
            ours = [p for p in there if p.resolve().relative_to(copy.resolve()).as_posix() in placed]
            found = "ours" if ours else "the project's own" if there else "nothing"
            files.append(FileOpened(one.file, one.line, one.name, one.reads, found if one.reads else ""))
            if one.reads and not there:
                problems.append(f"{one.file}:{one.line} opens {one.name}, which no file of the layout is called")
        try:
            compile_design(simulator, project.design(trial.result.mapping), copy)
        except CompileError as error:
            outcome = of_compiler("compile", error)
            problems.append(f"{outcome.said}; change: {outcome.change}")
    good = f"{len(project.sources)} sources compile ({simulator.name} {simulator.version}), {len(placed)} files placed"
    return ProjectCheckReport(
        holds=not problems,
        verdict=good if not problems else f"DOES NOT FIT: {problems[0]}"[:190],
        notes=project.notes,
        project=str(project.file),
        simulator=simulator.name,
        sources=project.sources,
        placed=tuple(placed),
        opened=tuple(files),
        problems=tuple(problems),
    )


@dataclass(frozen=True)
class Proposed:
    """A file that the testbench opens: how, the tensor that its name speaks of, and what was found of its words."""

    call: str
    name: str
    tensor: str
    header: str
    words: str
    width: str


@dataclass(frozen=True, kw_only=True)
class ProjectNewReport(Report):
    """What was written, and what is left to say by hand."""

    verb: ClassVar[str] = "project new"
    file: str
    opened: tuple[Proposed, ...]
    missing: tuple[str, ...]


@flow(ProjectNewRequest)
def project_new(request: ProjectNewRequest) -> ProjectNewReport:
    """Propose a core.toml for a testbench: the files that it opens, their headers and words; say what was not found.

    Returns:
        What was found in its syntax tree, and what was not.

    Raises:
        BadInput: the testbench cannot be read, or opens no file; the project file is there already.
    """
    require_extra("pyslang", "rtl", "project new")
    bench, out = Path(request.from_testbench), Path(request.out)
    if out.is_dir() or (out.exists() and not request.force):
        raise BadInput(f"{out}: exists already; --force replaces a file")
    root = out.resolve().parent
    try:
        text = bench.read_text(errors="replace")
    except OSError as error:
        raise BadInput(f"--from-testbench {bench}: cannot be read ({error.strerror})") from None
    if not bench.resolve().is_relative_to(root):
        raise BadInput(f"--from-testbench {bench}: expected a file below {root}, the project file's folder")
    own = bench.resolve().relative_to(root).as_posix()
    given = [spelled(root, one, "--source") for one in request.sources or ()]
    beside = [
        p.relative_to(root).as_posix() for p in sorted(bench.resolve().parent.iterdir()) if p.suffix in (".v", ".sv")
    ]
    sources = [one for one in (given or beside) if one != own] + [own]
    proposal = propose(read_testbench(text, own), sources)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary:
        temporary.write_text(proposal.text)
    found = tuple(
        Proposed(
            *(g.opened.call, g.opened.name, g.tensor if g.opened.reads else "(written)"),
            f"{g.opened.header} {'words' if g.opened.tokens else 'lines'}" if g.opened.header else "none",
            *("?" if n is None else str(n) for n in (g.opened.words, g.opened.width)),
        )
        for g in proposal.guesses
    )
    return ProjectNewReport(
        holds=True,
        verdict=f"{out}: {len(found)} files, to be looked at: {len(proposal.missing)}; next: project check",
        file=str(out),
        opened=found,
        missing=proposal.missing,
    )


@dataclass(frozen=True, kw_only=True)
class ProjectStartReport(Report):
    """What was written, and the command to go on with."""

    verb: ClassVar[str] = "project start"
    folder: str
    files: tuple[str, ...]
    next: str


@flow(ProjectStartRequest)
def project_start(request: ProjectStartRequest) -> ProjectStartReport:
    """Write a passing start: our core and a testbench as your own copy, core.toml, Makefile, a cocotb test.

    Returns:
        The files written.

    Raises:
        BadInput: the folder is there already.
    """
    folder = Path(request.folder)
    require_free(folder, request.force)
    with atomic_folder(folder, request.force) as temporary:
        files = write_start(temporary)
    return ProjectStartReport(
        holds=True,
        verdict=f"{len(files)} files in {folder}",
        folder=str(folder),
        files=tuple(files),
        next=f"systolith cosim --project {folder}/core.toml",
    )
