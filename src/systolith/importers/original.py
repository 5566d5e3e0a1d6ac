"""A QDQ file in onnxruntime, without optimisation, against the integer network: every code, and every tie explained.

onnxruntime multiplies dequantized floats, whose sums are rounded in an order of its own; the integer network's are
exact. Where the exact value lies between two codes, nearer to the middle than that rounding can be off, the two may
differ: a tie. Each quantizer is compared on what onnxruntime itself brought before it, so that no tie hides another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from systolith.equality import Equality
from systolith.formats import BadInput
from systolith.frontends.lowered import Lowered
from systolith.importers.foreign import Foreign
from systolith.importers.onnx_file import read_onnx
from systolith.network.graph import Add, AvgPool, Conv, Linear, Node
from systolith.network.reference import compute

BATCH, MOST_TIES = 64, 1000


@dataclass(frozen=True)
class Tie:
    """A code of the file's that differs because the exact value lies between two codes.

    Attributes:
        tensor, index: the file's, (image, channel, i, j).
        acc: the accumulator (or sum) that both made codes of.
        value: x/scale in the integer network, fp32.
        error: by how much onnxruntime's own x/scale may be off.
        expected, found: onnxruntime's code, and the integer network's.
    """

    tensor: str
    index: tuple[int, ...]
    acc: int
    value: float
    error: float
    expected: int
    found: int

    def __str__(self) -> str:
        place = ", ".join(map(str, self.index))
        return (
            f"{self.tensor} [{place}]: accumulator {self.acc}, exactly {self.value:.7g} steps, which float sums may "
            f"miss by {self.error:.1g}: onnxruntime rounds to {self.expected}, exact arithmetic to {self.found}"
        )


@dataclass
class Original:
    """The comparison so far: codes compared and different by tensor, ties, and differences that are none."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    ties: list[Tie] = field(default_factory=list)
    unexplained: dict[str, str] = field(default_factory=dict)

    @property
    def equalities(self) -> tuple[Equality, ...]:
        """One a quantizer; a tie counts as different here."""
        return tuple(Equality(name, *counts, self._first(name)) for name, counts in self.counts.items())

    def _first(self, name: str) -> str:
        tie = next((str(tie) for tie in self.ties if tie.tensor == name), "")
        return self.unexplained.get(name, tie)

    @property
    def holds(self) -> bool:
        """Every code is equal, or a tie."""
        return bool(self.counts) and not self.unexplained


def compare_with_onnxruntime(path: Path, foreign: Foreign, lowered: Lowered, pixels: NDArray[np.uint8]) -> Original:
    """Compare every code of the QDQ file `path`, from which `foreign` was read, for uint8 pictures (N, C, H, W)."""
    found = Original()
    modules: dict[str, Any] = dict(foreign.model.named_modules())
    nodes = {
        lowered.quantized[module]: (tensor, modules[module].act_quant) for module, tensor in foreign.quantizers.items()
    }
    start = 0
    for part, theirs in _run(path, modules.get("input_values"), [t for t, _ in nodes.values()], pixels):
        codes = {name: theirs[tensor].astype(np.int64) - quantizer.zero for name, (tensor, quantizer) in nodes.items()}
        _compare(lowered, nodes, part, codes, start, found)
        start += len(part)
    return found


def _run(
    path: Path, first: Any, tensors: list[str], pixels: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]]:
    """Pictures, a batch at a time, and what the file makes of them."""
    import onnxruntime
    from onnx import TensorProto, helper

    model = read_onnx(path)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    zeros = {node.output[0]: node.input[2] for node in quantizers if len(node.input) > 2}
    zeros |= {node.output[0]: node.input[1] for node in model.graph.node if node.op_type == "Clip" and node.input[1:]}
    known = {value.name for value in model.graph.output}
    for tensor in tensors:
        if tensor not in known:
            dtype = types.get(zeros.get(tensor, ""), TensorProto.UINT8)
            model.graph.output.append(helper.make_tensor_value_info(tensor, dtype, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever it finds wrong with the file
        reason = str(error).splitlines()[0][:150]
        raise BadInput(f"{path}: onnxruntime cannot run it ({reason})") from None
    taken = session.get_inputs()[0]
    fixed = taken.shape[0] if isinstance(taken.shape[0], int) else 0
    step = fixed or BATCH
    for start in range(0, len(pixels), step):
        part = pixels[start : start + step]
        # A file made for so many pictures gets as many, the last one again and again.
        whole = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)]) if fixed else part
        with torch.no_grad():
            values = whole if first is None else first(torch.from_numpy(whole)).numpy()
        results = [result[: len(part)] for result in session.run(tensors, {taken.name: values})]
        yield part, dict(zip(tensors, results, strict=True))


def _compare(
    lowered: Lowered,
    nodes: dict[str, tuple[str, Any]],
    part: NDArray[np.uint8],
    theirs: dict[str, NDArray[np.int64]],
    start: int,
    found: Original,
) -> None:
    """One batch: every node on the file's own codes before it."""
    network = lowered.network
    results: dict[str, NDArray[np.int64]] = {}
    for step in network.steps:
        taken = [results[name] for name in step.inputs] or [part.astype(np.int64)]
        ours = results[step.name] = compute(step.node, *taken)
        if step.name not in nodes:
            continue
        tensor, quantizer = nodes[step.name]
        expected = theirs[step.name].reshape(ours.shape)
        different = np.argwhere(ours != expected)
        counted, before = found.counts.get(tensor, (0, 0))
        found.counts[tensor] = counted + ours.size, before + len(different)
        for index in different:
            at = tuple(int(i) for i in index)
            place = (start + at[0], *at[1:])
            values = int(expected[at]), int(ours[at])
            tie = _tie(lowered, step.name, quantizer, results, at, tensor, place, values)
            if tie is None:
                found.unexplained.setdefault(tensor, f"[{place}] expected {values[0]}, found {values[1]}")
            elif len(found.ties) < MOST_TIES:
                found.ties.append(tie)
        results[step.name] = expected


def _tie(
    lowered: Lowered,
    name: str,
    quantizer: Any,
    results: dict[str, NDArray[np.int64]],
    at: tuple[int, ...],
    tensor: str,
    place: tuple[int, ...],
    values: tuple[int, int],
) -> Tie | None:
    """The difference as a tie, or None if it is none."""
    if name not in lowered.edges or abs(values[0] - values[1]) != 1:
        return None
    network = lowered.network
    (producer,) = network[name].inputs
    step = network[producer]
    acc, channel = int(results[producer][at]), at[1]
    column = np.zeros((len(network.values[producer].lo), 1), dtype=np.int64)
    real = lowered.edges[name].real
    column[channel] = acc
    scale = float(quantizer.scale())
    value = float(real(column)[channel, 0]) / scale
    picture = [results[taken][at[0] : at[0] + 1] for taken in step.inputs]
    terms, size = _magnitude(step.node, picture, at)
    column[channel] = 0
    base = float(real(column)[channel, 0])
    column[channel] = acc + 1
    # What one more would change is the accumulator's unit; the bias and the division are rounded too.
    unit = abs(float(real(column)[channel, 0]) / scale - value) or 1 / scale
    error = 2.0**-24 * ((terms + 2) * size * unit + 4 * abs(value) + 4 * abs(base / scale))
    middle = (values[0] + values[1]) / 2
    if abs(value - middle) > error:
        return None
    return Tie(tensor, place, acc, value, error, *values)


def _magnitude(node: Node, taken: list[NDArray[np.int64]], at: tuple[int, ...]) -> tuple[int, int]:
    """How many terms a sum has, and the sum of their magnitudes."""
    whole = (0, *at[1:])
    if isinstance(node, Conv):
        wide, weight = replace(node.weight_format, bits=9), np.abs(node.weight.astype(np.int64))
        bias = None if node.bias is None else np.abs(node.bias)
        size = compute(replace(node, weight=weight, weight_format=wide, bias=bias), np.abs(taken[0]))
        return int(weight[0].size) + 1, int(size[whole])
    if isinstance(node, Linear):
        size = np.abs(taken[0]) @ np.abs(node.weight.astype(np.int64)).T + np.abs(node.bias)
        return node.weight.shape[1] + 1, int(size[whole])
    if isinstance(node, Add):
        return 2, int(sum(gain * abs(int(one[whole])) for gain, one in zip(node.gains, taken, strict=True)))
    if isinstance(node, AvgPool):
        return node.kernel[0] * node.kernel[1], int(compute(node, np.abs(taken[0]))[whole])
    return 1, abs(int(taken[0][whole]))
