"""`systolith info`: the models, and how each layer sits on an array. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, options

if TYPE_CHECKING:
    from systolith.store import ModelFile


def info(
    model: Annotated[
        str | None, typer.Argument(help="A shipped model or a model file; without it, the shipped ones.")
    ] = None,
    array: options.Array = "8x8",
    act_bits: options.ActBits = 4,
    weight_bits: options.WeightBits = 4,
    as_json: options.Json = False,
) -> None:
    """List the shipped models, or the layers of one and how they sit on the array."""
    from pathlib import Path

    from systolith.formats import BadInput
    from systolith.store import load_model_file, shipped_models

    spec = common.make_spec(array, act_bits, weight_bits, "16", "error")
    shipped = shipped_models()
    if model is None:
        files = {name: load_model_file(path) for name, path in shipped.items()}
        if as_json:
            common.print_json({"models": {name: dict(file.run) for name, file in files.items()}})
            return
        common.print_rows([(name, _about(file)) for name, file in files.items()])
        print("systolith info MODEL lists the layers.")
        return
    if model not in shipped and not Path(model).is_file():
        raise BadInput(f"no model {model!r}: expected one of {', '.join(shipped)}, or the path of a model file")
    file = load_model_file(shipped.get(model, Path(model)))
    layers = [_layer(name, file, spec) for name in file.codes]
    if as_json:
        common.print_json({"model": model, "run": dict(file.run), "array": str(spec), "layers": layers})
        return
    common.print_rows([(model, _about(file)), ("array", f"{spec}, {act_bits}/{weight_bits}-bit lanes")])
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in (
        "layer",
        "in",
        "out",
        "kernel",
        "activations",
        "weights",
        "tiles ic x oc",
        "passes",
        "on the array",
    ):
        table.add_column(heading, justify="right" if heading in ("in", "out", "passes") else "left")
    for row in layers:
        table.add_row(
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
    Console(highlight=False, markup=False, width=None if Console().is_terminal else 120).print(table)


def _about(file: ModelFile) -> str:
    run, weights = file.run, sum(c.values.size for c in file.codes.values())
    accuracy = f", {run['test_accuracy']:.2%} on {run['test_data']}" if "test_accuracy" in run else ""
    size = f"{len(file.codes)} layers, {weights:,} weights"
    return f"{file.config['arch']}, {size}, {run.get('epochs', '?')} epochs{accuracy}"


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
