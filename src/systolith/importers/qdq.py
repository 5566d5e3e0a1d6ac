"""ONNX with QuantizeLinear and DequantizeLinear pairs, as onnxruntime's quantizer and torch's exports write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from systolith.formats import BadInput
from systolith.importers.onnx_file import name_of
from systolith.importers.onnx_graph import Act, Operator, Walk, Weight
from systolith.importers.qonnx import weight_of
from systolith.quant.foreign import ScaledAct, format_of

RANGES = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
RANGES |= {"uint4": (0, 15), "int4": (-8, 7)}


def _zero(values: list[Any], scale: Any) -> Any:
    zero = values[2] if len(values) > 2 and values[2] is not None else np.zeros(np.asarray(scale).shape, np.uint8)
    return np.asarray(zero)


def quantize(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act | Weight:
    """`clamp(rint(x/scale) + zero, low, high)`: the range is that of the zero point's type."""
    name = name_of(node)
    x, scale = values[:2]
    zero = _zero(values, scale)
    if not isinstance(scale, np.ndarray) or zero.dtype.name not in RANGES or not (scale > 0).all():
        raise BadInput(f"{name}: expected a constant positive scale and a zero point of 4, 8 or 16 bits")
    low, high = RANGES[zero.dtype.name]
    if isinstance(x, np.ndarray):
        wide, axis = _along(name, x, scale, given)
        codes = np.clip(np.rint(x.astype(np.float32) / wide), low, high).astype(np.int64)
        return _symmetric(name, codes, scale, zero, axis)
    if scale.size != 1 or zero.size != 1:
        raise BadInput(f"{name}: activations are quantized by one scale and one zero point for all channels")
    scaled = torch.from_numpy(scale.astype(np.float32).reshape(1).copy())
    offset = int(zero.reshape(-1)[0])
    return walk.quantize(node, x, ScaledAct(scaled, offset, *_narrowed(x, scaled, offset, low, high), "ROUND", True))


def _narrowed(x: Act, scale: torch.Tensor, zero: int, low: int, high: int) -> tuple[int, int]:
    """The range of the least format of the codes behind a Clip: so a file with types of 8 bits says that it needs 4."""
    if x.node.target is not torch.clamp:
        return low, high
    given = ScaledAct(scale, zero, low, high, "ROUND", True)
    least, most = (
        int(given.codes(torch.tensor(float(side if end is None else end))))  # type: ignore[arg-type]
        for end, side in zip(x.node.args[1:], (-torch.inf, torch.inf), strict=True)
    )
    fmt = format_of(least, most)
    return max(low, fmt.lo + zero), min(high, fmt.hi + zero)


def dequantize(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act | Weight:
    """Codes of a constant, or what a QuantizeLinear of the same scale and zero point has quantized."""
    name = name_of(node)
    x, scale = values[:2]
    zero = _zero(values, scale)
    if not isinstance(scale, np.ndarray):
        raise BadInput(f"{name}: expected a constant scale")
    if isinstance(x, Act):
        known = x.quantizer
        if known is None or (float(known.scale_value), known.zero) != (
            float(scale.reshape(-1)[0]),
            int(zero.reshape(-1)[0]),
        ):
            raise BadInput(f"{name}: expected the scale and zero point of the QuantizeLinear before it")
        return x
    if isinstance(x, Weight):
        return x
    _, axis = _along(name, x, scale, given)
    return _symmetric(name, x.astype(np.int64), scale, zero, axis)


def _along(name: str, x: Any, scale: Any, given: dict[str, Any]) -> tuple[Any, int]:
    axis = int(given.get("axis", 1)) % max(1, x.ndim)
    if scale.size == 1:
        return scale.reshape(()), 0
    if scale.ndim != 1 or x.shape[axis] != scale.size:
        raise BadInput(f"{name}: expected one scale, or one for each of axis {axis}, found shape {scale.shape}")
    return scale.reshape([-1 if a == axis else 1 for a in range(x.ndim)]), axis


def _symmetric(name: str, codes: Any, scale: Any, zero: Any, axis: int) -> Weight:
    offsets = zero.astype(np.int64)
    if offsets.any():
        if codes.ndim == 1 or np.unique(offsets).size > 1:
            raise BadInput(f"{name}: weights with a zero point cannot be taken")
        codes = codes - int(offsets.reshape(-1)[0])
    return weight_of(name, codes, scale, axis, 32 if codes.ndim == 1 else 8)


QUANTIZERS: dict[str, Operator] = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}
