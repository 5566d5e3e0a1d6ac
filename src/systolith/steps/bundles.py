"""Many bundles at once: their size known before anything is written, in parallel, all of them or none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.formats import BadInput
from systolith.requests.option import Progress
from systolith.requests.shared import MOST_FILES
from systolith.store import atomic_folder
from systolith.vectors import Layout
from systolith.vectors.stream import Psums, Size, Written, stream_bundle


@dataclass(frozen=True, eq=False)
class Job:
    """One bundle to write: its place below the output folder, the layer on the array, its activations (C, H, W)."""

    place: str
    mapping: Mapping
    act: NDArray[np.integer]
    size: Size


def disk_of(out: Path) -> tuple[int, int]:
    """Allocation unit and free bytes of the disk that `out` will be on."""
    parent = next(p for p in (out.resolve(), *out.resolve().parents) if p.exists())
    block = os.statvfs(parent).f_frsize if hasattr(os, "statvfs") else 4096
    disk = shutil.disk_usage(parent)
    # A file system without a size, such as /proc, says itself why nothing can be written there.
    return block, disk.free if disk.total else sys.maxsize


def write_jobs(
    planned: Sequence[Job],
    out: Path,
    layout: Layout,
    psums: Psums,
    *,
    free: int,
    yes: bool,
    jobs: int | None,
    force: bool,
    progress: Progress,
) -> list[Written]:
    """Write every job's bundle, all of them or none.

    Args:
        free: bytes that the disk has.
        yes: more than `MOST_FILES` files are meant.
        jobs: processes; None for one a core.

    Raises:
        BadInput: too many files, a disk too small, or a value that does not fit.
    """
    files, size = sum(job.size.files for job in planned), sum(job.size.bytes for job in planned)
    will = f"{files:,} files of {size / 1e6:,.1f} MB"
    if files > MOST_FILES and not yes:
        raise BadInput(f"{will} would be written, more than {MOST_FILES:,}: --yes does so, another --layout has fewer")
    if sum(job.size.disk for job in planned) > free:
        needed = sum(job.size.disk for job in planned)
        raise BadInput(f"{out}: {will} need {needed / 1e6:,.1f} MB of disk, {free / 1e6:,.1f} MB are free")
    if len(planned) > 1:
        progress(f"writing {len(planned)} bundles, {will}")
    with atomic_folder(out, force) as temporary:
        try:
            return _write(planned, temporary, layout, psums, jobs, progress)
        except BadInput as error:
            raise BadInput(str(error).replace(str(temporary), str(out))) from None


def _write(
    planned: Sequence[Job], folder: Path, layout: Layout, psums: Psums, jobs: int | None, progress: Progress
) -> list[Written]:
    """Each job's bundle below `folder`, the largest first, in processes of their own where there are several."""
    for job in planned:
        (folder / job.place).mkdir(parents=True, exist_ok=True)
    count = min(jobs or len(os.sched_getaffinity(0)), len(planned))
    total = sum(job.size.bytes for job in planned)
    done = 0

    def finished(job: Job) -> None:
        nonlocal done
        done += job.size.bytes
        progress("bytes", done, total)

    if count > 1:
        return _in_parallel(planned, folder, layout, psums, count, finished)
    written = []
    for job in planned:
        written.append(stream_bundle(job.mapping, job.act, folder / job.place, layout, psums))
        finished(job)
    return written


def _in_parallel(
    planned: Sequence[Job],
    folder: Path,
    layout: Layout,
    psums: Psums,
    count: int,
    finished: Callable[[Job], None],
) -> list[Written]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    order = sorted(planned, key=lambda job: -job.size.bytes)
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            pool.submit(stream_bundle, job.mapping, job.act, folder / job.place, layout, psums): job for job in order
        }
        try:
            for future in as_completed(futures):
                future.result()
                finished(futures[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        by_place = {job.place: future.result() for future, job in futures.items()}
    return [by_place[job.place] for job in planned]
