"""What a report looks like as text, as values: labelled rows, tables, lines. `screen.py` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from systolith.equality import Equality


@dataclass(frozen=True)
class Rows:
    """Label and text in two columns; long texts wrap under themselves."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows under headings; those of `right` are aligned to the right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()


Part = Rows | Table | str
"""A string is a line as it is."""


def equal_rows(equalities: Iterable[Equality]) -> list[tuple[str, str]]:
    """Rows of what was compared, under one label."""
    return [("equal" if i == 0 else "", f"{e.name}: {e}") for i, e in enumerate(equalities)]
