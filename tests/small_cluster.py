"""A Dask scheduler and its workers, as processes on this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cluster:
    """What was started."""

    address: str
    folder: Path
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]

    def work(self, **env: str) -> None:
        """One more worker, in a working folder that is not the caller's."""
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder)]
        self.workers.append(_started("dask_worker", [self.address, *options], self.folder, env))


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A scheduler and so many workers, killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    found = Cluster(f"tcp://127.0.0.1:{port}", folder, _started("dask_scheduler", options, folder, {}), [])
    try:
        for _ in range(workers):
            found.work()
        yield found
    finally:
        for process in (*found.workers, found.scheduler):
            process.kill()
            process.wait()


def _started(what: str, options: list[str], folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.{what}", *options]
    quiet, env = subprocess.DEVNULL, {"OMP_NUM_THREADS": "1", **env}  # as a worker's nanny does
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=folder, env={**os.environ, **env})
