"""`info`: the models, and how each layer sits on an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.network import IntegerNetwork
from systolith.network.file import integers_of, network_of
from systolith.requests.verbs import InfoRequest
from systolith.steps.common import NODE_HEADINGS, find_network, lanes_of
from systolith.steps.sitting import LayerOnArray, in_one_line, layer_on_array
from systolith.steps.values import hidden, optional
from systolith.store import is_checkpoint, load_model_file, model_path, shipped_models


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
        about = {name: in_one_line(file) for name, file in files.items()}
        runs = {name: dict(file.run) for name, file in files.items()}
        return InfoReport(holds=True, verdict=f"{len(files)} models", models=runs, about=about, lanes=lanes)
    model, path = request.model, model_path(request.model)
    network: IntegerNetwork | None
    if path.suffix in (".onnx", ".npz") or is_checkpoint(path):
        network, run = find_network(model, "info")
        file = integers_of(network, run)
    else:
        file = load_model_file(path)
        network = network_of(file, path)
    about = {model: in_one_line(file)}
    if request.nodes:
        if network is None:
            raise BadInput(f"{model}: holds no integer network; `systolith lower` adds it")
        nodes = tuple(dict(zip(NODE_HEADINGS, row, strict=True)) for row in network.table())
        said = f"{len(nodes)} nodes"
        return InfoReport(
            holds=True, verdict=said, model=model, run=dict(file.run), nodes=nodes, about=about, lanes=lanes
        )
    layers = tuple(layer_on_array(name, file, network, spec) for name in file.codes)
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
