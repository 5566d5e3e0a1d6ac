"""What a layer's work costs in energy: counts, times a table of picojoules. An estimate, with the table and its range.
The table may have areas too, of which `area.py` makes a design's.

Rules between a table's numbers, each of which two of Horowitz' numbers bear out:

- an adder's energy grows linearly with its bits (0.03 pJ at 8, 0.1 at 32);
- a multiplier's grows with the product of its operands' bits (0.2 pJ at 8x8, 3.1 at 32x32: 3.1 and 3.0 fJ a
  bit squared);
- registers and queues count for nothing: no number with a source was found; a table of one's own may put them into
  `add`;
- a memory's grows as a power of its size between two of them (10 pJ at 8 KiB, 20 at 32: the square root), and below the
  smallest as between the first two; with a word's bits linearly, which is a simplification.

Areas of adders and multipliers go by the same rules, which the measured numbers bear out: 5.6 to 6.2 um2 for each bit
more of an adder, 7.6 to 7.8 a bit squared of multipliers of 4, 8 and 16 bits. A memory's is on a line between two of
its sizes; a smaller one takes its share of the smallest, a larger one is several of the largest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from systolith.formats import BadInput
from systolith.store import ASSETS

TABLE = ASSETS / "energy" / "45nm.toml"


Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class AreaTable:
    """Square micrometres of a part.

    Attributes:
        source: who says so.
        add, multiply: (bits of each operand, um2), ascending.
        flip_flop: um2 of a bit.
        sram: (KiB, um2), ascending.
    """

    source: str
    add: Pairs
    multiply: Pairs
    flip_flop: float
    sram: Pairs

    def adding(self, bits: int) -> float:
        """um2 of what adds two numbers of so many bits."""
        return _line(self.add, bits)

    def multiplying(self, one: int, other: int) -> float:
        """um2 of what multiplies numbers of so many bits."""
        return _line([(bits * bits, um2) for bits, um2 in self.multiply], one * other)

    def storing(self, kib: float) -> float:
        """um2 of a memory of `kib` KiB."""
        largest, um2 = self.sram[-1]
        return um2 * kib / largest if kib > largest else _line(((0.0, 0.0), *self.sram), kib)


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules of one operation.

    Attributes:
        name, source: of what, and who says so.
        add, multiply: (bits of each operand, pJ), ascending.
        sram: (KiB, pJ of an access of `sram_bits`), ascending.
        dram: pJ of moving `dram_bits`, the least and the most.
        area: None: it has none.
    """

    name: str
    source: str
    add: Pairs
    multiply: Pairs
    sram: Pairs
    sram_bits: int
    dram: tuple[float, float]
    dram_bits: int
    area: AreaTable | None = None

    def adding(self, bits: int) -> float:
        """pJ of an addition of two numbers of so many bits."""
        return _line(self.add, bits)

    def multiplying(self, one: int, other: int) -> float:
        """pJ of a product of numbers of so many bits."""
        return _line([(bits * bits, pj) for bits, pj in self.multiply], one * other)

    def accessing(self, kib: float, bits: int) -> float:
        """pJ of reading or writing a word of `bits` of a memory of `kib` KiB."""
        return _power(self.sram, kib) * bits / self.sram_bits


def _line(points: Sequence[tuple[float, float]], at: float) -> float:
    """Between two points, or beyond the outer ones, on the line through the nearest two; never below 0."""
    (x0, y0), (x1, y1) = _nearest(points, at)
    return max(0.0, y0 + (y1 - y0) * (at - x0) / (x1 - x0))


def _power(points: Sequence[tuple[float, float]], at: float) -> float:
    """The same of a power: a line in logarithms."""
    (x0, y0), (x1, y1) = _nearest(points, at)
    return float(y0 * (at / x0) ** (log(y1 / y0) / log(x1 / x0)))


def _nearest(points: Sequence[tuple[float, float]], at: float) -> tuple[tuple[float, float], tuple[float, float]]:
    upper = next((n for n, (x, _) in enumerate(points[1:], 1) if at <= x), len(points) - 1)
    return points[upper - 1], points[upper]


def read_table(path: Path = TABLE) -> EnergyTable:
    """A table of one's own, a TOML file as `assets/energy/45nm.toml`; `BadInput` says what is missing or wrong."""
    path = Path(path)
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: not a readable TOML file ({error})") from None
    dram = found.get("dram")
    if not isinstance(dram, list) or len(dram) != 2 or not all(map(_positive, dram)) or dram[0] > dram[1]:
        raise BadInput(f"{path}: dram: expected [least, most] in pJ, found {dram}")
    return EnergyTable(
        name=str(found.get("name", path.stem)),
        source=str(found.get("source", "not said")),
        add=_points(path, found, "add"),
        multiply=_points(path, found, "multiply"),
        sram=_points(path, found, "sram"),
        sram_bits=int(_number(path, found, "sram_bits")),
        dram=(float(dram[0]), float(dram[1])),
        dram_bits=int(_number(path, found, "dram_bits")),
        area=_areas(path, found["area"]) if "area" in found else None,
    )


def _areas(path: Path, found: Any) -> AreaTable:
    if not isinstance(found, dict):
        raise BadInput(f"{path}: area: expected a table [area], found {found}")
    pairs = {name: _points(path, found, name, "um2", "area.") for name in ("add", "multiply", "sram")}
    flip_flop = _number(path, found, "flip_flop", "area.")
    return AreaTable(source=str(found.get("source", "not said")), flip_flop=flip_flop, **pairs)


def _points(path: Path, found: Mapping[str, Any], name: str, unit: str = "pJ", of: str = "") -> Pairs:
    given = found.get(name)
    pairs: list[Any] = given if isinstance(given, list) else []
    sound = all(isinstance(pair, list) and len(pair) == 2 and all(map(_positive, pair)) for pair in pairs)
    if len(pairs) < 2 or not sound or [pair[0] for pair in pairs] != sorted({pair[0] for pair in pairs}):
        raise BadInput(
            f"{path}: {of}{name}: expected at least two pairs of size and {unit}, sizes ascending, found {given}"
        )
    return tuple((float(x), float(y)) for x, y in pairs)


def _number(path: Path, found: Mapping[str, Any], name: str, of: str = "") -> float:
    value = found.get(name)
    if not _positive(value):
        raise BadInput(f"{path}: {of}{name}: expected a positive number, found {value}")
    return float(value or 0)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class Energy:
    """Picojoules of a layer's parts.

    Attributes:
        macs: products and additions, those of a zero operand too unless it is known how many there are.
        act, weight, psum: of the on-chip memories' ports.
        dram: the least and the most of what comes from and goes to another chip.
    """

    macs: float
    act: float
    weight: float
    psum: float
    dram: tuple[float, float]

    @property
    def on_chip(self) -> float:
        return self.macs + self.act + self.weight + self.psum

    @property
    def total(self) -> tuple[float, float]:
        """The least and the most."""
        return self.on_chip + self.dram[0], self.on_chip + self.dram[1]
