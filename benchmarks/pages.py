"""The page of a whole inference beside the inference itself: seconds, memory, bytes.

python -m benchmarks.pages [--sim icarus]
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

import systolith as sl
from systolith.hardware.cosim import CosimReport
from systolith.report.cosim import text
from systolith.report.html.page import page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sim", default="auto")
    report = sl.cosim(layer="all", sim=parser.parse_args().sim, jobs=2)
    assert isinstance(report, CosimReport)
    begin = time.perf_counter()
    made = page(report, text(report))
    seconds = time.perf_counter() - begin
    tracemalloc.start()
    page(report, text(report))
    peak = tracemalloc.get_traced_memory()[1]
    ran = report.seconds["run"]
    print(f"the page of `cosim --layer all`: {seconds:.2f} s, {seconds / ran:.1%} of the {ran:.1f} s that its RTL runs")
    print(f"{len(made.encode()) / 1e6:.2f} MB, {peak / 1e6:.0f} MB of memory to make it")


if __name__ == "__main__":
    main()
