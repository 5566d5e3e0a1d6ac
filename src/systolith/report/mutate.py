"""The text of `mutate`."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple

from systolith.hardware.mutate import MutateReport, Place
from systolith.report.parts import Part, Rows, Table

HEADINGS = ("mutants", "killed", "survived", "equivalent", "do not compile")


def text(report: MutateReport) -> list[Part]:
    """Tables by module and by operator, the survivors, and why the equivalents are that."""
    if report.listed is not None:
        return [*(_line(place) for place in report.listed), Rows([("verdict", report.verdict)])]
    parts: list[Part] = []
    for what, counted in (("module", report.modules), ("operator", report.operators)):
        rows = [(name.removesuffix(".sv"), *(f"{n:,}" for n in astuple(counts))) for name, counts in counted.items()]
        parts += [Table((what, *HEADINGS), rows, HEADINGS), ""]
    reasons = Counter(place.why for place in report.equivalents)
    lines = [(f"equivalent {number:,}", why) for why, number in reasons.most_common()]
    lines += [("survived", _line(place) + (f"; {place.why}" if place.why else "")) for place in report.survivors]
    ran = f"{report.seconds:.1f} s, {report.simulator}"
    return [*parts, Rows([*lines, ("took", ran), ("verdict", report.verdict)])]


def _line(place: Place) -> str:
    return f"{place.file}:{place.line}:{place.column} {place.operator}: {place.change}"
