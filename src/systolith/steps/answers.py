"""What designs with narrow accumulators make of real pictures: how many they get right, and how many they would."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.overflow import Adding
from systolith.designs.engine import Task
from systolith.designs.narrow import addings
from systolith.designs.results import Rows
from systolith.designs.space import Space
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.network.file import save_network
from systolith.requests.verbs import ExploreRequest
from systolith.steps.common import find_network, require_extra
from systolith.steps.compared import pictures_to_compare
from systolith.steps.layers import numbers_of
from systolith.steps.narrow import answers
from systolith.store import atomic_file, sha256_of
from systolith.topologies import BUILT_IN

if TYPE_CHECKING:
    from systolith.network.execute import Plan

FOLDER = "answers"
PICTURES = 256
"""The first of a data set, unless some are named."""
COLUMNS = ("pictures", "accuracy", "accuracy_exact", "wrong_share", "same_class_share", "changed_psums_share")
"""Of a design: pictures; of them the right ones with its accumulators and with exact ones, the wrong ones, those whose
class is the same; of all accumulators those that change."""
MINIMIZED = "wrong_share"
"""Of `COLUMNS`, the one that can be made least."""


def require_answers(request: ExploreRequest, space: Space, minimize: Sequence[str]) -> bool:
    """Whether there is a column for it: real pictures, and accumulators of a given width.

    Raises:
        BadInput: it is to be made least and there is none, or torch is missing.
    """
    widths, shapes = dict(space.axes)["psum_bits"], [name for name in space.models if is_shape(name)]
    there = request.data is not None and any(bits != "auto" for bits in widths)
    if MINIMIZED in minimize and (shapes or not there):
        found = f", found {shapes[0]}, a shape alone" if shapes else ""
        raise BadInput(f"--minimize {MINIMIZED}: expected networks, --data, and psum_bits with numbers{found}")
    if there:
        require_extra("torch", "torch", "explore --data with psum_bits")
    return there


def is_shape(model: str) -> bool:
    """Whether this names a network without weights."""
    return model in BUILT_IN or model.endswith((".csv", ".onnx"))


@dataclass(frozen=True, eq=False)
class Jury:
    """A network, and pictures whose classes are known.

    Attributes:
        plan: of the network.
        pixels: uint8 (N, C, H, W).
        labels: (N,).
        digest: of all three.
        exact: int64 (N,), the classes with exact accumulators.
    """

    plan: Plan
    pixels: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]
    digest: str
    exact: NDArray[np.int64]


def answered(
    request: ExploreRequest,
    jury_of: Callable[[str], Jury],
    works: Mapping[str, Sequence[Work]],
    named: Sequence[Task],
    found: Mapping[str, Rows],
) -> dict[str, dict[str, Any]]:
    """`COLUMNS` of each design by its name; each None where it is not known (`designs.narrow.addings`).

    Designs whose sums are added alike are tried once, and what is found is kept beside the points; `jury_of` is the
    `jury` of a model.
    """
    alike: dict[tuple[str, str], Mapping[str, Adding]] = {}
    keys: dict[str, tuple[str, str]] = {}
    for name, point in named:
        narrow = addings(point, works[point.model], found[name])
        if narrow is not None:
            keys[name] = point.model, json.dumps({layer: asdict(how) for layer, how in narrow.items()})
            alike[keys[name]] = narrow
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for number, (key, how) in enumerate(alike.items(), 1):
        known[key] = _tried(Path(request.out), jury_of(key[0]), key[1], how)
        request.progress("accumulators on pictures", number, len(alike))
    return {name: known[keys[name]] if name in keys else dict.fromkeys(COLUMNS) for name, _ in named}


def jury(request: ExploreRequest, model: str) -> Jury:
    """A model with the pictures that are asked for; `BadInput` if it names no class, or a picture is not there."""
    from systolith.network.execute import plan

    network, _ = find_network(model, "explore")
    if not network.classifies:
        raise BadInput(f"explore --data: {model} names no class: expected psum_bits = auto with it")
    numbers = None if request.index is None else numbers_of(request.index)
    limit = PICTURES if numbers is None else 0
    pixels, labels, source = pictures_to_compare(request.data, limit, network.values[network.input.name].shape)
    assert labels is not None
    if numbers is not None:
        beyond = [number for number in numbers if number >= len(pixels)]
        if beyond:
            raise BadInput(f"--index {beyond[0]}: expected 0..{len(pixels) - 1} for {source}")
        pixels, labels = pixels[numbers], labels[numbers]
    planned = plan(network)
    with tempfile.TemporaryDirectory(prefix="systolith-") as made:
        save_network(Path(made) / "network", network, {})
        written = sha256_of(Path(made) / "network")
    digest = hashlib.sha256(written.encode() + pixels.tobytes() + labels.tobytes()).hexdigest()
    return Jury(planned, pixels, labels, digest, answers(planned, pixels, {})[0])


def _tried(folder: Path, who: Jury, said: str, narrow: Mapping[str, Adding]) -> dict[str, Any]:
    name = hashlib.sha256(f"{who.digest} {said}".encode()).hexdigest()[:32]
    path = folder / FOLDER / f"{name}.json"
    try:
        known: dict[str, Any] = json.loads(path.read_text())
        if set(known) == set(COLUMNS):
            return known
    except (OSError, ValueError):
        pass
    row = _outcome(who, narrow)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(row))
    return row


def _outcome(who: Jury, narrow: Mapping[str, Adding]) -> dict[str, Any]:
    classes, changed, total = answers(who.plan, who.pixels, narrow) if narrow else (who.exact, 0, 1)
    count = len(who.pixels)
    right, exact = (int((given == who.labels).sum()) for given in (classes, who.exact))
    shares = right / count, exact / count, (count - right) / count, int((classes == who.exact).sum()) / count
    return dict(zip(COLUMNS, (count, *shares, changed / total), strict=True))
