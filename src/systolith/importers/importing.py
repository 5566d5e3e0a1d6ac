"""Other people's model files, as torch models that are lowered, run and verified as our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from systolith.formats import BadInput
from systolith.importers import qdq, qonnx
from systolith.importers.foreign import Foreign
from systolith.importers.onnx_file import open_graph, read_onnx
from systolith.importers.onnx_graph import convert
from systolith.importers.onnx_operators import OPERATORS


def import_onnx(path: Path, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Foreign:
    """A QONNX or QDQ file as a torch model.

    Args:
        path: of the file.
        mean, std: a channel: what the file takes is (pixel/255 - mean)/std; without them pixel/255.

    Raises:
        BadInput: what cannot be read, or has no place in an integer network, by the name of its node.
    """
    model = read_onnx(path)
    kinds = {node.op_type for node in model.graph.node}
    kind = "QDQ" if kinds & set(qdq.QUANTIZERS) else "QONNX"
    if kinds & {"ConvInteger", "MatMulInteger"}:
        raise BadInput(
            f"{path}: integer operators, which hold no quantizers: a model exported as qdq, qonnx or npz is read again"
        )
    if not kinds & {*qdq.QUANTIZERS, *qonnx.QUANTIZERS}:
        raise BadInput(f"{path}: holds no quantizers: expected QONNX (Quant) or QuantizeLinear and DequantizeLinear")
    graph = open_graph(model, path)
    try:
        return convert(kind, graph, {**OPERATORS, **qonnx.QUANTIZERS, **qdq.QUANTIZERS}, mean, std)
    except BadInput as error:
        raise BadInput(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
