"""How many designs a second: on one core, on two, on a cluster; and beside SCALE-Sim.

    python -m benchmarks.explore              # some minutes, most of them SCALE-Sim's
    python -m benchmarks.explore --no-rival   # five minutes

- points a second: VGG16's 13 convolutions with all legal schedules each, 1,000 different arrays, one process, nothing
  remembered from before; the least is 300;
- SCALE-Sim 3.0.0 in its own environment (see benchmarks/simulation.py) on the same layers and arrays: one array, two
  layers, its weight-stationary dataflow alone, against all schedules here; the least is 10,000 times;
- overhead: 1,000 points of some 10 ms each (layers repeated until a point takes that long), against the same work in a
  plain loop: one process, two, and workers of a Dask cluster, all with their rows kept on the disk. Of n workers it is
  n * wall time / loop - 1; the most is 5 %. Starting the two processes is in it; starting the cluster, and importing
  distributed and us there and here, are not. One worker leaves the second core to the scheduler and to `explore`, as
  other machines would; two workers share both cores with them, and that is in it.

Each measurement is a process of its own, so that none finds what another one has worked out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEAST, RIVAL, MOST, ROUNDS = 300, 10_000, 0.05, 5
RIVALS = (("8x8",), ("features.14", "features.33"))
"""Arrays and layers that SCALE-Sim has to do."""


def works(repeat: int = 1) -> list[Any]:
    """The 13 convolutions of the squeezed VGG16, `repeat` times with other names and widths of map."""
    from dataclasses import replace

    from systolith.designs.work import Work
    from systolith.steps.common import find_network
    from systolith.topologies import of_network

    network, _ = find_network("vgg16-w4a4-s8", "the benchmark")
    found = [Work.of(layer) for layer in of_network(network, "vgg16-w4a4-s8").layers]
    found = [work for work in found if work.kernel == (3, 3)]
    return [replace(work, size=(work.size[0], work.size[1] + n)) for n in range(repeat) for work in found]


def tasks(count: int) -> list[Any]:
    """Points of different arrays."""
    from systolith.designs.space import space_of

    space = space_of({"model": "vgg16", "rows": list(range(1, 41)), "cols": list(range(1, 41))})
    return [(str(number), space.at(number)) for number in range(0, space.size, space.size // count)][:count]


def measure(what: str, repeat: int, scheduler: str) -> dict[str, float]:
    """Seconds of one measurement, and of how many points."""
    from systolith.designs.energy import read_table
    from systolith.designs.engine import batch, run_all

    if what == "dask":
        import distributed  # noqa: F401

    layers, table = {"vgg16": works(repeat)}, read_table()
    chosen = tasks(1000)
    if what == "rival":
        layers = {"vgg16": [work for work in layers["vgg16"] if work.name in RIVALS[1]]}
        chosen = [(array, point) for array in RIVALS[0] for _, point in tasks(1600) if _is(point, array)]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        if what in ("loop", "rival"):
            batch(chosen, layers, table)
        else:
            how: dict[str, Any] = {"jobs": int(what)} if what.isdecimal() else {"scheduler": scheduler}
            run_all(chosen, layers, table, Path(folder), **how)
        return {"seconds": time.perf_counter() - begin, "points": len(chosen)}


def _is(point: Any, array: str) -> bool:
    return f"{point['rows']}x{point['cols']}" == array


def apart(what: str, repeat: int = 1, scheduler: str = "") -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.explore", "--measure", what, "--repeat", str(repeat)]
    done = subprocess.run([*command, "--scheduler", scheduler], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def rival() -> float:
    """SCALE-Sim's seconds for the arrays and layers of `RIVALS`."""
    from benchmarks.simulation import scalesim
    from systolith.array import ArraySpec, Mapping

    taken = 0.0
    for array in RIVALS[0]:
        rows, cols = map(int, array.split("x"))
        for work in works():
            if work.name in RIVALS[1]:
                spec = ArraySpec(rows, cols, 8, 8, 48)
                taken += scalesim(Mapping(work.conv(8, 8), spec, *work.size))["seconds"]
    return taken


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-rival", action="store_true")
    parser.add_argument("--measure", default="")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--scheduler", default="")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.repeat, given.scheduler)))
        return 0
    one = apart("loop")
    rate = one["points"] / one["seconds"]
    print(f"points a second on one core   {rate:,.0f} (at least {LEAST}): 13 layers, all legal schedules each")
    met = rate >= LEAST
    if not given.no_rival:
        mine = apart("rival")
        theirs, points = rival(), mine["points"]
        ratio = theirs / mine["seconds"]
        both = f"{mine['seconds'] * 1000:.2f} ms; SCALE-Sim {theirs:.1f} s"
        print(f"{points} points of {len(RIVALS[1])} layers          {both}: {ratio:,.0f} times (at least {RIVAL:,})")
        met = met and ratio >= RIVAL
    repeat = int(-(-rate // 100))  # 10 ms or a little more
    shares: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        loop = apart("loop", repeat)["seconds"]
        for workers in (1, 2):
            local = apart(str(workers), repeat)["seconds"]
            with _cluster(workers) as address:
                there = apart("dask", repeat, address)["seconds"]
            for what, taken in ((f"processes: {workers}", local), (f"Dask workers: {workers}", there)):
                shares.setdefault(what, []).append(workers * taken / loop - 1)
    print(f"a task of the following       {loop:.1f} ms; the median of {ROUNDS} rounds, the least and the most")
    for what, found in shares.items():
        median, limited = sorted(found)[ROUNDS // 2], what != "Dask workers: 2"
        limit = f"at most {MOST:.0%}; " if limited else ""
        print(f"overhead, {what:<20}{median:.1%} ({limit}{min(found):.1%} to {max(found):.1%})")
        met = met and (median <= MOST or not limited)
    return 0 if met else 1


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """A Dask cluster of processes, one thread each, that have imported what they will run; its address."""
    import dask
    from distributed import Client, LocalCluster

    os.environ["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "False"  # as docs/explore.md starts workers
    dask.config.refresh()
    how: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=workers, **how) as cluster:
        with Client(cluster) as client:
            client.run(importlib.import_module, "systolith.designs.engine")
        yield str(cluster.scheduler_address)


if __name__ == "__main__":
    sys.exit(main())
