"""QONNX: `Quant` and `BipolarQuant`, as Brevitas exports them.

Source: Pappalardo et al., "QONNX: Representing Arbitrary-Precision Quantized Neural Networks", 2022, section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from systolith.formats import BadInput
from systolith.importers.onnx_file import name_of, scalar
from systolith.importers.onnx_graph import Act, Operator, Walk, Weight
from systolith.quant.foreign import ROUNDINGS, ScaledAct

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")


def quant(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Act | Weight:
    """`clamp(round(x/scale + zero), low, high)`, of weights to codes, of activations to a quantizer."""
    name = name_of(node)
    x, scale, zero, bits = values[:4]
    if any(not isinstance(value, np.ndarray) for value in (scale, zero, bits)):
        raise BadInput(f"{name}: expected a scale, zero point and bit width that are constants")
    width, signed = scalar(bits), bool(given.get("signed", 1))
    rounding = str(given.get("rounding_mode", "ROUND")).upper()
    if rounding not in ROUNDINGS:
        raise BadInput(f"{name}: rounding mode {rounding}: expected one of {', '.join(ROUNDINGS)}")
    if width != int(width) or not 1 <= width <= 32 or np.unique(np.asarray(bits)).size != 1:
        raise BadInput(f"{name}: expected one whole bit width of 1 to 32, found {np.asarray(bits).reshape(-1)[:4]}")
    low = -(1 << (int(width) - 1)) + bool(given.get("narrow", 0)) if signed else 0
    high = (1 << (int(width) - 1)) - 1 if signed else (1 << int(width)) - 1 - bool(given.get("narrow", 0))
    if not (np.asarray(scale) > 0).all():
        raise BadInput(f"{name}: expected positive scales")
    if isinstance(x, np.ndarray):
        return _weight(name, x, scale, zero, low, high, rounding, int(width))
    if np.asarray(scale).size != 1 or np.asarray(zero).size != 1 or scalar(zero) != int(scalar(zero)):
        raise BadInput(f"{name}: activations are quantized by one scale and one whole zero point for all channels")
    if not isinstance(x, Act) or width > 16:
        raise BadInput(f"{name}: expected activations of at most 16 bits")
    scaled = torch.from_numpy(np.asarray(scale, dtype=np.float32).reshape(1).copy())
    return walk.quantize(node, x, ScaledAct(scaled, int(scalar(zero)), low, high, rounding))


def _weight(name: str, x: Any, scale: Any, zero: Any, low: int, high: int, rounding: str, bits: int) -> Weight:
    if np.asarray(zero).any():
        raise BadInput(f"{name}: weights with a zero point cannot be taken")
    wide = np.asarray(scale, dtype=np.float32)
    axes = [axis for axis, length in enumerate(wide.shape) if length > 1]
    if len(axes) > 1 or (axes and wide.ndim != x.ndim and wide.size != x.shape[axes[0]]):
        raise BadInput(f"{name}: expected one scale, or one an output channel, found shape {wide.shape}")
    ratio = torch.from_numpy(x.astype(np.float32)) / torch.from_numpy(wide.copy())
    codes = ROUNDINGS[rounding](ratio).clamp(low, high).to(torch.int64).numpy()
    return weight_of(name, codes, wide, axes[0] if axes else 0, bits if low < 0 else bits + 1)


def weight_of(name: str, codes: Any, scale: Any, axis: int, bits: int) -> Weight:
    """Codes of at most 8 bits; those of biases, of one axis, may have 32."""
    if codes.ndim > 1 and (bits > 8 or np.abs(codes).max(initial=0) > 128):
        raise BadInput(f"{name}: weights of {bits} bits: expected at most 8")
    # Copies: what a file's constants are views of cannot be written, which torch warns of.
    return Weight(codes.copy(), np.array(scale, np.float32).reshape(-1), axis, min(32, max(2, bits)))


def bipolar(walk: Walk, node: Any, given: dict[str, Any], values: list[Any]) -> Weight:
    """-1 or 1, times a scale: weights alone, of two bits here."""
    name = name_of(node)
    if not isinstance(values[0], np.ndarray):
        raise BadInput(f"{name}: BipolarQuant of activations cannot be taken: codes -1 and 1 have no 0 between them")
    codes = np.where(values[0] >= 0, 1, -1).astype(np.int64)
    return weight_of(name, codes, values[1], 0, 2)


QUANTIZERS: dict[str, Operator] = {"Quant": quant, "IntQuant": quant, "BipolarQuant": bipolar}
