"""`systolith run`: a picture through the network, one layer onto the array, every step compared, vectors written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, options
from systolith.cli.options import DEFAULT_LAYER, DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from systolith.array import ArrayResult
    from systolith.network import IntegerNetwork


def run(
    model: options.ModelName = DEFAULT_MODEL,
    layer: options.LayerName = DEFAULT_LAYER,
    image: options.Image = None,
    data: options.Data = None,
    index: options.Index = None,
    array: options.Array = "8x8",
    act_bits: options.ActBits = 4,
    weight_bits: options.WeightBits = 4,
    psum_bits: options.PsumBits = "16",
    overflow: options.Overflow = "error",
    layout: options.LayoutName = "course",
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder.")] = Path("build/run"),
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Take a picture through a trained network, map one layer on the array, check every step, write golden vectors."""
    common.require_extra("torch", "torch", "run")
    from dataclasses import replace

    from systolith.array import clocks
    from systolith.equality import Equality, compare
    from systolith.frontends.lowering import lower
    from systolith.frontends.torch import recover
    from systolith.frontends.verify import compare_pictures, of_results, prove
    from systolith.models import load
    from systolith.network.reference import run as execute
    from systolith.store import require_free
    from systolith.vectors import find_layout, verify_bundle, write_bundle

    require_free(out, force)
    find_layout(layout)
    options = (array, act_bits, weight_bits, psum_bits, overflow)
    common.make_spec(*options)
    pixels, source, notes = common.find_picture(image, data, index)
    for text in notes:
        common.note(f"{source}: {text}")
    trained, metadata = load(model)
    recovered = recover(trained, layer, pixels)
    lowered = lower(trained)
    network = common.stored_network(model)[0] or lowered.network
    proofs = prove(lowered, network)
    integers = execute(network, pixels[None])
    compared = compare_pictures(lowered, network, lambda _: of_results(network, integers), pixels[None])
    codes, logits, _ = compared.equalities()
    (taken,), last = network[layer].inputs, network.steps[-1].inputs[0]
    result = layer_on_array(network, layer, integers[taken][0], options)
    facts = {
        "model": {"name": model, "run": dict(metadata)},
        "picture": {"source": source, "notes": list(notes)},
        "prediction": _guesses(recovered.logits[0]),
        "integer_prediction": _guesses(integers[last][0]),
        "layer": _facts(result),
    }
    mapping = result.mapping
    name = "integer network: tables, weights, thresholds = the trained network's"
    different = next((e.first for e in proofs if e.different), "")
    equalities = [
        Equality(name, sum(e.compared for e in proofs), sum(e.different for e in proofs), different),
        replace(codes, name="integer network: every layer's codes = the trained network's"),
        replace(logits, name="integer network: logits = the trained network's"),
        recovered.match,
        compare("activations on the array = the trained layer's", recovered.act[0], result.act),
        compare("integer convolution = the network's accumulators", recovered.network_acc, recovered.acc),
        result.check_psums(),
        compare("array outputs = the network's accumulators", recovered.network_acc[0], result.out),
        result.check(),
    ]
    written = write_bundle(result, out, layout, force)
    equalities += verify_bundle(out)
    holds = all(e.holds for e in equalities)
    times, (pass_bits, out_bits) = clocks(mapping), mapping.least_psum_bits()
    warning = mapping.bound_warning()
    if warning:
        common.note(f"warning: {warning}")
    total = sum(e.compared for e in equalities)
    if holds:
        verdict = f"all equal: {total:,} elements in {len(equalities)} comparisons"
    else:
        wrong = next(e for e in equalities if not e.holds)
        verdict = f"NOT EQUAL: {wrong.name}: {wrong}"[:180]
    if as_json:
        common.print_json(
            {
                **facts,
                "array": {
                    "size": str(mapping.spec),
                    "psum_bits": mapping.spec.psum_bits,
                    "passes": mapping.passes,
                },
                "ranges": _ranges(result),
                "least_psum_bits": {"pass": pass_bits, "accumulated": out_bits},
                "recovered": {
                    "max_difference": recovered.max_difference,
                    "mean_difference": recovered.mean_difference,
                },
                "clocks": {"whole_map": times.whole_map, "useful": times.useful},
                "utilisation": {"whole_map": times.utilisation, "useful": times.utilisation_useful},
                "equalities": [
                    {"name": e.name, "compared": e.compared, "different": e.different, "first": e.first}
                    for e in equalities
                ],
                "warnings": [warning] if warning else [],
                "bundle": {
                    "folder": str(out),
                    "files": written.files,
                    "words": written.words,
                    "bytes": written.bytes,
                },
                "layout": layout,
                "holds": holds,
            }
        )
    else:
        rows = _header_rows(facts, result)
        rows += [
            (
                "psum width",
                f"least safe: {pass_bits} bits a pass, {out_bits} accumulated; given: {mapping.spec.psum_bits}",
            ),
            (
                "recovered",
                f"max |difference| {recovered.max_difference:g}, mean {recovered.mean_difference:g}",
            ),
            (
                "clocks",
                f"{times.whole_map:,} streaming the whole padded map, {times.useful:,} only the useful nij",
            ),
            (
                "utilisation",
                f"{times.utilisation:.1%} of the multipliers, {times.utilisation_useful:.1%} with useful nij",
            ),
        ]
        rows += [("equal" if i == 0 else "", f"{e.name}: {e}") for i, e in enumerate(equalities)]
        size = f"{written.bytes / 1e6:.2f} MB" if written.bytes >= 1e6 else f"{written.bytes / 1e3:.0f} kB"
        rows += [("files", f"{written.files} in {out}, {written.words:,} words, {size}, layout {layout}")]
        rows += [("verdict", verdict)]
        common.print_rows(rows)
    if not holds:
        raise typer.Exit(1)


def layer_on_array(
    network: IntegerNetwork, layer: str, act: NDArray[np.integer], array: tuple[str, int, int, str, str]
) -> ArrayResult:
    """One layer of an integer network on the array.

    Args:
        network: the network.
        layer: one with weights.
        act: what it takes, codes (C, H, W) or (F,).
        array: the options of `common.make_spec`.
    """
    from systolith.array import run_layer

    spec = common.make_spec(*array)
    conv, codes = common.as_conv(common.find_layer(network, layer), act)
    return run_layer(conv, codes, common.settle(spec, array[3], conv, *codes.shape[1:]))


def _guesses(logits: NDArray[Any]) -> dict[str, Any]:
    """Class, name, and the name of the second, of logits (classes,)."""
    import numpy as np

    from systolith.pictures import CIFAR10_CLASSES

    order = np.argsort(-logits, kind="stable")
    names = CIFAR10_CLASSES if len(order) == 10 else tuple(map(str, range(len(order))))
    return {"class": int(order[0]), "name": names[order[0]], "second": names[order[1]]}


def _facts(result: ArrayResult) -> dict[str, Any]:
    """The layer, for the screen."""
    mapping = result.mapping
    conv = mapping.conv
    return {
        "name": conv.name,
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel": list(conv.kernel),
        "input": [mapping.height, mapping.width],
        "padded": list(mapping.padded_shape),
        "output": list(mapping.output_shape),
        "act_format": str(conv.act_format),
        "weight_format": str(conv.weight_format),
    }


def _ranges(result: ArrayResult) -> dict[str, list[int]]:
    tensors = {
        "act": result.act,
        "weight": result.mapping.conv.weight,
        "psum": result.psum,
        "out": result.out,
    }
    return {name: [int(t.min()), int(t.max())] for name, t in tensors.items()}


def _header_rows(facts: dict[str, Any], result: ArrayResult) -> list[tuple[str, str]]:
    mapping, spec, run = result.mapping, result.mapping.spec, facts["model"]["run"]
    conv, layer, p, q = mapping.conv, facts["layer"], facts["prediction"], facts["integer_prediction"]
    trained = f", {run['test_accuracy']:.2%} on {run['test_data']}" if "test_accuracy" in run else ""
    low = {name: f"{a}..{b}" for name, (a, b) in _ranges(result).items()}
    size = "x".join(map(str, layer["input"])) + " map, padded " + "x".join(map(str, layer["padded"]))
    kernel = "x".join(map(str, conv.kernel))
    return [
        ("model", f"{facts['model']['name']}{trained}"),
        ("picture", facts["picture"]["source"]),
        ("trained", f"the trained network sees {p['name']} (second: {p['second']})"),
        ("integers", f"the integer network sees {q['name']} (second: {q['second']})"),
        (
            "layer",
            f"{conv.name}: {conv.in_channels} -> {conv.out_channels} channels, {kernel} kernel, {size}",
        ),
        ("formats", f"activations {conv.act_format}, weights {conv.weight_format}"),
        (
            "array",
            f"{spec} weight stationary, {spec.act_bits}-bit activation and {spec.weight_bits}-bit weight lanes, "
            f"{spec.psum_bits}-bit psums (overflow: {spec.overflow})",
        ),
        (
            "passes",
            f"{mapping.passes:,} = {mapping.ic_tiles} ic x {mapping.oc_tiles} oc tiles x {mapping.kijs} kij",
        ),
        (
            "ranges",
            f"activations {low['act']}, weights {low['weight']}, psums {low['psum']}, outputs {low['out']}",
        ),
    ]
