"""Export to QONNX, as Brevitas, FINN and hls4ml read it: `Quant` nodes, with the bits of every weight and code.

See `floats.py` for why it is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from systolith.exports.floats import build, clip
from systolith.exports.onnx import IR_VERSION, OPSET, Graph
from systolith.formats import IntFormat
from systolith.network.integer import IntegerNetwork

if TYPE_CHECKING:
    import onnx

DOMAIN = "qonnx.custom_op.general"


class Qonnx:
    """The dialect."""

    def __init__(self) -> None:
        self.domains = {"": OPSET, DOMAIN: 1}
        self.ir_version = IR_VERSION

    def constant(self, graph: Graph, name: str, codes: NDArray[np.integer], fmt: IntFormat) -> str:
        """Floats and a quantizer that leaves them as they are."""
        return _quant(graph, name, graph.constant(f"{name}/codes", codes, np.float32), fmt, False, 1)

    def quantize(self, graph: Graph, name: str, taken: str, ends: tuple[int, int], fmt: IntFormat, scale: int) -> str:
        """A Clip where neither all codes of the format are there, nor all but the least of a signed one."""
        narrow = fmt.signed and ends == (-fmt.hi, fmt.hi)
        if not narrow and ends != (fmt.lo, fmt.hi):
            taken = clip(graph, f"{name}/clipped", taken, (ends[0] * scale, ends[1] * scale))
        return _quant(graph, name, taken, fmt, narrow, scale)


def to_qonnx(network: IntegerNetwork) -> onnx.ModelProto:
    """The network as QONNX, from "pixels", fp32 (N, C, H, W), each pixel/255, to its outputs, of a classifier "logits".

    Raises:
        BadInput: as `floats.build`.
    """
    return build(network, Qonnx())


def _quant(graph: Graph, name: str, taken: str, fmt: IntFormat, narrow: bool, scale: int) -> str:
    numbers = (("scale", scale), ("zero", 0), ("bits", fmt.bits))
    constants = [graph.constant(f"{name}/{what}", number, np.float32) for what, number in numbers]
    how = {"signed": int(fmt.signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
    return graph.node(name, "Quant", taken, *constants, domain=DOMAIN, **how)
