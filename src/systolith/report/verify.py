"""The text of `verify`."""

from __future__ import annotations

from collections.abc import Sequence

from systolith.equality import Equality
from systolith.flows.verify import VerifyReport
from systolith.report.parts import Part, Rows


def text(report: VerifyReport) -> list[Part]:
    """What was proved, what was compared, and the accuracies."""
    thresholds = [e for e in report.proofs if e.name.endswith("thresholds")]
    weights = [e for e in report.proofs if not e.name.endswith("thresholds")]
    images = f"{report.images:,} images, {report.images_per_s:.0f} images/s"
    rows = [
        ("model", f"{report.model}, trained network against integer network ({report.network})"),
        ("pictures", report.pictures),
        ("executor", report.engine),
        ("thresholds", _sum(thresholds, "points, both sides of each threshold of every channel")),
        ("codes used", _sum(weights, "weights, biases and pixel codes")),
        ("least psum", ", ".join(f"{name} {bits}" for name, bits in report.least_psum_bits.items()) + " bits"),
        ("codes", f"{report.different:,} of {report.codes:,} differ, {images}"),
        ("logits", f"{report.logits.different:,} of {report.logits.compared:,} differ"),
    ]
    if report.correct:
        total = report.total
        said = (f"{name} network {n / total:.2%} ({n:,} of {total:,})" for name, n in report.correct.items())
        rows.append(("accuracy", ", ".join(said)))
    rows += [(f"{report.psum_bits} bits", f"{mode}: {outcome.text}") for mode, outcome in report.narrow.items()]
    if report.first:
        rows.append(("first", report.first))
    return [Rows([*rows, ("verdict", report.verdict)])]


def _sum(equalities: Sequence[Equality], what: str) -> str:
    compared, different = (sum(getattr(e, n) for e in equalities) for n in ("compared", "different"))
    first = next((f"; {e.name} {e.first}" for e in equalities if e.different), "")
    return f"{compared - different:,} of {compared:,} equal: {what}{first}"
