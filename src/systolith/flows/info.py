"""`info`: the models, and how each layer sits on an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from systolith.array import ArraySpec
from systolith.array import Mapping as ArrayMapping
from systolith.array.spec import lane_misfits
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.network import Conv, IntegerNetwork
from systolith.network.file import integers_of, network_of
from systolith.requests.verbs import InfoRequest
from systolith.steps.common import NODE_HEADINGS, find_network, lanes_of
from systolith.steps.values import hidden, optional
from systolith.store import ModelFile, is_checkpoint, load_model_file, model_path, shipped_models


@dataclass(frozen=True)
class LayerOnArray:
    """A layer and how it sits on the array.

    Attributes:
        ic_tiles, oc_tiles: of its channels.
        tiles: pairs of the two of which passes are made: all, or of a grouped layer those that hold a weight.
        utilisation: the share of the multipliers that have a weight, over all passes, 0..1; what clocks between
            positions take is not in it.
        fits: "one tile", "tiled", or the options that it needs.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    act_format: str
    weight_format: str
    ic_tiles: int
    oc_tiles: int
    passes: int
    groups: int
    tiles: int
    utilisation: float
    fits: str


@dataclass(frozen=True, kw_only=True)
class InfoReport(Report):
    """The shipped models (`models`: the metadata of each), or one model: its run, and its layers or nodes.

    Attributes:
        integer_network: numbers of nodes and of channels with thresholds; empty where the file holds none.
        about: by model, one line.
    """

    verb: ClassVar[str] = "info"
    models: Mapping[str, Any] | None = field(default=None, metadata=optional())
    model: str | None = field(default=None, metadata=optional())
    run: Mapping[str, Any] | None = field(default=None, metadata=optional())
    array: str | None = field(default=None, metadata=optional())
    layers: tuple[LayerOnArray, ...] | None = field(default=None, metadata=optional())
    integer_network: Mapping[str, int] | None = field(default=None, metadata=optional())
    nodes: tuple[Mapping[str, str], ...] | None = field(default=None, metadata=optional())
    about: Mapping[str, str] = field(metadata=hidden())
    lanes: tuple[int, int] = field(metadata=hidden())


@flow(InfoRequest)
def info(request: InfoRequest) -> InfoReport:
    """The shipped models, or the layers of one and how they sit on the array, or its nodes.

    Raises:
        BadInput: no such model file, or nodes of a file that holds no integer network.
    """
    spec = lanes_of(request)
    lanes = request.act_bits, request.weight_bits
    if request.model is None:
        files = {name: load_model_file(path) for name, path in shipped_models().items()}
        about = {name: _about(file) for name, file in files.items()}
        runs = {name: dict(file.run) for name, file in files.items()}
        return InfoReport(holds=True, verdict=f"{len(files)} models", models=runs, about=about, lanes=lanes)
    model, path = request.model, model_path(request.model)
    network: IntegerNetwork | None
    if path.suffix == ".onnx" or is_checkpoint(path):
        network, run = find_network(model, "info")
        file = integers_of(network, run)
    else:
        file = load_model_file(path)
        network = network_of(file, path)
    about = {model: _about(file)}
    if request.nodes:
        if network is None:
            raise BadInput(f"{model}: holds no integer network; `systolith lower` adds it")
        nodes = tuple(dict(zip(NODE_HEADINGS, row, strict=True)) for row in network.table())
        said = f"{len(nodes)} nodes"
        return InfoReport(
            holds=True, verdict=said, model=model, run=dict(file.run), nodes=nodes, about=about, lanes=lanes
        )
    layers = tuple(_layer(name, file, network, spec) for name in file.codes)
    return InfoReport(
        holds=True,
        verdict=f"{len(layers)} layers",
        model=model,
        run=dict(file.run),
        array=str(spec),
        layers=layers,
        integer_network=_integers(network) if network is not None else {},
        about=about,
        lanes=lanes,
    )


def _integers(network: IntegerNetwork) -> dict[str, int]:
    channels = sum(len(node.thresholds.values) for node in network.requantizes.values())
    return {"nodes": len(network.steps), "channels": channels}


def _about(file: ModelFile) -> str:
    run, weights = file.run, sum(c.values.size for c in file.codes.values())
    accuracy = f", {run['test_accuracy']:.2%} on {run['test_data']}" if "test_accuracy" in run else ""
    size = f"{len(file.codes)} layers, {weights:,} weights"
    return f"{file.config.get('arch', 'integers only')}, {size}, {run.get('epochs', '?')} epochs{accuracy}"


def _layer(name: str, file: ModelFile, network: IntegerNetwork | None, spec: ArraySpec) -> LayerOnArray:
    codes = file.codes[name]
    weight = codes.values if codes.values.ndim == 4 else codes.values[:, :, None, None]
    node = network.layers.get(name) if network is not None else None
    groups = node.groups if isinstance(node, Conv) else 1  # the weights alone do not say them
    conv = Conv(name, weight, codes.act_format, codes.format, groups=groups)
    flags = lane_misfits(conv, spec)
    # How it is tiled does not depend on the lanes, nor on the map.
    mapping = ArrayMapping(conv, replace(spec, act_bits=16, weight_bits=16), *conv.kernel)
    one = mapping.ic_tiles == mapping.oc_tiles == 1
    fits = f"needs {' '.join(flags)}" if flags else "one tile" if one else "tiled"
    formats, tiles = (str(conv.act_format), str(conv.weight_format)), (mapping.ic_tiles, mapping.oc_tiles)
    used = weight.size / (mapping.passes * spec.rows * spec.cols)
    sits = *formats, *tiles, mapping.passes, groups, int(mapping.made.sum()), used, fits
    return LayerOnArray(name, conv.in_channels, conv.out_channels, conv.kernel, *sits)
