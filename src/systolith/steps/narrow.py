"""What accumulators narrower than a network needs would do to its answers (`verify --psum-bits`, `explore --data`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.overflow import Adding, narrow_accumulators
from systolith.array.spec import ArraySpec
from systolith.network.graph import Conv, Linear
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
    found: dict[str, Narrow] = {}
    exact = answers(planned, pixels, {})[0]
    for mode in ("wrap", "saturate"):
        adding = Adding(replace(spec, overflow=mode))
        addings = {step.name: adding for step in planned.network.steps if isinstance(step.node, Conv)}

        def done(count: int, mode: str = mode) -> None:
            progress(f"{spec.psum_bits} bits, {mode}", count, len(pixels))

        classes, changed, total = answers(planned, pixels, addings, done)
        same = int((classes == exact).sum())
        text = f"{changed:,} of {total:,} accumulators change, {same} of {len(pixels)} classes stay"
        outcome = Narrow(len(pixels), same, changed, total, text=text)
        if labels is not None:
            correct, before = (int((given == labels).sum()) for given in (classes, exact))
            shares = " against ".join(f"{count / len(pixels):.2%}" for count in (correct, before))
            text = f"{text}, accuracy {shares}"
            outcome = replace(outcome, correct=correct, correct_exact=before, text=text)
        found[mode] = outcome
    return found


def answers(
    planned: Plan,
    pixels: NDArray[np.uint8],
    addings: Mapping[str, Adding],
    done: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], int, int]:
    """The class of each picture with narrow accumulators, how many accumulators change by them, and of how many.

    Args:
        pixels: uint8 (N, C, H, W).
        addings: of the layers that have narrow ones; those of all others are exact.
        done: called with how many pictures are done.

    Returns:
        int64 (N,), and two counts.
    """
    import torch

    found: list[NDArray[np.int64]] = []
    changed = total = 0
    for part in torch.from_numpy(pixels).split(planned.batch):
        classes, *counts = _answers(planned, part, addings)
        found.append(classes)
        changed, total = changed + counts[0], total + counts[1]
        done(sum(map(len, found)))
    return np.concatenate(found), changed, total


def _answers(planned: Plan, part: Tensor, addings: Mapping[str, Adding]) -> tuple[NDArray[np.int64], int, int]:
    """Of pictures that are worked out together."""
    import torch

    from systolith.network.execute import execute

    network = planned.network
    seen: dict[str, Tensor] = {}
    changed = total = 0

    def narrowed(name: str, result: Tensor) -> Tensor | None:
        nonlocal changed, total
        seen[name] = result
        if name not in addings:
            return None
        (taken,), how = network[name].inputs, addings[name]
        acc, act = (one.to(torch.int64).numpy() for one in (result, seen[taken]))
        conv = network.layers[name]
        if isinstance(conv, Linear):
            conv, acc, act = conv.as_conv(), acc[..., None, None], act.reshape(len(act), -1, 1, 1)
        left = narrow_accumulators(conv, act, acc, how.spec, how.packed, how.parts)
        changed, total = changed + int((left != acc).sum()), total + acc.size
        given = torch.from_numpy(left.reshape(result.shape)).to(result.dtype)
        return given.contiguous(memory_format=torch.channels_last) if given.ndim == 4 else given

    return execute(planned, part, narrowed).argmax(1).numpy(), changed, total
