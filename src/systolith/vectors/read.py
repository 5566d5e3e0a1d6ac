"""Vector files back to tensors, whatever their layout, and what the inputs in them imply.

Reading arranges the *places* of a source array (1, 2, 3, ...; 0 for padding and empty lanes) exactly as writing
arranges its values, and puts each word of the files back where it came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, ArraySpec, Mapping, run_layer
from systolith.array.psums import psum_shape
from systolith.equality import Equality, compare
from systolith.formats import BadInput
from systolith.vectors.layout import FileSpec, Layout, spec_files
from systolith.vectors.shape import Shape
from systolith.vectors.tensors import SOURCES
from systolith.vectors.text import decode_file, require_count

SOURCE_AXES = {
    "act": ("ic", "i", "j"),
    "weight": ("oc", "ic", "ki", "kj"),
    "psum": ("ic_tile", "oc_tile", "kij", "nij", "col"),
    "out": ("oc", "oi", "oj"),
}


@dataclass(frozen=True)
class Geometry:
    """What a plain folder does not say: the layer's shape, and the array."""

    shape: Shape
    spec: ArraySpec

    def mapping(self) -> Mapping:
        """The layer with zero weights on the array."""
        return Mapping(
            self.shape.conv("layer", np.zeros(self.shape.weight_shape, np.int8)), self.spec, *self.shape.size
        )

    def sources(self) -> dict[str, tuple[int, ...]]:
        """The shape of each source array."""
        m = self.mapping()
        return {
            "act": self.shape.act_shape,
            "weight": self.shape.weight_shape,
            "psum": psum_shape(m),
            "out": (self.shape.out_channels, *m.output_shape),
        }


def geometry_of(result: ArrayResult) -> Geometry:
    """The geometry of a layer on the array."""
    return Geometry(Shape.of(result.mapping), result.mapping.spec)


@dataclass(frozen=True, eq=False)
class Reading:
    """What the files of a folder hold.

    Attributes:
        geometry, layout: how they were read.
        values: int64 arrays by source ("act", "weight", "psum", "out"; "relu" for outputs after ReLU).
        known: which of their elements some file holds.
        checks: what was compared while reading (addresses).
    """

    geometry: Geometry
    layout: Layout
    values: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    known: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    checks: list[Equality] = field(default_factory=list)

    def missing(self) -> str:
        """What of the inputs no file holds, in words, or ""."""
        shapes = self.geometry.sources()
        for source in ("act", "weight"):
            known = self.known.get(source, np.zeros(shapes[source], dtype=bool))
            if not known.all():
                index = np.unravel_index(int(np.argmin(known)), known.shape)
                place = ", ".join(f"{a} {int(i)}" for a, i in zip(SOURCE_AXES[source], index, strict=True))
                return f"{int((~known).sum())} of {known.size} of the {source} are in no file; the first is [{place}]"
        return ""


def read_folder(folder: Path, layout: Layout, geometry: Geometry) -> Reading:
    """Read every file that `layout` makes of a layer of this geometry.

    Raises:
        BadInput: a file is missing or malformed, has another number of words, holds something else than 0 in the
            padding or in a lane without a channel, or contradicts another.
    """
    reading, mapping, shapes = Reading(geometry, layout), geometry.mapping(), geometry.sources()
    for spec in layout.files:
        if spec.tensor == "address":
            reading.checks.append(_addresses(folder, layout, spec, mapping))
            continue
        source = SOURCES[spec.tensor]
        shape, key = shapes[source], "relu" if spec.relu else source
        values = reading.values.setdefault(key, np.zeros(shape, dtype=np.int64))
        known = reading.known.setdefault(key, np.zeros(shape, dtype=bool))
        places = np.arange(1, prod(shape) + 1).reshape(shape)
        for file in spec_files(layout, spec, mapping, places):
            path = folder / file.name
            words = decode_file(path, file.shape[1], file.fmt, file.header, file.style)
            require_count(path, len(words), file.shape[0], len(file.header))
            _put_back(path, file.words, words, values, known, source, len(file.header))
    return reading


def _put_back(
    path: Path,
    places: NDArray[np.integer],
    words: NDArray[np.int64],
    values: NDArray[np.int64],
    known: NDArray[np.bool_],
    source: str,
    header: int,
) -> None:
    outside = places == 0
    if words[outside].any():
        line, lane = (int(i) for i in np.argwhere(outside & (words != 0))[0])
        raise BadInput(
            f"{path}: line {line + header + 1}, lane {lane}: expected 0 (padding, or a lane without a channel), "
            f"found {int(words[line, lane])}"
        )
    at, found = places[~outside] - 1, words[~outside]
    flat, seen = values.reshape(-1), known.reshape(-1)
    wrong = seen[at] & (flat[at] != found)
    if not wrong.any():
        flat[at] = found
        seen[at] = True
        wrong = flat[at] != found  # twice in this very file
    if wrong.any():
        first = int(np.argmax(wrong))
        index = np.unravel_index(int(at[first]), values.shape)
        place = ", ".join(f"{a} {int(i)}" for a, i in zip(SOURCE_AXES[source], index, strict=True))
        line = int(np.argwhere(~outside)[first][0]) + header + 1
        raise BadInput(
            f"{path}: line {line}: {source}[{place}] is {int(found[first])} here and {int(flat[at[first]])} elsewhere"
        )


def _addresses(folder: Path, layout: Layout, spec: FileSpec, mapping: Mapping) -> Equality:
    compared = different = 0
    first = ""
    for file in spec_files(layout, spec, mapping, np.zeros(0, dtype=np.int64)):
        words = decode_file(folder / file.name, file.shape[1], file.fmt, file.header, file.style)
        require_count(folder / file.name, len(words), file.shape[0], len(file.header))
        outcome = compare(file.name, file.words, words, ("line", "lane"))
        compared, different = compared + outcome.compared, different + outcome.different
        first = first or (outcome.first and f"{file.name} {outcome.first}")
    return Equality("addresses = those of the geometry", compared, different, first)


def implied(reading: Reading, name: str = "layer") -> ArrayResult:
    """What the array makes of the activations and weights that were read.

    Raises:
        BadInput: the files do not hold all of them, naming the first that is missing.
    """
    missing = reading.missing()
    if missing:
        raise BadInput(f"layout {reading.layout.name}: {missing}")
    geometry = reading.geometry
    narrow = np.int8 if geometry.spec.weight_bits <= 8 else np.int16
    conv = geometry.shape.conv(name, reading.values["weight"].astype(narrow))
    return run_layer(conv, reading.values["act"].astype(np.int16), geometry.spec)


def golden_checks(reading: Reading, result: ArrayResult) -> list[Equality]:
    """The psums and outputs that the files hold against those that their inputs imply."""
    checks = list(reading.checks)
    for key, name, wanted in (
        ("psum", "psums in the files = what the inputs imply", result.psum),
        ("out", "outputs in the files = what the inputs imply", result.out),
        ("relu", "outputs after ReLU in the files = what the inputs imply", np.maximum(result.out, 0)),
    ):
        if key not in reading.known or not reading.known[key].any():
            continue
        axes = SOURCE_AXES["out" if key == "relu" else key]
        # Where no file holds a value there is nothing to compare: equal to itself, and not counted.
        known = reading.known[key]
        outcome = compare(name, np.where(known, wanted, 0), np.where(known, reading.values[key], 0), axes)
        checks.append(replace(outcome, compared=int(known.sum())))
    return checks
