"""Other people's model files, as torch models that are lowered, run and verified as our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from systolith.formats import BadInput
from systolith.importers import qdq, qonnx
from systolith.importers.onnx_file import open_graph, read_onnx
from systolith.importers.onnx_graph import Imported, convert
from systolith.importers.onnx_operators import OPERATORS


@dataclass(frozen=True, eq=False)
class Foreign:
    """Somebody's model.

    Attributes:
        kind: "QONNX", "QDQ" or "checkpoint".
        model: in eval, of our layers; it takes uint8 pictures.
        size: (H, W) of them; () for vectors.
        quantizers: of an ONNX file, its tensors by the modules that make them.
        notes: what was changed, a sentence each.
    """

    kind: str
    model: nn.Module
    size: tuple[int, ...]
    quantizers: dict[str, str]
    notes: tuple[str, ...]


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
    if not kinds & {*qdq.QUANTIZERS, *qonnx.QUANTIZERS}:
        raise BadInput(f"{path}: holds no quantizers: expected QONNX (Quant) or QuantizeLinear and DequantizeLinear")
    graph = open_graph(model, path)
    try:
        made: Imported = convert(graph, {**OPERATORS, **qonnx.QUANTIZERS, **qdq.QUANTIZERS}, mean, std)
    except BadInput as error:
        raise BadInput(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    return Foreign(kind, made.model, made.size, made.quantizers, made.notes)
