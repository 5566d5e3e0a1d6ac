"""`systolith info`: the models, and how each layer sits on an array. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, options

if TYPE_CHECKING:
    from systolith.network import IntegerNetwork
    from systolith.store import ModelFile


def info(
    model: Annotated[
        str | None, typer.Argument(help="A shipped model or a model file; without it, the shipped ones.")
    ] = None,
    array: options.Array = "8x8",
    act_bits: options.ActBits = 4,
    weight_bits: options.WeightBits = 4,
    nodes: Annotated[bool, typer.Option("--nodes", help="List the nodes of the integer network instead.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the shipped models, or the layers of one and how they sit on the array."""
    from systolith.formats import BadInput
    from systolith.network.file import network_of
    from systolith.store import is_checkpoint, load_model_file, model_path, shipped_models

    spec = common.make_spec(array, act_bits, weight_bits, "16", "error")
    if model is None:
        files = {name: load_model_file(path) for name, path in shipped_models().items()}
        if as_json:
            common.print_json({"models": {name: dict(file.run) for name, file in files.items()}})
            return
        common.print_rows([(name, _about(file)) for name, file in files.items()])
        print("systolith info MODEL lists the layers.")
        return
    path = model_path(model)
    if is_checkpoint(path):
        raise BadInput(f"{model}: a checkpoint; expected a model file, such as the run's model.safetensors")
    file = load_model_file(path)
    network = network_of(file, path)
    if nodes:
        if network is None:
            raise BadInput(f"{model}: holds no integer network; `systolith lower` adds it")
        if as_json:
            listed = [dict(zip(common.NODE_HEADINGS, row, strict=True)) for row in network.table()]
            common.print_json({"model": model, "run": dict(file.run), "nodes": listed})
            return
        common.print_table(common.NODE_HEADINGS, network.table())
        return
    layers = [_layer(name, file, spec) for name in file.codes]
    integers = _integers(network) if network is not None else {}
    if as_json:
        common.print_json(
            {"model": model, "run": dict(file.run), "array": str(spec), "layers": layers, "integer_network": integers}
        )
        return
    rows = [(model, _about(file)), ("array", f"{spec}, {act_bits}/{weight_bits}-bit lanes")]
    text = "none in this file; `systolith lower` adds it"
    if integers:
        text = f"{integers['nodes']} nodes, thresholds for {integers['channels']:,} channels (--nodes lists them)"
    common.print_rows([*rows, ("integers", text)])
    right = ("in", "out", "passes")
    headings = ("layer", "in", "out", "kernel", "activations", "weights", "tiles ic x oc", "passes", "on the array")
    table: list[tuple[str, ...]] = [
        (
            row["name"],
            str(row["in_channels"]),
            str(row["out_channels"]),
            "x".join(map(str, row["kernel"])),
            row["act_format"],
            row["weight_format"],
            f"{row['ic_tiles']} x {row['oc_tiles']}",
            f"{row['passes']:,}",
            row["fits"],
        )
        for row in layers
    ]
    common.print_table(headings, table, right)


def _integers(network: IntegerNetwork) -> dict[str, int]:
    channels = sum(len(node.thresholds.values) for node in network.requantizes.values())
    return {"nodes": len(network.steps), "channels": channels}


def _about(file: ModelFile) -> str:
    run, weights = file.run, sum(c.values.size for c in file.codes.values())
    accuracy = f", {run['test_accuracy']:.2%} on {run['test_data']}" if "test_accuracy" in run else ""
    size = f"{len(file.codes)} layers, {weights:,} weights"
    return f"{file.config.get('arch', 'integers only')}, {size}, {run.get('epochs', '?')} epochs{accuracy}"


def _layer(name: str, file: ModelFile, spec: Any) -> dict[str, Any]:
    from dataclasses import replace

    from systolith.array import Mapping
    from systolith.array.spec import lane_misfits
    from systolith.network import Conv

    codes = file.codes[name]
    weight = codes.values if codes.values.ndim == 4 else codes.values[:, :, None, None]
    conv = Conv(name, weight, codes.act_format, codes.format)
    flags = lane_misfits(conv, spec)
    # How it is tiled does not depend on the lanes, nor on the map.
    mapping = Mapping(conv, replace(spec, act_bits=16, weight_bits=16), *conv.kernel)
    one = mapping.ic_tiles == mapping.oc_tiles == 1
    fits = f"needs {' '.join(flags)}" if flags else "one tile" if one else "tiled"
    return {
        "name": name,
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel": list(conv.kernel),
        "act_format": str(conv.act_format),
        "weight_format": str(conv.weight_format),
        "ic_tiles": mapping.ic_tiles,
        "oc_tiles": mapping.oc_tiles,
        "passes": mapping.passes,
        "fits": fits,
    }
