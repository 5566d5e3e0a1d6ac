"""The text of `synth`."""

from __future__ import annotations

from systolith.hardware.synth import Row, SynthReport
from systolith.report.parts import Part, Rows, Table
from systolith.synthesis.area import LIBERTY


def text(report: SynthReport) -> list[Part]:
    """A line a design and target, with the columns that any of them fills."""
    columns = {name: [_shown(name, row) for row in report.rows] for name in _COLUMNS}
    filled = [name for name, shown in columns.items() if any(shown)]
    rows = list(zip(*(columns[name] for name in filled), strict=True))
    lines = [("network", report.model)] if report.model is not None else []
    return [Table(filled, rows, filled[2:]), Rows([*lines, ("tool", report.tool), ("verdict", report.verdict)])]


_COLUMNS = {
    "design": lambda row: row.design,
    "target": lambda row: row.target,
    "gates": lambda row: row.luts if row.target == "generic" else None,
    "LUTs": lambda row: row.luts if row.target not in ("generic", LIBERTY) else None,
    "FFs": lambda row: row.ffs if row.target != LIBERTY else None,
    "DSPs": lambda row: row.dsps if row.target not in ("generic", LIBERTY) else None,
    "RAMs": lambda row: row.rams if row.target not in ("generic", LIBERTY) else None,
    "cells": lambda row: sum(row.cells.values()) if row.target == LIBERTY else None,
    "area": lambda row: row.area,
    "ops a clock": lambda row: row.operations or None,
    "clocks a picture": lambda row: row.clocks,
    "utilisation": lambda row: None if row.utilisation is None else f"{row.utilisation:.1%}",
    "pictures/s": lambda row: row.pictures_per_s,
    "TOPS": lambda row: row.tops,
    "TOPS/W": lambda row: row.tops_per_w,
    "TOPS/mm2": lambda row: row.tops_per_mm2,
}


def _shown(name: str, row: Row) -> str:
    value = _COLUMNS[name](row)
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
