"""What a page shows beside rows and tables, as values; `page.py` and its templates draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from systolith.report.parts import Table
from systolith.report.scales import Scale, short

STAGES = ("trained network", "integer network", "array psums", "golden vectors", "RTL simulation")
"""The chain of equalities, a box each."""


@dataclass(frozen=True)
class Chain:
    """The five boxes: what was compared in each, and whether all of it holds (None: nothing compared there)."""

    lines: Mapping[str, Sequence[str]]
    holds: Mapping[str, bool | None]

    @property
    def boxes(self) -> list[tuple[str, Sequence[str], bool | None]]:
        return [(stage, self.lines.get(stage, ()), self.holds.get(stage)) for stage in STAGES]


@dataclass(frozen=True)
class Heatmap:
    """Numbers in rows and columns, the larger the darker.

    Attributes:
        title: above it.
        rows, cols: their names.
        values: a number, or None for nothing, a cell.
        what: a cell's meaning, for those who point at it or cannot see it.
        unit: behind each number.
        corner: what the rows are, and what the columns are.
        bad: larger is worse, and 0 is good.
        details: of a cell by (row, col), shown where it is chosen.
    """

    title: str
    rows: Sequence[str]
    cols: Sequence[str]
    values: Sequence[Sequence[float | None]]
    what: str
    unit: str = ""
    corner: str = ""
    bad: bool = False
    details: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @property
    def most(self) -> float:
        return max((value for row in self.values for value in row if value is not None), default=0) or 1


@dataclass(frozen=True)
class Bars:
    """Bars side by side, each of stacked parts.

    Attributes:
        title: above them.
        labels: a bar's name.
        parts: of each part its values, one a bar.
        what: the axis: what is counted.
        note: below.
    """

    title: str
    labels: Sequence[str]
    parts: Mapping[str, Sequence[float]]
    what: str
    note: str = ""

    @property
    def most(self) -> float:
        return max((sum(values) for values in zip(*self.parts.values(), strict=True)), default=0) or 1


@dataclass(frozen=True)
class Curves:
    """Lines over one axis; each of `lines` is drawn to a scale of its own, `least` to `most`."""

    title: str
    across: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]

    def points(self, name: str, wide: float, high: float) -> str:
        """A line's points in a box, for SVG."""
        least, most = self.scale(name)
        span, width = (most - least) or 1, (self.x[-1] - self.x[0]) or 1
        pairs = zip(self.x, self.lines[name], strict=True)
        return " ".join(
            f"{(x - self.x[0]) / width * wide:.1f},{high - (y - least) / span * high:.1f}" for x, y in pairs
        )

    def scale(self, name: str) -> tuple[float, float]:
        return min(self.lines[name]), max(self.lines[name])


@dataclass(frozen=True)
class Mark:
    """A point of a `Scatter`: where, what it is, the id of the row that it leads to, and whether it stands out."""

    x: float
    y: float
    label: str
    row: str
    best: bool


@dataclass(frozen=True)
class Scatter:
    """Points that lead to rows of a table on the page.

    Attributes:
        title: above them.
        across, up: what the axes are, with their units.
        marks: at least one.
        stairs: (x, y) of those that steps join, x ascending.
        what: below.
    """

    title: str
    across: str
    up: str
    marks: Sequence[Mark]
    stairs: Sequence[tuple[float, float]]
    what: str

    @cached_property
    def scales(self) -> tuple[Scale, Scale]:
        return Scale.of(mark.x for mark in self.marks), Scale.of(mark.y for mark in self.marks)

    def place(self, x: float, y: float) -> tuple[str, str]:
        """In a box of 600 by 320, for SVG."""
        across, up = self.scales
        return f"{600 * across.share(x):.1f}", f"{320 - 320 * up.share(y):.1f}"

    @property
    def steps(self) -> str:
        """The points of the line that joins `stairs`."""
        placed = [self.place(*one) for one in self.stairs]
        corners = [(after[0], before[1]) for before, after in pairwise(placed)]
        every = [*(one for pair in zip(placed, corners, strict=False) for one in pair), *placed[-1:]]
        return " ".join(",".join(one) for one in every)

    @property
    def ticks(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Of each axis where a number stands, and the number."""
        across, up = self.scales
        xs = [(self.place(tick, self.marks[0].y)[0], short(tick)) for tick in across.ticks]
        return xs, [(self.place(self.marks[0].x, tick)[1], short(tick)) for tick in up.ticks]


@dataclass(frozen=True)
class Designs:
    """A table whose rows can be led to, and lead to tables of their parts. It stands for the text's tables.

    Attributes:
        title: above it.
        table: of designs.
        ids: of its rows, unique on the page.
        parts: by the id of a row what the table of its parts is called, and this one.
        what: below.
    """

    title: str
    table: Table
    ids: Sequence[str]
    parts: Mapping[str, tuple[str, Table]]
    what: str


@dataclass(frozen=True)
class Pictures:
    """Small pictures, each as a data URL, and what is said below it."""

    title: str
    pictures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Drawing:
    """A drawing as SVG, made by code of ours, and what it shows in words."""

    title: str
    svg: str
    what: str


@dataclass(frozen=True)
class Animation:
    """The array clock by clock: plain values that the page's script steps through (`page.js`)."""

    title: str
    note: str
    layers: Sequence[Mapping[str, Any]]


def buckets(count: int, most: int) -> tuple[int, list[str]]:
    """How many of `count` places share a column of a map, that has at most `most`, and what the columns are called."""
    size = -(-count // most)
    return size, [str(start) if size == 1 else f"{start}.." for start in range(0, count, size)]


Figure = Chain | Heatmap | Bars | Curves | Scatter | Designs | Pictures | Drawing | Animation
