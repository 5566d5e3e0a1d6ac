"""QDQ files without a quantizer of somebody else's: a convolution, a residual add of two scales, a linear layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Qdq:
    """Nodes and constants of a graph, as onnxruntime's quantizer writes them."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, name: str, *inputs: str, **given: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **given))
        return f"{name}_out"

    def quantized(self, name: str, source: str, scale: float, zero: int, dtype: type = np.uint8) -> str:
        one = self.constant(f"{name}_scale", np.float32(scale)), self.constant(f"{name}_zero", np.array(zero, dtype))
        return self.node("DequantizeLinear", f"{name}_dq", self.node("QuantizeLinear", name, source, *one), *one)

    def weight(self, name: str, *shape: int) -> str:
        codes = self.constant(f"{name}_codes", self.rng.integers(-127, 128, shape).astype(np.int8))
        scale = self.constant(f"{name}_scale", self.rng.uniform(0.002, 0.01, shape[0]).astype(np.float32))
        zero = self.constant(f"{name}_zero", np.zeros(shape[0], np.int8))
        return self.node("DequantizeLinear", f"{name}_dq", codes, scale, zero, axis=0)

    def model(self, output: str, *input_shape: int | str) -> onnx.ModelProto:
        taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *input_shape])
        given = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "qdq", [taken], [given], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def residual(seed: int = 0) -> onnx.ModelProto:
    """x -> conv -> relu -> conv, plus the first: scales and zero points differ."""
    q = Qdq(seed)
    x = q.quantized("qx", "x", 1 / 255, 0)
    a = q.node("Relu", "ra", q.node("Conv", "a", x, q.weight("wa", 4, 3, 3, 3), pads=[1, 1, 1, 1]))
    qa = q.quantized("qa", a, 0.011, 0)
    b = q.node("Conv", "b", qa, q.weight("wb", 4, 4, 3, 3), pads=[1, 1, 1, 1])
    qb = q.quantized("qb", b, 0.019, 121)
    s = q.quantized("qs", q.node("Add", "sum", qb, qa), 0.023, 97)
    mean = q.quantized("qm", q.node("GlobalAveragePool", "mean", s), 0.012, 101)
    flat = q.node("Flatten", "flat", mean)
    fc = q.node("Gemm", "fc", flat, q.weight("wf", 5, 4), transB=1)
    return q.model(q.quantized("qf", fc, 0.01, 128), 3, 32, 32)


def save_qdq(path: Path) -> None:
    onnx.save(residual(), path)


def ties() -> onnx.ModelProto:
    """One product an output, so that onnxruntime's rounded floats are the same everywhere: of pixel 99 the first is
    exactly 99 * 67/66 = 100.5 steps, and a little more in floats."""
    q = Qdq()
    x = q.quantized("pixels", "x", 1 / 255, 0)
    scale = q.constant("w_scale", np.full(3, 1 / 127, np.float32))
    codes = q.constant("w_codes", np.array([127, 90, -50], np.int8).reshape(3, 1, 1, 1))
    weight = q.node("DequantizeLinear", "w_dq", codes, scale, q.constant("w_zero", np.zeros(3, np.int8)), axis=0)
    y = q.node("Conv", "scaled", x, weight, group=3)
    return q.model(q.quantized("answer", y, 66 / 67 / 255, 60), 3, 4, 4)


def save_ties(path: Path) -> None:
    onnx.save(ties(), path)
