"""Tasks on a real scheduler with real workers: all results, whoever dies; refusals once, in one sentence."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from small_cluster import Cluster, cluster
from systolith import cluster as ours
from systolith.cluster import connect, in_order, once, spread
from systolith.formats import BadInput


@pytest.fixture(autouse=True, scope="module")
def found_by_workers() -> Iterator[None]:
    """Workers, and what they start, find this file."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def here(found_by_workers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("here")) as found:
        yield found


def scaled(item: int, factor: int) -> int:
    time.sleep(0.01 * (item % 3))
    return item * factor


def refusing(item: int, which: int) -> int:
    time.sleep(0.02 * (10 - item))  # the last is the first to be ready
    if item >= which:
        raise BadInput(f"no {item}")
    return item


def importing(item: int, name: str) -> int:
    __import__(name)
    return item


def breaking(item: int, folder: Path) -> int:
    """Break the first time."""
    try:
        (folder / str(item)).touch(exist_ok=False)
    except FileExistsError:
        return item
    raise OSError("no room")


def dying(item: int, folder: Path) -> int:
    """One task kills its worker, once."""
    if item == 5 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item


def deadly(item: int, shared: None) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def process_of(item: int, shared: str) -> tuple[int, int]:
    return os.getpid(), once(shared, time.perf_counter_ns)


def test_each_item_once_and_in_order_where_that_is_asked_for(here: Cluster) -> None:
    found = dict(spread(scaled, range(40), 3, here.address))
    assert found == {item: 3 * item for item in range(40)}
    assert list(in_order(scaled, range(40), 3, here.address)) == [(item, 3 * item) for item in range(40)]
    assert list(spread(scaled, [], 3, here.address)) == []


def test_no_more_is_handed_over_than_is_read(here: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_AHEAD", 4)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = in_order(scaled, items(), 3, here.address)
    assert [next(results) for _ in range(10)] == [(item, 3 * item) for item in range(10)]
    results.close()
    assert len(taken) < 30


def test_a_refusal_is_said_here_with_the_machine(here: Cluster) -> None:
    with pytest.raises(BadInput, match=r"^no \d \(on the worker [^)]+\)$"):
        list(spread(refusing, range(10), 4, here.address))
    results = in_order(refusing, range(10), 4, here.address)
    assert [next(results) for _ in range(4)] == [(item, item) for item in range(4)]
    with pytest.raises(BadInput, match=r"^no 4 "):
        next(results)
    with pytest.raises(BadInput, match="No module named 'nothing_like_that'"):
        list(spread(importing, [1], "nothing_like_that", here.address))


def test_another_version_is_refused(here: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "__version__", "0.0.9")
    with pytest.raises(BadInput, match=r"systolith [\d.]+, expected 0\.0\.9 as where the run was begun"):
        list(spread(scaled, [1], 3, here.address))


def test_what_breaks_is_tried_again(here: Cluster, tmp_path: Path) -> None:
    assert sorted(spread(breaking, range(5), tmp_path, here.address)) == [(item, item) for item in range(5)]


def test_a_process_makes_a_thing_once(here: Cluster) -> None:
    found = [made for key in ("one", "two", "one") for _, made in spread(process_of, range(8), key, here.address)]
    assert len({process for process, _ in found}) <= 2
    assert len(set(found)) == 2 * len({process for process, _ in found})
    assert [once(name, lambda: object()) is once(name, lambda: object()) for name in "abcd"] == [True] * 4
    assert len(ours._made) == 2


def test_a_worker_may_die_the_last_one_too_and_others_may_come(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1) as lonely, ThreadPoolExecutor(1) as pool:
        later = pool.submit(_another, lonely, tmp_path / "died")
        found = sorted(spread(dying, range(12), tmp_path, lonely.address))
        later.result()
    assert found == [(item, item) for item in range(12)]


def _another(lonely: Cluster, died: Path) -> None:
    """A worker that comes when there is none any more."""
    lonely.workers[0].wait(timeout=60)
    assert died.exists()
    lonely.work()


def test_a_task_that_kills_every_worker_and_a_scheduler_that_goes(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=4) as found:
        with pytest.raises(BadInput, match="a task's workers died each time it was tried"):
            list(spread(deadly, [1], None, found.address))
        found.work()
        results = spread(scaled, range(400), 1, found.address)
        next(results)
        found.scheduler.kill()
        with pytest.raises(BadInput, match="the scheduler went away"):
            list(results)


def test_a_scheduler_that_goes_within_a_message(here: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which of the two a killed one shows is chance: this is what a result that is on its way then raises.
    from distributed import Future
    from distributed.comm import CommClosedError

    def cut(future: Future) -> None:
        raise CommClosedError("in <TCP (closed)>: ConnectionResetError")

    monkeypatch.setattr(Future, "result", cut)
    with pytest.raises(BadInput, match="the scheduler went away"):
        list(spread(scaled, [1], 1, here.address))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "", "tcp://", "ftp://127.0.0.1:1"])
def test_no_such_scheduler(address: str) -> None:
    with pytest.raises(BadInput, match="expected the address of a Dask scheduler that answers"):
        connect(address)
