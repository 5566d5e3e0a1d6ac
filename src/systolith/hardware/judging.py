"""Mutants judged by the workers of a cluster: each makes what judges them once, and sees that it is as here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.cluster import once, spread
from systolith.formats import BadInput
from systolith.hardware.subject import Judging, Subject, subject_of
from systolith.mutation.mutants import Mutant
from systolith.mutation.run import Fate, Fates, digest, fate_of
from systolith.requests.option import quiet
from systolith.requests.verbs import MutateRequest
from systolith.rtl.simulators import Simulator, same_simulator


@dataclass(frozen=True)
class Asked:
    """What a worker is told besides the mutant.

    Attributes:
        request: what of it judging depends on; paths are absolute.
        simulator: where the run was begun.
        digest: of the sources there and what judges them.
    """

    request: MutateRequest
    simulator: Simulator
    digest: str


@dataclass(frozen=True, eq=False)
class _Bench:
    """What a worker has made; its folder goes when nobody needs it any more."""

    room: tempfile.TemporaryDirectory[str]
    sources: Path
    judging: Judging


def on_workers(
    request: MutateRequest, subject: Subject, simulator: Simulator, vectors: str, scheduler: str
) -> Callable[[Sequence[Mutant]], Fates]:
    """What judges mutants on a cluster, for `judge_all`.

    Args:
        request: read again by each worker: a core's folder, a project and its model are at the same paths there.
        subject, simulator: as found here.
        vectors: what the judgement depends on, as `Subject.prepare` says.
        scheduler: the cluster's address.
    """
    sim = request.sim or subject.simulator
    plain = MutateRequest(
        project=_absolute(request.project),
        stimulus=request.stimulus,
        layer=request.layer,
        proofs=request.proofs,
        sim=str(Path(sim).absolute()) if "/" in sim else simulator.name,
        core=_absolute(request.core),
        timeout=request.timeout,
        progress=quiet,
    )
    asked = Asked(plain, simulator, digest(subject.folder, vectors))
    return lambda waiting: spread(_fate, waiting, asked, scheduler)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(path).absolute()


def _fate(mutant: Mutant, asked: Asked) -> Fate:
    bench = once(asked, lambda: _prepared(asked))
    return fate_of(mutant, bench.sources, bench.judging.judge)


def _prepared(asked: Asked) -> _Bench:
    """A worker's own bench, on which the sources as they are pass: with a broken compiler every mutant would be one."""
    simulator = same_simulator(asked.request.sim or "auto", asked.simulator)
    room = tempfile.TemporaryDirectory(prefix="systolith-mutate-")
    folder = Path(room.name)
    subject = subject_of(asked.request, folder)
    (folder / "bench").mkdir()
    judging, vectors = subject.prepare(simulator, folder / "bench")
    if digest(subject.folder, vectors) != asked.digest:
        named = asked.request.project or subject.folder
        raise BadInput(f"{named}: other sources or vectors than where the run was begun")
    judging.require(subject.folder, quick=True)
    return _Bench(room, subject.folder, judging)
