"""A trained network and the integer network beside it, compared on pictures: here, or on a cluster's workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.cluster import in_order, once
from systolith.formats import BadInput
from systolith.frontends.lowered import Lowered
from systolith.frontends.verify import BATCH, Compared, Executor, add, by_onnx, by_plan, by_reference, compare_pictures
from systolith.importers.loading import load_any
from systolith.network import IntegerNetwork
from systolith.network.execute import Plan, plan
from systolith.network.file import load_network
from systolith.steps.common import stored_network
from systolith.store import model_path, sha256_of

_EXECUTORS: dict[str, Callable[[Plan], Executor]] = {
    "fast": by_plan,
    "reference": lambda planned: by_reference(planned.network),
    "onnx": lambda planned: by_onnx(planned.network),
}


@dataclass(frozen=True, eq=False)
class Pair:
    """A trained network and the integer network that it is compared with.

    Attributes:
        name, run: of the trained one, and the metadata of its training.
        lowered: it, lowered now.
        integers: the integer network.
        whence: where that is from, in words.
    """

    name: str
    run: Mapping[str, Any]
    lowered: Lowered
    integers: IntegerNetwork
    whence: str


@dataclass(frozen=True)
class Asked:
    """What a worker is told besides the pictures: files at the same paths there, and what is in them."""

    model: str
    network: Path | None
    executor: str
    digests: tuple[str, ...]


def pair_of(model: Any, network: Path | None) -> Pair:
    """A model, and the integer network of a file or, without one, its own.

    Args:
        model: as `load_any` takes it.
        network: the file.

    Raises:
        BadInput: no such model or file.
    """
    loaded = load_any(model)
    lowered = loaded.lower()
    own = load_network(network) if network is not None else stored_network(model)[0]
    whence = str(network) if network is not None else "in the model file" if own is not None else "lowered now"
    return Pair(loaded.name, loaded.run, lowered, own or lowered.network, whence)


def asked_of(model: Any, network: Path | None, executor: str) -> Asked:
    """What workers are told.

    Raises:
        BadInput: the model is not one that a name or a file stands for.
    """
    if not isinstance(model, str):
        kind = type(model).__name__
        raise BadInput(f"--scheduler: workers load the model themselves: expected a name or a file, found a {kind}")
    path, name = model_path(model), model
    if Path(model).exists():
        name = str(path.absolute())
    file = None if network is None else network.absolute()
    return Asked(name, file, executor, _digests(name, file))


def compare_all(
    pair: Pair, planned: Plan, executor: str, pixels: NDArray[np.uint8], progress: Callable[[int], None]
) -> Compared:
    """Every code of every picture, here."""
    return compare_pictures(pair.lowered, pair.integers, _EXECUTORS[executor](planned), pixels, progress)


def compare_elsewhere(
    asked: Asked, pixels: NDArray[np.uint8], progress: Callable[[int], None], scheduler: str
) -> Compared:
    """The same on a cluster, whose workers load the model themselves; the pictures are sent.

    Raises:
        BadInput: no such cluster, or a worker that has not the same files.
    """
    total = Compared()
    ranges = ((begin, pixels[begin : begin + BATCH]) for begin in range(0, len(pixels), BATCH))
    with closing(in_order(_range, ranges, asked, scheduler)) as parts:
        for _, part in parts:
            add(total, part)
            progress(total.images)
    return total


def _range(pictures: tuple[int, NDArray[np.uint8]], asked: Asked) -> Compared:
    begin, pixels = pictures
    pair, executor = once(asked, lambda: _loaded(asked))
    return compare_pictures(pair.lowered, pair.integers, executor, pixels, begin=begin)


def _loaded(asked: Asked) -> tuple[Pair, Executor]:
    if _digests(asked.model, asked.network) != asked.digests:
        raise BadInput(f"{asked.network or asked.model}: another file than where the run was begun")
    pair = pair_of(asked.model, asked.network)
    return pair, _EXECUTORS[asked.executor](plan(pair.integers))


def _digests(model: str, network: Path | None) -> tuple[str, ...]:
    return tuple(sha256_of(path) for path in (model_path(model), network) if path is not None)
