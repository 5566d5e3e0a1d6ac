"""The text of `evaluate`: the confusion matrix and the accuracy."""

from __future__ import annotations

from systolith.flows.evaluate import EvaluateReport
from systolith.report.parts import Part, Rows


def text(report: EvaluateReport) -> list[Part]:
    """A line a class: what its pictures are taken for, and the share that is right."""
    width = max(20, *map(len, report.classes))
    lines = [f"{'is, and is taken for':<{width}}  " + " ".join(f"{n[:6]:>6}" for n in report.classes) + "   right"]
    for name, counts in zip(report.classes, report.confusion.tolist(), strict=True):
        if name in report.per_class:
            row = " ".join(f"{count:6d}" for count in counts)
            lines.append(f"{name:<{width}}  {row}  {report.per_class[name]:6.1%}")
    rows = [
        ("model", report.model),
        ("data", report.data),
        ("speed", f"{report.images_per_s:.0f} images/s"),
        ("accuracy", report.verdict),
    ]
    return [*lines, Rows(rows)]
