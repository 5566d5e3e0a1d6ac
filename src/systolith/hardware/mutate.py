"""`mutate`: one change at a time in the core's sources, and which of them the layers of a testbench reveal."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.mutation.bench import prepare
from systolith.mutation.listed import reason
from systolith.mutation.mutants import OPERATORS, Mutant
from systolith.mutation.run import FATES, Fate, Judged, judge_all, mutants_of
from systolith.requests.verbs import MutateRequest
from systolith.rtl.simulators import RTL, find_simulator
from systolith.steps.common import require_extra
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
        survivors: those that nothing revealed: where better vectors are wanted.
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
    """Change one thing at a time in the core's sources; say which changes small layers in a simulator reveal.

    Returns:
        What became of the mutants, by module and by operator; the survivors, and the equivalents with the reason.

    Raises:
        BadInput: no such module, no simulator, sources that differ without any change, a folder with the fates of
            others, or pyslang or pyosys is missing.

    Examples:
        >>> import systolith as sl
        >>> sl.mutate(modules="mac_tile", list=True).mutants > 50
        True
    """
    require_extra("pyslang", "rtl", "mutate")
    core = RTL / "core" if request.core is None else Path(request.core)
    if not (core / "core.sv").is_file():
        raise BadInput(f"--core {core}: expected a folder with core.sv and the modules below it")
    every = _chosen(mutants_of(core, _files(core, request.modules)), request.limit)
    if request.list:
        return MutateReport(
            holds=True,
            verdict=f"{len(every):,} mutants",
            mutants=len(every),
            listed=tuple(_place(mutant, "") for mutant in every),
        )
    if request.jobs < 1:
        raise BadInput(f"--jobs {request.jobs}: expected at least 1")
    if request.proofs:
        require_extra("pyosys", "synth", "mutate with proofs (--no-proofs goes without)")
    simulator = find_simulator(request.sim)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="systolith-mutate-") as folder:
        bench = prepare(simulator, Path(folder), core, request.proofs, request.timeout)
        bench.require(core)
        files = sorted(path for written in bench.cores for place, _ in written.layers for path in place.iterdir())
        vectors = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        key = repr((simulator, request.proofs, request.timeout, (RTL / "testbench.sv").read_text(), vectors))
        log = None if request.out is None else Path(request.out) / "fates.jsonl"

        def progress(done: int) -> None:
            request.progress("mutants", done, len(every))

        found = judge_all(every, core, bench.judge, log, key, request.jobs, progress)
    judged = tuple(_with_reason(one) for one in found)
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


def _files(core: Path, modules: str) -> list[str]:
    """The files of `--modules`, in its order."""
    there = sorted(path.stem for path in core.glob("*.sv"))
    names = there if modules == "all" else modules.split(",")
    for name in names:
        if name not in there:
            raise BadInput(f"--modules: no module {name!r} in {core}: expected some of {', '.join(there)}, or all")
    if len(set(names)) < len(names):
        raise BadInput(f"--modules {modules}: a module stands there twice")
    return [f"{name}.sv" for name in names]


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
