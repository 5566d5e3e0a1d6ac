"""Tasks on a Dask cluster: a function of each item, and its results as they are ready, whoever comes, goes or dies.

A worker that dies loses the tasks that it had: they are done again, by others. What a worker refuses is said here as if
it had been refused here; what breaks there is tried again, perhaps on another one.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Hashable, Iterable
from concurrent.futures import CancelledError
from contextlib import closing
from itertools import islice
from typing import Any, TypeVar

from systolith.formats import BadInput
from systolith.version import __version__

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")
_AHEAD = 1000  # tasks that are handed over before the first result comes
_TRIES = 3  # of a task that breaks, besides the first
_KEPT = 2  # things of `once` in a process
_made: dict[Hashable, Any] = {}
_making = threading.Lock()


def connect(scheduler: str) -> Any:
    """A client of a Dask cluster; `BadInput` in one sentence where there is none."""
    from distributed import Client
    from distributed.comm import get_address_host_port

    try:
        if not scheduler.startswith("inproc://"):
            get_address_host_port(scheduler)  # of what is no address a client says so in a traceback, too
        return Client(scheduler, timeout=5, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise BadInput(
            f"--scheduler {scheduler}: expected the address of a Dask scheduler that answers ({error})"
        ) from None


def spread(
    function: Callable[[T, S], R], items: Iterable[T], shared: S, scheduler: str
) -> Generator[tuple[T, R], None, None]:
    """Call `function(item, shared)` for each item on the workers of a cluster.

    Args:
        function: of a module of this package, with values that can be pickled.
        items: taken as there is room for them.
        shared: sent once and handed on by the workers.
        scheduler: the cluster's address.

    Returns:
        Each item with its result, as they are ready; when that is no longer read, what is left is not done.

    Raises:
        BadInput: no such scheduler, or one that goes away; what the function refuses; a task that kills its workers;
            workers with another version of this package, or without a package that it needs.
    """
    with closing(_numbered(function, items, shared, scheduler)) as ready:
        for _, item, result in ready:
            yield item, _allowed(result)


def in_order(
    function: Callable[[T, S], R], items: Iterable[T], shared: S, scheduler: str
) -> Generator[tuple[T, R], None, None]:
    """As `spread`, in the order of the items: each as soon as those before it are ready, refusals too."""
    early: dict[int, tuple[T, R | BadInput]] = {}
    following = 0
    with closing(_numbered(function, items, shared, scheduler)) as ready:
        for number, item, result in ready:
            early[number] = item, result
            while following in early:
                item, result = early.pop(following)
                yield item, _allowed(result)
                following += 1


def _numbered(
    function: Callable[[T, S], R], items: Iterable[T], shared: S, scheduler: str
) -> Generator[tuple[int, T, R | BadInput], None, None]:
    import dask
    from distributed import KilledWorker, as_completed
    from distributed.comm import CommClosedError

    # A layer's weights and thresholds are large, and go to one worker: nothing to warn of.
    quiet = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})
    with quiet, connect(scheduler) as client:
        # A task and not scattered: when the last worker that holds it dies, it is made again.
        everywhere = client.submit(_itself, shared, pure=False)
        waiting: dict[Any, tuple[int, T]] = {}
        left = enumerate(items)

        def handed_over(count: int) -> list[Any]:
            futures = []
            for number, item in islice(left, count):
                task = function, item, everywhere, __version__
                futures.append(client.submit(_task, *task, pure=False, retries=_TRIES))
                waiting[futures[-1]] = number, item
            return futures

        ready = as_completed(handed_over(_AHEAD), loop=client.loop)
        for future in ready:
            number, item = waiting.pop(future)
            try:
                result = future.result()
                ready.update(handed_over(1))
            except KilledWorker as error:
                raise BadInput(
                    f"--scheduler {scheduler}: a task's workers died each time it was tried: {error}"
                ) from None
            except (CancelledError, CommClosedError):  # between two messages, or within one
                raise BadInput(f"--scheduler {scheduler}: the scheduler went away") from None
            future.release()
            yield number, item, result


def _allowed(result: R | BadInput) -> R:
    if isinstance(result, BadInput):
        raise result
    return result


def _itself(shared: S) -> S:
    return shared


def _task(function: Callable[[T, S], R], item: T, shared: S, version: str) -> R | BadInput:
    """What a worker does. What it refuses is a result: nobody tries that again."""
    try:
        if version != __version__:
            raise BadInput(f"systolith {__version__}, expected {version} as where the run was begun")
        return function(item, shared)
    except (BadInput, ImportError) as error:
        return BadInput(f"{error} (on the worker {socket.gethostname()})")


def once(key: Hashable, make: Callable[[], T]) -> T:
    """What a process makes the first time it is asked for `key`; the last two are kept, for the tasks that follow."""
    with _making:
        if key not in _made:
            value = make()
            for old in list(_made)[: len(_made) + 1 - _KEPT]:
                del _made[old]
            _made[key] = value
        found: T = _made[key]
        return found
