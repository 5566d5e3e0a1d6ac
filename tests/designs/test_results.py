from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith.designs.energy import read_table
from systolith.designs.point import evaluate
from systolith.designs.results import SHARDS, keep, kept, lines_of, name_of, pareto, summed
from systolith.designs.space import space_of
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.topologies import built_in

WORK = Work("layer", (8, 8), (4, 4))


def naive_front(values: list[tuple[int, ...]]) -> list[bool]:
    """A row is on the front if no other is as small everywhere and smaller somewhere."""
    found = []
    for mine in values:
        beaten = False
        for other in values:
            if all(a <= b for a, b in zip(other, mine, strict=True)) and any(
                a < b for a, b in zip(other, mine, strict=True)
            ):
                beaten = True
        found.append(not beaten)
    return found


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, 6)] * n), max_size=30)))
def test_the_front_is_that_of_a_naive_loop(values: list[tuple[int, ...]]) -> None:
    assert pareto(values) == naive_front(values)


def test_the_front_of_vgg16_over_200_arrays_is_that_of_a_naive_loop() -> None:
    works = [Work.of(layer) for layer in built_in("vgg16").layers]
    space = space_of({"rows": list(range(2, 42, 2)), "cols": list(range(4, 44, 4))})
    table = read_table()
    rows = [summed(point, evaluate(point, works, table), n) for n, point in enumerate(space)]
    assert len(rows) == 200
    for columns in (("clocks", "energy_high_pj"), ("clocks", "capacity_bits", "traffic_bits")):
        values = [tuple(row[name] for name in columns) for row in rows]
        assert pareto(values) == naive_front(values)
        assert 1 < sum(pareto(values)) < 200


def test_a_point_in_one_row_is_the_sum_of_its_layers() -> None:
    (point,) = space_of({"array": "4x2", "batch": 2})
    works = [WORK, replace(WORK, name="more", count=3, channels=(5, 7))]
    rows = evaluate(point, works, read_table())
    whole = summed(point, rows, 7)
    assert (whole["point"], whole["rows"], whole["cols"], whole["schedule_asked"]) == (7, 4, 2, "auto")
    assert whole["clocks"] == rows[0]["clocks"] + rows[1]["clocks"]
    assert whole["clocks_per_picture"] == whole["clocks"] / 2
    assert whole["act_capacity_bits"] == max(row["act_capacity_bits"] for row in rows)
    assert whole["utilisation"] == whole["macs"] / (8 * whole["clocks"])
    assert whole["energy_high_pj"] - whole["energy_low_pj"] == pytest.approx(
        whole["dram_energy_high_pj"] - whole["dram_energy_low_pj"]
    )


def test_a_points_name_is_of_all_that_its_rows_depend_on() -> None:
    table = read_table()
    one, other = space_of({"rows": [4, 8]})
    names = {
        name_of(one, [WORK], table),
        name_of(other, [WORK], table),
        name_of(one, [replace(WORK, live=0.5)], table),
        name_of(one, [WORK, WORK], table),
        name_of(one, [WORK], replace(table, dram=(1.0, 2.0))),
    }
    assert len(names) == 5
    assert name_of(space_of({"rows": [8, 4]}).at(1), [WORK], table) in names  # wherever it stands in a space


def test_shards_are_read_back_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    rows = {name: [{"fits": True, "clocks": n}, {"fits": False, "misfit": "x"}] for n, name in enumerate("abc")}
    keep(tmp_path, lines_of({name: rows[name] for name in "ab"}))
    keep(tmp_path, lines_of({"c": rows["c"]}))
    assert kept(tmp_path, ["a", "c", "d"]) == {"a": rows["a"], "c": rows["c"]}
    shard = next((tmp_path / SHARDS).glob("*.jsonl"))
    shard.write_text(shard.read_text()[:-5])
    with pytest.raises(BadInput, match=str(shard)):
        kept(tmp_path, ["a"])
