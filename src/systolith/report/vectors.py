"""The text of `vectors`."""

from __future__ import annotations

from systolith.flows.vectors import BundleFacts, VectorsReport
from systolith.report.parts import Part, Rows, Table
from systolith.steps.bundles import Job


def text(report: VectorsReport) -> list[Part]:
    """A row a bundle where there are several, and their size."""
    parts: list[Part] = []
    if report.cases is not None:
        parts.append(Rows([(case.name, case.note) for case in report.cases]))
    elif report.bundles is not None:
        headings = ("bundle", "channels", "map", "passes", "lanes", "psum bits", "files", "bytes")
        rows = [_row(job, facts) for job, facts in zip(report.jobs, report.bundles, strict=True)]
        parts.append(Table(headings, rows, headings[3:]))
    return [*parts, report.verdict]


def _row(job: Job, facts: BundleFacts) -> tuple[str, ...]:
    mapping = job.mapping
    conv = mapping.conv
    return (
        job.place,
        f"{conv.in_channels} -> {conv.out_channels}",
        f"{mapping.height}x{mapping.width}",
        f"{mapping.passes:,}",
        f"{facts.act_bits} x {facts.weight_bits}",
        str(facts.psum_bits),
        f"{facts.files:,}",
        f"{facts.bytes:,}",
    )
