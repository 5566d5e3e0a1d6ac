"""A testbench's file format as data: which tensor goes to which files, in which order of lines and lanes.

Every tensor has named axes (`AXES`). The axes that a file name's fields mention get a file each; of the others, one is
spread over the lanes of a word (highest index first) and the rest are lines, in the order of `AXES`.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult
from systolith.array.sfp import relu
from systolith.formats import BadInput, IntFormat

AXES = {
    "act": ("itile", "nij", "row"),
    "weight": ("itile", "otile", "kij", "col", "row"),
    "psum": ("itile", "otile", "kij", "nij", "col"),
    "out": ("otile", "onij", "col"),
}


@dataclass(frozen=True)
class FileSpec:
    """The files of one tensor.

    Attributes:
        name: file name; its fields, such as `{kij}`, are axes of the tensor.
        lanes: the axis within a word.
        header: the two labels of the header `#time0row7[msb-lsb],...#`, or None for no header.
        single: the name instead, when every axis of the fields has length 1.
        first: at most so many positions (nij or onij), or None for all.
    """

    name: str
    lanes: str
    header: tuple[str, str] | None = ("time", "row")
    single: str | None = None
    first: int | None = None


@dataclass(frozen=True)
class Layout:
    """A testbench's format.

    Attributes:
        act, weight, psum, out: the files of each tensor.
        relu: outputs after ReLU.
        one_tile: refuse layers of more than one input or output tile.
    """

    name: str
    act: FileSpec
    weight: FileSpec
    psum: FileSpec
    out: FileSpec
    relu: bool = True
    one_tile: bool = False


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "course",
            act=FileSpec("activation_tile{itile}.txt", "row"),
            weight=FileSpec("weight_itile{itile}_otile{otile}_kij{kij}.txt", "row", ("col", "row")),
            psum=FileSpec("psum_itile{itile}_otile{otile}_kij{kij}.txt", "col", ("time", "col")),
            out=FileSpec("out_otile{otile}.txt", "col", ("time", "col"), single="out.txt"),
        ),
        Layout(
            "seed",
            act=FileSpec("activation.txt", "row"),
            # The header says col0row7; the lines are input channels and the lanes output channels all the same.
            weight=FileSpec("weight_{kij}.txt", "col", ("col", "row")),
            psum=FileSpec("psum.txt", "col", ("time", "col"), first=64),
            out=FileSpec("output.txt", "col", ("time", "col"), first=64),
            one_tile=True,
        ),
    )
}


def find_layout(name: str) -> Layout:
    """The preset `name`; `BadInput` lists the presets."""
    if name not in LAYOUTS:
        raise BadInput(f"no layout {name!r}: expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


@dataclass(frozen=True, eq=False)
class VectorFile:
    """One file to write, or to find: `words` integers (lines, lanes), lane 0 first, in `fmt` lanes."""

    name: str
    words: NDArray[np.integer]
    fmt: IntFormat
    header: tuple[str, ...]


def header_lines(labels: tuple[str, str] | None, lanes: int) -> tuple[str, ...]:
    """Three tokens without white space (testbenches skip them with three `%s`), or none.

    `#time0row1[msb-lsb],time0row0[msb-lsb]#`, the same for time1, and dots.
    """
    if labels is None:
        return ()
    line, lane = labels
    named = ("#" + ",".join(f"{line}{t}{lane}{n}[msb-lsb]" for n in reversed(range(lanes))) + "#" for t in (0, 1))
    return (*named, "#................#")


def _tensors(result: ArrayResult, layout: Layout) -> dict[str, tuple[NDArray[np.integer], IntFormat]]:
    """Each tensor with the axes of `AXES`, and the format of its lanes."""
    mapping, spec = result.mapping, result.mapping.spec
    out = relu(result.out) if layout.relu else result.out
    lanes = np.zeros((mapping.oc_tiles * spec.cols, mapping.onijs), dtype=np.int64)
    lanes[: mapping.conv.out_channels] = out.reshape(mapping.conv.out_channels, -1)
    return {
        "act": (mapping.act_tiles(result.act), spec.act_format(mapping.conv)),
        "weight": (mapping.weight_tiles(), spec.weight_format),
        "psum": (result.psum, spec.psum_format),
        "out": (lanes.reshape(mapping.oc_tiles, spec.cols, -1).transpose(0, 2, 1), spec.psum_format),
    }


def vector_files(result: ArrayResult, layout: Layout) -> Iterator[VectorFile]:
    """Every file that `layout` makes of `result`, one after another.

    Raises:
        BadInput: the layout takes single-tile layers only.
    """
    mapping = result.mapping
    if layout.one_tile and (mapping.ic_tiles, mapping.oc_tiles) != (1, 1):
        raise BadInput(
            f"layout {layout.name}: {mapping.conv.name} needs {mapping.ic_tiles} input and {mapping.oc_tiles} output "
            f"tiles on {mapping.spec}, the layout holds one of each; --layout course takes it"
        )
    for kind, (tensor, fmt) in _tensors(result, layout).items():
        yield from _files(getattr(layout, kind), AXES[kind], tensor, fmt)


def layout_from(entry: Any) -> Layout:
    """The layout that `dataclasses.asdict` made `entry` of (from a manifest)."""
    kinds = {}
    for kind in AXES:
        fields = dict(entry[kind])
        fields["header"] = None if fields["header"] is None else tuple(fields["header"])
        kinds[kind] = FileSpec(**fields)
    return Layout(**{**entry, **kinds})


def file_orders(spec: FileSpec, axes: tuple[str, ...]) -> dict[str, list[str] | str | int]:
    """Which axes the files, the lines (slowest first) and the lanes of a tensor are, and how many positions at most."""
    fields = _fields(spec)
    orders: dict[str, list[str] | str | int] = {
        "files": fields,
        "lines": [axis for axis in axes if axis not in (*fields, spec.lanes)],
        "lanes": spec.lanes,
    }
    return orders if spec.first is None else {**orders, "first": spec.first}


def _fields(spec: FileSpec) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(spec.name) if field]


def _files(spec: FileSpec, axes: tuple[str, ...], tensor: NDArray[np.integer], fmt: IntFormat) -> Iterator[VectorFile]:
    fields = _fields(spec)
    lines = [axis for axis in axes if axis not in (*fields, spec.lanes)]
    if spec.first is not None:
        position = next(d for d, axis in enumerate(axes) if axis in ("nij", "onij"))
        tensor = tensor[(slice(None),) * position + (slice(spec.first),)]
    ordered = tensor.transpose([axes.index(axis) for axis in (*fields, *lines, spec.lanes)])
    counts = ordered.shape[: len(fields)]
    header = header_lines(spec.header, ordered.shape[-1])
    for index in itertools.product(*map(range, counts)):
        name = spec.name.format(**dict(zip(fields, index, strict=True)))
        if spec.single is not None and set(counts) <= {1}:
            name = spec.single
        yield VectorFile(name, ordered[index].reshape(-1, ordered.shape[-1]), fmt, header)
