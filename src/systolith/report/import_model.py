"""The text of `import`."""

from __future__ import annotations

from systolith.flows.import_model import ImportReport
from systolith.report.parts import Part, Rows, Table
from systolith.steps.common import NODE_HEADINGS

MOST_TIES = 10


def text(report: ImportReport) -> list[Part]:
    """The nodes, what was compared, the ties, the file."""
    parts: list[Part] = [Table(NODE_HEADINGS, [tuple(step.values()) for step in report.steps]), ""]
    if report.runtime:
        rows = [(e.name, f"{e.compared:,}", f"{e.different:,}") for e in report.runtime]
        parts += [Table(("onnxruntime's codes of", "compared", "different"), rows, ("compared", "different")), ""]
        shown = [("tie", tie) for tie in report.ties[:MOST_TIES]]
        more = len(report.ties) - len(shown)
        parts += [Rows([*shown, *([("", f"and {more:,} ties more (--json has them)")] if more > 0 else [])])]
    rest = [("kind", report.kind), ("pictures", report.pictures), *(("note", note) for note in report.notes)]
    return [*parts, Rows([*rest, *(("file", path) for path in report.files), ("verdict", report.verdict)])]
