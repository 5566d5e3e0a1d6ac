"""The tensors of a layer on the array by named axes, and their arrangement into words.

Everything here only gathers, pads with 0 and reorders, so the same code that arranges values to be written arranges
the *places* of values when files are read back (`places` of `read.py`): reading is writing, run over indices.

| tensor | axes | |
|---|---|---|
| `act` | itile, row (or ic); nij or ij | nij: the padded map, ij: the map alone |
| `weight` | itile, row (or ic); otile, col (or oc); kij | |
| `psum` | itile; otile, col (or oc); kij; nij or onij | onij: only the nij that an output needs under that kij |
| `out` | otile, col (or oc); onij | |
| `address` | onij, kij | `kij*Np + nij` of the psum that the output needs, Np positions a map |
| `act_os` | fold, pixel; ic; kij | output stationary: what output position `fold*rows + pixel` takes |
| `weight_os` | otile, col (or oc); ic; kij | |
| `out_os` | fold, pixel; otile, col (or oc) | |

`ic` is `itile*rows + row` without the lanes that have no channel, `oc` the same of `otile*cols + col`. Where a lane
holds several codes, `row` counts codes, and `row%2` those of a lane of two. Of a batch, positions count all pictures.

Packed into rows, `row` and `itile` are of the whole reduction, kernel positions and channels, there is one `kij`, and
`nij` is `onij`. Output stationary there are the tensors `_os`, and a psum is an output.

Of a grouped layer there are weights and psums of the passes that are made alone: a line of others stands in no file
(`made`), and there is no file of such lines. Output stationary, `ic` counts all input channels, and a weight from one
group to another is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.array.mapping import by_channel, on_diagonal
from systolith.formats import BadInput

Ints = NDArray[np.integer]
Number = TypeVar("Number", bound=np.integer)

AXES = {
    "act": ("itile", "row", "ic", "nij", "ij"),
    "weight": ("itile", "row", "ic", "otile", "col", "oc", "kij"),
    "psum": ("itile", "otile", "col", "oc", "kij", "nij", "onij"),
    "out": ("otile", "col", "oc", "onij"),
    "address": ("onij", "kij"),
    "act_os": ("fold", "pixel", "ic", "kij"),
    "weight_os": ("otile", "col", "oc", "ic", "kij"),
    "out_os": ("fold", "pixel", "otile", "col", "oc"),
}
"""The axes of each tensor, alternatives included."""

SOURCES = {"act": "act", "weight": "weight", "psum": "psum", "out": "out"}
SOURCES |= {"act_os": "act", "weight_os": "weight", "out_os": "out"}
"""The array that each tensor is made of: activations (C, H, W), weights (O, C/groups, KH, KW),
psums (ic_tile, oc_tile, kij, nij, col), outputs (O, OH, OW); of a batch, maps and outputs have a picture before that.
`address` is made of the geometry alone."""


def view(tensor: str, mapping: Mapping, source: Ints, axes: set[str]) -> tuple[Ints, list[str]]:
    """The tensor with the alternatives that `axes` names, and the names of its dimensions.

    Args:
        source: the array of `SOURCES`; ignored for `address`. For psums by onij it may be `windowed` already.
        axes: those that a file mentions.
    """
    _require_known(tensor, mapping, axes)
    conv, spec = mapping.conv, mapping.spec
    if tensor == "act":
        if "ij" in axes:
            value, names = by_channel(source), ["ic", "ij"]
            if mapping.flat is None:
                value, names = _tiled(value, mapping.ic_tiles, mapping.lanes), ["itile", "row", "ij"]
        else:
            value, names = mapping.act_tiles(source).swapaxes(1, 2), ["itile", "row", "nij"]
    elif tensor == "weight":
        # (ic_tile, oc_tile, kij, col, row)
        value, names = mapping.weight_tiles_of(source), ["itile", "otile", "kij", "col", "row"]
    elif tensor == "psum":
        value, names = source, ["itile", "otile", "kij", "nij", "col"]
        if "onij" in axes:
            value = source if source.shape[3] == mapping.onijs else windowed(mapping, source)
            names[3] = "onij"
    elif tensor == "out":
        value = _tiled(by_channel(source), mapping.oc_tiles, spec.cols)
        names = ["otile", "col", "onij"]
    elif tensor == "address":
        windows = mapping.windows() + np.arange(mapping.kijs)[:, None] * mapping.nijs
        value, names = windows.T, ["onij", "kij"]
    elif tensor == "act_os":
        steps = mapping.padded(source, conv.in_channels)[:, mapping.positions()]  # (ic, kij, onij)
        value = _tiled(steps.transpose(2, 0, 1), mapping.folds, spec.rows)
        names = ["fold", "pixel", "ic", "kij"]
    elif tensor == "weight_os":
        flat = on_diagonal(source, conv.groups).reshape(conv.out_channels, conv.in_channels, -1)
        value, names = _tiled(flat, mapping.oc_tiles, spec.cols), ["otile", "col", "ic", "kij"]
    else:
        pixels = _tiled(by_channel(source).T, mapping.folds, spec.rows)
        lanes = _tiled(np.moveaxis(pixels, -1, 0), mapping.oc_tiles, spec.cols)
        value, names = lanes, ["otile", "col", "fold", "pixel"]
    return _merged(mapping, value, names, axes)


def _require_known(tensor: str, mapping: Mapping, axes: set[str]) -> None:
    """Raise `BadInput` unless the layer has the axes in the way it is cut."""
    if mapping.flat is None or tensor not in ("act", "weight") or (tensor == "act" and {"ic", "ij"} <= axes):
        return
    if mapping.stationary:
        raise BadInput(f"{tensor}: output stationary it is {tensor}_os (or act by ic and ij), as in layout course-os")
    if axes & {"ic", "ij"}:
        raise BadInput(f"{tensor}: packed into rows it is by itile and row (or act by ic and ij)")


def made(tensor: str, mapping: Mapping, axes: set[str]) -> tuple[NDArray[np.bool_], list[str]] | None:
    """Of which weights or psums a pass is made, with the dimensions of `view`; None where all are."""
    if tensor not in ("weight", "psum") or mapping.made.all():
        return None
    depth = mapping.lanes if mapping.flat is None else mapping.flat.depth
    inner, sizes = ["col", "row"], (mapping.spec.cols, depth)
    if tensor == "psum":
        windows = "onij" in axes
        inner = ["onij" if windows else "nij", "col"]
        sizes = (mapping.onijs if windows else mapping.nijs, mapping.spec.cols)
    value = np.broadcast_to(mapping.made[:, :, None, None, None], (*mapping.made.shape, mapping.kijs, *sizes))
    return _merged(mapping, value, ["itile", "otile", "kij", *inner], axes)


def _merged(mapping: Mapping, value: NDArray[Any], names: list[str], axes: set[str]) -> tuple[NDArray[Any], list[str]]:
    """Tiles and lanes as channels, where `axes` names those."""
    for merged, outer, inner, count in (
        ("ic", "itile", "row", mapping.conv.in_channels),
        ("oc", "otile", "col", mapping.conv.out_channels),
    ):
        if merged in axes and outer in names:
            value, names = _merge(value, names, (outer, inner), merged, count)
    return value, names


def windowed(mapping: Mapping, psum: Ints) -> Ints:
    """Of psums (ic_tile, oc_tile, kij, nij, col) those that an output needs: (ic_tile, oc_tile, kij, onij, col)."""
    # As many onij as nij there are only where each output needs one nij, its own: then nothing changes.
    windows = mapping.windows()
    return np.stack([psum[:, :, kij, windows[kij]] for kij in range(mapping.kijs)], axis=2)


def _tiled(values: Ints, tiles: int, size: int) -> Ints:
    """(n, ...) to (tiles, size, ...), missing ones 0."""
    padded = np.zeros((tiles * size, *values.shape[1:]), dtype=values.dtype)
    padded[: len(values)] = values
    return padded.reshape(tiles, size, *values.shape[1:])


def _merge(
    value: NDArray[Any], names: list[str], parts: tuple[str, str], merged: str, count: int
) -> tuple[NDArray[Any], list[str]]:
    """The two axes as one of `count` channels, first."""
    rest = [name for name in names if name not in parts]
    ordered = value.transpose([names.index(name) for name in (*parts, *rest)])
    return ordered.reshape(-1, *ordered.shape[2:])[:count], [merged, *rest]


def base(term: str) -> str:
    """The axis of a term: "-row%2" is of "row"."""
    return term.lstrip("-").replace("%", "/").split("/")[0]


def arrange(
    where: str, value: NDArray[Any], names: list[str], files: list[str], lines: list[str], lanes: list[str]
) -> Iterator[tuple[dict[str, int], NDArray[Any]]]:
    """One file after another: its index by axis, and its values, a view: the axes of the lines, then of the lanes.

    Args:
        where: the layout and tensor, for messages.
        value, names: of `view`.
        files: axes that get a file each.
        lines, lanes: terms, the slowest first. A term is an axis, "-axis" for its reverse, "axis%n" for the index
            within groups of n and "axis/n" for the group.

    Raises:
        BadInput: an axis is not mentioned and is longer than 1, or does not divide.
    """
    terms = [*files, *lines, *lanes]
    for term in terms:
        axis, mark = base(term), "%" if "%" in term else "/" if "/" in term else ""
        if mark and axis in names:
            group = int(term[term.index(mark) + 1 :])
            at = names.index(axis)
            if value.shape[at] % group:
                raise BadInput(f"{where}: {term}: the {value.shape[at]} of axis {axis} are not whole groups of {group}")
            value = value.reshape(*value.shape[:at], -1, group, *value.shape[at + 1 :])
            names = [*names[:at], f"{axis}/{group}", f"{axis}%{group}", *names[at + 1 :]]
    wanted = [term.lstrip("-") for term in terms]
    for at, name in reversed(list(enumerate(names))):
        if name not in wanted:
            if value.shape[at] != 1:
                raise BadInput(f"{where}: holds one {name}, the layer has {value.shape[at]} of them on this array")
            value = value.squeeze(at)
    names = [name for name in names if name in wanted]
    value = value.transpose([names.index(name) for name in wanted])
    flips = tuple(slice(None, None, -1 if term.startswith("-") else 1) for term in terms)
    value = value[flips]
    for index in np.ndindex(*value.shape[: len(files)]):
        yield dict(zip(files, index, strict=True)), value[index]


def picked(values: NDArray[Number], addresses: NDArray[np.int64], axis: int) -> NDArray[Number]:
    """The values at `addresses`, of any shape, in place of `axis`; 0 where no memory is."""
    inside = (addresses >= 0) & (addresses < values.shape[axis])
    found = np.take(values, np.where(inside, addresses, 0), axis)
    picked: NDArray[Number] = found * inside.reshape(*inside.shape, *[1] * (values.ndim - axis - 1))
    return picked


def blocks(value: NDArray[Any], axes: int, most: int) -> Iterator[NDArray[Any]]:
    """Views of consecutive parts, which cut only the first `axes` axes: at most `most` indices of these a part."""
    lengths = value.shape[:axes]
    if not axes:
        yield value
        return
    # The innermost axes that hold at most `most` indices are taken whole, the next one in slices.
    axis = next(a for a in range(axes) if prod(lengths[a + 1 :]) <= most)
    step = max(1, most // max(1, prod(lengths[axis + 1 :])))
    for index in np.ndindex(*lengths[:axis]):
        for first in range(0, lengths[axis], step):
            yield value[index][first : first + step]
