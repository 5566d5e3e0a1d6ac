"""Export to ONNX with QuantizeLinear and DequantizeLinear pairs, as onnxruntime and its kin read quantized networks.

Codes are those of the integer network, called "NODE/codes"; types have 8 or 16 bits, so a Clip says what the codes are.
See `floats.py` for why it is exact; that is proved of the graph as it stands, not of one that a runtime has rewritten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from systolith.exports.floats import build, clip, tensor_of
from systolith.exports.onnx import IR_VERSION, OPSET, Graph, info_of
from systolith.formats import BadInput, IntFormat
from systolith.network.integer import IntegerNetwork

if TYPE_CHECKING:
    import onnx

WIDE_OPSET, WIDE_IR_VERSION = 21, 10
"""The first that quantize to 16 bits."""


class Qdq:
    """The dialect."""

    def __init__(self, wide: bool) -> None:
        self.domains = {"": WIDE_OPSET if wide else OPSET}
        self.ir_version = WIDE_IR_VERSION if wide else IR_VERSION

    def constant(self, graph: Graph, name: str, codes: NDArray[np.integer], fmt: IntFormat) -> str:
        """Weights int8 or uint8, biases int32."""
        if fmt.bits > 8 and codes.ndim > 1:
            raise BadInput(f"{name}: {fmt} weights: expected at most 8 bits")
        dtype = np.int32 if codes.ndim == 1 else _type_of(fmt)
        scale = graph.constant(f"{name}/scale", 1, np.float32)
        zero = [] if codes.ndim == 1 else [graph.constant(f"{name}/zero", 0, dtype)]
        return graph.node(name, "DequantizeLinear", graph.constant(f"{name}/codes", codes, dtype), scale, *zero)

    def quantize(self, graph: Graph, name: str, taken: str, ends: tuple[int, int], fmt: IntFormat, scale: int) -> str:
        """A Clip, which says what the codes are of those of the type, and the pair."""
        dtype = _type_of(fmt)
        taken = clip(graph, f"{name}/clipped", taken, (ends[0] * scale, ends[1] * scale))
        steps = graph.constant(f"{name}/scale", scale, np.float32), graph.constant(f"{name}/zero", 0, dtype)
        return graph.node(name, "DequantizeLinear", graph.node(codes_of(name), "QuantizeLinear", taken, *steps), *steps)


def to_qdq(network: IntegerNetwork) -> onnx.ModelProto:
    """The network as QDQ, from "pixels", fp32 (N, C, H, W), each pixel/255, to its outputs, of a classifier "logits".

    Raises:
        BadInput: as `floats.build`; weights of more than 8 bits.
    """
    wide = any(value.is_codes and value.format.bits > 8 for value in network.values.values())
    return build(network, Qdq(wide))


def codes_of(tensor: str) -> str:
    """The tensor of the codes of a quantizer that ends in `tensor`."""
    return f"{tensor}/codes"


def watched(model: onnx.ModelProto, network: IntegerNetwork) -> onnx.ModelProto:
    """`model`, made of the network, with the codes of its input and of every `Requantize` as outputs too."""
    for name in (network.input.name, *network.requantizes):
        value = network.values[name]
        model.graph.output.append(info_of(codes_of(tensor_of(network, name)), _type_of(value.format), value.shape))
    return model


def _type_of(fmt: IntFormat) -> type[np.integer]:
    if fmt.bits > 8:
        return np.int16 if fmt.signed else np.uint16
    return np.int8 if fmt.signed else np.uint8
