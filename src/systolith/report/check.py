"""The text of `check`."""

from __future__ import annotations

from systolith.flows.check import CheckReport
from systolith.report.parts import Part, Rows


def text(report: CheckReport) -> list[Part]:
    """Words equal by level, what was assumed to read them, the first wrong one, and what would make it."""
    rows = [(name, f"{lv.words - lv.different:,} of {lv.words:,} words equal") for name, lv in report.levels.items()]
    rows += [("assumed", each) for each in report.assumed]
    if report.first:
        rows.append(("first", report.first))
    rows += [("count", each) for each in report.counts if each != report.first]
    # By value, the likeliest mistakes first; those that leave this word right say nothing about it.
    would: dict[str, list[str]] = {}
    for name, one in report.alternatives.items():
        if one.value != report.expected:
            would.setdefault(one.value, []).append(name)
    rows += [("instead", f"{value} under {', '.join(names)}") for value, names in would.items()]
    rows += [
        ("closest", f"'{name}' at {report.alternatives[name].words:,} of {report.words:,} words")
        for name in report.closest
    ]
    if len(report.suspects) > 1:
        suspects = " or ".join(f"'{name}'" for name in report.suspects)
        rows.append(("suspects", f"these vectors cannot tell {suspects} apart"))
    return [Rows([*rows, ("verdict", report.verdict)])]
