"""`mutate`: one change at a time in the core's sources, and which of them the layers of a testbench reveal."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.hardware.judging import on_workers
from systolith.hardware.subject import Subject, subject_of
from systolith.mutation.listed import reason
from systolith.mutation.mutants import OPERATORS, Mutant
from systolith.mutation.run import FATES, Fate, Judged, judge_all, mutants_of
from systolith.requests.verbs import MutateRequest
from systolith.rtl.simulators import find_simulator
from systolith.steps.common import require_cluster, require_extra
from systolith.steps.values import optional


@dataclass(frozen=True)
class Counts:
    """Mutants, and what became of them."""

    mutants: int
    killed: int
    survived: int
    equivalent: int
    uncompiled: int


@dataclass(frozen=True)
class Place:
    """A mutant: where it is, what is changed, and why it is what it is."""

    file: str
    line: int
    column: int
    operator: str
    change: str
    source: str
    why: str


@dataclass(frozen=True, kw_only=True)
class MutateReport(Report):
    """Which changes of the sources the layers reveal.

    Attributes:
        mutants: how many were judged, or only listed.
        simulator: its name and version.
        modules, operators: what became of them, by module and by what is changed.
        survivors: those that nothing revealed: where better vectors are wanted; of a project, the stimulus that would.
        equivalents: those that are proved to be the same design, or listed with a reason.
        listed: with `list`, all mutants, none of which was judged.
        seconds: it took.
    """

    verb: ClassVar[str] = "mutate"
    mutants: int
    simulator: str = ""
    modules: Mapping[str, Counts] = field(default_factory=dict)
    operators: Mapping[str, Counts] = field(default_factory=dict)
    survivors: tuple[Place, ...] = ()
    equivalents: tuple[Place, ...] = ()
    listed: tuple[Place, ...] | None = field(default=None, metadata=optional())
    seconds: float = 0


@flow(MutateRequest)
def mutate(request: MutateRequest) -> MutateReport:
    """Change one thing at a time in the core's sources, or a project's; say which changes its layers reveal.

    Returns:
        What became of the mutants, by module and by operator; the survivors, and the equivalents with the reason.

    Raises:
        BadInput: no such module or project, no simulator, sources that differ without any change, a folder with the
            fates of others, or pyslang or pyosys is missing.

    Examples:
        >>> import systolith as sl
        >>> sl.mutate(modules="mac_tile", list=True).mutants > 50
        True
    """
    require_extra("pyslang", "rtl", "mutate")
    if request.jobs < 1:
        raise BadInput(f"--jobs {request.jobs}: expected at least 1")
    if request.scheduler is not None and not request.list:
        require_cluster(request.scheduler, "mutate")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="systolith-mutate-") as made:
        # On a cluster it is the workers that prove and judge.
        subject = subject_of(replace(request, proofs=request.proofs and not request.scheduler), Path(made))
        every = _chosen(mutants_of(subject.folder, _files(subject, request.modules)), request.limit)
        if request.list:
            return MutateReport(
                holds=True,
                verdict=f"{len(every):,} mutants",
                mutants=len(every),
                listed=tuple(_place(mutant, "") for mutant in every),
            )
        if request.proofs:
            require_extra("pyosys", "synth", "mutate with proofs (--no-proofs goes without)")
        simulator = find_simulator(request.sim or subject.simulator)
        (Path(made) / "bench").mkdir()
        bench, vectors = subject.prepare(simulator, Path(made) / "bench")
        key = repr((simulator, request.proofs, float(request.timeout), vectors))  # as the command line has it
        log = None if request.out is None else Path(request.out) / "fates.jsonl"
        elsewhere = None
        if request.scheduler is not None:
            elsewhere = on_workers(request, subject, simulator, vectors, request.scheduler)

        def progress(done: int) -> None:
            request.progress("mutants", done, len(every))

        def first() -> None:
            bench.require(subject.folder)

        how = log, key, request.jobs, progress, first, elsewhere
        found = judge_all(every, subject.folder, bench.judge, *how)
    judged = found if request.project is not None else tuple(_with_reason(one) for one in found)
    seconds = round(time.perf_counter() - begin, 1)
    survivors = _those(judged, "survived")
    counts = _counts(judged)
    verdict = (
        f"{counts.killed:,} of {counts.killed + counts.survived:,} mutants killed, {counts.survived:,} survived "
        f"({counts.equivalent:,} equivalent, {counts.uncompiled:,} do not compile)"
    )
    return MutateReport(
        holds=not survivors,
        verdict=verdict,
        simulator=f"{simulator.name} {simulator.version}",
        mutants=len(judged),
        modules={name: _counts(judged, file=name) for name in dict.fromkeys(m.file for m in every)},
        operators={name: _counts(judged, operator=name) for name in OPERATORS},
        survivors=survivors,
        equivalents=_those(judged, "equivalent"),
        seconds=seconds,
    )


def _files(subject: Subject, modules: str | None) -> list[str]:
    """The files of `--modules`, in its order."""
    if modules in (None, "all"):
        return list(subject.usual if modules is None else subject.files)
    named = {key: file for file in subject.files for key in (file, Path(file).name, Path(file).stem)}
    found = []
    for name in str(modules).split(","):
        if name not in named:
            there = ", ".join(Path(file).stem for file in subject.files)
            raise BadInput(f"--modules: no module {name!r} in {subject.folder}: expected some of {there}, or all")
        found.append(named[name])
    if len(set(found)) < len(found):
        raise BadInput(f"--modules {modules}: a module stands there twice")
    return found


def _chosen(every: tuple[Mutant, ...], limit: int | None) -> tuple[Mutant, ...]:
    """So many of them, evenly spread over the sources."""
    if limit is None or limit >= len(every):
        return every
    if limit < 1:
        raise BadInput(f"--limit {limit}: expected at least 1")
    return tuple(every[number * len(every) // limit] for number in range(limit))


def _with_reason(judged: Judged) -> Judged:
    """A survivor that is listed as equivalent is that."""
    why = reason(judged.mutant) if judged.fate.outcome == "survived" else ""
    return Judged(judged.mutant, Fate("equivalent", why)) if why else judged


def _place(mutant: Mutant, why: str) -> Place:
    return Place(mutant.file, mutant.line, mutant.column, mutant.operator, mutant.change, mutant.context, why)


def _those(judged: Iterable[Judged], outcome: str) -> tuple[Place, ...]:
    return tuple(_place(one.mutant, one.fate.why) for one in judged if one.fate.outcome == outcome)


def _counts(judged: Iterable[Judged], **only: str) -> Counts:
    """Of the mutants with these attributes."""
    those = [one for one in judged if all(getattr(one.mutant, name) == value for name, value in only.items())]
    outcomes = Counter(one.fate.outcome for one in those)
    return Counts(len(those), *(outcomes[outcome] for outcome in FATES))
