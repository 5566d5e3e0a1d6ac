"""Every integer of a network as plain NumPy arrays in one `.npz`, and back: for NumPy, C, an FPGA's memories.

Arrays are called "NODE/what": `weight`, `bias`, `table`, `thresholds` with `sign`, and where an exact form exists the
`multiplier`, `fixed_bias` and `shift` of `(acc*M + B) >> S`; for information `weight_scale`, `act_scale` (fp32) where
they are known. The array `network` is JSON text: nodes in order, what each takes, geometry, formats, what leaves.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.equality import Equality, compare
from systolith.formats import BadInput, IntFormat, require_integers
from systolith.network.graph import (
    Add,
    Argmax,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Input,
    Linear,
    MaxPool,
    Node,
    Requantize,
    Upsample,
)
from systolith.network.integer import IntegerNetwork, Value, assembled
from systolith.network.requantize import FixedPoint, Thresholds, to_fixed_point
from systolith.store import atomic_file

FORMAT, VERSION = "systolith-arrays", 1
MOST = 1 << 31
"""Bytes of all arrays of a file that is read."""
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Input, Conv, Linear, Requantize, MaxPool, AvgPool, Add, Concat, Upsample, Flatten, Argmax)
}
ORDER = {
    "Input": "code = table[channel][pixel]",
    "Conv": "acc[o] = bias[o] + sum over ic, ki, kj of in*weight[o][ic][ki][kj]; outside the map is code 0; output "
    "channels of group g take the input channels of group g alone; padding is vertical, horizontal or top, bottom, "
    "left, right",
    "Linear": "acc[o] = bias[o] + sum over i of in[i]*weight[o][i]",
    "Requantize": "code = low + the number of k with sign[c]*acc >= thresholds[c][k]; where M, B, S are given, "
    "with line = acc*multiplier[c] + fixed_bias[c], also code = low + clamp(line >> shift[c], least, most), the shift "
    "arithmetic; of rounding even code = clamp(rint(line / 2^shift[c]), low + least, low + most), half to even",
    "MaxPool": "the largest code of the window; outside the map counts for nothing",
    "AvgPool": "the sum of the window, without a division",
    "Add": "gains[0]*first + gains[1]*second",
    "Concat": "the channels of one operand after those of another",
    "Upsample": "out[c][i][j] = in[c][i / factor[0]][j / factor[1]], rounded down",
    "Flatten": "channel outermost, then rows, then columns",
    "Argmax": "the index of the largest, the first of equals",
}
"""What each kind of node computes, in integers."""
_SCALES = ("weight_scale", "act_scale")


def save_arrays(network: IntegerNetwork, path: Path, scales: Mapping[str, NDArray[np.float32]] | None = None) -> None:
    """Write the network to `path`, atomically.

    Args:
        network: the network.
        path: of the .npz.
        scales: fp32 by "LAYER/weight_scale" and "LAYER/act_scale", where they are known.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {"network": np.array(json.dumps(description(network))), **arrays_of(network, scales)}
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path) -> IntegerNetwork:
    """The network of a file that `save_arrays` wrote; `BadInput` if it is missing, damaged, or of another kind."""
    found = load_arrays(path)
    try:
        facts = json.loads(str(found["network"]))
        if (facts["format"], facts["version"]) != (FORMAT, VERSION):
            raise BadInput(f"expected {FORMAT} version {VERSION}, found {facts['format']} version {facts['version']}")
        return assembled(facts["steps"], lambda one, taken: _node(one, found, taken), facts["outputs"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{path}: damaged, or no network's arrays ({type(error).__name__}: {error})") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of the file, by name; nothing in it is ever executed (no pickles). `BadInput` as `read_arrays`."""
    try:
        with zipfile.ZipFile(path) as file:
            size = sum(member.file_size for member in file.infolist())
        if size > MOST:
            raise BadInput(f"{path}: holds {size:,} bytes: expected at most {MOST:,}")
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (
        *(OSError, EOFError, ValueError, KeyError, MemoryError, NotImplementedError, RuntimeError, SyntaxError),
        *(zipfile.BadZipFile, zlib.error, struct.error),
    ) as error:
        raise BadInput(f"{path}: not a readable .npz file, truncated or of another kind ({error})") from None
    if any(not isinstance(array, np.ndarray) for array in arrays.values()) or "network" not in arrays:
        raise BadInput(f"{path}: a .npz file, but not one that `systolith export` wrote (it has no array `network`)")
    return arrays


def compare_arrays(
    network: IntegerNetwork, path: Path, scales: Mapping[str, NDArray[np.float32]] | None = None
) -> list[Equality]:
    """Every array of the file `path`, read back as a network, against those of `network`; its wiring, node by node."""
    again, found = read_arrays(path), load_arrays(path)
    ours, theirs = (np.array([json.dumps(step) for step in description(one)["steps"]]) for one in (network, again))
    return [
        compare("nodes, wiring and geometry", ours, theirs, ("node",)),
        *compare_named(arrays_of(network, scales), {k: a for k, a in found.items() if k != "network"}),
    ]


def compare_named(expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> list[Equality]:
    """Arrays by name; `BadInput` where one is missing or too many, or of another type."""
    odd = sorted(set(expected) ^ set(found)) or [k for k, a in expected.items() if a.dtype != found[k].dtype]
    if odd:
        raise BadInput(f"{odd[0]}: read back otherwise than it was written")
    found_all = [compare(name, array, found[name]) for name, array in expected.items()]
    return [equality for equality in found_all if equality.compared]  # a Requantize to one code has no threshold


def description(network: IntegerNetwork) -> dict[str, Any]:
    """What is not an array, as JSON: nodes in order, what they take and make, and what leaves the network."""
    steps = []
    for step in network.steps:
        value = network.values[step.name]
        makes = {"shape": list(value.shape), "codes": value.is_codes, "result": _of(value.format)}
        facts, form = _facts(step.node)[0], fixed_point(step.node)
        if isinstance(form, FixedPoint):
            facts["fixed_point"] = {"rounding": form.rounding, "least": form.least, "most": form.levels}
        steps.append(
            {"kind": type(step.node).__name__, "name": step.name, "inputs": list(step.inputs), **facts, **makes}
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "order": {kind: ORDER[kind] for kind in dict.fromkeys(str(step["kind"]) for step in steps)},
        "steps": steps,
        "outputs": list(network.outputs),
        "without_fixed_point": without_fixed_point(network),
    }


def arrays_of(
    network: IntegerNetwork, scales: Mapping[str, NDArray[np.float32]] | None = None
) -> dict[str, NDArray[Any]]:
    """Every array of the network by "NODE/what", each of the least integer type that holds it."""
    arrays: dict[str, NDArray[Any]] = {}
    for step in network.steps:
        for what, array in _facts(step.node)[1].items():
            arrays[f"{step.name}/{what}"] = array
        form = fixed_point(step.node)
        if isinstance(form, FixedPoint):
            for what, array in (("multiplier", form.multiplier), ("fixed_bias", form.bias), ("shift", form.shift)):
                arrays[f"{step.name}/{what}"] = _least(array)
    for name, scale in (scales or {}).items():
        layer, _, what = name.rpartition("/")
        if layer not in network.layers or what not in _SCALES:
            raise BadInput(f"{name}: expected the scale of a layer, LAYER/{' or LAYER/'.join(_SCALES)}")
        arrays[name] = np.asarray(scale, np.float32)
    return arrays


@lru_cache(maxsize=256)
def fixed_point(node: Node) -> FixedPoint | str:
    """The exact (M, B, S) of a `Requantize`, or why it has none; "" of another node."""
    if not isinstance(node, Requantize):
        return ""
    try:
        form = to_fixed_point(node.name, node.thresholds)
    except BadInput as error:
        return str(error)
    wide = form.bits(node.thresholds.lo, node.thresholds.hi)[2]
    return form if wide <= 63 else f"{node.name}: acc*M + B needs {wide} bits"


def without_fixed_point(network: IntegerNetwork) -> dict[str, str]:
    """Why, of each `Requantize` that has no exact (M, B, S)."""
    forms = {name: fixed_point(node) for name, node in network.requantizes.items()}
    return {name: why for name, why in forms.items() if isinstance(why, str)}


def _facts(node: Node) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Fields of a node: those that are JSON, and those that are arrays."""
    facts: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Thresholds):
            arrays |= {"thresholds": _least(value.values), "sign": _least(value.sign)}
            facts |= {"low": value.low, "levels": value.values.shape[1]}
        elif isinstance(value, np.ndarray):
            arrays[field.name] = _least(value)
        elif isinstance(value, IntFormat):
            facts[field.name] = _of(value)
        elif value is not None and field.name != "name":
            facts[field.name] = list(value) if isinstance(value, tuple) else value
    return facts, arrays


def _of(fmt: IntFormat) -> dict[str, Any]:
    return {"bits": fmt.bits, "signed": fmt.signed}


def _least(values: NDArray[np.integer]) -> NDArray[Any]:
    """The same in the smallest of the usual types that holds them, little-endian."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    types = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64)
    least = next(t for t in types if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.ascontiguousarray(values, dtype=np.dtype(least).newbyteorder("<"))


def _node(facts: Mapping[str, Any], found: Mapping[str, NDArray[Any]], taken: list[Value]) -> Node:
    """The node of one step, of JSON values and arrays that may hold anything."""
    kind, name = KINDS[facts["kind"]], str(facts["name"])
    given: dict[str, Any] = {"name": name}
    for field in fields(kind):
        key = field.name
        if key == "thresholds":
            given[key] = _thresholds(name, int(facts["low"]), found, taken[0])
        elif key in ("weight", "bias", "table") and f"{name}/{key}" in found:
            array = found[f"{name}/{key}"]
            require_integers(f"{name} {key}", array)
            # Weights and tables keep their signed type, as those of a model file do; sums of them are made wider.
            given[key] = array.astype(np.int64) if key == "bias" or array.dtype.kind == "u" else array
        elif key in facts and key != "name":
            value = facts[key]
            if key == "folded":
                given[key] = tuple(map(str, value))
            elif isinstance(value, dict):
                given[key] = IntFormat(int(value["bits"]), bool(value["signed"]))
            else:
                given[key] = tuple(map(int, value)) if isinstance(value, list) else int(value)
    node: Node = kind(**given)
    return node


def _thresholds(name: str, low: int, found: Mapping[str, NDArray[Any]], taken: Value) -> Thresholds:
    values, sign = found[f"{name}/thresholds"], found[f"{name}/sign"]
    for what, array in (("thresholds", values), ("sign", sign)):
        require_integers(f"{name} {what}", array)
    if values.ndim != 2 or sign.shape != taken.lo.shape or not np.isin(sign, (-1, 1)).all():
        raise ValueError(f"{name}: expected thresholds and a sign of 1 or -1 for each of {len(taken.lo)} channels")
    return Thresholds(values.astype(np.int64), sign.astype(np.int8), taken.lo, taken.hi, low)
