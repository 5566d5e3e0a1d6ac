"""Layers of a network with the activations that they really see, one or all, for one picture or several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArraySpec, Mapping
from systolith.array.spec import widened
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.network.reference import run as execute
from systolith.requests.option import Progress
from systolith.requests.shared import Array, OnePicture
from systolith.steps.common import (
    as_conv,
    find_batch,
    find_layers,
    find_network,
    find_picture,
    make_spec,
    picked,
    require_pictures,
    settle,
)


@dataclass(frozen=True, eq=False)
class Found:
    """A layer to put on an array.

    Attributes:
        place: below an output folder; "" for a single layer.
        conv: the layer.
        act: its activations, codes (C, H, W), of a batch (picture, C, H, W).
        spec: the array, as wide as the layer needs where the options leave that open.
    """

    place: str
    conv: Conv
    act: NDArray[np.integer]
    spec: ArraySpec


def layers_of(
    model: str,
    layer: str,
    images: Sequence[Path],
    data: str | None,
    index: str | None,
    array: Array,
    verb: str,
    progress: Progress,
    executed: bool = True,
    batch: int = 1,
    simd: int = 1,
) -> Iterator[Found]:
    """The layers of `--layer`, for each picture.

    Args:
        layer: names with commas between, or "all": then a layer of wider codes gets wider lanes, and where nothing is
            said of psums, one whose sums could overflow gets a wider accumulator; `progress` is told.
        images: picture files, more than one only without `index`.
        index: numbers of pictures in `data`, such as "0-2,7".
        executed: without, no picture is taken and all activations are 0.
        batch: pictures that are taken together, as `find_batch` finds them.
        simd: of the array.

    Raises:
        BadInput: no such layer, picture or number.
    """
    spec = replace(make_spec(array), simd=simd)
    grow = array.psum_bits is None and array.overflow == "error"
    network, _ = find_network(model, verb)
    nodes = find_layers(network, layer)
    taken = {name: network[name].inputs[0] for name in nodes}
    size = network.values[network.input.name].shape
    if not executed:
        pictures = [("", np.zeros((batch, *size), dtype=np.uint8))]
    elif batch > 1:
        number = None if index is None else numbers_of(index)
        if len(images) > 1 or (number is not None and len(number) > 1):
            raise BadInput(f"--batch {batch}: expected one picture, the first, with it: those behind it follow")
        which = OnePicture(image=images[0] if images else None, data=data, index=number[0] if number else None)
        pictures = [("", find_batch(which, batch, progress, size)[0])]
    else:
        pictures = [(name, one[None]) for name, one in _pictures(images, data, index, size, progress)]
    for folder, pixels in pictures:
        if executed:
            results = execute(network, pixels, *taken.values())
        else:
            results = {name: np.zeros((batch, *network.values[name].shape), dtype=np.int64) for name in taken.values()}
        for name, node in nodes.items():
            each = [as_conv(node, one) for one in results[taken[name]]]
            conv, act = each[0][0], each[0][1] if batch == 1 else np.stack([act for _, act in each])
            wide = _widened(spec, conv, act, grow, progress) if layer == "all" else spec
            wide = settle(wide, array.psum_bits, conv, *act.shape[-2:])
            parts = [folder] * (len(pictures) > 1) + [name] * (len(nodes) > 1 or layer == "all")
            yield Found("/".join(parts), conv, act, wide)


def _widened(spec: ArraySpec, conv: Conv, act: NDArray[np.integer], grow: bool, progress: Progress) -> ArraySpec:
    """The array with lanes that take the layer, and (`grow`) accumulators that it cannot overflow."""
    wide = widened(conv, spec)
    if grow:
        wide = replace(wide, psum_bits=max(spec.psum_bits, *Mapping(conv, wide, *act.shape[-2:]).least_psum_bits()))
    if wide != spec:
        lanes = f"{wide.act_bits}-bit activations, {wide.weight_bits}-bit weights, {wide.psum_bits}-bit psums"
        progress(f"{conv.name} is wider: {lanes}")
    return wide


def _pictures(
    images: Sequence[Path], data: str | None, index: str | None, shape: tuple[int, ...], progress: Progress
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """A name for a folder and the pixels, one a picture."""
    if data is not None and not images and index is not None:
        numbers = numbers_of(index)
        size = require_pictures(shape)
        for number, (pixels, _) in zip(numbers, picked(data, numbers, size), strict=True):
            yield f"picture{number}", pixels
        return
    if len(images) > 1:
        chosen = [(Path(path).stem, OnePicture(image=path, data=data)) for path in images]
        if len({name for name, _ in chosen}) < len(chosen):
            raise BadInput("--image: two pictures of one name would share a folder")
    else:
        first = numbers_of(index)[0] if index is not None else None
        chosen = [("", OnePicture(image=images[0] if images else None, data=data, index=first))]
    for name, which in chosen:
        yield name, find_picture(which, progress, shape)[0]


def numbers_of(text: str) -> list[int]:
    """ "0-2,7" to [0, 1, 2, 7]."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise BadInput(f"--index {text!r}: expected numbers such as 7 or 0-9,12")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(numbers)) < len(numbers):
        raise BadInput(f"--index {text!r}: a picture stands there twice")
    return numbers
