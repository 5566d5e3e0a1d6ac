"""`export`: a network of integers in another format, read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from systolith.equality import Equality
from systolith.exports.arrays import without_fixed_point
from systolith.flows.flow import Report, flow
from systolith.requests.verbs import ExportRequest
from systolith.steps.exporting import PICTURES, export_network, job_of


@dataclass(frozen=True, kw_only=True)
class ExportReport(Report):
    """A file that holds the network.

    Attributes:
        model, form, images: what was written, how, and on how many seeded pictures it was run.
        how, equalities: how the file was read back, and what was compared.
        without_fixed_point: why, of each requantization that has no exact (M, B, S); of npz and c.
        files: the file or folder; none unless all of it is equal.
    """

    verb: ClassVar[str] = "export"
    model: str
    form: str
    images: int
    how: str
    equalities: tuple[Equality, ...]
    without_fixed_point: Mapping[str, str]
    files: tuple[str, ...]


@flow(ExportRequest)
def export(request: ExportRequest) -> ExportReport:
    """Write a network of integers in another format; nothing is left unless what is read back is equal.

    Returns:
        What was compared, and the file.

    Raises:
        BadInput: no such model, another format, or a network that the format cannot hold.

    Examples:
        >>> import systolith as sl
        >>> report = sl.export("vgg16-w4a4-s8", form="npz", out="vgg16.npz")
        >>> report.holds, report.files
        (True, ('vgg16.npz',))
    """
    job, notes = job_of(request.model, request.form, request.progress)
    done = export_network(job, request.form, Path(request.out), request.force)
    return ExportReport(
        holds=done.holds,
        verdict=done.verdict,
        notes=notes,
        model=request.model,
        form=request.form,
        images=PICTURES,
        how=done.how,
        equalities=done.equalities,
        without_fixed_point=without_fixed_point(job.network) if request.form in ("npz", "c") else {},
        files=(str(request.out),) if done.holds else (),
    )
