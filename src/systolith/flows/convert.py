"""`convert`: a bundle, or a folder of vector files, in another layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from systolith.array import ArrayResult
from systolith.equality import Equality
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.verbs import ConvertRequest
from systolith.steps.common import go_without, make_spec
from systolith.steps.shapes import given_geometry, shape_of
from systolith.steps.values import called, hidden
from systolith.store import require_free
from systolith.vectors import find_layout, read_bundle, verify_bundle, write_bundle
from systolith.vectors.bundle import MANIFEST
from systolith.vectors.read import Geometry, golden_checks, implied, read_folder


@dataclass(frozen=True, kw_only=True)
class ConvertReport(Report):
    """What was read and what was written.

    Attributes:
        layout_from, layout_to: names of the layouts.
        folder, files: what was written; None and 0 where a check failed.
        checks: the golden files against what the input files imply.
        source: what was read.
        words: written.
    """

    verb: ClassVar[str] = "convert"
    layout_from: str = field(metadata=called("from"))
    layout_to: str = field(metadata=called("to"))
    folder: Path | None
    files: int
    checks: tuple[Equality, ...]
    source: Path = field(metadata=hidden())
    words: int = field(metadata=hidden())


@flow(ConvertRequest)
def convert(request: ConvertRequest) -> ConvertReport:
    """Read vector files in one layout, check that the golden ones are what their inputs imply, write another layout.

    Returns:
        The checks, and the new bundle, which is written only if they hold.

    Raises:
        BadInput: the files cannot be read in that layout, or the output folder is there already.

    Examples:
        >>> import systolith as sl
        >>> report = sl.run(out="build/doc-convert", force=True)
        >>> sl.convert("build/doc-convert", "seed", "build/doc-seed", force=True).files
        14
    """
    source, out = Path(request.source), Path(request.out)
    require_free(out, request.force)
    find_layout(request.to)
    result, checks, name = _read(request, source)
    failed = next((c for c in checks if not c.holds), None)
    written = write_bundle(result, out, request.to, request.force) if failed is None else None
    verdict = f"NOT CONVERTED: {failed.name}: {failed}"[:190] if failed else ""
    if written is not None:
        verdict = f"{written.files} files in {out}, {written.words:,} words, layout {request.to}"
    return ConvertReport(
        holds=failed is None,
        verdict=verdict,
        layout_from=name,
        layout_to=request.to,
        folder=out if written is not None else None,
        files=written.files if written is not None else 0,
        checks=tuple(checks),
        source=source,
        words=written.words if written is not None else 0,
    )


def _read(request: ConvertRequest, source: Path) -> tuple[ArrayResult, Sequence[Equality], str]:
    """What a bundle or a plain folder holds, what was compared while reading, and the name of its layout."""
    if (source / MANIFEST).exists() and request.layout is None:
        go_without("a bundle says its own shape: it", given_geometry(request))
        result, manifest = read_bundle(source)
        return result, verify_bundle(source), manifest["layout"]["name"]
    if not source.is_dir():
        raise BadInput(f"{source}: expected a folder")
    if request.layout is None:
        raise BadInput(f"{source}: no bundle (no {MANIFEST}): expected --from LAYOUT with it, and the layer's shape")
    spec = make_spec(request)
    geometry = Geometry(shape_of(request, spec, "a plain folder does not say its layer's shape"), spec)
    layout = find_layout(request.layout)
    reading = read_folder(source, layout, geometry)
    result = implied(reading, source.resolve().name)
    return result, golden_checks(reading, result), layout.name
