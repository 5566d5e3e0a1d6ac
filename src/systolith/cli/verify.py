"""`systolith verify`: the trained network = the integer network, proved and compared code by code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, options
from systolith.cli.options import DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from systolith.array import ArraySpec
    from systolith.network.execute import Plan

SEEDED = 256
EXECUTORS = ("fast", "reference", "onnx")


def verify(
    model: Annotated[str, typer.Argument(help="A shipped model, a model file, or a checkpoint.")] = DEFAULT_MODEL,
    network: Annotated[
        Path | None, typer.Option("--network", help="The integer network's file. [default: the model's own]")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="A data set: a folder or a hub name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only the first so many pictures (0: all).")] = 0,
    executor: Annotated[
        str, typer.Option("--executor", help="What runs the integers: fast, reference (NumPy), or onnx (onnxruntime).")
    ] = "fast",
    psum_bits: Annotated[
        int | None, typer.Option("--psum-bits", help="Also say what accumulators of so many bits would do to accuracy.")
    ] = None,
    array: options.Array = "8x8",
    as_json: options.Json = False,
) -> None:
    """Prove every threshold of the integer network, and compare every activation code with the trained network's."""
    common.require_extra("torch", "torch", "verify")
    import numpy as np

    from systolith.array.spec import ArraySpec, parse_size
    from systolith.formats import BadInput
    from systolith.frontends.lowering import lower
    from systolith.frontends.verify import by_onnx, by_plan, by_reference, compare_pictures, least_psum_bits, prove
    from systolith.models import load
    from systolith.network.execute import plan
    from systolith.network.file import load_network

    if executor not in EXECUTORS:
        raise BadInput(f"--executor {executor!r}: expected one of {', '.join(EXECUTORS)}")
    if executor == "onnx":
        for module in ("onnx", "onnxruntime"):
            common.require_extra(module, "onnx", "verify --executor onnx")
    if psum_bits is not None:
        rows, cols = parse_size(array)
        spec = ArraySpec(rows, cols, 8, 8, psum_bits)  # lanes for every layer; they do not change a sum
    trained, run = load(model)
    lowered = lower(trained)
    own = load_network(network) if network is not None else common.stored_network(model)[0]
    source = f"{network}" if network else "in the model file" if own is not None else "lowered now"
    integers = own or lowered.network
    pixels, labels, pictures = _pictures(data, limit, integers.values[integers.input.name].shape)
    classes = run.get("classes")
    if labels is not None and int(labels.max()) >= integers.classes:
        raise BadInput(
            f"{pictures} has labels up to {labels.max()}, the network {integers.classes} classes ({classes})"
        )

    proofs = prove(lowered, integers)
    begin = time.perf_counter()
    planned = plan(integers)
    made = {
        "fast": lambda: by_plan(planned),
        "reference": lambda: by_reference(integers),
        "onnx": lambda: by_onnx(integers),
    }
    with common.progress("verifying", len(pixels)) as advance:
        compared = compare_pictures(lowered, integers, made[executor](), pixels, advance)
    seconds = time.perf_counter() - begin
    equalities = [*proofs, *compared.equalities()]
    failed = next((e for e in equalities if not e.holds), None)
    codes = compared.equalities()[0]
    correct = {}
    if labels is not None:
        for name, answers in (("trained", compared.trained), ("integer", compared.integer)):
            correct[name] = int((np.concatenate(answers) == labels).sum())
    widths = least_psum_bits(integers)
    narrow: dict[str, Any] = {}
    if psum_bits is not None:
        narrow = _narrow(planned, pixels, labels, limit, spec)

    images = f"{compared.images:,} images"
    if failed is None:
        verdict = f"proved and equal: 0 of {codes.compared:,} codes differ, {images}"
    elif failed is codes or failed in compared.equalities():
        verdict = f"NOT EQUAL: {codes.different:,} of {codes.compared:,} codes differ, {images}"
    else:
        verdict = f"NOT PROVED: {failed.name}: {failed}"[:190]
    thresholds = [e for e in proofs if e.name.endswith("thresholds")]
    weights = [e for e in proofs if not e.name.endswith("thresholds")]
    if as_json:
        common.print_json(
            {
                "model": model,
                "network": source,
                "executor": executor,
                "pictures": pictures,
                "images": compared.images,
                "codes": codes.compared,
                "different": codes.different,
                "first": codes.first,
                "layers": {n: {"compared": c, "different": d} for n, (c, d) in compared.codes.items()},
                "proofs": [
                    {"name": e.name, "compared": e.compared, "different": e.different, "first": e.first} for e in proofs
                ],
                "logits": {"compared": compared.logits[0], "different": compared.logits[1]},
                "correct": correct,
                "total": len(pixels),
                "least_psum_bits": widths,
                "narrow": narrow,
                "images_per_s": round(compared.images / seconds, 1),
                "holds": failed is None,
            }
        )
    else:
        lines = [
            ("model", f"{model}, trained network against integer network ({source})"),
            ("pictures", pictures),
            ("executor", f"{executor}: {planned}" if executor == "fast" else executor),
            ("thresholds", _sum(thresholds, "points, both sides of each threshold of every channel")),
            ("codes used", _sum(weights, "weights, biases and pixel codes")),
            ("least psum", ", ".join(f"{name} {bits}" for name, bits in widths.items()) + " bits"),
            (
                "codes",
                f"{codes.different:,} of {codes.compared:,} differ, {images}, {compared.images / seconds:.0f} images/s",
            ),
            ("logits", f"{compared.logits[1]:,} of {compared.logits[0]:,} differ"),
        ]
        if correct:
            total = len(pixels)
            said = (f"{name} network {n / total:.2%} ({n:,} of {total:,})" for name, n in correct.items())
            lines.append(("accuracy", ", ".join(said)))
        for mode, outcome in narrow.items():
            lines.append((f"{psum_bits} bits", f"{mode}: {outcome['text']}"))
        if codes.first:
            lines.append(("first", codes.first))
        common.print_rows([*lines, ("verdict", verdict)])
    if failed is not None:
        raise typer.Exit(1)


def _sum(equalities: list[Any], what: str) -> str:
    compared, different = (sum(getattr(e, n) for e in equalities) for n in ("compared", "different"))
    first = next((f"; {e.name} {e.first}" for e in equalities if e.different), "")
    return f"{compared - different:,} of {compared:,} equal: {what}{first}"


def _pictures(
    data: str | None, limit: int, size: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.integer] | None, str]:
    """uint8 pictures, their labels (None for seeded noise), and what to call them."""
    import numpy as np

    if data is None:
        count = limit or SEEDED
        pixels = np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8)
        return pixels, None, f"{count:,} of seeded random pixels (--data DIR takes real ones)"
    from systolith.training.data import load_data

    test = load_data(data, "test")
    total = min(limit, len(test)) if limit else len(test)
    return test.images[:total], np.asarray(test.labels[:total]), f"the first {total:,} of {test.source}"


def _narrow(
    planned: Plan, pixels: NDArray[np.uint8], labels: NDArray[np.integer] | None, limit: int, spec: ArraySpec
) -> dict[str, dict[str, Any]]:
    """What convolutions with narrow accumulators would answer, wrapping and saturating."""
    from dataclasses import replace

    import torch

    pixels = pixels[: limit or SEEDED]
    parts = torch.from_numpy(pixels).split(planned.batch)
    found: dict[str, dict[str, Any]] = {}
    exact = torch.cat([_narrow_classes(planned, part, None)[0] for part in parts])
    for mode in ("wrap", "saturate"):
        answers, changed, total = [], 0, 0
        with common.progress(f"{spec.psum_bits} bits, {mode}", len(pixels)) as advance:
            for part in parts:
                classes, *counts = _narrow_classes(planned, part, replace(spec, overflow=mode))
                answers.append(classes)
                changed, total = changed + counts[0], total + counts[1]
                advance(sum(map(len, answers)))
        same = int((torch.cat(answers) == exact).sum())
        outcome: dict[str, Any] = {"images": len(pixels), "same_class": same, "changed": changed, "accumulators": total}
        text = f"{changed:,} of {total:,} accumulators change, {same} of {len(pixels)} classes stay"
        if labels is not None:
            right = torch.from_numpy(labels[: len(pixels)])
            outcome["correct"] = int((torch.cat(answers) == right).sum())
            outcome["correct_exact"] = int((exact == right).sum())
            shares = (f"{outcome[key] / len(pixels):.2%}" for key in ("correct", "correct_exact"))
            text += f", accuracy {' against '.join(shares)}"
        found[mode] = {**outcome, "text": text}
    return found


def _narrow_classes(planned: Plan, part: Tensor, spec: ArraySpec | None) -> tuple[Tensor, int, int]:
    """The classes with accumulators of the array `spec` in every convolution (None: exact ones), how many accumulators
    that changed, and their number."""
    import torch

    from systolith.array.overflow import narrow_accumulators
    from systolith.network.execute import execute
    from systolith.network.graph import Conv

    network = planned.network
    seen: dict[str, Tensor] = {}
    changed = total = 0

    def narrowed(name: str, result: Tensor) -> Tensor | None:
        nonlocal changed, total
        seen[name] = result
        step = network[name]
        if spec is None or not isinstance(step.node, Conv):
            return None
        acc = result.to(torch.int64).numpy()
        left = narrow_accumulators(step.node, seen[step.inputs[0]].to(torch.int64).numpy(), acc, spec)
        changed, total = changed + int((left != acc).sum()), total + acc.size
        return torch.from_numpy(left).to(result.dtype).contiguous(memory_format=torch.channels_last)

    return execute(planned, part, narrowed).argmax(1), changed, total
