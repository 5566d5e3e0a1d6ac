"""`grade`: which hardware faults golden vectors would reveal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from systolith.array import ArrayResult, run_mapped
from systolith.faults.grade import Grade
from systolith.faults.grade import grade as grade_vectors
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.verbs import GradeRequest
from systolith.steps.values import hidden
from systolith.vectors import Layout, read_bundle
from systolith.vectors.bundle import MANIFEST
from systolith.vectors.layout_file import layout_from


@dataclass(frozen=True)
class Kind:
    """Faults of a kind, and what became of them."""

    faults: int
    detected: int
    undetectable: int
    survived: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class GradeReport(Report):
    """Which faults the golden files reveal.

    Attributes:
        bundles, count: where the bundles are, and how many.
        faults, detected: numbers of those simulated and of those revealed.
        undetectable: by fault, the proof that no vectors could.
        survivors: by fault, the stimulus that reveals it, though these vectors do not.
        unknown: neither revealed by anything tried nor proved undetectable.
        kinds: by kind of fault.
        graded: the same as objects.
    """

    verb: ClassVar[str] = "grade"
    bundles: Path
    count: int
    faults: int
    detected: int
    undetectable: Mapping[str, str]
    survivors: Mapping[str, str]
    unknown: tuple[str, ...]
    kinds: Mapping[str, Kind]
    graded: Grade = field(metadata=hidden(), repr=False)


@flow(GradeRequest)
def grade(request: GradeRequest) -> GradeReport:
    """Simulate hardware faults on the array; say which of them a bundle's golden files would reveal.

    Returns:
        Faults revealed, proved undetectable, and survived, each survivor with the stimulus that reveals it.

    Raises:
        BadInput: no bundle there, bundles of several shapes or layouts, or a bundle whose numbers are not right.

    Examples:
        >>> import systolith as sl
        >>> report = sl.run(out="build/doc-grade", force=True)
        >>> sl.grade("build/doc-grade", faults=40).count
        1
    """
    bundles = Path(request.bundles)
    folders = _folders(bundles)
    layout = _layout(folders[0], read_bundle(folders[0])[1])
    graded = grade_vectors(_results(folders, layout), layout, request.faults, request.seed, request.double)
    detectable = len(graded.detected) + len(graded.survivors)
    return GradeReport(
        holds=graded.holds,
        verdict=f"reveals {len(graded.detected):,} of {detectable:,} detectable faults "
        f"({len(graded.undetectable):,} undetectable, {len(graded.unknown):,} unknown)",
        bundles=bundles,
        count=len(folders),
        faults=len(graded.faults),
        detected=len(graded.detected),
        undetectable={str(fault): reason for fault, reason in graded.undetectable.items()},
        survivors={str(survivor.fault): survivor.revealed_by for survivor in graded.survivors},
        unknown=tuple(str(fault) for fault in graded.unknown),
        kinds={kind: Kind(*numbers) for kind, *numbers in graded.table()},
        graded=graded,
    )


def _folders(path: Path) -> list[Path]:
    """The bundle, or the bundles in the folder."""
    if (path / MANIFEST).exists():
        return [path]
    found = sorted(manifest.parent for manifest in path.glob(f"*/{MANIFEST}"))
    if not found:
        raise BadInput(f"{path}: expected a bundle or a folder of bundles, found no {MANIFEST}")
    return found


def _results(folders: list[Path], layout: Layout) -> Iterator[tuple[str, ArrayResult]]:
    """Each bundle's name and what is in it, which must be right, a fault being what differs; all are in one layout."""
    for folder in folders:
        stored, manifest = read_bundle(folder)
        if _layout(folder, manifest) != layout:
            raise BadInput(f"{folder} and {folders[0]} are in different layouts: grade those of one together")
        result = run_mapped(stored.mapping, stored.act)
        if not (np.array_equal(result.psum, stored.psum) and np.array_equal(result.out, stored.out)):
            raise BadInput(f"{folder}: its psums and outputs are not those of its activations and weights")
        yield folder.name, result


def _layout(folder: Path, manifest: dict[str, Any]) -> Layout:
    return layout_from(manifest["layout"], f"{folder / MANIFEST}: layout")
