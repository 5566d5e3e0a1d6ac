"""`systolith vectors`: write the golden vectors of a layer, of your own integers, or of made-up ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from systolith.cli import common, options, stimulus
from systolith.cli.options import DEFAULT_LAYER, DEFAULT_MODEL

if TYPE_CHECKING:
    from systolith.array import ArrayResult


def vectors(
    tensors: Annotated[
        Path | None,
        typer.Option(
            "--tensors",
            help="A .npz with act (C,H,W), weight (O,C,KH,KW), optionally padding, stride, dilation.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help=f"As in `run`. [default: {DEFAULT_MODEL}]")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help=f"As in `run`. [default: {DEFAULT_LAYER}]")] = None,
    image: options.Image = None,
    data: options.Data = None,
    index: options.Index = None,
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
    psum_bits: options.PsumBits = "16",
    overflow: options.Overflow = "error",
    layout: options.LayoutName = "course",
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder.")] = Path("build/vectors"),
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Write the golden vectors of a layer of a model, of your own integers (--tensors), or of a --stimulus."""
    from systolith.store import require_free
    from systolith.vectors import find_layout, write_bundle

    require_free(out, force)
    find_layout(layout)
    spec = (array, act_bits, weight_bits, psum_bits, overflow)
    others = {"--model": model, "--layer": layer, "--image": image, "--data": data, "--index": index}
    shape = {
        **{"--channels": channels, "--input": size, "--kernel": kernel, "--padding": padding, "--stride": stride},
        **{"--dilation": dilation, "--signed-act": signed_act, "--most-negative": most_negative},
        **{"--act-range": act_range, "--weight-range": weight_range, "--density": density, "--seed": seed},
    }
    if made is not None:
        common.go_without("--stimulus makes its own layer: it", {"--tensors": tensors, **others})
        stimulus.write_stimulus(made, shape, spec, out, layout, force, as_json)
        return
    common.go_without("a layer of a model or of --tensors (no --stimulus given)", shape)
    if tensors is not None:
        common.go_without("--tensors brings its own layer and activations: it", others)
        result = from_tensors(tensors, spec)
    else:
        from systolith.cli.run import find_layer, layer_on_array
        from systolith.network.reference import run

        common.make_spec(*spec)
        network, _ = common.find_network(model or DEFAULT_MODEL, "vectors")
        node = find_layer(network, layer or DEFAULT_LAYER)
        pixels, source, notes = common.find_picture(image, data, index)
        for text in notes:
            common.note(f"{source}: {text}")
        (taken,) = network[node.name].inputs
        result = layer_on_array(network, node.name, run(network, pixels[None], taken)[taken][0], spec)
    warning = result.mapping.bound_warning()
    if warning:
        common.note(f"warning: {warning}")
    written = write_bundle(result, out, layout, force)
    if as_json:
        common.print_json(
            {
                "folder": str(out),
                "files": written.files,
                "words": written.words,
                "bytes": written.bytes,
                "layout": layout,
                "psum_bits": result.mapping.spec.psum_bits,
                "warnings": [warning] if warning else [],
            }
        )
    else:
        print(f"{written.files} files in {out}, {written.words:,} words, {written.bytes:,} bytes, layout {layout}")


def from_tensors(path: Path, options: tuple[str, int, int, str, str]) -> ArrayResult:
    """The user's own integers on the array that `options` (of `common.make_spec`) describe."""
    import numpy as np

    from systolith.array import run_layer
    from systolith.formats import BadInput, IntFormat
    from systolith.network import Conv

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
    return run_layer(conv, act, common.settle(spec, options[3], conv, *act.shape[1:]))
