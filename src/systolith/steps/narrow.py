"""What accumulators narrower than a network needs would do to its answers (`verify --psum-bits`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.overflow import narrow_accumulators
from systolith.array.spec import ArraySpec
from systolith.network.graph import Conv
from systolith.requests.option import Progress
from systolith.steps.values import optional

if TYPE_CHECKING:
    from torch import Tensor

    from systolith.network.execute import Plan


@dataclass(frozen=True)
class Narrow:
    """Under one kind of overflow: pictures whose class stays, accumulators that change, right answers before and then.

    `text` says so in words.
    """

    images: int
    same_class: int
    changed: int
    accumulators: int
    correct: int | None = field(default=None, metadata=optional())
    correct_exact: int | None = field(default=None, metadata=optional())
    text: str = ""


def narrow_accuracy(
    planned: Plan,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]] | None,
    spec: ArraySpec,
    progress: Progress,
) -> dict[str, Narrow]:
    """What convolutions with accumulators of `spec.psum_bits` would answer, wrapping and saturating.

    Args:
        pixels: uint8 (N, C, H, W).
        labels: (N,), or None.
    """
    import torch

    parts = torch.from_numpy(pixels).split(planned.batch)
    found: dict[str, Narrow] = {}
    exact = torch.cat([_classes(planned, part, None)[0] for part in parts])
    for mode in ("wrap", "saturate"):
        answers, changed, total = [], 0, 0
        for part in parts:
            classes, *counts = _classes(planned, part, replace(spec, overflow=mode))
            answers.append(classes)
            changed, total = changed + counts[0], total + counts[1]
            progress(f"{spec.psum_bits} bits, {mode}", sum(map(len, answers)), len(pixels))
        same = int((torch.cat(answers) == exact).sum())
        text = f"{changed:,} of {total:,} accumulators change, {same} of {len(pixels)} classes stay"
        outcome = Narrow(len(pixels), same, changed, total, text=text)
        if labels is not None:
            right = torch.from_numpy(labels)
            correct, before = (int((given == right).sum()) for given in (torch.cat(answers), exact))
            shares = " against ".join(f"{count / len(pixels):.2%}" for count in (correct, before))
            text = f"{text}, accuracy {shares}"
            outcome = replace(outcome, correct=correct, correct_exact=before, text=text)
        found[mode] = outcome
    return found


def _classes(planned: Plan, part: Tensor, spec: ArraySpec | None) -> tuple[Tensor, int, int]:
    """The classes with accumulators of the array `spec` in every convolution (None: exact ones), how many accumulators
    that changed, and their number."""
    import torch

    from systolith.network.execute import execute

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
