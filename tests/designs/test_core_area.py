"""Areas of designs: by hand, against Yosys, and what grows with what."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import systolith as sl
from areas import BETWEEN, adder, array, multiplier
from systolith.designs.area import AREAS, Core, adders, areas, array_bits, core_of, multipliers, queue_bits
from systolith.designs.energy import TABLE, AreaTable, read_table
from systolith.designs.point import evaluate
from systolith.designs.results import COSTS, summed
from systolith.designs.space import space_of
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.synthesis.area import synthesize
from systolith.synthesis.yosys import Source, has_yosys, run_yosys

CORE = tuple(sorted((Path(sl.__file__).parent / "rtl" / "core").glob("*.sv")))
WORK = Work("layer", (8, 8), (4, 4), pads=(1, 1, 1, 1))
yosys = pytest.mark.skipif(not has_yosys(), reason="needs pyosys")


def area_table() -> AreaTable:
    found = read_table().area
    assert found is not None
    return found


def whole_of(axes: dict[str, Any], *works: Work) -> dict[str, Any]:
    (point,) = space_of(axes)
    table = read_table()
    return summed(point, evaluate(point, works or (WORK,), table), 0, table)


def test_a_small_design_by_hand() -> None:
    """2x2 of 4 bits, psums of 16, weight stationary; 8 -> 8 channels on 4x4, padded to 6x6."""
    whole = whole_of({"array": "2x2", "psum_bits": [16], "schedule": "useful"})
    assert whole["multiplier_area_um2"] == pytest.approx(4 * 122.094, rel=1e-12)
    assert whole["adder_area_um2"] == pytest.approx(4 * 87.248, rel=1e-12)
    # Each of 4 elements holds a weight of 4 bits, whether it has one, and a psum. The 2 of the western column give
    # their code and what it is for, 4 + 2 bits, to the east; the last row's eastern one says that its psum is valid.
    array = 4 * (4 + 1 + 16) + 2 * (4 + 2) + 1
    # L0: 2 words of 2 codes and 4 flags, two pointers of a bit and a count of two; lane 1 a clock late. OFIFO: in each
    # column 2 psums and as many bits besides.
    queues = 2 * (2 * 4 + 4) + 4 + (4 + 4) + 2 * (2 * 16 + 4)
    assert (array, queues) == (97, 108)
    assert whole["register_area_um2"] == pytest.approx((97 + 108) * 4.522, rel=1e-12)
    # 36 positions of 8 channels, 9 kernel positions of 8x8 weights, 16 positions of two psums, a tile at a time.
    bits = 36 * 8 * 4, 9 * 8 * 8 * 4, 16 * 2 * 16
    assert tuple(whole[f"{name}_capacity_bits"] for name in ("act", "weight", "psum")) == bits
    assert max(bits) <= 0.3 * 8192
    memories = sum(
        1240.624 * kib / 0.25 if kib <= 0.25 else 1240.624 + (6476.036 - 1240.624) * (kib - 0.25) / 0.8125
        for kib in (one / 8192 for one in bits)
    )
    assert whole["memory_area_um2"] == pytest.approx(memories, rel=1e-12)
    assert whole["area_um2"] == pytest.approx(sum(whole[name] for name in AREAS[:-1]), rel=1e-12)


def test_the_tables_numbers_are_given_back_and_lines_go_between() -> None:
    table = area_table()
    assert [table.adding(bits) for bits in (4, 8, 48)] == pytest.approx([17.822, 42.294, 280.364], rel=1e-12)
    assert [table.multiplying(bits, bits) for bits in (1, 8, 16)] == pytest.approx([2.66, 492.632, 1994.468], rel=1e-12)
    # A quarter of the way from 8 to 16 bits; 32 bits of product between 16 and 64.
    assert table.adding(10) == pytest.approx(42.294 + (87.248 - 42.294) / 4, rel=1e-12)
    assert table.multiplying(4, 8) == pytest.approx(122.094 + (492.632 - 122.094) * 16 / 48, rel=1e-12)
    assert [table.storing(kib) for kib in (0.25, 9.75)] == pytest.approx([1240.624, 45478.818], rel=1e-12)
    assert (table.storing(0), table.storing(0.125)) == pytest.approx((0, 620.312), rel=1e-12)
    assert table.storing(4 * 9.75) == pytest.approx(4 * 45478.818, rel=1e-12)


def test_a_lane_of_several_codes_has_multipliers_for_each_of_its_uses() -> None:
    table = area_table()
    core = Core(2, 3, 8, 4, 20, simd=2)
    assert multipliers(core, table) == pytest.approx(6 * (table.multiplying(8, 4) + 2 * table.multiplying(4, 4)))
    assert adders(core, table) == pytest.approx(6 * (table.adding(20) + table.adding(12)))


def test_a_core_does_what_every_layer_asks_of_it() -> None:
    row = {"schedule": "useful", "act_lane_bits": 4, "weight_lane_bits": 8, "psum_bits": 20}
    other = {"schedule": "packed-double", "act_lane_bits": 8, "weight_lane_bits": 4, "psum_bits": 18}
    size = {"rows": 3, "cols": 2, "simd": 1}
    assert core_of(size, [row]) == Core(3, 2, 4, 8, 20)
    assert core_of(size, [row, other]) == Core(3, 2, 8, 8, 20, double=True)
    assert core_of(size, [row, row | {"schedule": "os"}]) == Core(3, 2, 4, 8, 20, stationary=True)


def test_the_widest_layer_counts_once() -> None:
    wide, axes = replace(WORK, name="wide", channels=(16, 32)), {"array": "4x4", "schedule": "useful"}
    one, three = whole_of(axes, wide), whole_of(axes, WORK, wide, wide)
    assert [three[name] for name in AREAS] == [one[name] for name in AREAS]


CORES = [
    Core(rows, cols, act, weight, psum, simd, bool(double), bool(stationary))
    for (rows, cols, act, weight, psum, simd), double, stationary in product(
        ((2, 2, 4, 4, 16, 1), (3, 4, 4, 2, 10, 1), (1, 3, 4, 4, 16, 1), (3, 1, 2, 3, 12, 1), (2, 3, 8, 4, 20, 2)),
        (0, 1),
        (0, 1),
    )
]


def parameters(core: Core) -> dict[str, int]:
    return {
        "ROWS": core.rows,
        "COLS": core.cols,
        "ACT_BITS": core.act_bits,
        "WEIGHT_BITS": core.weight_bits,
        "PSUM_BITS": core.psum_bits,
        "SIMD": core.simd,
        "DOUBLE": int(core.double),
        "STATIONARY": int(core.stationary),
    }


def registers(top: str, folder: Path, **given: int) -> int:
    """Flip-flops of a module that are read and do not stay as they are, before Yosys looks for equal ones."""
    counts = folder / "counts.json"
    commands = ["proc", "flatten", "memory_collect", "opt_clean", "memory_map", "opt_clean", "simplemap"]
    commands += ["opt_dff"] * given.get("COLS", 1)  # the first row's drain beats, which never come, one after another
    source = Source(CORE, top, given)
    run_yosys([*source.commands(), *commands, "opt_clean", f'tee -q -o "{counts}" stat -json'])
    found = json.loads(counts.read_text())["design"]["num_cells_by_type"]
    return sum(number for name, number in found.items() if "DFF" in name)


@yosys
@pytest.mark.parametrize("core", CORES, ids=str)
def test_register_bits_of_the_array_are_yosys_flip_flops(core: Core, tmp_path: Path) -> None:
    given = parameters(core)
    assert array_bits(core) == registers("mac_array", tmp_path, **given)
    simplified = synthesize(Source(CORE, "mac_array", given), "generic").ffs
    if core.stationary or core.psum_bits <= core.act_bits + core.weight_bits:
        assert array_bits(core) == simplified
    else:  # the first row's psums are products: so wide alone
        assert simplified < array_bits(core)


@yosys
@pytest.mark.parametrize("core", [one for one in CORES if one.cols > 1], ids=str)
def test_register_bits_of_the_queues_are_yosys_flip_flops(core: Core, tmp_path: Path) -> None:
    found = registers("l0", tmp_path, LANES=core.rows, CODE_BITS=core.code_bits, FLAGS=4, DEPTH=2)
    if core.double or core.stationary:
        found += registers("l0", tmp_path, LANES=core.cols, CODE_BITS=core.weights, FLAGS=1, DEPTH=2)
    found += registers("ofifo", tmp_path, COLS=core.cols, PSUM_BITS=core.psum_bits, DEPTH=core.cols)
    assert queue_bits(core) == found


@yosys
def test_the_tables_adders_and_multipliers_are_what_yosys_makes_of_the_cells() -> None:
    """To a hundredth: another Yosys may find other gates."""
    table = area_table()
    assert [adder(int(bits)) for bits, _ in table.add] == pytest.approx([um2 for _, um2 in table.add], rel=0.01)
    found = [multiplier(int(bits), int(bits)) for bits, _ in table.multiply]
    assert found == pytest.approx([um2 for _, um2 in table.multiply], rel=0.01)
    for act, weight in BETWEEN:
        assert table.multiplying(act, weight) == pytest.approx(multiplier(act, weight), rel=0.26)


@yosys
@pytest.mark.parametrize(
    "core", [Core(8, 2, 4, 4, 20), Core(8, 2, 4, 4, 16, 1, True, True), Core(4, 2, 8, 4, 20, 2, True, True)], ids=str
)
def test_the_parts_are_most_of_what_yosys_makes_of_the_whole_array(core: Core) -> None:
    """What chooses, saturates and enables is left out; what is constant in the first rows is counted."""
    table = area_table()
    parts = multipliers(core, table) + adders(core, table) + array_bits(core) * table.flip_flop
    whole = array(core).area
    assert whole is not None
    assert 0.7 * whole < parts < 1.2 * whole


CORE_VALUES = st.builds(
    Core,
    *(st.integers(1, 40), st.integers(1, 40)),
    *(st.sampled_from([8, 16]), st.integers(1, 16), st.integers(2, 48)),
    *(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.booleans()),
)
LARGER = st.sampled_from(["rows", "cols", "act_bits", "weight_bits", "psum_bits", "simd", "double", "stationary"])


@given(CORE_VALUES, LARGER)
def test_no_part_is_smaller_in_a_core_with_more_of_something(core: Core, name: str) -> None:
    table = area_table()
    value = getattr(core, name)
    more = replace(core, **{name: True if isinstance(value, bool) else value * 2})
    assert array_bits(more) >= array_bits(core) > 0
    assert queue_bits(more) >= queue_bits(core) > 0
    assert multipliers(more, table) >= multipliers(core, table) > 0
    assert adders(more, table) >= adders(core, table) > 0


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_larger_memory_is_not_smaller(one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert 0 <= area_table().storing(small) <= area_table().storing(large)


def test_a_table_without_areas_gives_none_and_cannot_be_asked_for_the_least(tmp_path: Path) -> None:
    text = TABLE.read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text[: text.index("[area]")])
    table = read_table(path)
    assert table.area is None
    assert areas({}, [], None) == dict.fromkeys(AREAS)
    report = sl.explore(model="resnet18", array="4x4", energy=str(path), out=str(tmp_path / "out"), jobs=1)
    assert all(report.rows[0][name] is None for name in AREAS)
    with pytest.raises(BadInput, match=r"--minimize 'area_um2': the table of energies, 45 nm, 0.9 V, has no \[area\]"):
        sl.explore(model="resnet18", array="4x4", energy=str(path), minimize="area_um2", out=str(tmp_path / "other"))
    assert set(AREAS) <= set(COSTS)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("flip_flop = 4.522", "flip_flop = 0", "area.flip_flop: expected a positive number, found 0"),
        (
            "[[0.25, 1240.624], [1.0625",
            "[[2.25, 1240.624], [1.0625",
            "area.sram: expected at least two pairs of size and um2",
        ),
        ("[area]", "area = 3\n[other]", "area: expected a table [area], found 3"),
    ],
)
def test_a_wrong_table_of_areas_gets_one_sentence(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = TABLE.read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(BadInput) as error:
        read_table(path)
    assert said in str(error.value)
