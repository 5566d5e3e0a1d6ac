"""What the pictures and the page of `explore` show, as values: columns and units, steps, shapes, layers, roofs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from systolith.designs.results import Rows, pareto

Design = Mapping[str, Any]
"""A row of points.parquet."""

ELEMENTS = "elements"
"""Of an array: its processing elements; beside the columns, where only one is made least."""
_WORDS = {"low": "least", "high": "most", "mac": "MAC"}


def columns_of(minimize: Sequence[str]) -> tuple[str, str]:
    """The two columns that the front is drawn over."""
    return (minimize[0], minimize[1]) if len(minimize) > 1 else (ELEMENTS, minimize[0])


def axis_of(column: str) -> tuple[str, float]:
    """What a column is called, with its unit, and how many of its own units that one is.

    Examples:
        >>> axis_of("energy_high_pj_per_picture")
        ('energy (most) a picture, uJ', 1000000.0)
    """
    if column == ELEMENTS:
        return "processing elements", 1.0
    name, per, _ = column.partition("_per_picture")
    words = name.split("_")
    unit, size = "", 1.0
    if "pj" in words:
        unit, size = ", uJ", 1e6
        words.remove("pj")
    elif words[-1] == "um2":
        unit, size = ", mm2", 1e6
        words.pop()
    elif column != "psum_bits" and words[-1] == "bits":
        unit, size = (", kB", 8e3) if "capacity" in words else (", MB", 8e6)
        words.pop()
    if words[-1] in ("low", "high"):
        words[-1] = f"({_WORDS[words[-1]]})"
    said = " ".join(_WORDS.get(word, word) for word in words).replace("psum bits", "bits of a psum")
    return f"{said}{' a picture' if per else ''}{unit}", size


def value_of(design: Design, column: str) -> float:
    """Of a column, in the unit of `axis_of`."""
    if column == ELEMENTS:
        return float(design["rows"] * design["cols"])
    return float(design[column] / axis_of(column)[1])


def size_of(design: Design) -> str:
    """Its array, ROWSxCOLS."""
    return f"{design['rows']}x{design['cols']}"


def by_model(designs: Iterable[Design]) -> dict[str, list[Design]]:
    """The designs of each model, in their order."""
    found: dict[str, list[Design]] = {}
    for design in designs:
        found.setdefault(design["model"], []).append(design)
    return found


def stairs(designs: Sequence[Design], across: str, up: str) -> list[Design]:
    """Those on the front that none beats in these two columns, by the first one: what steps can join."""
    front = [one for one in designs if one["pareto"]]
    values = [(value_of(one, across), value_of(one, up)) for one in front]
    kept = [one for one, there in zip(front, pareto(values), strict=True) if there]
    return sorted(kept, key=lambda one: value_of(one, across))


def shapes(designs: Iterable[Design], column: str) -> tuple[list[int], list[int], dict[tuple[int, int], float]]:
    """The rows, the columns, and for each array the least of a column over all other axes."""
    least: dict[tuple[int, int], float] = {}
    for one in designs:
        at, value = (one["rows"], one["cols"]), value_of(one, column)
        least[at] = min(value, least.get(at, value))
    return sorted({rows for rows, _ in least}), sorted({cols for _, cols in least}), least


def layer_parts(layers: Sequence[Rows], most: int) -> dict[str, list[int]]:
    """The clocks of each layer, a number a design; beyond `most` layers those with the fewest clocks are one part.

    Args:
        layers: of each design its layers' rows, of one model.
        most: parts.
    """
    total: Counter[str] = Counter()
    for rows in layers:
        for row in rows:
            total[row["layer"]] += row["clocks"]
    kept = {name for name, _ in total.most_common(most if len(total) <= most else most - 1)}
    rest = f"{len(total) - len(kept)} others"
    found = {name: [0] * len(layers) for name in total if name in kept}
    if len(kept) < len(total):
        found[rest] = [0] * len(layers)
    for at, rows in enumerate(layers):
        for row in rows:
            found[row["layer"] if row["layer"] in kept else rest][at] += row["clocks"]
    return found


def ported_bits(design: Design) -> int:
    """Bits that the ports move while a design works: what the host writes before, and what leaves, are not theirs."""
    moved: int = design["act_read_bits"] + design["weight_read_bits"]
    return moved + design["psum_read_bits"] + design["psum_written_bits"]


def roofs(design: Design) -> tuple[int, int | None]:
    """Operations a clock of all processing elements, and bits a clock of all ports; None where a port has no limit.

    A multiply-accumulate is two operations; the psum port writes as many bits as it reads.
    """
    given = design["act_bandwidth"], design["weight_bandwidth"], design["psum_bandwidth"], design["psum_bandwidth"]
    bits = None if None in given else sum(given)
    return 2 * design["rows"] * design["cols"] * design["simd"], bits
