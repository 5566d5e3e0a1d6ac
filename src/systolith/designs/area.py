"""What a design takes of a chip: parts of the core, counted, times a table of square micrometres. An estimate.

A core holds every layer of a point: its lanes and accumulators are as wide as the widest needs, its memories as large
as the largest fills, and it can do the schedule of each. Counted are

- multipliers: those of each processing element (`mac_tile.sv`), which has one of a whole lane, and where a lane can
  carry several codes, two of half of it, four of a quarter, and so on;
- adders: one of an accumulator in each, and those that add the products of a lane;
- registers: every bit that the array and its queues hold (`mac_array.sv`, `l0.sv`, `ofifo.sv`);
- memories: activations, weights and psums.

Left out is what chooses between schedules and registers, saturation, the special function processor of each column,
control, wires, and what placing leaves empty: a whole chip is larger. Psums of the first rows are counted whole, though
they need fewer bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from systolith.designs.energy import AreaTable
from systolith.designs.hierarchy import KIB, MEMORIES
from systolith.timing.mapper import WAYS

AREAS = (*(f"{part}_area_um2" for part in ("multiplier", "adder", "register", "memory")), "area_um2")
"""Columns of a point: of its parts, and of all of them."""
_L0_DEPTH = 2
_FLAGS = 4
"""Words of each L0, and flags of a word of the western one; the OFIFO has as many words as the array columns."""


@dataclass(frozen=True)
class Core:
    """The parameters of `corelet.sv` that its registers and arithmetic depend on.

    Attributes:
        act_bits, weight_bits: of a lane, and of one of its `simd` weights.
        double, stationary: whether it can be told to double-buffer weights, and to keep sums in place.
    """

    rows: int
    cols: int
    act_bits: int
    weight_bits: int
    psum_bits: int
    simd: int = 1
    double: bool = False
    stationary: bool = False

    @property
    def weights(self) -> int:
        """Bits of a processing element's weights."""
        return self.simd * self.weight_bits

    @property
    def code_bits(self) -> int:
        """Of what goes from west to east: activations, or weights."""
        return max(self.act_bits, self.weights)


def array_bits(core: Core) -> int:
    """Register bits of `mac_array.sv`. What only a neighbour would read is not there at an edge without one.

    Yosys counts as many; where sums do not stay in place it finds that those of the first rows need fewer bits.
    """
    elements = core.rows * core.cols
    east, south = core.rows * (core.cols - 1), (core.rows - 1) * core.cols
    bits = elements * (core.weights + 1 + core.psum_bits)  # weight, loaded, south_psum
    bits += east * (core.code_bits + 2) + 1  # code, load, stream; in the last row also the last column's stream
    if core.double:
        bits += elements * (core.weights + 1) + south  # shadow, filled; load
    if core.double or core.stationary:
        bits += south * core.weights + east  # weight; fresh
    if core.stationary:
        bits += elements * core.psum_bits + east  # acc; last
        bits += (core.rows - 1) * (core.cols - 1)  # drain, which the first row never does
        bits += core.rows.bit_length() + core.cols - 1  # beats left, and when they leave
    return bits


def queue_bits(core: Core) -> int:
    """Register bits of the L0 west of the array, of that north of it if weights come from there, and of the OFIFO."""
    bits = _l0(core.rows, core.code_bits, _FLAGS)
    if core.double or core.stationary:
        bits += _l0(core.cols, core.weights, 1)
    return bits + core.cols * _fifo(core.psum_bits, core.cols)


def _l0(lanes: int, bits: int, flags: int) -> int:
    """Lane n is n clocks late."""
    return _fifo(flags + lanes * bits, _L0_DEPTH) + (flags + bits) * (lanes * (lanes - 1) // 2)


def _fifo(width: int, depth: int) -> int:
    """Words, where the first and the next one go, and how many there are."""
    return width * depth + 2 * (depth - 1).bit_length() + depth.bit_length()


def multipliers(core: Core, table: AreaTable) -> float:
    """um2 of all processing elements' multipliers."""
    each = sum(codes * table.multiplying(core.act_bits // codes, core.weight_bits) for codes in _splits(core))
    return core.rows * core.cols * each


def adders(core: Core, table: AreaTable) -> float:
    """um2 of all processing elements' adders."""
    product = core.act_bits + core.weight_bits
    several = sum((codes - 1) * table.adding(product) for codes in _splits(core))
    return core.rows * core.cols * (table.adding(core.psum_bits) + several)


def _splits(core: Core) -> list[int]:
    """How many codes a lane can carry: 1, 2, ..."""
    return [1 << n for n in range(core.simd.bit_length())]


def areas(point: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], table: AreaTable | None) -> dict[str, Any]:
    """The columns of a point's area, each None without a table.

    Args:
        point: its row, with the array's size and the largest of each capacity.
        rows: its layers'.
        table: of areas.
    """
    if table is None:
        return dict.fromkeys(AREAS)
    core = core_of(point, rows)
    registers = (array_bits(core) + queue_bits(core)) * table.flip_flop
    memories = sum(table.storing(point[f"{name}_capacity_bits"] / KIB) for name in MEMORIES)
    found = (multipliers(core, table), adders(core, table), registers, memories)
    return dict(zip(AREAS, (*found, sum(found)), strict=True))


def core_of(point: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Core:
    """The smallest core that does each layer as it was chosen."""
    ways = [WAYS[name] for name in {row["schedule"] for row in rows}]
    widest = {name: max(row[name] for row in rows) for name in ("act_lane_bits", "weight_lane_bits", "psum_bits")}
    return Core(
        point["rows"],
        point["cols"],
        widest["act_lane_bits"],
        widest["weight_lane_bits"],
        widest["psum_bits"],
        point["simd"],
        double=any(way.schedule.double for way in ways),
        stationary=any(way.dataflow == "os" for way in ways),
    )
