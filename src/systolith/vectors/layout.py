"""A testbench's file format as data: a small TOML file (or these dataclasses) says which tensor goes to which files.

    name = "mine"

    [[files]]
    tensor = "weight"                    # vectors/tensors.py lists the tensors and their axes
    name = "w_{itile+1}_{otile+1}.txt"   # an axis in braces gets a file each; +1 counts from one
    lines = ["kij", "-col"]              # slowest first; "-" reverses
    lanes = ["row"]                      # written from the highest index to index 0
    tokens = ["col", "row"]              # three header lines without white space; or header = ["free", "lines"]

Any axis may stand in the name, the lines or the lanes. One that stands nowhere must have length 1.
A grouped layer has no files, and in others no lines, of passes that are not made.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, Mapping
from systolith.array.sfp import relu
from systolith.formats import BadInput, IntFormat
from systolith.vectors import tensors
from systolith.vectors.text import CONTAINERS, RADIXES, Style, encode_blocks

_FIELD = re.compile(r"([a-z]+)([+-]\d+)?")
_TERM = re.compile(r"-?[a-z]+([/%]\d+)?")


@dataclass(frozen=True)
class FileSpec:
    """The files of one tensor.

    Attributes:
        tensor: see `vectors/tensors.py`.
        name: file name, a folder before it or not; its fields, such as `{kij}` or `{otile+1:02}`, are axes.
        lines, lanes: terms of axes, the slowest first ("kij", "-col", "row/2", "row%2").
        single: the name instead, when every axis of the fields has length 1.
        first: at most so many indices of an axis.
        tokens: the two labels of the header `#time0row7[msb-lsb],...#`, three lines without white space.
        header: free header lines instead.
        relu: outputs after ReLU.
        bits, signed: of a lane; by default those of the array.
        radix: "bin", "hex" or "dec".
        container: "text", "readmem" (an address before each word), "mif", "coe" or "npy".
        offset: added to each address of the tensor `address`.
    """

    tensor: str
    name: str
    lines: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()
    single: str | None = None
    first: dict[str, int] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    relu: bool = False
    bits: int | None = None
    signed: bool | None = None
    radix: str = "bin"
    container: str = "text"
    offset: int = 0

    def __post_init__(self) -> None:
        for attribute, allowed in (("tensor", tuple(tensors.AXES)), ("radix", RADIXES), ("container", CONTAINERS)):
            if getattr(self, attribute) not in allowed:
                raise BadInput(f"{attribute} {getattr(self, attribute)!r}: expected one of {', '.join(allowed)}")
        if not self.name or self.name.startswith("/") or ".." in Path(self.name).parts:
            raise BadInput(f"name {self.name!r}: expected a path inside the folder")
        axes = tensors.AXES[self.tensor]
        for term in (*self.lines, *self.lanes):
            if not _TERM.fullmatch(term) or tensors.base(term) not in axes:
                raise BadInput(f"{term!r}: the axes of {self.tensor} are {', '.join(axes)}")
        used = [tensors.base(term) for term in (*self.lines, *self.lanes)] + self.axes_of_files
        for axis in self.axes_of_files:
            if axis not in axes:
                raise BadInput(f"name {self.name!r}: the axes of {self.tensor} are {', '.join(axes)}")
        terms = [term.lstrip("-") for term in (*self.lines, *self.lanes)] + self.axes_of_files
        twice = next((t for t in terms if terms.count(t) > 1), None)
        whole = next((t for t in terms if ("/" in t or "%" in t) and tensors.base(t) in terms), None)
        if twice or whole:
            raise BadInput(f"axis {twice or whole!r} stands in two places")
        for merged, parts in (("ic", ("itile", "row")), ("oc", ("otile", "col"))):
            if merged in used and set(parts) & set(used):
                raise BadInput(f"{merged} stands for {' and '.join(parts)}: it goes without them")
        if sum(axis in used for axis in ("nij", "ij", "onij")) > 1:
            raise BadInput("nij (all positions), onij (those an output needs) and ij (unpadded) exclude one another")
        if unknown := set(self.first) - set(axes):
            raise BadInput(f"first: {min(unknown)}: the axes of {self.tensor} are {', '.join(axes)}")
        if any(count < 1 for count in self.first.values()):
            raise BadInput(f"first: expected counts of at least 1, found {self.first}")
        if self.tokens and (len(self.tokens) != 2 or self.header):
            raise BadInput("tokens: expected two labels, such as time and row, and no free header beside them")
        if any("\n" in line or "\r" in line or not line.isascii() for line in (*self.tokens, *self.header)):
            raise BadInput("header: expected lines of ASCII without a line break")
        if (self.tokens or self.header) and self.container != "text":
            raise BadInput(f"container {self.container!r} has a header of its own: no tokens, no header")
        if self.relu and self.tensor not in ("out", "out_os"):
            raise BadInput(f"relu is of outputs, not of {self.tensor}")
        if self.bits is not None and not 1 <= self.bits <= 63:
            raise BadInput(f"bits {self.bits}: expected 1 to 63")
        if self.offset and self.tensor != "address":
            raise BadInput(f"offset is of addresses, not of {self.tensor}")
        if self.radix == "dec" and self.container not in ("text", "npy"):
            raise BadInput(f"radix 'dec' has no words for container {self.container!r}")

    @property
    def axes_of_files(self) -> list[str]:
        """The axes of the name's fields."""
        found = []
        for _, name, spec, conversion in string.Formatter().parse(self.name):
            if name is None:
                continue
            match = _FIELD.fullmatch(name)
            if not match or conversion or not re.fullmatch(r"(0?\d+)?d?", spec or ""):
                raise BadInput(f"name {self.name!r}: expected fields such as {{kij}}, {{otile+1}} or {{kij:02}}")
            found.append(match[1])
        return found

    def file_name(self, index: dict[str, int], counts: dict[str, int]) -> str:
        """The name for an index of each axis of the fields."""
        if self.single is not None and set(counts.values()) <= {1}:
            return self.single
        parts = []
        for text, name, spec, _ in string.Formatter().parse(self.name):
            parts.append(text)
            if name is not None:
                match = _FIELD.fullmatch(name)
                assert match is not None
                parts.append(format(index[match[1]] + int(match[2] or 0), spec or ""))
        return "".join(parts)

    @property
    def axes(self) -> set[str]:
        """Every axis mentioned."""
        return {tensors.base(term) for term in (*self.lines, *self.lanes)} | set(self.axes_of_files)

    @property
    def by_window(self) -> bool:
        """Whether it holds only the psums that an output needs."""
        return self.tensor == "psum" and "onij" in self.axes


@dataclass(frozen=True)
class Layout:
    """A testbench's format: the files of each tensor it reads; `about` is for people.

    Examples:
        >>> import systolith as sl
        >>> [file.tensor for file in sl.find_layout("seed").files]
        ['act', 'weight', 'psum', 'out']
    """

    name: str
    files: tuple[FileSpec, ...]
    about: str = ""


@dataclass(frozen=True, eq=False)
class VectorFile:
    """One file to write, or to find.

    Attributes:
        spec: what it is a file of.
        name: relative to the folder.
        values: integers, or their places while reading; the first `line_axes` axes are the lines', the slowest first,
            the others the lanes'. A view, of a psum file on the disk as well as of an array.
        fmt: of a lane.
        style: how a word becomes characters.
        header: lines before the words.
        kept: bool, of the lines' axes, which lines there are; None for all.
    """

    spec: FileSpec
    name: str
    values: NDArray[np.integer]
    line_axes: int
    fmt: IntFormat
    style: Style
    header: tuple[str, ...]
    kept: NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Lines and lanes."""
        lines = prod(self.values.shape[: self.line_axes]) if self.kept is None else int(self.kept.sum())
        return lines, prod(self.values.shape[self.line_axes :])

    @property
    def words(self) -> NDArray[np.integer]:
        """All of it: (lines, lanes), lane 0 first."""
        words = self.values.reshape(-1, self.shape[1])
        return words if self.kept is None else words[self.kept.reshape(-1)]

    def blocks(self, most: int = 1 << 15) -> Iterator[NDArray[np.integer]]:
        """`words` in order, at most so many lines at a time."""
        pieces = tensors.blocks(self.values, self.line_axes, most)
        if self.kept is None:
            yield from (piece.reshape(-1, self.shape[1]) for piece in pieces)
            return
        for piece, kept in zip(pieces, tensors.blocks(self.kept, self.line_axes, most), strict=True):
            yield piece.reshape(-1, self.shape[1])[kept.reshape(-1)]

    def encode(self) -> Iterator[bytes]:
        """The file's content, in pieces; `BadInput` if a value does not fit its lane."""
        return encode_blocks(self.name, self.blocks(), self.shape, self.fmt, self.header, self.style)


def header_lines(spec: FileSpec, lanes: int) -> tuple[str, ...]:
    """Three tokens without white space (testbenches skip them with three `%s`), free lines, or none.

    `#time0row1[msb-lsb],time0row0[msb-lsb]#`, the same for time1, and dots.
    """
    if not spec.tokens:
        return spec.header
    line, lane = spec.tokens
    named = ("#" + ",".join(f"{line}{t}{lane}{n}[msb-lsb]" for n in reversed(range(lanes))) + "#" for t in (0, 1))
    return (*named, "#................#")


def sources(result: ArrayResult) -> dict[str, NDArray[np.integer]]:
    """The arrays that files are made of (`tensors.SOURCES`)."""
    return {"act": result.act, "weight": result.mapping.conv.weight, "psum": result.psum, "out": result.out}


def lane_format(spec: FileSpec, mapping: Mapping) -> IntFormat:
    """The format of a lane: the file's own, or the array's."""
    array = mapping.spec
    if spec.tensor == "address":
        most = mapping.kijs * mapping.nijs + spec.offset
        fmt = IntFormat(max(1, most.bit_length()), signed=False)
    elif tensors.SOURCES[spec.tensor] == "act":
        fmt = mapping.code_format
    else:
        fmt = array.weight_format if tensors.SOURCES[spec.tensor] == "weight" else array.psum_format
    return IntFormat(spec.bits or fmt.bits, fmt.signed if spec.signed is None else spec.signed)


def spec_files(layout: Layout, spec: FileSpec, mapping: Mapping, source: NDArray[np.integer]) -> Iterator[VectorFile]:
    """The files of one tensor, from its source array (values, or places)."""
    value, names = tensors.view(spec.tensor, mapping, source, spec.axes)
    made = tensors.made(spec.tensor, mapping, spec.axes)
    for axis, count in spec.first.items():
        value = value[(slice(None),) * names.index(axis) + (slice(count),)]
        if made is not None:
            made = made[0][(slice(None),) * made[1].index(axis) + (slice(count),)], made[1]
    if spec.tensor == "address":
        value = value + spec.offset
    elif spec.relu:
        value = relu(value)
    where, fmt = f"layout {layout.name}: {spec.tensor}", lane_format(spec, mapping)
    files, style = spec.axes_of_files, Style(spec.radix, spec.container)
    counts = {axis: value.shape[names.index(axis)] for axis in files}
    seen: set[str] = set()
    terms = files, list(spec.lines), list(spec.lanes)
    there = itertools.repeat(None) if made is None else (kept for _, kept in tensors.arrange(where, *made, *terms))
    for (index, values), one in zip(tensors.arrange(where, value, names, *terms), there, strict=False):
        kept = None if one is None else np.asarray(one.reshape(*one.shape[: len(spec.lines)], -1).any(-1))
        if kept is not None and not kept.any():
            continue
        name = spec.file_name(index, counts)
        if name in seen:
            raise BadInput(f"{where}: two files would be called {name}")
        seen.add(name)
        header = header_lines(spec, prod(values.shape[len(spec.lines) :]))
        yield VectorFile(spec, name, values, len(spec.lines), fmt, style, header, kept)


def vector_files(result: ArrayResult, layout: Layout) -> Iterator[VectorFile]:
    """Every file that `layout` makes of `result`, one after another.

    Raises:
        BadInput: an axis that the layout has no place for, or two files of one name.
    """
    return files_of(result.mapping, sources(result), layout)


def files_of(
    mapping: Mapping, given: dict[str, NDArray[np.integer]], layout: Layout, windowed: NDArray[np.integer] | None = None
) -> Iterator[VectorFile]:
    """The same from the arrays of `sources`; psums by onij from `windowed` instead, if that is given."""
    seen: set[str] = set()
    for spec in layout.files:
        source = given["act" if spec.tensor == "address" else tensors.SOURCES[spec.tensor]]
        if spec.by_window and windowed is not None:
            source = windowed
        for file in spec_files(layout, spec, mapping, source):
            if file.name in seen:
                raise BadInput(f"layout {layout.name}: two tensors have a file called {file.name}")
            seen.add(file.name)
            yield file


def orders(layout: Layout) -> dict[str, dict[str, Any]]:
    """For people who read a manifest: by tensor, which axes are files, lines (the slowest first) and lanes."""
    found: dict[str, dict[str, Any]] = {}
    for number, spec in enumerate(layout.files, 1):
        key = spec.tensor if spec.tensor not in found else f"{spec.tensor}#{number}"
        found[key] = {"files": spec.axes_of_files, "lines": list(spec.lines), "lanes": list(spec.lanes)}
        if spec.first:
            found[key]["first"] = spec.first
    return found
