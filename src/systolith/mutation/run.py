"""Judge mutants, several at a time; what is judged is kept, so that an interrupted job goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from systolith.formats import BadInput
from systolith.mutation.mutants import Mutant, mutants

RTL_SUFFIXES = (".v", ".sv", ".vh", ".svh", ".inc", ".h")
"""Of the files of a folder that fates depend on."""
FATES = ("killed", "survived", "equivalent", "uncompiled")


@dataclass(frozen=True)
class Fate:
    """What became of a mutant.

    Attributes:
        outcome: of `FATES`. Killed: something differed, or it came to no end. Equivalent: it is proved that nothing
            can differ. Uncompiled: it is no design.
        why: what differed first, the proof, or the compiler's word; of one that survived, what else would reveal it.
    """

    outcome: str
    why: str = ""


@dataclass(frozen=True)
class Judged:
    """A mutant and its fate."""

    mutant: Mutant
    fate: Fate


Judge = Callable[[Mutant, Path], Fate]
"""Called in threads with a mutant and a folder with the changed sources, which is removed afterwards."""
Fates = Generator[tuple[Mutant, Fate], None, None]
"""Each mutant with its fate, as soon as it is known."""


def mutants_of(core: Path, names: Iterable[str]) -> tuple[Mutant, ...]:
    """The mutants of some of a folder's sources.

    Args:
        core: the folder.
        names: of its files, such as "mac_tile.sv"; below it, with slashes.

    Raises:
        BadInput: no such file, or one that does not parse.
    """
    found: list[Mutant] = []
    for name in names:
        try:
            found += mutants((core / name).read_text(), name)
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{core / name}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return tuple(found)


def judge_all(
    every: Sequence[Mutant],
    core: Path,
    judge: Judge,
    log: Path | None = None,
    key: str = "",
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    first: Callable[[], None] = lambda: None,
    elsewhere: Callable[[Sequence[Mutant]], Fates] | None = None,
) -> tuple[Judged, ...]:
    """The fate of each mutant, in their order.

    Args:
        every: the mutants.
        core: the folder of the sources, copied for each mutant.
        judge: says what becomes of one.
        log: a file of JSON lines that keeps each fate as soon as it is known; those it holds are not judged again.
        key: what the fates depend on besides the sources, such as the testbench.
        jobs: mutants at a time.
        progress: called with how many are judged.
        first: called before the first is judged, if any is left to judge.
        elsewhere: judges them instead of `judge`, such as the workers of a cluster.

    Raises:
        BadInput: the log is of other sources or another key, or what `judge` raises.
    """
    known = {} if log is None else _read(log, digest(core, key))
    waiting = [mutant for mutant in every if mutant.name not in known]
    progress(len(every) - len(waiting))
    if waiting:
        first()
    with closing(elsewhere(waiting) if elsewhere is not None else _in_threads(waiting, core, judge, jobs)) as fates:
        for mutant, fate in fates:
            known[mutant.name] = fate
            if log is not None:
                _append(log, {"mutant": mutant.name, "outcome": fate.outcome, "why": fate.why})
            progress(sum(m.name in known for m in every))
    return tuple(Judged(mutant, known[mutant.name]) for mutant in every)


def _in_threads(waiting: Sequence[Mutant], core: Path, judge: Judge, jobs: int) -> Fates:
    pool = ThreadPoolExecutor(jobs)
    try:
        running = {pool.submit(fate_of, mutant, core, judge): mutant for mutant in waiting}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def fate_of(mutant: Mutant, core: Path, judge: Judge) -> Fate:
    """What becomes of one mutant of the sources in `core`, in a changed copy of them."""
    with tempfile.TemporaryDirectory(prefix="systolith-mutant-") as made:
        changed = Path(made) / "core"
        shutil.copytree(core, changed)
        path = changed / mutant.file
        path.write_text(mutant.apply(path.read_text()))
        return judge(mutant, changed)


def digest(core: Path, key: str) -> str:
    """What fates depend on: the sources in the folder `core`, and `key`."""
    found = (p for p in core.rglob("*") if p.suffix in RTL_SUFFIXES and p.is_file())
    files = sorted((p.relative_to(core).as_posix(), p.read_bytes()) for p in found)
    return hashlib.sha256(repr((key, files)).encode()).hexdigest()


def _read(log: Path, digest_now: str) -> dict[str, Fate]:
    """The fates in a log; a new one is begun. A last line that was cut off is not there."""
    if not log.is_file():
        _append(log, {"mutants of": digest_now})
        return {}
    try:
        *lines, rest = log.read_text().split("\n")
        head, *fates = [json.loads(line) for line in lines]
        known = {fate["mutant"]: Fate(fate["outcome"], fate["why"]) for fate in fates}
        found = head["mutants of"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{log}: expected the fates of mutants, a JSON object a line, found something else") from None
    if found != digest_now:
        raise BadInput(f"{log}: holds the fates of other sources or another testbench; take another folder")
    if rest:
        log.write_text("".join(f"{line}\n" for line in lines))
    return known


def _append(log: Path, value: Mapping[str, str]) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(json.dumps(value) + "\n")
    except OSError as error:
        raise BadInput(f"{log}: cannot be written ({error.strerror or error})") from None
