"""What was found, kept and written: rows by point in shards that are whole or not there; tables are made of them.

A point's name is the SHA-256 of what its rows depend on: its values, its layers, the table of energies, and `RULES`. So
a run that was cut off, or one whose space has grown, works out no point twice, and its tables are the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from systolith.designs.area import AREAS, areas
from systolith.designs.energy import EnergyTable
from systolith.designs.space import Point
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.store import atomic_file

RULES = 4
"""Grows by one when a formula changes: rows of before are then worked out anew."""
SHARDS = "points"
Rows = list[dict[str, Any]]

PORTS = tuple(
    f"{name}_{way}_bits" for name in ("act", "weight", "psum", "out") for way in ("read", "written")[name == "out" :]
)
SUMMED = (
    *("clocks", "stall_clocks", "macs"),
    *("mac_energy_pj", "memory_energy_pj", "dram_energy_low_pj", "dram_energy_high_pj"),
    *(*PORTS, "dram_read_bits", "dram_written_bits", "act_dram_read_bits", "weight_dram_read_bits"),
    *("psum_dram_read_bits", "psum_dram_written_bits", "out_dram_written_bits"),
)
LARGEST = ("psum_bits", *(f"{name}_capacity_bits" for name in ("act", "weight", "psum")))
"""Columns of a layer that a point has the sum of, and those of which it has the largest."""
PER_PICTURE = ("clocks", "energy_low_pj", "energy_high_pj")
"""What a point also has divided by its pictures, so that batches can be compared."""
COSTS = tuple(
    dict.fromkeys(
        (
            *(*SUMMED, *LARGEST, "energy_low_pj", "energy_high_pj", "traffic_bits", "capacity_bits", "dram_bits"),
            *AREAS,
            *(f"{name}_per_picture" for name in PER_PICTURE),
        )
    )
)
"""What a point costs: columns that can be made least."""


def name_of(point: Point, works: Sequence[Work], table: EnergyTable) -> str:
    """A point's name."""
    said = [RULES, list(point.values), [asdict(work) for work in works], asdict(table)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def lines_of(found: Mapping[str, Rows]) -> str:
    """The rows of some points as lines of JSON: names of columns once a point, but for a layer that does not fit."""
    lines = []
    for name, rows in found.items():
        columns = list(next((row for row in rows if row["fits"]), {}))
        said = [list(row.values()) if row["fits"] else row for row in rows]
        lines.append(json.dumps({"point": name, "columns": columns, "rows": said}, separators=(",", ":")) + "\n")
    return "".join(lines)


def rows_of(lines: str) -> Iterator[tuple[str, Rows]]:
    """The points of such lines, and their rows."""
    for line in lines.splitlines():
        one = json.loads(line)
        columns = one["columns"]
        rows = [row if isinstance(row, dict) else dict(zip(columns, row, strict=True)) for row in one["rows"]]
        yield one["point"], rows


def keep(folder: Path, lines: str) -> None:
    """Write the rows of some points as a shard of `folder`."""
    shards = folder / SHARDS
    shards.mkdir(parents=True, exist_ok=True)
    with atomic_file(shards / f"{hashlib.sha256(lines.encode()).hexdigest()[:32]}.jsonl") as path:
        path.write_text(lines)


def kept(folder: Path, wanted: Iterable[str]) -> dict[str, Rows]:
    """The rows of those of `wanted` that are in shards; `BadInput` if one is not readable."""
    names = set(wanted)
    found: dict[str, Rows] = {}
    if not names:
        return found
    for shard in sorted((folder / SHARDS).glob("*.jsonl")):
        try:
            found |= {name: rows for name, rows in rows_of(shard.read_text()) if name in names}
        except (OSError, ValueError, KeyError, TypeError):
            raise BadInput(f"{shard}: expected rows of points, a JSON object a line, found something else") from None
    return found


def summed(point: Point, rows: Rows, number: int, table: EnergyTable | None = None) -> dict[str, Any]:
    """A point in one row: its values, sums over its layers, what its largest layer asks for, and by `table` its area.

    One that cannot hold all layers has no costs, each None, and says why as the first of these layers does.
    """
    whole: dict[str, Any] = {"point": number, "model": point.model, **dict(point.values)}
    whole["psum_bits_asked"] = str(whole.pop("psum_bits"))
    if "array" in whole:
        rows_of, cols_of = (int(n) for n in whole.pop("array").split("x"))
        whole |= {"rows": rows_of, "cols": cols_of}
    whole["schedule_asked"] = whole.pop("schedule")
    misfits = [row["misfit"] for row in rows if not row["fits"]]
    whole |= {"fits": not misfits, "misfit": misfits[0] if misfits else ""}
    if misfits:
        return whole | dict.fromkeys((*COSTS, "utilisation"))
    whole |= {name: sum(row[name] for row in rows) for name in SUMMED}
    whole |= {name: max(row[name] for row in rows) for name in LARGEST}
    whole["utilisation"] = whole["macs"] / (whole["rows"] * whole["cols"] * whole["clocks"])
    on_chip = whole["mac_energy_pj"] + whole["memory_energy_pj"]
    whole["energy_low_pj"] = on_chip + whole["dram_energy_low_pj"]
    whole["energy_high_pj"] = on_chip + whole["dram_energy_high_pj"]
    whole |= {f"{name}_per_picture": whole[name] / whole["batch"] for name in PER_PICTURE}
    whole["traffic_bits"] = sum(whole[name] for name in PORTS)
    whole["dram_bits"] = whole["dram_read_bits"] + whole["dram_written_bits"]
    whole["capacity_bits"] = sum(whole[f"{name}_capacity_bits"] for name in ("act", "weight", "psum"))
    whole |= areas(whole, rows, table.area if table is not None else None)
    return whole


def pareto(values: Sequence[Sequence[float]]) -> list[bool]:
    """Which rows no other row beats: is nowhere larger and somewhere smaller. Equal rows beat one another not.

    Sorted, a row can be beaten by earlier ones alone, and those that are beaten themselves need not be asked.
    """
    order = sorted(range(len(values)), key=lambda n: tuple(values[n]))
    front: list[int] = []
    found = [False] * len(values)
    for n in order:
        mine = values[n]
        beaten = any(
            all(a <= b for a, b in zip(values[m], mine, strict=True)) and tuple(values[m]) != tuple(mine) for m in front
        )
        if not beaten:
            front.append(n)
            found[n] = True
    return found


def ranked(rows: Iterable[Mapping[str, Any]], column: str) -> list[Mapping[str, Any]]:
    """Those that fit: those on the front first, then the others, each by a column."""
    return sorted((row for row in rows if row["fits"]), key=lambda row: (not row["pareto"], row[column]))
