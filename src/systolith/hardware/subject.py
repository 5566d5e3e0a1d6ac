"""What `mutate` changes and what judges it: our core with our testbench, or somebody's project with its own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from systolith.formats import BadInput
from systolith.hardware.testbenches import trials_of
from systolith.mutation.bench import Bench, limited, prepare
from systolith.mutation.mutants import Mutant
from systolith.mutation.proof import Prover, prover
from systolith.mutation.run import Fate
from systolith.projects.dut import Dut, dut_of
from systolith.projects.failures import Outcome
from systolith.projects.project import Project, read_project
from systolith.projects.running import NOT_COPIED, Trial, Workshop, require_small, run_trials
from systolith.requests.verbs import CosimRequest, MutateRequest
from systolith.rtl.simulators import RTL, Simulator
from systolith.steps.common import go_without
from systolith.synthesis.yosys import Source

MODULES = ("mac_tile", "mac_row", "mac_array", "l0", "ofifo", "sfp", "sfp_lane", "walk", "taps")
"""Of our core, those that are changed unless others are named: all but memories and wiring."""
SUGGESTED = "corner,random:3"
"""The made-up layers that survivors are tried with."""
_UNCOMPILED = ("compile", "construct")


class Judging(Protocol):
    """What judges mutants."""

    def require(self, core: Path, quick: bool = False) -> None:
        """Raise `BadInput` where the sources as they are do not pass; `quick` asks for no more than a first layer."""

    def judge(self, mutant: Mutant, core: Path) -> Fate:
        """What becomes of a mutant, the changed sources in the folder `core`."""


@dataclass(frozen=True)
class Subject:
    """Sources to change.

    Attributes:
        folder: that is copied for each mutant.
        files: of it, that may be changed; `usual` are those that are unless some are named.
        simulator: that runs them unless another is named.
        prepare: what judges, made for a simulator and an empty folder; and what the judgement depends on, as text.
    """

    folder: Path
    files: tuple[str, ...]
    usual: tuple[str, ...]
    simulator: str
    prepare: Callable[[Simulator, Path], tuple[Judging, str]]


def subject_of(request: MutateRequest, folder: Path) -> Subject:
    """Our core, or the project's design, as `of_project`.

    Raises:
        BadInput: no such core, or as of `of_project`.
    """
    return _of_core(request) if request.project is None else of_project(request, folder)


def _of_core(request: MutateRequest) -> Subject:
    """Our core, or a changed copy of it, and layers on our testbench."""
    go_without("without --project, mutate", {"--stimulus": request.stimulus, "--layer": request.layer})
    core = RTL / "core" if request.core is None else Path(request.core)
    if not (core / "core.sv").is_file():
        raise BadInput(f"--core {core}: expected a folder with core.sv and the modules below it")

    def prepared(simulator: Simulator, folder: Path) -> tuple[Bench, str]:
        bench = prepare(simulator, folder, core, request.proofs, request.timeout)
        files = sorted(path for written in bench.cores for place, _ in written.layers for path in place.iterdir())
        vectors = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        return bench, repr(((RTL / "testbench.sv").read_text(), vectors))

    there = tuple(sorted(path.name for path in core.glob("*.sv")))
    return Subject(core, there, tuple(f"{name}.sv" for name in MODULES), "icarus", prepared)


def of_project(request: MutateRequest, folder: Path) -> Subject:
    """A project's design, judged by its testbench on its layers; works in the folder `folder`.

    Raises:
        BadInput: the project cannot be read or copied, its vectors cannot be made, or no source is the design's alone.
    """
    go_without("--project brings its own design: it", {"--core": request.core})
    project = read_project(Path(request.project or ""))
    require_small(project)
    copy = folder / "project"
    shutil.copytree(project.root, copy, ignore=shutil.ignore_patterns(*NOT_COPIED), ignore_dangling_symlinks=True)
    asked = CosimRequest(project=request.project, stimulus=request.stimulus, layer=request.layer)
    trials = list(trials_of(project, asked, folder / "vectors"))
    dut = dut_of(project, trials[0].result.mapping)
    files = tuple(one for one in dut.sources if (copy / one).is_file() and not Path(one).is_absolute())
    if not files or not dut.tops:
        raise BadInput(f"{project.file}: expected a design in files of its own, beside the testbench's, found none")

    def prepared(simulator: Simulator, place: Path) -> tuple[Judging, str]:
        proofs = _prover(request, project, dut, trials, copy, place) if request.proofs else None
        others = _suggested(request, project, place)
        limit = min(request.timeout, project.time_limit)
        small = limited(simulator, place)
        bench = ProjectBench(replace(project, time_limit=limit), small, tuple(trials), proofs, tuple(others))
        words = [file.name.encode() + b"".join(file.encode()) for one in trials for file in one.files]
        return replace(bench, others=bench.passing(copy)), repr((project.file.read_text(), words))

    # Each mutant is compiled: of both, Icarus is done sooner.
    name = "icarus" if project.simulator == "auto" else project.simulator
    return Subject(copy, files, files, name, prepared)


@dataclass(frozen=True)
class ProjectBench:
    """A project's testbench and layers.

    Attributes:
        project: its root is replaced by the folder of the changed sources.
        simulator: what runs them.
        trials: the layers.
        prover: of its design; None without Yosys, or where that cannot read it.
        others: layers that survivors are tried with, to say what would reveal them.
    """

    project: Project
    simulator: Simulator
    trials: tuple[Trial, ...]
    prover: Prover | None
    others: tuple[Trial, ...]

    def require(self, core: Path, quick: bool = False) -> None:
        for outcome in self._outcomes(core, self.trials[: 1 if quick else None], "as it is"):
            if not outcome.passed:
                raise BadInput(
                    f"{self.project.file}: {outcome.name} does not pass without any change: {outcome.said}; "
                    "`systolith cosim --project` says more"
                )

    def passing(self, core: Path) -> tuple[Trial, ...]:
        """Those of the others that the design as it is passes: a testbench may be for one shape alone."""
        outcomes = self._outcomes(core, self.others, "others") if self.others else []
        return tuple(one for one, outcome in zip(self.others, outcomes, strict=True) if outcome.passed)

    def judge(self, mutant: Mutant, core: Path) -> Fate:
        for number, trials in enumerate((self.trials[:1], self.trials[1:])):
            bad = self._first(core, trials, f"runs{number}")
            if bad is not None:
                return Fate("uncompiled" if bad.kind in _UNCOMPILED else "killed", f"{bad.name}: {bad.said}")
        proof = self.prover.prove(core) if self.prover is not None else ""
        if proof:
            return Fate("equivalent", proof)
        revealed = self._first(core, self.others, "others")
        return Fate("survived", f"{revealed.name} reveals it" if revealed is not None else "")

    def _first(self, core: Path, trials: Sequence[Trial], name: str) -> Outcome | None:
        """The first that does not pass."""
        return next((one for one in self._outcomes(core, trials, name) if not one.passed), None)

    def _outcomes(self, core: Path, trials: Sequence[Trial], name: str) -> list[Outcome]:
        place = core.parent / name
        place.mkdir()
        shop = Workshop(replace(self.project, root=core.resolve()), self.simulator, place, jobs=1)
        return run_trials(shop, trials)


def _prover(
    request: MutateRequest, project: Project, dut: Dut, trials: Sequence[Trial], copy: Path, place: Path
) -> Prover | None:
    """Proofs for the parameters that the testbench chooses; None, and a word about it, where there are none."""
    include = tuple(copy / one for one in (*project.include, "."))
    files = tuple(copy / one for one in dut.sources)
    mappings = {repr(project.design(one.result.mapping)): one.result.mapping for one in trials}  # elaborated once each
    try:
        sources: dict[str, Source] = {}
        for mapping in mappings.values():
            top, given = dut_of(project, mapping).only(project)
            defines = project.design(mapping).defines
            sources[repr((top, given, defines))] = Source(files, top, given, include, defines)
        return prover(sources.values(), copy, place)
    except BadInput as error:
        request.progress(f"no proofs: {error}")
        return None


def _suggested(request: MutateRequest, project: Project, place: Path) -> list[Trial]:
    """Made-up layers beside the project's, of the shape that its file says."""
    try:
        asked = CosimRequest(project=request.project, stimulus=SUGGESTED)
        return list(trials_of(project, asked, place / "vectors"))
    except BadInput:  # no such shape on this array, or this layout cannot hold it
        return []
