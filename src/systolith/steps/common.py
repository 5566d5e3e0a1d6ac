"""What several flows do: find the picture, the network, its layers, and the array that the options describe."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArraySpec, Mapping
from systolith.array.spec import parse_size
from systolith.cluster import connect
from systolith.exports.arrays import read_arrays
from systolith.formats import BadInput
from systolith.network import Conv, IntegerNetwork
from systolith.network.file import network_of
from systolith.network.graph import Linear
from systolith.pictures import read_picture
from systolith.requests.option import Progress
from systolith.requests.shared import Array, Cut, Lanes, OnePicture, Streaming
from systolith.store import ASSETS, is_checkpoint, load_model_file, model_path
from systolith.timing import Choice, choose
from systolith.timing.mapper import require_known
from systolith.timing.memory import Memory

NODE_HEADINGS = ("name", "node", "takes", "shape", "result", "detail")


def require_extra(module: str, extra: str, verb: str) -> None:
    """Raise `BadInput` with the line to type if `module` is not installed."""
    if importlib.util.find_spec(module) is None:
        raise BadInput(f"`{verb}` needs {module}, which is not installed: pip install 'systolith[{extra}]'")


def require_cluster(scheduler: str, verb: str) -> None:
    """Raise `BadInput` if there is no such cluster to run on: before anything else takes its time."""
    require_extra("distributed", "cluster", f"{verb} on a cluster")
    connect(scheduler).close()


def go_without(owner: str, options: dict[str, Any]) -> None:
    """Raise `BadInput` if one of `options`, by flag, was given (neither None nor False): `owner` has no use for it."""
    given = [flag for flag, value in options.items() if value is not None and value is not False]
    if given:
        raise BadInput(f"{owner} goes without {', '.join(given)}")


def find_picture(
    request: OnePicture, progress: Progress, shape: tuple[int, ...] = (3, 32, 32)
) -> tuple[NDArray[np.uint8], str, tuple[str, ...]]:
    """uint8 pixels (3, H, W) of that shape, a name for people, and notes on conversions, which are told too."""
    size = require_pictures(shape)
    pixels, source, notes = _picture(request.image, request.data, request.index, size)
    for text in notes:
        progress(f"{source}: {text}")
    return pixels, source, notes


def find_batch(
    request: OnePicture, count: int, progress: Progress, shape: tuple[int, ...] = (3, 32, 32)
) -> tuple[NDArray[np.uint8], str, tuple[str, ...]]:
    """uint8 pixels (picture, 3, H, W) of as many pictures, and as `find_picture`.

    Of a data set those that follow the first one; of a single picture its turns and mirrorings.
    """
    if count > 1 and request.data is not None and request.image is None:
        size = require_pictures(shape)
        first = request.index or 0
        found = picked(request.data, range(first, first + count), size)
        return np.stack([one for one, _ in found]), f"{found[0][1]} and the {count - 1} after it", ()
    pixels, source, notes = find_picture(request, progress, shape)
    if count == 1:
        return pixels[None], source, notes
    if pixels.shape[1] != pixels.shape[2]:
        raise BadInput(f"--batch {count}: a picture that is not square has no turns: expected --data with it")
    each = [np.rot90(pixels[:, :, :: -1 if n // 4 % 2 else 1], n % 4, (1, 2)) for n in range(count)]
    return np.stack(each), f"{source}, turned and mirrored {count - 1} times", notes


def _picture(
    image: Path | None, data: str | None, index: int | None, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], str, tuple[str, ...]]:
    if image is not None and data is not None:
        raise BadInput("expected --image or --data, found both")
    if index is not None and data is None:
        raise BadInput("--index picks a picture of a data set: expected --data with it")
    if data is not None:
        return *picked(data, [index or 0], size)[0], ()
    if image is None:
        pixels, notes = read_picture(ASSETS / "cat.png", size)
        return pixels, "the shipped cat.png", notes
    pixels, notes = read_picture(image, size)
    return pixels, Path(image).name, notes


def require_pictures(shape: tuple[int, ...]) -> tuple[int, int]:
    """The (H, W) of a network's pictures; `BadInput` unless it takes pictures."""
    if len(shape) != 3 or shape[0] != 3:
        raise BadInput(f"this network takes {'x'.join(map(str, shape))} bytes, which no picture file holds")
    return shape[1], shape[2]


def picked(data: str, indices: Sequence[int], size: tuple[int, int]) -> list[tuple[NDArray[np.uint8], str]]:
    """Pictures of a data set's test split, by their numbers, and a name for people of each."""
    from systolith.training.data import load_data

    pictures, found = load_data(data, "test"), []
    for index in indices:
        if not 0 <= index < len(pictures):
            raise BadInput(f"--index {index}: expected 0..{len(pictures) - 1} for {pictures.source}")
        label = pictures.classes[pictures.labels[index]]
        if pictures.images.shape[2:] != size:
            raise BadInput(f"{pictures.source} has pictures of 32x32, the network takes {size[0]}x{size[1]}")
        found.append((pictures.images[index], f"{pictures.source} picture {index}, labelled {label}"))
    return found


def find_network(model: str, verb: str) -> tuple[IntegerNetwork, dict[str, Any]]:
    """The integer network of a shipped model, a model file or a checkpoint, and the metadata of its run.

    Without torch where the file holds it; lowered now where it does not.
    """
    network, metadata = stored_network(model)
    if network is not None:
        return network, metadata
    require_extra("torch", "torch", f"{verb} of a model that is not lowered yet (`systolith lower` writes one)")
    if model.endswith(".onnx"):
        require_extra("onnx", "onnx", f"{verb} of an ONNX file")
    from systolith.importers.loading import load_any

    loaded = load_any(model)
    return loaded.lower().network, dict(loaded.run)


def stored_network(model: Any) -> tuple[IntegerNetwork | None, dict[str, Any]]:
    """The integer network in a model's file, None where it holds none (or is no file), and the metadata of the run."""
    if not isinstance(model, str):
        return None, {}
    path = model_path(model)
    if path.suffix == ".npz":
        return read_arrays(path), {"recipe": f"the arrays of {path.name}"}
    if path.suffix == ".onnx" or is_checkpoint(path):
        return None, {}
    file = load_model_file(path)
    return network_of(file, path), dict(file.run)


def find_layer(network: IntegerNetwork, layer: str) -> Conv | Linear:
    """The layer with weights of that name; `BadInput` naming those there are."""
    if layer not in network.layers:
        raise BadInput(f"no layer {layer!r} in this network; its layers are {', '.join(network.layers)}")
    return network.layers[layer]


def find_layers(network: IntegerNetwork, layer: str) -> dict[str, Conv | Linear]:
    """The layers of `--layer`, by name: one, several with commas between, or "all"; `BadInput` as `find_layer`."""
    names = list(network.layers) if layer == "all" else layer.split(",")
    if len(set(names)) < len(names):
        raise BadInput(f"--layer {layer}: a layer stands there twice")
    return {name: find_layer(network, name) for name in names}


def as_conv(node: Conv | Linear, act: NDArray[np.integer]) -> tuple[Conv, NDArray[np.int16]]:
    """The layer as the array sees it, without its bias, and its activations, codes (C, H, W) or (F,), as (C, H, W)."""
    conv = node.as_conv() if isinstance(node, Linear) else node.product()
    return conv, np.ascontiguousarray(act.reshape(*act.shape, *[1] * (3 - act.ndim)).astype(np.int16))


def make_spec(request: Array, psum_bits: str = "16") -> ArraySpec:
    """The array that the options describe; `auto` psum bits are left wide until `settle` sees the layer.

    Args:
        request: the options.
        psum_bits: where they do not say it.
    """
    rows, cols = parse_size(request.array)
    wanted = str(request.psum_bits or psum_bits)
    try:
        width = 48 if wanted == "auto" else int(wanted)
    except ValueError:
        raise BadInput(f"--psum-bits {wanted!r}: expected a number or auto") from None
    return ArraySpec(rows, cols, request.act_bits, request.weight_bits, width, overflow=request.overflow)


def lanes_of(request: Lanes) -> ArraySpec:
    """The array of options that say nothing of psums."""
    rows, cols = parse_size(request.array)
    return ArraySpec(rows, cols, request.act_bits, request.weight_bits, 16)


def require_batch(request: Cut) -> None:
    """Raise `BadInput` unless it is a number of pictures."""
    if not 1 <= request.batch <= 1024:
        raise BadInput(f"--batch {request.batch}: expected 1 to 1024 pictures")


def require_schedule(request: Streaming) -> Memory:
    """The memories that the options describe; `BadInput` where they, or the options of a schedule, make no sense."""
    require_known(request.schedule, request.drained, request.least)
    require_batch(request)
    return Memory(request.act_bandwidth, request.weight_bandwidth, request.psum_bandwidth, request.latency)


def scheduled(request: Streaming, mapping: Mapping) -> Choice:
    """The layer in the schedule that the options name, or leave open."""
    return choose(mapping, request.schedule, request.drained, request.least, require_schedule(request))


def said_schedule(request: Streaming) -> dict[str, Any]:
    """The options of a schedule, for `--json`."""
    return {option.name: getattr(request, option.name) for option in fields(Streaming)}


def settle(spec: ArraySpec, psum_bits: str | None, conv: Conv, height: int, width: int) -> ArraySpec:
    """With `--psum-bits auto` the spec with the least width that can never overflow; else `spec`."""
    if psum_bits != "auto":
        return spec
    return replace(spec, psum_bits=max(2, *Mapping(conv, spec, height, width).least_psum_bits()))
