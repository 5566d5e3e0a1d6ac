"""`systolith evaluate`: accuracy of the quantized network, fp32 codes first."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from systolith.cli import common, options
from systolith.cli.options import DEFAULT_MODEL


def evaluate(
    data: Annotated[str, typer.Option("--data", help="A data set: a folder or a hub name.")],
    model: Annotated[str, typer.Argument(help="A shipped model, a model file, or a checkpoint.")] = DEFAULT_MODEL,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only the first so many pictures (0: all).")] = 0,
    as_json: options.Json = False,
) -> None:
    """Accuracy of a model on the test split of a data set, per class, with the confusion matrix."""
    common.require_extra("torch", "torch", "evaluate")
    import numpy as np
    import torch

    from systolith.formats import BadInput
    from systolith.models import load
    from systolith.quant import quant_layers
    from systolith.training.data import load_data
    from systolith.training.loop import predict

    network, run = load(model)
    pictures = load_data(data, "test")
    known = run.get("classes")
    if known and list(pictures.classes) != list(known):
        raise BadInput(f"{pictures.source} has the classes {', '.join(pictures.classes)}, {model} {', '.join(known)}")
    if len(pictures.classes) > network.config.classes:
        raise BadInput(f"{pictures.source} has {len(pictures.classes)} classes, {model} {network.config.classes}")
    total = min(limit, len(pictures)) if limit > 0 else len(pictures)
    images, labels = torch.from_numpy(pictures.images[:total]), pictures.labels[:total]
    begin, answers = time.perf_counter(), []
    with common.progress("evaluating", total) as advance:
        for part in images.split(500):
            answers.append(predict(network, part).numpy())
            advance(sum(map(len, answers)))
    rate = total / (time.perf_counter() - begin)
    # A network may know more classes than the data set names, never fewer.
    size = max(len(pictures.classes), network.config.classes)
    names = [*pictures.classes, *(str(i) for i in range(len(pictures.classes), size))]
    confusion = np.zeros((size, size), dtype=np.int64)
    np.add.at(confusion, (labels, np.concatenate(answers)), 1)
    correct, counts = int(confusion.trace()), confusion.sum(1)
    per_class = {n: int(confusion[i, i]) / int(counts[i]) for i, n in enumerate(names) if counts[i]}
    if as_json:
        common.print_json(
            {
                "accuracy": correct / total,
                "correct": correct,
                "total": total,
                "per_class": per_class,
                "classes": names,
                "confusion": confusion.tolist(),
                "model": model,
                "data": pictures.source,
                "images_per_s": round(rate, 1),
                "run": dict(run),
            }
        )
        return

    how = "quantized, fp32, codes first" if quant_layers(network) else "float"
    width = max(20, *map(len, names))
    print(f"{'is, and is taken for':<{width}}  " + " ".join(f"{n[:6]:>6}" for n in names) + "   right")
    for i, name in enumerate(names):
        if counts[i]:
            row = " ".join(f"{int(n):6d}" for n in confusion[i])
            print(f"{name:<{width}}  {row}  {per_class[name]:6.1%}")
    common.print_rows(
        [
            ("model", model),
            ("data", pictures.source),
            ("speed", f"{rate:.0f} images/s"),
            ("accuracy", f"{correct / total:.2%}: {correct:,} of {total:,} correct ({how})"),
        ]
    )
