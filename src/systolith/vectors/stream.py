"""A layer's bundle with its psums on the disk: memory for one output tile's, however large the layer.

Psums are computed one oc_tile after another into an unnamed file beside the bundle; the vector files and `tensors.npz`
are views of that file. What a bundle will take is known from the geometry, before anything is computed.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from systolith.array import Mapping
from systolith.array.psums import iter_psums, psum_dtype, psum_shape
from systolith.array.sfp import accumulate
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.network.graph import Pair
from systolith.vectors.bundle import Written, fill, manifest_of
from systolith.vectors.layout import Layout, files_of
from systolith.vectors.tensors import windowed
from systolith.vectors.text import encoded_size

_MEMBER = 512  # at most so much is around a member's integers in an .npz


@dataclass(frozen=True)
class Psums:
    """Which psums a bundle holds: all, none, or of each pass the first `limit_nij` positions."""

    kept: bool = True
    limit_nij: int | None = None

    def __post_init__(self) -> None:
        if self.limit_nij is not None and (self.limit_nij < 1 or not self.kept):
            raise BadInput(f"limit_nij {self.limit_nij}: expected at least 1, and psums to limit")

    def of(self, mapping: Mapping, arrays: dict[str, NDArray[np.integer]]) -> dict[str, NDArray[np.integer]]:
        """What of the arrays of a layer is in `tensors.npz`."""
        nijs = mapping.nijs if self.limit_nij is None else self.limit_nij
        kept = {name: array for name, array in arrays.items() if self.kept or name != "psum"}
        return {name: array[:, :, :, :nijs] if name == "psum" else array for name, array in kept.items()}

    def layout(self, layout: Layout) -> Layout:
        """The layout of the files that are left."""
        if not self.kept:
            return replace(layout, files=tuple(spec for spec in layout.files if spec.tensor != "psum"))
        if self.limit_nij is None:
            return layout
        files = []
        for spec in layout.files:
            if spec.tensor == "psum":
                axis = "onij" if spec.by_window else "nij"
                spec = replace(spec, first={**spec.first, axis: min(self.limit_nij, spec.first.get(axis, 1 << 62))})
            files.append(spec)
        return replace(layout, files=tuple(files))


@dataclass(frozen=True)
class Size:
    """What a bundle will take.

    Attributes:
        files: all of them.
        bytes: of all of them; never too few, and exact but for decimal words and the frame of `tensors.npz`.
        disk: bytes on the disk while it is written: whole blocks, and the psums that wait there.
    """

    files: int
    bytes: int
    disk: int


def first_tiles(conv: Conv, act: NDArray[np.integer], rows: int, cols: int, tiles: Pair) -> tuple[Conv, NDArray]:
    """The layer of the first `tiles` = (input, output) channel tiles alone, and its activations.

    It is a layer of its own: its outputs are the sums of the input tiles that are left. Of a grouped layer it has whole
    groups, as many as the tiles hold; where they hold none, that part of the first one.
    """
    if min(tiles) < 1:
        raise BadInput(f"tiles {tiles[0]}x{tiles[1]}: expected at least one input and one output tile")
    ics, ocs = min(conv.in_channels, tiles[0] * rows), min(conv.out_channels, tiles[1] * cols)
    if (ics, ocs) == (conv.in_channels, conv.out_channels):
        return conv, act
    outs, ins = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    groups = min(ocs // outs, ics // ins)
    ocs, ics = (groups * outs, groups * ins) if groups else (min(ocs, outs), min(ics, ins))
    name = f"{conv.name} (channels 0-{ics - 1} -> 0-{ocs - 1} of {conv.in_channels} -> {conv.out_channels})"
    return replace(conv, name=name, weight=conv.weight[:ocs, :ics], groups=max(1, groups)), act[..., :ics, :, :]


def predict(
    mapping: Mapping, layout: Layout, psums: Psums | None = None, act_dtype: DTypeLike = np.int16, block: int = 4096
) -> Size:
    """What `stream_bundle` will write, from the geometry alone; `block` is the disk's allocation unit in bytes."""
    psums = psums or Psums()
    layout, conv = psums.layout(layout), mapping.conv
    zeros = {
        "act": _zeros(act_dtype, _maps(mapping, conv.in_channels, (mapping.height, mapping.width))),
        "weight": _zeros(conv.weight.dtype, conv.weight.shape),
        "psum": _zeros(psum_dtype(mapping), psum_shape(mapping)),
        "out": _zeros(np.int64, _maps(mapping, conv.out_channels, mapping.output_shape)),
    }
    sizes: dict[str, int] = {}
    for file in files_of(mapping, zeros, layout, _zeros(psum_dtype(mapping), _windowed_shape(mapping))):
        sizes[file.name] = encoded_size(file.shape, file.fmt, file.header, file.style)
    arrays = psums.of(mapping, zeros)
    sizes["tensors.npz"] = sum(a.nbytes + _MEMBER for a in arrays.values()) + 9 * _MEMBER
    sums = dict.fromkeys(sizes, "0" * 64)
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    sizes["manifest.json"] = len(json.dumps(manifest_of(mapping, layout, sums, shapes), indent=1)) + 1
    waiting = sum(prod(shape) for shape in _waiting(mapping, layout, psums)) * np.dtype(psum_dtype(mapping)).itemsize
    disk = sum(-(-size // block) * block for size in sizes.values()) + waiting
    return Size(len(sizes), sum(sizes.values()), disk)


def stream_bundle(
    mapping: Mapping, act: NDArray[np.integer], folder: Path, layout: Layout, psums: Psums | None = None
) -> Written:
    """Write the bundle of `mapping` for activation codes `act` into the existing folder `folder`.

    `act` is (C, H, W), of a batch (picture, C, H, W).

    In memory are the activations, the weights, and the psums of one oc_tile (a psum file by the axis `oc` is arranged
    in memory as a whole).

    Raises:
        BadInput: a value overflows psum_bits (overflow "error") or does not fit its lane.
    """
    psums = psums or Psums()
    layout = psums.layout(layout)
    wanted = _waiting(mapping, layout, psums)
    whole, windows = (_OnDisk(folder, psum_dtype(mapping), shape) for shape in wanted)

    def release() -> None:
        whole.forget()
        windows.forget()

    out = np.empty((mapping.conv.out_channels, mapping.onijs), dtype=np.int64)
    shape = (*act.shape[:-3], len(out), *mapping.output_shape)
    cols = mapping.spec.cols
    for oc_tile, block in enumerate(iter_psums(mapping, act)):
        out[oc_tile * cols : (oc_tile + 1) * cols] = accumulate(mapping, block, oc_tile)
        made = mapping.ic_range(oc_tile)  # the files begin as zeros
        if whole.array.size:
            whole.array[made, oc_tile] = block
        if windows.array.size:
            windows.array[made, oc_tile] = windowed(mapping, block[:, None])[:, 0]
        release()
    given = {
        "act": act,
        "weight": mapping.conv.weight,
        "psum": whole.array,
        "out": np.moveaxis(out.reshape(len(out), -1, *mapping.output_shape), 1, 0).reshape(shape),
    }

    return fill(
        folder, mapping, psums.of(mapping, given), layout, files_of(mapping, given, layout, windows.array), release
    )


class _OnDisk:
    """An array in an unnamed file, which the file system takes back when the array is gone."""

    def __init__(self, folder: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        size = prod(shape) * np.dtype(dtype).itemsize
        if not size:
            self.map, self.array = None, np.empty(shape, dtype)
            return
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a bus error below
            else:
                file.truncate(size)
            self.map = mmap.mmap(file.fileno(), size)
        self.array = np.frombuffer(self.map, dtype).reshape(shape)

    def forget(self) -> None:
        """Give the pages back to the file system's cache: they do not count as memory of this process."""
        if self.map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.map.madvise(mmap.MADV_DONTNEED)


def _waiting(mapping: Mapping, layout: Layout, psums: Psums) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the psums, and of the windowed psums, that are needed before files can be written; 0 if not."""
    by_window = any(spec.by_window for spec in layout.files)
    return psum_shape(mapping) if psums.kept else (0,) * 5, _windowed_shape(mapping) if by_window else (0,) * 5


def _windowed_shape(mapping: Mapping) -> tuple[int, ...]:
    shape = psum_shape(mapping)
    return (*shape[:3], mapping.onijs, shape[4])


def _maps(mapping: Mapping, channels: int, size: Pair) -> tuple[int, ...]:
    """The shape of maps of one picture, or of a batch."""
    return (*((mapping.batch,) if mapping.batch > 1 else ()), channels, *size)


def _zeros(dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray:
    """Zeros that take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)
