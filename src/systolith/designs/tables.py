"""Rows as Parquet and CSV: points.* has a row a design, layers.* one for each of its layers; units in the names."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from systolith.designs.results import Rows
from systolith.store import atomic_file


def write_tables(folder: Path, points: Sequence[Mapping[str, Any]], layers: Iterable[tuple[int, Rows]]) -> None:
    """Write points.parquet, points.csv, layers.parquet and layers.csv, whole or not at all.

    Args:
        folder: existing.
        points: a row each.
        layers: a point's number, and its layers' rows.
    """
    each = [{"point": number, **row} for number, rows in layers for row in rows]
    for name, some in (("points", points), ("layers", each)):
        # What does not fit has no costs, and not all columns.
        names = list(next((row for row in some if row["fits"]), some[0]))
        rows = [{column: row.get(column) for column in names} for row in some]
        _write_parquet(folder / f"{name}.parquet", rows)
        with atomic_file(folder / f"{name}.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    with atomic_file(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), temporary)
