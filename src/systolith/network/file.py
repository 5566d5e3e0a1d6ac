"""The integer network to and from the one model file (`store.py`), packed, integers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, least_signed_bits, pack_codes, require_integers, unpack_codes
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
from systolith.network.integer import IntegerNetwork, Step, Value, assembled
from systolith.network.requantize import Thresholds
from systolith.store import Codes, ModelFile, NetworkPart, load_model_file, save_model_file

_PAIRS = ("stride", "padding", "dilation", "kernel", "size", "gains", "factor")
_SIMPLE: dict[str, type[Any]] = {c.__name__: c for c in (MaxPool, AvgPool, Add, Concat, Upsample, Flatten, Argmax)}


def save_network(path: Path, network: IntegerNetwork, run: Mapping[str, Any]) -> None:
    """Write a file of integers only: weight codes, tables, thresholds; no scale, no batch norm."""
    save_model_file(path, integers_of(network, run))


def integers_of(network: IntegerNetwork, run: Mapping[str, Any]) -> ModelFile:
    """What `save_network` writes."""
    codes = {}
    for name, node in network.layers.items():
        codes[name] = Codes(node.weight.astype(np.int8), node.weight_format, None, node.act_format)
    return add_network(ModelFile({}, codes, {}, run), network)


def add_network(file: ModelFile, network: IntegerNetwork) -> ModelFile:
    """`file` with the integer network of the same weight codes."""
    steps, tensors = [], dict[str, NDArray[Any]]()
    for step in network.steps:
        facts, arrays = _facts(step.node)
        if isinstance(step.node, (Conv, Linear)) and (shared := _shared(file, step)):
            facts["codes"] = shared
        steps.append({"kind": type(step.node).__name__, "name": step.name, "inputs": list(step.inputs), **facts})
        tensors |= {f"{step.name}/{what}": array for what, array in arrays.items()}
    outputs = [] if network.outputs == network.steps[-1].inputs else list(network.outputs)
    return replace(file, network=NetworkPart(steps, tensors, outputs))


def _shared(file: ModelFile, step: Step) -> str:
    """The layer whose codes the step has, "" for its own: of a layer that is called again the file holds them once."""
    assert isinstance(step.node, (Conv, Linear))
    named = [name for name in file.codes if step.name.startswith(f"{name}#")]
    return next((n for n in named if np.array_equal(file.codes[n].values, step.node.weight)), "")


def _facts(node: Node) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What goes into the header, and into tensors, beside the weight codes."""
    if isinstance(node, Input):
        return {"size": list(node.size), "format": asdict(node.format)}, {"table": node.table.astype(np.int16)}
    if isinstance(node, Conv):
        geometry: dict[str, Any] = {name: list(getattr(node, name)) for name in ("stride", "padding", "dilation")}
        if node.groups > 1:
            geometry["groups"] = node.groups
        if node.bias is None:
            return geometry, {}
        return {**geometry, "biased": True}, {"bias": node.bias.astype(np.int32)}
    if isinstance(node, Linear):
        return {}, {"bias": node.bias.astype(np.int32)}
    if isinstance(node, Requantize):
        t = node.thresholds
        bits = least_signed_bits(int(t.values.min()), int(t.values.max()))
        facts: dict[str, Any] = {
            "format": asdict(node.format),
            "low": t.low,
            "levels": t.values.shape[1],
            "bits": bits,
            "folded": list(node.folded),
        }
        return facts, {"thresholds": pack_codes(t.values, IntFormat(bits, True)), "sign": t.sign.astype(np.int8)}
    return {k: list(v) for k, v in asdict(node).items() if k in _PAIRS}, {}


def load_network(path: Path) -> IntegerNetwork:
    """The integer network of a model file; `BadInput` if it is missing, corrupt, or the file holds none."""
    network = network_of(load_model_file(path), path)
    if network is None:
        raise BadInput(f"{path}: holds a trained model without its integer network; `systolith lower` adds it")
    return network


def network_of(file: ModelFile, path: Path | str) -> IntegerNetwork | None:
    """The integer network of a file read from `path`, or None; `BadInput` if it is damaged."""
    if file.network is None:
        return None
    part = file.network
    try:
        return assembled(part.steps, lambda facts, taken: _node(facts, file, taken), part.outputs)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadInput(f"{path}: a damaged integer network ({type(error).__name__}: {error})") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _bias(name: str, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    bias = tensors[f"{name}/bias"]
    require_integers(f"{name} bias", bias)
    return bias.astype(np.int64)


def _node(facts: Mapping[str, Any], file: ModelFile, taken: list[Value]) -> Node:
    assert file.network is not None
    kind, name = facts["kind"], str(facts["name"])
    tensors: Mapping[str, NDArray[Any]] = file.network.tensors
    pairs: dict[str, Any] = {k: tuple(map(int, facts[k])) for k in _PAIRS if k in facts}
    if kind == "Input":
        return Input(name, tensors[f"{name}/table"], IntFormat(**facts["format"]), **pairs)
    if kind == "Requantize":
        levels, lo, hi = int(facts["levels"]), taken[0].lo, taken[0].hi
        fmt, shape = IntFormat(int(facts["bits"]), True), (len(lo), levels)
        values, sign = unpack_codes(tensors[f"{name}/thresholds"], fmt, shape), tensors[f"{name}/sign"]
        if sign.shape != lo.shape or not np.isin(sign, (-1, 1)).all():
            raise ValueError(f"{name}: expected a sign of 1 or -1 for each of {len(lo)} channels")
        thresholds = Thresholds(values, sign.astype(np.int8), lo, hi, int(facts["low"]))
        return Requantize(name, thresholds, IntFormat(**facts["format"]), tuple(map(str, facts["folded"])))
    if kind in _SIMPLE:
        return _SIMPLE[kind](name, **pairs)
    codes = file.codes[str(facts.get("codes", name))]
    if kind == "Linear":
        return Linear(name, codes.values, _bias(name, tensors), codes.act_format, codes.format)
    if kind == "Conv":
        more: dict[str, Any] = {"bias": _bias(name, tensors)} if facts.get("biased") else {}
        return Conv(
            name, codes.values, codes.act_format, codes.format, **pairs, groups=int(facts.get("groups", 1)), **more
        )
    raise ValueError(f"{name}: an unknown kind of node, {kind!r}")
