from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from systolith.array import ArraySpec
from systolith.designs.energy import TABLE, read_table
from systolith.designs.point import Design, cost, energy
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.timing.memory import Memory


def test_the_tables_numbers_are_given_back_and_lines_go_between() -> None:
    table = read_table()
    assert [table.adding(bits) for bits in (8, 32)] == pytest.approx([0.03, 0.1], rel=1e-12)
    assert [table.multiplying(bits, bits) for bits in (8, 32)] == pytest.approx([0.2, 3.1], rel=1e-12)
    assert [table.accessing(kib, 64) for kib in (8, 32, 1024)] == pytest.approx([10, 20, 100], rel=1e-12)
    # 20 of the 24 bits between: 0.03 + 0.07 * 12/24. 16 products of bits between 64 and 1024 from 64.
    assert table.adding(20) == pytest.approx(0.065, rel=1e-12)
    assert table.multiplying(4, 20) == pytest.approx(0.2 + 2.9 * 16 / 960, rel=1e-12)
    assert table.multiplying(1, 1) == pytest.approx(0.2 - 2.9 * 63 / 960, rel=1e-12)
    assert table.accessing(2, 32) == pytest.approx(2.5, rel=1e-12)  # a quarter of 8 KiB: half of 10 pJ, of 32 bits half
    assert table.accessing(4096, 64) == pytest.approx(100 * 4 ** (0.6989700043360189 / 1.505149978319906), rel=1e-9)
    assert table.dram == (1300, 2600)


def test_the_energy_of_a_layer_by_hand() -> None:
    """8 -> 8 channels of 4 bits on 4x4, padded to 6x6, 3x3, on 8x8, weight stationary: 9 passes of 16 positions."""
    work = Work("layer", (8, 8), (4, 4), pads=(1, 1, 1, 1))
    design = Design(ArraySpec(8, 8, 4, 4, 16), 16, "useful", "clocks", 1, Memory())
    found = cost(work, design)
    assert (found.clocks, found.macs) == (239, 8 * 8 * 9 * 16)
    used = energy(work, found, read_table())
    multiply = 0.2 + (3.1 - 0.2) * (4 * 4 - 64) / (1024 - 64)  # 0.055 pJ
    add = 0.03 + (0.1 - 0.03) * (16 - 8) / 24  # of 16 bits
    assert used.macs == pytest.approx(9216 * (multiply + add), rel=1e-12)
    # 36 words of 32 bits are 0.140625 KiB; a beat for each of 9 * 16 positions, and the host's 36 words.
    act = 10 * (36 * 32 / 8192 / 8) ** 0.5 * 32 / 64
    assert used.act == pytest.approx((9 * 16 + 36) * act, rel=1e-12)
    # 72 words of 32 bits, each read once and written once.
    weight = 10 * (72 * 32 / 8192 / 8) ** 0.5 * 32 / 64
    assert used.weight == pytest.approx((72 + 72) * weight, rel=1e-12)
    # 16 words of 128 bits; read and written for each position of each pass.
    psum = 10 * (16 * 128 / 8192 / 8) ** 0.5 * 128 / 64
    assert used.psum == pytest.approx(2 * 9 * 16 * psum, rel=1e-12)
    # Once in: 36 and 72 words of 32 bits; once out: 16 of 128.
    bits = 36 * 32 + 72 * 32 + 16 * 128
    assert used.dram == pytest.approx((bits * 1300 / 64, bits * 2600 / 64), rel=1e-12)
    assert used.total[1] - used.total[0] == pytest.approx(bits * 1300 / 64, rel=1e-12)


def test_products_of_a_zero_take_nothing_where_they_are_counted() -> None:
    table, design = read_table(), Design(ArraySpec(4, 4), None, "auto", "clocks", 1, Memory())
    work = Work("layer", (4, 4), (5, 5))
    found = cost(work, design)
    whole, quarter = energy(work, found, table), energy(replace(work, live=0.25), found, table)
    assert quarter.macs == pytest.approx(whole.macs / 4, rel=1e-12)
    assert (quarter.act, quarter.weight, quarter.psum) == (whole.act, whole.weight, whole.psum)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("add = [[8, 0.03], [32, 0.1]]", "add = [[8, 0.03]]", "add: expected at least two pairs"),
        ("add = [[8, 0.03], [32, 0.1]]", "add = [[32, 0.03], [8, 0.1]]", "sizes ascending"),
        ("sram_bits = 64", "", "sram_bits: expected a positive number, found None"),
        ("dram_bits = 64", "dram_bits = -1", "dram_bits: expected a positive number, found -1"),
        ("dram = [1300.0, 2600.0]", "dram = [2600.0, 1300.0]", "dram: expected [least, most] in pJ"),
    ],
)
def test_a_wrong_table_gets_one_sentence(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = TABLE.read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(BadInput) as error:
        read_table(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
