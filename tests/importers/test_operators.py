"""Every operator that an imported file may have, with onnxruntime as the referee of its codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from importers.qdq_files import Qdq
from systolith.frontends.lowering import lower
from systolith.frontends.verify import by_onnx, by_reference, compare_pictures, prove
from systolith.importers.importing import import_onnx
from systolith.importers.original import compare_with_onnxruntime

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 3, 8, 10), dtype=np.uint8)


def pixels(q: Qdq, zero: int = 0) -> str:
    return q.quantized("qx", "x", 1 / 255, zero)


def conv(q: Qdq, name: str, source: str, outs: int, ins: int, kernel: int = 3, **given: object) -> str:
    return q.node("Conv", name, source, q.weight(f"w{name}", outs, ins, kernel, kernel), **given)


def number(q: Qdq, name: str, *values: float) -> str:
    return q.constant(name, np.array(values if len(values) > 1 else values[0], np.float32))


def channels(q: Qdq, name: str, *values: float) -> str:
    return q.constant(name, np.array(values, np.float32).reshape(1, -1, 1, 1))


def stem(q: Qdq, zero: int = 120) -> str:
    """Four channels of codes of both signs."""
    return q.quantized("qa", conv(q, "a", pixels(q), 4, 3, pads=[1, 1, 1, 1]), 0.021, zero)


def two_scales(q: Qdq) -> str:
    """Channels of two quantizers."""
    one = q.quantized("qb", conv(q, "b", stem(q), 4, 4, pads=[1, 1, 1, 1]), 0.037, 90)
    return q.node("Concat", "c", one, "qa_dq_out", axis=1)


Build = Callable[[Qdq], str]
CASES: dict[str, Build] = {
    "padding of zero points": lambda q: conv(q, "b", stem(q), 4, 4, pads=[2, 1, 0, 1]),
    "dilation and stride": lambda q: conv(q, "b", stem(q), 4, 4, pads=[2, 2, 2, 2], dilations=[2, 2], strides=[1, 2]),
    "groups": lambda q: conv(q, "b", stem(q), 8, 2, group=2, pads=[1, 1, 1, 1]),
    "depthwise": lambda q: conv(q, "b", stem(q), 4, 1, group=4),
    "LeakyRelu": lambda q: q.node("LeakyRelu", "f", conv(q, "b", stem(q), 4, 4), alpha=0.3),
    "PRelu": lambda q: q.node(
        "PRelu",
        "f",
        conv(q, "b", stem(q), 4, 4),
        q.constant("s", np.array([0, 0.2, 0.5, 1.2], np.float32)[:, None, None]),
    ),
    "Clip": lambda q: q.node("Clip", "f", conv(q, "b", stem(q), 4, 4), number(q, "lo", -0.4), number(q, "hi", 1.3)),
    "arithmetic": lambda q: q.node(
        "Sub",
        "s",
        q.node("Mul", "m", conv(q, "b", stem(q), 4, 4), channels(q, "c", 0.7, 1.0, 0.3, 1.1)),
        channels(q, "e", 0.1, -0.2, 0.3, 0.0),
    ),
    "a constant added first": lambda q: q.node("Add", "s", number(q, "c", 0.25), conv(q, "b", stem(q), 4, 4)),
    "Div": lambda q: q.node("Div", "d", conv(q, "b", stem(q), 4, 4), number(q, "c", 1.7)),
    "batch norm of any sign": lambda q: q.node(
        "BatchNormalization",
        "n",
        conv(q, "b", stem(q), 4, 4),
        *(
            q.constant(name, np.array(values, np.float32))
            for name, values in (
                ("gamma", [1, -1, 0.5, 2]),
                ("beta", [0, 0.1, 0.2, -0.3]),
                ("mean", [0.1, 0, -0.1, 0]),
                ("var", [1, 2, 0.5, 1]),
            )
        ),
    ),
    "MaxPool with padding and dilation": lambda q: q.node(
        "MaxPool", "p", stem(q), kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1], dilations=[2, 1]
    ),
    "ceil_mode": lambda q: q.node("MaxPool", "p", stem(q), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "AveragePool": lambda q: q.node("AveragePool", "p", stem(q), kernel_shape=[2, 3], strides=[2, 2]),
    "ReduceMean": lambda q: q.node("ReduceMean", "p", stem(q), axes=[2, 3], keepdims=1),
    "ReduceMean without the map": lambda q: q.node("ReduceMean", "p", stem(q), axes=[-1, -2], keepdims=0),
    "Add of two scales": lambda q: q.node(
        "Add", "s", q.quantized("qb", conv(q, "b", stem(q), 4, 4, pads=[1, 1, 1, 1]), 0.037, 90), "qa_dq_out"
    ),
    "Concat of two scales": lambda q: q.node(
        *("Concat", "c", q.quantized("qb", conv(q, "b", stem(q), 4, 4, pads=[1, 1, 1, 1]), 0.037, 90), "qa_dq_out"),
        axis=1,
    ),
    "Concat, then a convolution": lambda q: conv(q, "d", q.quantized("qc", two_scales(q), 0.03, 100), 4, 8),
    "Resize": lambda q: conv(
        q,
        "b",
        q.node(
            *("Resize", "r", stem(q), "", q.constant("f", np.array([1, 1, 2, 3], np.float32))),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        4,
        4,
    ),
    "Pad": lambda q: conv(
        q, "b", q.node("Pad", "z", stem(q), q.constant("p", np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64))), 4, 4
    ),
    "Reshape and MatMul": lambda q: q.node(
        *("MatMul", "m", q.node("Reshape", "r", stem(q), q.constant("s", np.array([-1, 320], np.int64)))),
        q.node("Transpose", "t", q.weight("wm", 5, 320), perm=[1, 0]),
    ),
    "Squeeze": lambda q: q.node(
        "Gemm",
        "g",
        q.node(
            *("Squeeze", "s", q.quantized("qm", q.node("GlobalAveragePool", "p", stem(q)), 0.01, 100)),
            q.constant("axes", np.array([2, 3], np.int64)),
        ),
        q.weight("wg", 5, 4),
        transB=1,
    ),
    "Identity and Dropout": lambda q: conv(q, "b", q.node("Dropout", "d", q.node("Identity", "i", stem(q))), 4, 4),
    "pixels with a zero point": lambda q: conv(q, "b", pixels(q, 100), 4, 3, pads=[1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_operator(name: str, tmp_path: Path) -> None:
    q = Qdq(len(name))
    out = q.quantized("qz", CASES[name](q), 0.043, 117)
    onnx.save(q.model(out, *PIXELS.shape[1:]), tmp_path / "n.onnx")
    foreign = import_onnx(tmp_path / "n.onnx")
    lowered = lower(foreign.model, foreign.size)
    assert all(proof.holds for proof in prove(lowered, lowered.network))
    found = compare_with_onnxruntime(tmp_path / "n.onnx", foreign, lowered, PIXELS)
    assert found.holds, found.unexplained
    compared, different = (sum(counts[i] for counts in found.counts.values()) for i in (0, 1))
    assert different == len(found.ties) <= compared // 200
    assert "qz_out" in found.counts
    for executor in (by_reference(lowered.network), by_onnx(lowered.network)):
        alike = compare_pictures(lowered, lowered.network, executor, PIXELS)
        assert all(e.holds for e in alike.equalities()), alike.first
