"""`systolith vectors`: write the golden vectors of a layer, of your own integers, or of made-up ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from systolith.cli import common, layers, options, stimulus
from systolith.cli.options import DEFAULT_LAYER, DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from systolith.array import ArraySpec
    from systolith.network import Conv


def vectors(
    positional: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="The same as --model.")] = None,
    tensors: Annotated[
        Path | None,
        typer.Option(
            "--tensors",
            help="A .npz with act (C,H,W), weight (O,C,KH,KW), optionally padding, stride, dilation.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help=f"As in `run`. [default: {DEFAULT_MODEL}]")] = None,
    layer: layers.Layers = None,
    image: layers.Images = None,
    data: options.Data = None,
    index: layers.Indices = None,
    made: stimulus.Stimulus = None,
    channels: stimulus.Channels = None,
    size: stimulus.Size = None,
    kernel: stimulus.Kernel = None,
    padding: stimulus.Padding = None,
    stride: stimulus.Stride = None,
    dilation: stimulus.Dilation = None,
    signed_act: stimulus.SignedAct = False,
    most_negative: stimulus.MostNegative = False,
    act_range: stimulus.ActRange = None,
    weight_range: stimulus.WeightRange = None,
    density: stimulus.Density = None,
    seed: stimulus.Seed = None,
    array: options.Array = "8x8",
    act_bits: options.ActBits = 4,
    weight_bits: options.WeightBits = 4,
    psum_bits: Annotated[
        str | None,
        typer.Option(
            "--psum-bits",
            help="Width of the accumulator, or `auto`: the least safe one. [default: 16; of --layer all at least 16]",
        ),
    ] = None,
    overflow: options.Overflow = "error",
    layout: options.LayoutName = "course",
    tiles: layers.Tiles = None,
    limit_nij: layers.LimitNij = None,
    no_psum: layers.NoPsum = False,
    yes: layers.Yes = False,
    jobs: layers.Jobs = None,
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder, or that of several, DIR/LAYER.")] = Path(
        "build/vectors"
    ),
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Write the golden vectors of a model's layers, of your own integers (--tensors), or of a --stimulus."""
    from systolith.store import require_free
    from systolith.vectors import find_layout
    from systolith.vectors.stream import Psums

    require_free(out, force)
    find_layout(layout)
    model = common.one_model(positional, model)
    grow = psum_bits is None and overflow == "error"
    spec = (array, act_bits, weight_bits, psum_bits or "16", overflow)
    others = {"--model": model, "--layer": layer, "--image": image, "--data": data, "--index": index}
    parts = {"--tiles": tiles, "--limit-nij": limit_nij, "--no-psum": no_psum, "--yes": yes, "--jobs": jobs}
    shape = {
        **{"--channels": channels, "--input": size, "--kernel": kernel, "--padding": padding, "--stride": stride},
        **{"--dilation": dilation, "--signed-act": signed_act, "--most-negative": most_negative},
        **{"--act-range": act_range, "--weight-range": weight_range, "--density": density, "--seed": seed},
    }
    if made is not None:
        common.go_without("--stimulus makes its own layer: it", {"--tensors": tensors, **others, **parts})
        stimulus.write_stimulus(made, shape, spec, out, layout, force, as_json)
        return
    common.go_without("a layer of a model or of --tensors (no --stimulus given)", shape)
    if tensors is not None:
        common.go_without("--tensors brings its own layer and activations: it", others)
        found = from_tensors(tensors, spec)
    else:
        found = layers.layers_of(model or DEFAULT_MODEL, layer or DEFAULT_LAYER, image, data, index, spec, grow)
    psums = Psums(not no_psum, limit_nij)
    layers.write_layers(found, out, layout, tiles, psums, yes, jobs, force, as_json)


def from_tensors(
    path: Path, options: tuple[str, int, int, str, str]
) -> Iterator[tuple[str, Conv, NDArray[np.integer], ArraySpec]]:
    """The user's own integers on the array that `options` (of `common.make_spec`) describe, as `layers_of`."""
    import numpy as np

    from systolith.formats import BadInput, IntFormat
    from systolith.network import Conv
    from systolith.network.graph import require_act

    spec = common.make_spec(*options)
    try:
        with np.load(path, allow_pickle=False) as file:
            given = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise BadInput(f"--tensors {path}: no such file") from None
    except Exception as error:  # NumPy and zipfile raise whatever the bytes provoke
        raise BadInput(f"--tensors {path}: not a readable .npz file ({error})") from None
    missing = {"act", "weight"} - set(given)
    if missing:
        raise BadInput(f"--tensors {path}: expected arrays act and weight, missing {', '.join(sorted(missing))}")
    pairs = {}
    for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
        value = np.asarray(given.get(name, default))
        if value.size not in (1, 2) or value.dtype.kind not in "iu":
            raise BadInput(f"--tensors {path}: {name}: expected one or two integers, found {value.tolist()}")
        pair = np.broadcast_to(value.reshape(-1), 2)
        pairs[name] = int(pair[0]), int(pair[1])
    conv = Conv(path.stem, given["weight"], IntFormat(spec.act_bits, signed=False), spec.weight_format, **pairs)
    act = given["act"]
    if act.ndim != 3:
        raise BadInput(f"--tensors {path}: act: expected shape (C, H, W), found {act.shape}")
    require_act(conv, act)
    yield "", conv, act, common.settle(spec, options[3], conv, *act.shape[1:])
