"""The integer network against the trained one: proof of its tables and thresholds, and every code of every picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from systolith.equality import Equality, compare
from systolith.formats import BadInput
from systolith.frontends.lowered import Lowered
from systolith.network import reference
from systolith.network.execute import Plan, answer
from systolith.network.graph import Conv, Input, Linear
from systolith.network.integer import IntegerNetwork, Step
from systolith.network.requantize import prove_thresholds

BATCH = 64
MOST_WRONG = 2_000
"""Codes that differ and are kept with their places."""


def prove(lowered: Lowered, network: IntegerNetwork) -> list[Equality]:
    """What can be proved without a picture.

    Args:
        lowered: the trained model, lowered now.
        network: the integer network to prove, of the same structure.

    Returns:
        The pixel table, weight codes and biases of each layer, and the thresholds of each accumulator-to-code map at
        both sides of each, all against the trained model's own.

    Raises:
        BadInput: the network has other layers than the model.
    """
    own = lowered.network
    for ours, theirs in zip([*map(_skeleton, own.steps), None], [*map(_skeleton, network.steps), None], strict=False):
        if ours != theirs:
            raise BadInput(
                f"the integer network is not this model's: expected {ours or 'no more'}, found {theirs or 'no more'}"
            )
    equalities = [compare("pixel table", own.input.table, network.input.table, ("channel", "pixel"))]
    for name, layer in own.layers.items():
        other = network.layers[name]
        equalities.append(compare(f"{name} weights", layer.weight, other.weight, ("oc", "ic", "ki", "kj")))
        if layer.bias is not None and other.bias is not None:
            equalities.append(compare(f"{name} bias", layer.bias, other.bias, ("oc",)))
    for name, node in network.requantizes.items():
        equalities.append(prove_thresholds(f"{name} thresholds", node.thresholds, lowered.edges[name].epilogue))
    return equalities


def _skeleton(step: Step) -> str:
    """What must be the same before numbers can be compared: kind, name, wiring, geometry."""
    node = step.node
    names = ("size", "kernel", "stride", "padding", "dilation", "groups", "gains", "factor")
    geometry = [f"{name} {getattr(node, name)}" for name in names if hasattr(node, name)]
    if isinstance(node, Conv) and node.bias is not None:
        geometry.append("with a bias")
    if isinstance(node, (Conv, Linear, Input)):
        geometry += [f"shape {(node.table if isinstance(node, Input) else node.weight).shape}"]
    return " ".join([type(node).__name__, step.name, *(f"of {name}" for name in step.inputs), *geometry])


@dataclass(frozen=True)
class WrongCode:
    """One code that differs: of which map and picture, where (channel, i, j or less), and both codes."""

    name: str
    image: int
    place: tuple[int, ...]
    expected: int
    found: int


@dataclass
class Compared:
    """Counts over all pictures so far.

    Attributes:
        begin: the number of the first picture, where these are some of many.
        images: pictures compared.
        codes: name of the accumulator-to-code map to codes compared and codes that differ.
        logits: the same for the outputs, of a classifier the logits.
        classes: the same for the classes; (0, 0) where the network gives none.
        trained, integer: the class of each picture, by either network; empty where it gives none.
        first: the first difference, located, or "".
        wrong: the first codes that differ.
    """

    begin: int = 0
    images: int = 0
    codes: dict[str, tuple[int, int]] = field(default_factory=dict)
    logits: tuple[int, int] = (0, 0)
    classes: tuple[int, int] = (0, 0)
    trained: list[NDArray[np.int64]] = field(default_factory=list)
    integer: list[NDArray[np.int64]] = field(default_factory=list)
    first: str = ""
    wrong: list[WrongCode] = field(default_factory=list)

    def equalities(self) -> list[Equality]:
        """All codes, logits, classes."""
        counted, different = (sum(c[i] for c in self.codes.values()) for i in (0, 1))
        found = [
            Equality("codes of every layer", counted, different, self.first),
            Equality("logits" if self.trained else "outputs", *self.logits, self.first if self.logits[1] else ""),
        ]
        if self.trained:
            found.append(Equality("classes", *self.classes, self.first if self.classes[1] else ""))
        return found


Found = tuple[dict[str, Tensor], dict[str, Tensor]]
Executor = Callable[[Tensor], Found]
"""uint8 pictures to the network's integer outputs, and the codes of each `Requantize`, by name."""


def by_plan(plan: Plan) -> Executor:
    """The fast executor."""
    names = plan.network.requantizes

    def run(batch: Tensor) -> Found:
        found: dict[str, list[Tensor]] = {name: [] for name in names}

        def keep(name: str, result: Tensor) -> None:
            if name in found:
                found[name].append(result)

        parts = [answer(plan, part, keep) for part in batch.split(plan.batch)]
        outputs = {name: torch.cat([part[name] for part in parts]) for name in plan.network.outputs}
        return outputs, {name: torch.cat(codes) for name, codes in found.items()}

    return run


def by_reference(network: IntegerNetwork) -> Executor:
    """The referee, plain NumPy integers."""

    def run(batch: Tensor) -> Found:
        return of_results(network, reference.run(network, batch.numpy()))

    return run


def of_results(network: IntegerNetwork, results: Mapping[str, NDArray[np.int64]]) -> Found:
    """What an `Executor` returns, of the results of `reference.run`."""
    outputs, codes = (
        {name: torch.from_numpy(results[name]) for name in names} for names in (network.outputs, network.requantizes)
    )
    return outputs, codes


def by_onnx(network: IntegerNetwork) -> Executor:
    """onnxruntime on our export: somebody else's kernels."""
    from systolith.exports.onnx import run_onnx, to_onnx

    model = to_onnx(network, watch=True)

    def run(batch: Tensor) -> Found:
        results = run_onnx(model, batch.numpy())
        if network.classifies:
            results[network.outputs[0]] = results["logits"]
        return of_results(network, results)

    return run


def compare_pictures(
    lowered: Lowered,
    network: IntegerNetwork,
    executor: Executor,
    pixels: NDArray[np.uint8],
    progress: Callable[[int], None] = lambda done: None,
    begin: int = 0,
) -> Compared:
    """Run both networks over the pictures and compare every activation code of every layer, and the logits.

    Args:
        lowered: the trained model; it runs as in every evaluation, fp32 codes first.
        network: the integer network, proved to have the same structure (`prove`).
        executor: what runs it.
        pixels: uint8 (N, C, H, W).
        progress: told the number of pictures done, after each batch.
        begin: the number of the first picture, a multiple of `BATCH`.
    """
    total = Compared(begin)
    for start in range(0, len(pixels), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH]))
        _compare_batch(lowered, network, batch, *executor(batch), total)
        progress(total.images)
    return total


def add(total: Compared, following: Compared) -> None:
    """Count the pictures that follow those of `total` into it: as if all had been compared at once."""
    total.images += following.images
    for name, counts in following.codes.items():
        total.codes[name] = _sum(total.codes.get(name, (0, 0)), counts)
    total.logits = _sum(total.logits, following.logits)
    total.classes = _sum(total.classes, following.classes)
    total.trained += following.trained
    total.integer += following.integer
    total.first = total.first or following.first
    total.wrong += following.wrong[: MOST_WRONG - len(total.wrong)]


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


@torch.no_grad()
def _compare_batch(
    lowered: Lowered,
    network: IntegerNetwork,
    batch: Tensor,
    outputs: dict[str, Tensor],
    found: dict[str, Tensor],
    total: Compared,
) -> None:
    start = total.begin + total.images
    by_tap: dict[str, list[str]] = {}
    for name, edge in lowered.edges.items():
        by_tap.setdefault(edge.tap, []).append(name)
    taps = {output.tap for output in lowered.outputs.values()}
    values: dict[str, Tensor] = {}

    def look(tap: str, value: Tensor) -> None:
        # Now: a ReLU in place may change the value later.
        for name in by_tap.get(tap, ()):
            _compare_codes(lowered, network, name, value, found.pop(name), batch, total)
        if tap in taps:
            values[tap] = value.clone()

    _Taps(lowered.traced, look).run(batch)
    differ = False
    for name, output in lowered.outputs.items():
        expected = values[output.tap]
        different = int((output.dequantize(outputs[name]) != expected).sum())
        total.logits = total.logits[0] + expected.numel(), total.logits[1] + different
        differ = differ or different > 0
    if network.classifies:
        ((name, output),) = lowered.outputs.items()
        trained, integer = values[output.tap].argmax(1), outputs[name].argmax(1)
        unequal = trained != integer
        total.classes = total.classes[0] + len(batch), total.classes[1] + int(unequal.sum())
        differ = differ or bool(unequal.any())
        total.trained.append(trained.numpy())
        total.integer.append(integer.numpy())
    if differ and not total.first:
        what = "logits" if network.classifies else "outputs"
        total.first = f"[images {start}..{start + len(batch) - 1}] in the {what}, every code before them being equal"
    total.images += len(batch)


def _compare_codes(
    lowered: Lowered,
    network: IntegerNetwork,
    name: str,
    value: Tensor,
    found: Tensor,
    batch: Tensor,
    total: Compared,
) -> None:
    expected = lowered.edges[name].codes(value).reshape(found.shape)  # a mean may have dropped the axes of the map
    unequal = found != expected  # whole numbers on both sides
    different = int(unequal.count_nonzero())
    counted, before = total.codes.get(name, (0, 0))
    total.codes[name] = counted + expected.numel(), before + different
    if different and (left := MOST_WRONG - len(total.wrong)):
        for image, *at in unequal.nonzero()[:left].tolist():
            codes = (int(codes[(image, *at)]) for codes in (expected, found))
            total.wrong.append(WrongCode(name, total.begin + total.images + image, tuple(at), *codes))
    if different and not total.first:
        index = [int(i) for i in unequal.nonzero()[0]]
        values = int(expected[tuple(index)]), int(found[tuple(index)])
        total.first = _located(network, name, batch, total.begin + total.images, index, values)


def _located(
    network: IntegerNetwork, name: str, batch: Tensor, start: int, index: list[int], values: tuple[int, int]
) -> str:
    """Image, layer, channel, pixel, accumulator, threshold, expected and found of one code."""
    image, channel, *pixel = index
    producer = network.producer(name)
    acc = reference.run(network, batch[image : image + 1].numpy(), producer)[producer]
    t = network.requantizes[name].thresholds
    k = max(*values) - t.low
    threshold = f"threshold T[{k}] {int(t.values[channel, k - 1])}" if 1 <= k <= t.values.shape[1] else "no threshold"
    mirrored = " of -accumulator" if t.sign[channel] < 0 else ""
    place = f", pixel {tuple(pixel)}" if pixel else ""
    return (
        f"image {start + image}, layer {name}, channel {channel}{place}: accumulator {int(acc[(0, *index[1:])])}, "
        f"{threshold}{mirrored}, expected code {values[0]}, found {values[1]}"
    )


class _Taps(fx.Interpreter):
    """The traced model, run operation by operation; `look` sees the name and value of each when it is fresh."""

    def __init__(self, traced: fx.GraphModule, look: Callable[[str, Tensor], None]) -> None:
        super().__init__(traced)
        self.look = look

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.look(n.name, value)
        return value


def least_psum_bits(network: IntegerNetwork) -> dict[str, int]:
    """The least signed width that no accumulator of the layer can leave, by layer (partial sums included)."""
    return {name: network.values[name].format.bits for name in network.layers if isinstance(network.layers[name], Conv)}
