"""Points as independent tasks: on this machine's processors, or on a Dask cluster; each result is kept once.

Batches are as large as a fifth of a second's work, half a second's on a cluster: handing them over costs some percent
of it, and at the end no worker waits long for another. A worker that dies loses the batches that it had: they are done
again, by others.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from systolith.cluster import spread
from systolith.designs.energy import EnergyTable
from systolith.designs.point import evaluate
from systolith.designs.results import Rows, keep, lines_of, rows_of
from systolith.designs.space import Point
from systolith.designs.work import Work
from systolith.formats import BadInput

Task = tuple[str, Point]
"""A point's name, and the point."""
_SECONDS = 0.2  # of work in a batch,
_THERE = 0.5  # of one that goes over the network
_TRIED = 4  # points that are timed first
_TRIES = 3  # of a batch whose worker died


def batch(tasks: Sequence[Task], works: Mapping[str, Sequence[Work]], table: EnergyTable) -> str:
    """The rows of some points, as lines. What a worker does."""
    return lines_of({name: evaluate(point, works[point.model], table) for name, point in tasks})


def run_all(
    tasks: Sequence[Task],
    works: Mapping[str, Sequence[Work]],
    table: EnergyTable,
    folder: Path,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
    estimate: Callable[[float], None] = lambda seconds: None,
) -> dict[str, Rows]:
    """The rows of every task, by name; each is kept in `folder` as soon as it is known.

    Args:
        tasks: what is not known yet.
        works: the layers of each model.
        table: of energies.
        folder: existing.
        jobs: processes.
        scheduler: the address of a Dask cluster's instead of these.
        progress: called with how many are done.
        estimate: called once, when a few points have been timed, with the seconds that the others will take.

    Raises:
        BadInput: no such scheduler, or a design that cannot be.
    """
    begun = time.perf_counter()
    first = list(tasks[:_TRIED])
    lines = batch(first, works, table)
    keep(folder, lines)
    known = dict(rows_of(lines))
    each = (time.perf_counter() - begun) / max(1, len(first))
    rest = tasks[len(first) :]
    estimate(each * len(rest) / (1 if scheduler else jobs))
    progress(len(first))
    size = max(1, int((_THERE if scheduler else _SECONDS) / max(each, 1e-6)))
    batches = [rest[at : at + size] for at in range(0, len(rest), size)]
    if scheduler is not None:
        found_there = spread(_shared_batch, batches, (works, table), scheduler)
        ways: Iterator[str] = (lines for _, lines in found_there)
    elif jobs > 1 and len(batches) > 1:
        ways = _in_processes(batches, works, table, jobs)
    else:
        ways = (batch(tasks, works, table) for tasks in batches)
    for lines in ways:
        keep(folder, lines)
        known.update(rows_of(lines))
        progress(len(known))
    return known


def _in_processes(
    batches: Sequence[Sequence[Task]], works: Mapping[str, Sequence[Work]], table: EnergyTable, jobs: int
) -> Iterator[str]:
    left, deaths = list(batches), 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    while left:
        pool = ProcessPoolExecutor(jobs, mp_context=context)
        waiting: dict[Future[str], Sequence[Task]] = {}
        try:
            waiting = {pool.submit(batch, tasks, works, table): tasks for tasks in left}
            while waiting:
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    found = future.result()
                    left.remove(waiting.pop(future))
                    yield found
        except BrokenProcessPool:
            deaths += 1
            if deaths == _TRIES:
                asked = "is there memory for them, and in a script, is the call below if __name__ == '__main__'?"
                raise BadInput(f"{jobs} worker processes died {deaths} times: {asked}") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _shared_batch(tasks: Sequence[Task], shared: tuple[Mapping[str, Sequence[Work]], EnergyTable]) -> str:
    return batch(tasks, *shared)
