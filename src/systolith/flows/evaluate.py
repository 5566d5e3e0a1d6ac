"""`evaluate`: accuracy of the quantized network, fp32, codes first."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.verbs import EvaluateRequest
from systolith.steps.common import require_extra
from systolith.steps.predict import FLOAT, predictor
from systolith.steps.values import hidden

SHOWN = 24
"""Pictures with a wrong answer that a report keeps."""


@dataclass(frozen=True, eq=False)
class WrongAnswer:
    """A picture, uint8 (C, H, W), what it is of and what it is taken for, and by how much that score is larger."""

    pixels: NDArray[np.uint8]
    label: str
    answer: str
    margin: float


@dataclass(frozen=True, kw_only=True)
class EvaluateReport(Report):
    """How often a network is right.

    Attributes:
        accuracy, standard_error: share of right answers p, 0..1, and how far chance moves it: sqrt(p*(1 - p)/total).
        correct, total: pictures.
        per_class: by the class that a picture is of.
        classes: names, in the order of the confusion matrix.
        confusion: int64 (class, answer).
        model, data, images_per_s, run: what was measured, how fast, and the metadata of the model's run.
        quantized: the network has quantized layers.
        worst: the wrong answers that are surest, at most `SHOWN`, the worst first.
    """

    verb: ClassVar[str] = "evaluate"
    accuracy: float
    standard_error: float
    correct: int
    total: int
    per_class: Mapping[str, float]
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    model: str
    data: str
    images_per_s: float
    run: Mapping[str, Any]
    quantized: bool = field(metadata=hidden())
    worst: tuple[WrongAnswer, ...] = field(metadata=hidden(), repr=False)


@flow(EvaluateRequest)
def evaluate(request: EvaluateRequest) -> EvaluateReport:
    """Measure a model on the test split of a data set: fp32, codes first.

    Returns:
        Accuracy with its standard error, per class, and the confusion matrix.

    Raises:
        BadInput: no such model or data, or classes that are not the model's.

    Examples:
        >>> import systolith as sl
        >>> report = sl.evaluate("vgg16-w4a4-s8", data="pictures")
        >>> report.total, report.correct
        (1, 1)
    """
    require_extra("torch", "torch", "evaluate")
    import torch

    from systolith.training.data import load_data

    model = request.model if isinstance(request.model, str) else type(request.model).__name__
    predict, most, run, how = predictor(request.model)
    pictures = load_data(request.data, "test")
    known = run.get("classes")
    if known and list(pictures.classes) != list(known):
        raise BadInput(f"{pictures.source} has the classes {', '.join(pictures.classes)}, {model} {', '.join(known)}")
    if len(pictures.classes) > most:
        raise BadInput(f"{pictures.source} has {len(pictures.classes)} classes, {model} {most}")
    total = min(request.limit, len(pictures)) if request.limit > 0 else len(pictures)
    images, labels = torch.from_numpy(pictures.images[:total]), pictures.labels[:total]
    begin, found, margin = time.perf_counter(), np.zeros(total, dtype=np.int64), np.zeros(total)
    for first in range(0, total, 500):
        part = slice(first, min(first + 500, total))
        scores = predict(images[part])
        found[part] = scores.argmax(1)
        margin[part] = scores.max(1) - scores[np.arange(len(scores)), labels[part]]
        request.progress("evaluating", part.stop, total)
    rate = total / (time.perf_counter() - begin)
    # A network may know more classes than the data set names, never fewer.
    size = max(len(pictures.classes), most)
    names = (*pictures.classes, *(str(i) for i in range(len(pictures.classes), size)))
    confusion = np.zeros((size, size), dtype=np.int64)
    np.add.at(confusion, (labels, found), 1)
    shown = [n for n in np.argsort(-margin, kind="stable")[:SHOWN].tolist() if found[n] != labels[n]]
    correct, counts = int(confusion.trace()), confusion.sum(1)
    accuracy = correct / total
    error = math.sqrt(accuracy * (1 - accuracy) / total)
    return EvaluateReport(
        holds=True,
        verdict=f"{accuracy:.2%} +- {error:.2%}: {correct:,} of {total:,} correct ({how})",
        accuracy=accuracy,
        standard_error=error,
        correct=correct,
        total=total,
        per_class={name: int(confusion[i, i]) / int(counts[i]) for i, name in enumerate(names) if counts[i]},
        classes=names,
        confusion=confusion,
        model=model,
        data=pictures.source,
        images_per_s=round(rate, 1),
        run=dict(run),
        quantized=how != FLOAT,
        worst=tuple(
            WrongAnswer(pictures.images[n], names[labels[n]], names[found[n]], float(margin[n])) for n in shown
        ),
    )
