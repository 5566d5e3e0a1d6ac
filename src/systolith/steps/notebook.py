"""A report where a notebook shows it: the verdict and a small table of what was found, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from html import escape
from typing import Any

from systolith.equality import Equality
from systolith.steps.values import shown

ENTRIES = 8
"""Lines that a field takes; who wants all of them has `to_json()`."""
WIDTH = 120
"""Characters of a line."""
EMPTY: tuple[Any, ...] = (None, "", (), [], {})


def as_table(holds: bool | None, verdict: str, values: Mapping[str, Any]) -> str:
    """An HTML table, everything in it escaped.

    Args:
        holds: None where nothing was compared.
        verdict: the caption, beside a mark for `holds`.
        values: a row each, by name; what is empty is left out.
    """
    mark = {True: "&#10003; ", False: "&#10007; ", None: ""}[holds]
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{'<br/>'.join(map(escape, _lines(value)))}</td></tr>"
        for name, value in values.items()
        if not _empty(value)
    )
    return f"<table><caption>{mark}<b>{escape(verdict)}</b></caption><tbody>{rows}</tbody></table>"


def _lines(value: Any) -> list[str]:
    """A line for each entry where entries have parts or would not fit one line, else one line."""
    lines = [_line(value)]
    if isinstance(value, Mapping) and any(map(_has_parts, value.values())):
        lines = [f"{name}: {_line(each)}" for name, each in value.items() if not _empty(each)]
    elif isinstance(value, list | tuple) and (any(map(_has_parts, value)) or len(lines[0]) > WIDTH):
        lines = [_line(each) for each in value]
    more = [f"... and {len(lines) - ENTRIES:,} more"] if len(lines) > ENTRIES else []
    return [line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines[:ENTRIES]] + more


def _line(value: Any) -> str:
    if isinstance(value, Equality):
        return f"{value.name}: {value}"
    if is_dataclass(value) and not isinstance(value, type):
        value = dict(shown(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_line(each)}" for name, each in value.items() if not _empty(each))
    if isinstance(value, list | tuple):
        if any(map(_has_parts, value)):
            return f"{len(value):,} entries"
        text = ", ".join(map(_line, value))
        return text if value and isinstance(value[0], str) else f"({text})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"{value.dtype} {value.shape}" if hasattr(value, "dtype") else str(value)


def _has_parts(value: Any) -> bool:
    parted = isinstance(value, Mapping | Equality) or (is_dataclass(value) and not isinstance(value, type))
    return parted and not _empty(value)


def _empty(value: Any) -> bool:
    return not hasattr(value, "dtype") and value in EMPTY
