"""What a testbench may do differently from a layout, as changes of the layout; and which of them a folder shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from systolith.formats import BadInput
from systolith.vectors import tensors
from systolith.vectors.layout import FileSpec, Layout
from systolith.vectors.read import Geometry, Reading, golden_checks, implied, read_folder

Change = Callable[[FileSpec], FileSpec]

LABELS = {"act": ("time", "row"), "weight": ("col", "row"), "psum": ("time", "col"), "out": ("time", "col")}
"""What the three words of a header name, by tensor."""


def reversed_terms(terms: tuple[str, ...]) -> tuple[str, ...]:
    """Each axis the other way round: the whole order is reversed."""
    return tuple(term[1:] if term.startswith("-") else f"-{term}" for term in terms)


def reverse_lines(spec: FileSpec) -> FileSpec:
    """Last line first."""
    return replace(spec, lines=reversed_terms(spec.lines))


def reverse_lanes(spec: FileSpec) -> FileSpec:
    """Lane 0 at the left."""
    return replace(spec, lanes=reversed_terms(spec.lanes))


def transpose(spec: FileSpec) -> FileSpec:
    """Input channels where output channels were (`row` for `col`, `itile` for `otile`), and the reverse."""
    other = {"row": "col", "col": "row", "ic": "oc", "oc": "ic"}

    def swapped(term: str) -> str:
        axis = tensors.base(term)
        return term.replace(axis, other.get(axis, axis), 1)

    return replace(spec, lines=tuple(map(swapped, spec.lines)), lanes=tuple(map(swapped, spec.lanes)))


def _exchanged(old: str, new: str) -> Change:
    def change(spec: FileSpec) -> FileSpec:
        def exchanged(term: str) -> str:
            return term.replace(old, new, 1) if tensors.base(term) == old else term

        first = {new if axis == old else axis: count for axis, count in spec.first.items()}
        lines, lanes = tuple(map(exchanged, spec.lines)), tuple(map(exchanged, spec.lanes))
        return replace(spec, lines=lines, lanes=lanes, first=first)

    return change


unpadded, padded = _exchanged("nij", "ij"), _exchanged("ij", "nij")
windowed, unwindowed = _exchanged("nij", "onij"), _exchanged("onij", "nij")


def toggle_relu(spec: FileSpec) -> FileSpec:
    """Outputs after ReLU where they were before it, and the reverse."""
    return replace(spec, relu=not spec.relu)


def kij_major(spec: FileSpec) -> FileSpec:
    """One file for all kij, the first kij's lines first, where there was one file each."""
    if "kij" not in spec.axes_of_files:
        return spec
    name = spec.name.replace("_kij{kij}", "").replace("kij{kij}", "").replace("{kij}", "").replace("_.", ".")
    return replace(spec, name=name, lines=("kij", *spec.lines))


def with_options(
    layout: Layout, name: str, header: str | None, radix: str | None, no_relu: bool, addresses: bool
) -> Layout:
    """The layout under another name, with these options for all of its files.

    Args:
        header: "none", "tokens", or a number of free lines; None leaves it.
        radix: for every file; None leaves it.
        no_relu: outputs before ReLU.
        addresses: with a file of accumulation addresses, 11 bits.
    """
    files = []
    for spec in layout.files:
        if header is not None:
            if header not in ("none", "tokens") and not header.isdecimal():
                raise BadInput(f"header {header!r}: expected none, tokens, or a number of lines")
            lines = ("// free",) * int(header) if header.isdecimal() else ()
            tokens = LABELS[tensors.SOURCES[spec.tensor]] if header == "tokens" else ()
            spec = replace(spec, tokens=tokens, header=lines)
        if radix is not None:
            spec = replace(spec, radix=radix)
        files.append(replace(spec, relu=False) if no_relu else spec)
    if addresses:
        files.append(FileSpec("address", "accumulation_address.txt", ("onij", "kij"), bits=11))
    return Layout(name, tuple(files))


def changed(layout: Layout, tensor: str, change: Change) -> Layout:
    """The layout with every file of `tensor` changed."""
    files = tuple(change(spec) if spec.tensor == tensor else spec for spec in layout.files)
    return replace(layout, files=files)


CHANGES: dict[str, list[tuple[str, Change]]] = {
    "act": [
        ("activations without padding", unpadded),
        ("activations with padding", padded),
        ("activation lines reversed", reverse_lines),
        ("activation lanes reversed", reverse_lanes),
    ],
    "weight": [
        ("weights transposed", transpose),
        ("weight lines reversed", reverse_lines),
        ("weight lanes reversed", reverse_lanes),
    ],
    "psum": [
        ("psums only where an output needs them", windowed),
        ("psums at every position", unwindowed),
        ("psum lanes reversed", reverse_lanes),
    ],
    "out": [
        ("outputs with ReLU where the layout has none, or the reverse", toggle_relu),
        ("output lanes reversed", reverse_lanes),
    ],
}
"""By tensor: what may be different, in words, and the change."""


@dataclass(frozen=True)
class Consistent:
    """A layout that a folder's files are consistent with.

    Attributes:
        layout: the layout.
        differences: of the files from it, in words.
        compared: golden words found to be what the inputs imply.
    """

    layout: Layout
    differences: tuple[str, ...]
    compared: int


def _variants(layout: Layout, tensor: str) -> Iterator[tuple[tuple[str, ...], Layout]]:
    """The tensor's files alone, with every set of changes."""
    alone = replace(layout, files=tuple(s for s in layout.files if s.tensor == tensor))
    seen: list[tuple[FileSpec, ...]] = []
    changes = CHANGES.get(tensor, [])
    for count in range(len(changes) + 1):
        for chosen in itertools.combinations(changes, count):
            variant = alone
            for _, change in chosen:
                variant = changed(variant, tensor, change)
            if variant.files not in seen:
                seen.append(variant.files)
                yield tuple(name for name, _ in chosen), variant


def _readable(folder: Path, layout: Layout, tensor: str, geometry: Geometry) -> list[tuple[tuple[str, ...], Reading]]:
    """The tensor's variants that the files can be read as."""
    found = []
    for differences, variant in _variants(layout, tensor):
        try:
            reading = read_folder(folder, variant, geometry)
        except BadInput:
            continue
        found.append((differences, reading))
    return found


def consistent(folder: Path, layout: Layout, geometry: Geometry) -> list[Consistent]:
    """How the files of a folder can be read in `layout`, or with some of `CHANGES`, so that the golden files are what
    the inputs imply: the readings with the fewest differences.

    Raises:
        BadInput: the folder lacks the layout's files, or the layout's activations and weights are no whole inputs.
    """
    by_tensor = {tensor: _readable(folder, layout, tensor, geometry) for tensor in tensors.SOURCES}
    used = [spec.tensor for spec in layout.files if spec.tensor in tensors.SOURCES]
    for tensor in used:
        if not by_tensor[tensor]:
            alone = replace(layout, files=tuple(s for s in layout.files if s.tensor == tensor))
            read_folder(folder, alone, geometry)  # raises: says why
            raise AssertionError("what cannot be read in any way can be read")
    inputs = [next((t for t in kind if t in used), None) for kind in (("act", "act_os"), ("weight", "weight_os"))]
    if None in inputs:
        raise BadInput(f"layout {layout.name}: has no activations or no weights to compute with")
    golden = [t for t in ("psum", "out", "out_os") if t in used]
    if not golden:
        raise BadInput(f"layout {layout.name}: has no psums or outputs to compare with")
    best: list[Consistent] = []
    pairs = itertools.product(*(by_tensor[t] for t in inputs if t is not None))
    for (one, act), (two, weight) in sorted(pairs, key=lambda pair: len(pair[0][0]) + len(pair[1][0])):
        if best and len(one) + len(two) > len(best[0].differences):
            break
        both = Reading(geometry, layout, {**act.values, **weight.values}, {**act.known, **weight.known})
        if both.missing():
            continue
        try:
            result = implied(both)
        except BadInput:  # a psum that does not fit: not these inputs
            continue
        chosen: list[tuple[tuple[str, ...], int]] = []
        for tensor in golden:
            for differences, reading in by_tensor[tensor]:
                checks = golden_checks(reading, result)
                if checks and all(check.holds for check in checks):
                    chosen.append((differences, sum(check.compared for check in checks)))
                    break
            else:
                break
        if len(chosen) == len(golden):
            differences = (*one, *two, *(name for names, _ in chosen for name in names))
            best.append(Consistent(layout, differences, sum(count for _, count in chosen)))
    fewest = min((len(c.differences) for c in best), default=0)
    return [c for c in best if len(c.differences) == fewest]
