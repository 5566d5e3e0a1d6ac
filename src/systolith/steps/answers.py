"""What designs with narrow accumulators make of real pictures: how many they get right, and how many they would."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from systolith.designs.engine import Task
from systolith.designs.narrow import cuts
from systolith.designs.results import Rows
from systolith.designs.space import Space
from systolith.designs.work import Work
from systolith.formats import BadInput
from systolith.network.file import save_network
from systolith.requests.verbs import ExploreRequest
from systolith.steps.common import find_network, require_extra
from systolith.steps.compared import pictures_to_compare
from systolith.steps.layers import numbers_of
from systolith.steps.narrow import Cuts, answers
from systolith.store import atomic_file, sha256_of

if TYPE_CHECKING:
    from systolith.network.execute import Plan

FOLDER = "answers"
PICTURES = 256
"""The first of a data set, unless some are named."""
COLUMNS = ("pictures", "accuracy", "accuracy_exact", "wrong_share", "same_class_share", "changed_psums_share")
"""Of a design: pictures; right ones with its accumulators and with exact ones; wrong ones; answers that are the same; and
accumulators that change."""
MINIMIZED = "wrong_share"
"""Of `COLUMNS`, the one that can be made least."""


def require_answers(request: ExploreRequest, space: Space, minimize: Sequence[str]) -> bool:
    """Whether there is a column for it: real pictures, and accumulators of a given width.

    Raises:
        BadInput: it is to be made least and there is none, or torch is missing.
    """
    widths = dict(space.axes)["psum_bits"]
    there = request.data is not None and any(bits != "auto" for bits in widths)
    if there:
        require_extra("torch", "torch", "explore --data with psum_bits")
    elif MINIMIZED in minimize:
        raise BadInput(f"--minimize {MINIMIZED}: expected --data, and psum_bits among the axes with numbers")
    return there


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
    request: ExploreRequest, works: Mapping[str, Sequence[Work]], named: Sequence[Task], found: Mapping[str, Rows]
) -> dict[str, dict[str, Any]]:
    """`COLUMNS` of each design by its name; each None where it is not known (`designs.narrow.cuts`).

    Designs whose sums are added alike are tried once, and what is found is kept beside the points.
    """
    jury_of = cache(lambda model: _jury(request, model))
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    asked: list[tuple[str, str, Cuts]] = []
    keys: dict[str, tuple[str, str]] = {}
    for name, point in named:
        narrow = cuts(point, works[point.model], found[name])
        if narrow is None:
            continue
        said = json.dumps([[layer, asdict(spec), packed] for layer, (spec, packed) in narrow.items()])
        keys[name] = point.model, said
        asked.append((point.model, said, narrow))
    distinct = {(model, said): narrow for model, said, narrow in asked}
    for number, ((model, said), narrow) in enumerate(distinct.items(), 1):
        kept[model, said] = _tried(Path(request.out), jury_of(model), said, narrow)
        request.progress("accumulators on pictures", number, len(distinct))
    unknown = dict.fromkeys(COLUMNS)
    return {name: kept[keys[name]] if name in keys else unknown for name, _ in named}


def _jury(request: ExploreRequest, model: str) -> Jury:
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


def _tried(folder: Path, jury: Jury, said: str, narrow: Cuts) -> dict[str, Any]:
    name = hashlib.sha256(f"{jury.digest} {said}".encode()).hexdigest()[:32]
    path = folder / FOLDER / f"{name}.json"
    try:
        known: dict[str, Any] = json.loads(path.read_text())
        if set(known) == set(COLUMNS):
            return known
    except (OSError, ValueError):
        pass
    classes, changed, total = answers(jury.plan, jury.pixels, narrow) if narrow else (jury.exact, 0, 1)
    count = len(jury.pixels)
    right, exact = (int((given == jury.labels).sum()) for given in (classes, jury.exact))
    shares = right / count, exact / count, (count - right) / count, int((classes == jury.exact).sum()) / count
    row = dict(zip(COLUMNS, (count, *shares, changed / total), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(row))
    return row
