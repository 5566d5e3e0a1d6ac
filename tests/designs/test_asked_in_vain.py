"""What users of SCALE-Sim have asked for, by the number of their issue; see the table in docs/explore.md.

Issues 27 and 38 are in test_hierarchy.py and test_point.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from systolith.designs.energy import read_table
from systolith.designs.point import evaluate
from systolith.designs.results import summed
from systolith.designs.space import space_of
from systolith.designs.work import Work
from systolith.topologies import built_in, gemm

TABLE = read_table()
PURE = (
    "layer",
    "model",
    "misfit",
    "schedule",
    "schedule_asked",
    "chunks",
    "loop_order",
    "overflow",
    "least",
    "outputs",
)
"""Columns of words."""
COUNTS = ("point", "count", "rows", "cols", "simd", "batch", "macs", "pictures")
"""Columns whose unit is their name."""
UNITS = ("bits", "clocks", "pj", "um2", "kib", "bandwidth", "share")


def row_of(layer: Work, **axes: Any) -> dict[str, Any]:
    (point,) = space_of({"model": "m", "act_bits": 8, "weight_bits": 8, **axes})
    (row,) = evaluate(point, [layer], TABLE)
    return row


def test_a_product_with_a_vector_takes_fewer_clocks_than_one_with_a_matrix() -> None:
    """ARM-software/SCALE-Sim 51: K = 768, N = 256 on 128x128, weight stationary: 4,608 clocks for M = 256 and M = 1."""
    matrix, vector = (row_of(Work.of(gemm("g", m, 768, 256)), array="128x128", schedule="useful") for m in (256, 1))
    passes = 6 * 2  # of 128 rows and 128 columns
    assert matrix["clocks"] == passes * (128 + 1 + 256) + 128 + 128 - 2
    assert vector["clocks"] == passes * (128 + 1 + 1) + 128 + 128 - 2
    assert vector["utilisation"] == 768 * 256 / (128 * 128 * vector["clocks"]) < 0.01


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
@pytest.mark.parametrize("cols", [1, 2, 4])
@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_not_one_clock_too_few(rows: int, cols: int, k: int) -> None:
    """scalesim-project/SCALE-Sim 60 and 125: 3 clocks where paper says 4, 9 where it says 10."""
    # A processing element multiplies its operands of step s in clock row + col + s.
    paper = max(row + col + step for row in range(rows) for col in range(cols) for step in range(k)) + 1
    assert {(2, 2, 2): 4, (4, 4, 4): 10}.get((rows, cols, k), paper) == paper
    found = row_of(Work.of(gemm("g", rows, k, cols)), array=f"{rows}x{cols}", schedule="os")
    assert found["clocks"] == paper + rows - 1  # and a clock for each row behind the last, to leave


def test_traffic_and_energy_add_up() -> None:
    """scalesim-project/SCALE-Sim 43 and 44: reads of partial sums were those of the last iteration alone."""
    work = Work.of(gemm("g", 3, 5 * 8, 2))
    row = row_of(work, array="8x2", schedule="useful")
    # Five ic_tiles: each reads (the first in vain, as the core does) and writes a word of two columns a position.
    word = 2 * row["psum_bits"]
    assert (row["psum_read_bits"], row["psum_written_bits"]) == (3 * 5 * word, 3 * 5 * word)
    parts = [row_of(Work.of(gemm("g", 3, 8, 2)), array="8x2", schedule="useful", psum_bits=row["psum_bits"])] * 5
    assert row["mac_energy_pj"] == pytest.approx(sum(one["mac_energy_pj"] for one in parts), rel=1e-12)
    (point,) = space_of({"model": "resnet18"})
    works = [Work.of(layer) for layer in built_in("resnet18").layers]
    rows = evaluate(point, works, TABLE)
    whole = summed(point, rows, 0, TABLE)
    for name in ("mac_energy_pj", "memory_energy_pj", "dram_energy_low_pj", "dram_energy_high_pj", "psum_read_bits"):
        assert whole[name] == sum(one[name] for one in rows) > 0


def test_outputs_can_stay_for_the_next_layer() -> None:
    """scalesim-project/SCALE-Sim 121."""
    works = [Work.of(layer) for layer in built_in("mobilenetv2").layers]
    leave, stay = (
        evaluate(point, works, TABLE)
        for point in space_of({"model": "m", "array": "16x16", "outputs": ["leave", "stay"]})
    )
    assert sum(row["inputs_stay"] for row in stay) == sum(work.follows for work in works) > 20
    moved = [sum(row["dram_read_bits"] + row["dram_written_bits"] for row in rows) for rows in (leave, stay)]
    assert moved[1] < moved[0] / 5


def test_every_number_has_a_unit() -> None:
    """scalesim-project/SCALE-Sim 24 and ARM-software/SCALE-Sim 54: bytes, words or accesses?"""
    (point,) = space_of({"model": "resnet18", "act_kib": 64, "dram_bandwidth": 64})
    rows = evaluate(point, [Work.of(layer) for layer in built_in("resnet18").layers], TABLE)
    for row in (summed(point, rows, 0, TABLE), *rows):
        for name, value in row.items():
            if name in PURE or isinstance(value, bool) or name in COUNTS:
                continue
            assert set(name.split("_")) & {*UNITS, "utilisation", "latency"}, name
