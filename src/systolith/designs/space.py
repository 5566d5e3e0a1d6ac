"""A space of designs: axes with values, from a TOML file or from options, and the points that are looked at.

    [axes]
    model = ["vgg16-w4a4-s8", "resnet18"]      # shipped models, model files, built-in topologies, .csv, .onnx
    array = ["4x4", "8x8", "16x16"]            # ROWSxCOLS; or rows = [...] and cols = [...]
    act_bits = [4, 8]
    psum_bits = ["auto"]
    schedule = ["auto"]

    [search]
    kind = "random"                            # or "grid", which is all of them, or "optuna"
    points = 200
    seed = 0

An axis that is not given has its default alone. Numbers may be given as a range, `{from = 2, to = 16, step = 2}`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from systolith.array.spec import OVERFLOWS, parse_size
from systolith.formats import BadInput
from systolith.timing.mapper import AUTO, LEAST, WAYS

Value = int | str | None
MOST = 10_000_000
"""Points that a grid may have."""


@dataclass(frozen=True)
class Axis:
    """What an axis takes: integers from `low` to `high`, or one of `words`; None stands for its absence."""

    default: Value
    low: int = 0
    high: int = 0
    words: tuple[str, ...] = ()

    def problem(self, value: Any) -> str:
        """What was expected, "" if `value` is right."""
        number = type(value) is int and self.low <= value <= self.high
        if number or (isinstance(value, str) and value in self.words) or (value is None and self.default is None):
            return ""
        numbers = [f"{self.low:,} to {self.high:,}"] if self.high else []
        return "expected " + " or ".join([*numbers, *self.words])


BITS = 1 << 20
AXES: dict[str, Axis] = {
    "rows": Axis(8, 1, 1024),
    "cols": Axis(8, 1, 1024),
    "act_bits": Axis(4, 1, 16),
    "weight_bits": Axis(4, 1, 16),
    "psum_bits": Axis("auto", 2, 48, ("auto",)),
    "overflow": Axis("wrap", words=tuple(word for word in OVERFLOWS if word != "error")),
    "simd": Axis(1, 1, 8),
    "schedule": Axis(AUTO, words=(*WAYS, AUTO)),
    "least": Axis("clocks", words=LEAST),
    "batch": Axis(1, 1, 1024),
    "act_bandwidth": Axis(None, 1, BITS),
    "weight_bandwidth": Axis(None, 1, BITS),
    "psum_bandwidth": Axis(None, 1, BITS),
    "latency": Axis(0, 0, 10_000),
    "act_kib": Axis(None, 1, BITS),
    "weight_kib": Axis(None, 1, BITS),
    "psum_kib": Axis(None, 1, BITS),
    "dram_bandwidth": Axis(None, 1, BITS),
    "outputs": Axis("leave", words=("leave", "stay")),
}
"""Of a point besides its model. Bandwidths are bits a clock, memories KiB; None: as much as is asked for. Outputs that
stay are the next layer's activations, where both maps fit."""


@dataclass(frozen=True)
class Point:
    """A design and what runs on it: a value of each axis, and the model's name."""

    model: str
    values: tuple[tuple[str, Value], ...]

    def __getitem__(self, axis: str) -> Any:
        return dict(self.values)[axis]


@dataclass(frozen=True)
class Space:
    """What is explored.

    Attributes:
        models: names or files.
        axes: the values of each axis of `AXES`, none of them twice.
        kind: "grid", "random", or "optuna": searched, each round by what the one before has found (`search.py`).
        points: how many of those two; a grid has all.
        seed: of these.
    """

    models: tuple[str, ...]
    axes: tuple[tuple[str, tuple[Value, ...]], ...]
    kind: str = "grid"
    points: int = 0
    seed: int = 0

    @property
    def size(self) -> int:
        """Points of the grid."""
        return len(self.models) * prod(len(values) for _, values in self.axes)

    @property
    def count(self) -> int:
        """Points that are looked at."""
        return self.size if self.kind == "grid" else min(self.points, self.size)

    def at(self, number: int) -> Point:
        """A point of the grid by its number: the last axis is the fastest, the model the slowest."""
        chosen = []
        for name, values in reversed(self.axes):
            number, at = divmod(number, len(values))
            chosen.append((name, values[at]))
        return Point(self.models[number], tuple(reversed(chosen)))

    def numbers(self) -> Sequence[int]:
        """The points' numbers in the grid, ascending; of a search those are not known before."""
        if self.kind == "grid":
            return range(self.size)
        drawn = np.random.default_rng(self.seed).choice(self.size, self.count, replace=False, shuffle=False)
        found: list[int] = np.sort(drawn).tolist()
        return found

    def __iter__(self) -> Iterator[Point]:
        """The points, in the order of the grid."""
        return (self.at(number) for number in self.numbers())


def space_of(
    axes: Mapping[str, Any], search: Mapping[str, Any] | None = None, where: str = "", model: str = "vgg16-w4a4-s8"
) -> Space:
    """A space from plain values.

    Args:
        axes: by name a value, a list of them, or a range; "model" and "array" are among the names.
        search: kind, points, seed.
        where: what to name in messages.
        model: unless `axes` has one.

    Raises:
        BadInput: an unknown axis, no value, a value twice or out of its range, too many points; in one sentence.
    """
    prefix, search = f"{where}: " if where else "", search or {}
    given = dict(axes)
    models = _values(prefix, "model", given.pop("model", [model]))
    if any(not isinstance(one, str) for one in models):
        raise BadInput(f"{prefix}model: expected names, found {models}")
    if "array" in given:
        if given.keys() & {"rows", "cols"}:
            raise BadInput(f"{prefix}array is rows and cols: expected it without them")
        return _with_arrays(prefix, given, search, models)
    return _checked(prefix, given, search, models)


def _with_arrays(prefix: str, given: dict[str, Any], search: Mapping[str, Any], models: Sequence[Any]) -> Space:
    """Arrays are pairs: one axis, "array", whose values are taken apart when a point is."""
    arrays = _values(prefix, "array", given.pop("array"))
    for array in arrays:
        try:
            rows, cols = parse_size(str(array))
        except BadInput as error:
            raise BadInput(f"{prefix}{error}") from None
        for name, value in (("rows", rows), ("cols", cols)):
            if AXES[name].problem(value):
                raise BadInput(f"{prefix}array {array}: {name} {value}: {AXES[name].problem(value)}")
    space = _checked(prefix, given, search, models, without=("rows", "cols"))
    return _limited(prefix, Space(space.models, (("array", tuple(arrays)), *space.axes), *_search(prefix, search)))


def _checked(
    prefix: str, given: dict[str, Any], search: Mapping[str, Any], models: Sequence[Any], without: tuple[str, ...] = ()
) -> Space:
    unknown = [name for name in given if name not in AXES]
    if unknown:
        raise BadInput(f"{prefix}no axis {unknown[0]!r}: expected model, array, {', '.join(AXES)}")
    found = []
    for name, axis in AXES.items():
        if name in without:
            continue
        values = _values(prefix, name, given[name]) if name in given else [axis.default]
        for value in values:
            problem = axis.problem(value)
            if problem:
                raise BadInput(f"{prefix}{name} {value!r}: {problem}")
        found.append((name, tuple(values)))
    return _limited(prefix, Space(tuple(models), tuple(found), *_search(prefix, search)))


def _limited(prefix: str, space: Space) -> Space:
    if space.count > MOST:
        raise BadInput(
            f"{prefix}{space.count:,} points: expected at most {MOST:,}; kind random takes some of them at random"
        )
    return space


def _search(prefix: str, search: Mapping[str, Any]) -> tuple[str, int, int]:
    known = {"kind": "grid", "points": 0, "seed": 0}
    unknown = [name for name in search if name not in known]
    if unknown:
        raise BadInput(f"{prefix}search {unknown[0]!r}: expected {', '.join(known)}")
    kind, points, seed = (search.get(name, default) for name, default in known.items())
    if kind not in ("grid", "random", "optuna"):
        raise BadInput(f"{prefix}search kind {kind!r}: expected grid, random or optuna")
    for name, value, least in (("points", points, int(kind != "grid")), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise BadInput(f"{prefix}search {name} {value!r}: expected a number of at least {least}")
    return kind, points, seed


def _values(prefix: str, name: str, given: Any) -> list[Any]:
    """A list of values, each once."""
    if isinstance(given, Mapping):
        if set(given) - {"from", "to", "step"} or not {"from", "to"} <= set(given):
            raise BadInput(f"{prefix}{name}: a range is from, to and perhaps step, found {', '.join(map(str, given))}")
        low, high, step = given["from"], given["to"], given.get("step", 1)
        if any(type(n) is not int for n in (low, high, step)) or step < 1:
            raise BadInput(f"{prefix}{name}: a range is of whole numbers, its step at least 1, found {dict(given)}")
        given = list(range(low, high + 1, step))
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    if not values:
        raise BadInput(f"{prefix}{name}: expected at least one value, found none")
    seen: set[Any] = set()
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise BadInput(f"{prefix}{name}: expected numbers or words, found {value!r}")
        if value in seen:
            raise BadInput(f"{prefix}{name}: {value!r} stands there twice")
        seen.add(value)
    return values


def read_space(path: Path) -> Space:
    """The space that a TOML file describes; `BadInput` in one sentence if it describes none."""
    try:
        found = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: not a readable TOML file ({error})") from None
    unknown = [name for name in found if name not in ("axes", "search")]
    if unknown or not isinstance(found.get("axes", {}), dict) or not isinstance(found.get("search", {}), dict):
        raise BadInput(f"{path}: expected tables [axes] and [search], found {', '.join(found)}")
    return space_of(found.get("axes", {}), found.get("search", {}), str(path))
