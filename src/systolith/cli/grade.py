"""`systolith grade`: which hardware faults golden vectors would reveal. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, options

if TYPE_CHECKING:
    from systolith.array import ArrayResult
    from systolith.faults.faults import Fault
    from systolith.faults.grade import Grade
    from systolith.vectors import Layout

LISTED = 100  # lines of survivors on the screen; --json has all


def grade(
    bundles: Annotated[Path, typer.Argument(help="A bundle, or a folder of bundles of one layer shape and array.")],
    faults: Annotated[
        int, typer.Option("--faults", help="At most so many faults, of every kind some; drawn where there are more.")
    ] = 50_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Simulate hardware faults; say which of them the golden files would reveal, and which slip through."""
    from collections import Counter

    from systolith.faults.grade import grade as grade_vectors
    from systolith.vectors import read_bundle

    folders = _folders(bundles)
    layout = _layout(folders[0], read_bundle(folders[0])[1])
    graded = grade_vectors(_results(folders, layout), layout, faults, seed)
    detectable = len(graded.detected) + len(graded.survivors)
    last = (
        f"reveals {len(graded.detected):,} of {detectable:,} detectable faults "
        f"({len(graded.undetectable):,} undetectable, {len(graded.unknown):,} unknown)"
    )
    if as_json:
        common.print_json(_facts(bundles, len(folders), graded))
    else:
        headings = ("fault", "faults", "detected", "undetectable", "survived", "unknown")
        rows = [(kind, *(f"{number:,}" for number in numbers)) for kind, *numbers in graded.table()]
        common.print_table(headings, rows, right=headings[1:])
        lines = [
            (f"undetectable {number:,}", reason) for reason, number in Counter(graded.undetectable.values()).items()
        ]
        lines += _alike("unknown", [(fault, "") for fault in graded.unknown])
        lines += _alike("survived", [(s.fault, f"; {s.revealed_by} reveals it") for s in graded.survivors])
        common.print_rows([*lines, ("verdict", last)])
    if not graded.holds:
        raise typer.Exit(1)


def _alike(label: str, faults: list[tuple[Fault, str]]) -> list[tuple[str, str]]:
    """A line for each fault, one for all that differ in row and column alone."""
    groups: dict[tuple[object, ...], list[tuple[Fault, str]]] = {}
    for fault, more in faults:
        key = fault.kind, *(pair for pair in fault.at if pair[0] not in ("row", "col"))
        groups.setdefault(key, []).append((fault, more))
    lines = []
    for (fault, more), *others in list(groups.values())[:LISTED]:
        elsewhere = f"; {len(others):,} like it elsewhere" if others else ""
        lines.append((label, f"{fault}{more}{elsewhere}"))
    if len(groups) > LISTED:
        lines.append((label, f"{len(groups) - LISTED:,} more kinds: --json lists all"))
    return lines


def _folders(path: Path) -> list[Path]:
    """The bundle, or the bundles in the folder."""
    from systolith.formats import BadInput
    from systolith.vectors.bundle import MANIFEST

    if (path / MANIFEST).exists():
        return [path]
    found = sorted(manifest.parent for manifest in path.glob(f"*/{MANIFEST}"))
    if not found:
        raise BadInput(f"{path}: expected a bundle or a folder of bundles, found no {MANIFEST}")
    return found


def _results(folders: list[Path], layout: Layout) -> Iterator[tuple[str, ArrayResult]]:
    """Each bundle's name and what is in it, which must be right, a fault being what differs; all are in one layout."""
    import numpy as np

    from systolith.array import run_layer
    from systolith.formats import BadInput
    from systolith.vectors import read_bundle

    for folder in folders:
        stored, manifest = read_bundle(folder)
        if _layout(folder, manifest) != layout:
            raise BadInput(f"{folder} and {folders[0]} are in different layouts: grade those of one together")
        result = run_layer(stored.mapping.conv, stored.act, stored.mapping.spec)
        if not (np.array_equal(result.psum, stored.psum) and np.array_equal(result.out, stored.out)):
            raise BadInput(f"{folder}: its psums and outputs are not those of its activations and weights")
        yield folder.name, result


def _layout(folder: Path, manifest: dict[str, Any]) -> Layout:
    from systolith.vectors.bundle import MANIFEST
    from systolith.vectors.layout_file import layout_from

    return layout_from(manifest["layout"], f"{folder / MANIFEST}: layout")


def _facts(bundles: Path, count: int, graded: Grade) -> dict[str, Any]:
    return {
        "bundles": str(bundles),
        "count": count,
        "faults": len(graded.faults),
        "detected": len(graded.detected),
        "undetectable": {str(fault): reason for fault, reason in graded.undetectable.items()},
        "survivors": {str(survivor.fault): survivor.revealed_by for survivor in graded.survivors},
        "unknown": [str(fault) for fault in graded.unknown],
        "kinds": {
            kind: dict(zip(("faults", "detected", "undetectable", "survived", "unknown"), numbers, strict=True))
            for kind, *numbers in graded.table()
        },
        "holds": graded.holds,
    }
