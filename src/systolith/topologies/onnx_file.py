"""The shape of every tensor of an ONNX file, as onnx infers them, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systolith.formats import BadInput

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]
SMALL = 4096
"""Elements of a constant that may say a shape; what larger ones hold is dropped before shapes are inferred."""
KEEPING = ("Quant", "IntQuant", "FloatQuant", "BipolarQuant", "Trunc")
"""QONNX's operators, which onnx does not know: what they give has the shape of what they take."""


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A graph and its shapes.

    Attributes:
        path: of the file.
        nodes: in order, those of the file's own functions among them.
        shapes: of each tensor, by its name: sizes, and the symbols of open axes, "?" without one.
        constants: tensors that are the same for every input.
        outputs: of the graph.
    """

    path: Path
    nodes: tuple[onnx.NodeProto, ...]
    shapes: dict[str, tuple[int | str, ...]]
    constants: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()

    def shape(self, name: str, tensor: str) -> Shape:
        """Of a tensor that the node called `name` takes; `BadInput` naming both where an axis is open."""
        found = self.shapes.get(tensor)
        sizes = tuple(size for size in found or () if isinstance(size, int))
        if found is None or len(sizes) < len(found):
            what = "no known shape" if found is None else f"shape {'x'.join(map(str, found))}"
            raise BadInput(
                f"{self.path}: {tensor!r}, which {name} takes, has {what}: expected known sizes; the batch alone, the "
                "first axis of an input, may be open"
            )
        return sizes


def open_file(path: Path) -> OnnxFile:
    """The graph of a file; the first axis of an input counts as 1 where it is open, wherever else its symbol stands.

    Raises:
        BadInput: a file that is missing, damaged, or holds no graph.
    """
    import onnx
    from onnx.inliner import inline_local_functions

    try:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if prod(tensor.dims) > SMALL:
                for field in tensor.DESCRIPTOR.fields:
                    if field.name.endswith("_data"):
                        tensor.ClearField(field.name)
        if model.functions:
            model = inline_local_functions(model)
        nodes = tuple(onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node)
        _close_batch(model.graph)
        _replace_unknown(model.graph)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # protobuf's and onnx's own, which they do not name
        said = " ".join(str(error).split())[:120]
        raise BadInput(f"{path}: not a readable ONNX file ({type(error).__name__}: {said})") from None
    if not nodes:
        raise BadInput(f"{path}: not a readable ONNX file: it holds no graph of nodes")
    stored: set[str] = {tensor.name for tensor in graph.initializer}
    stored |= {tensor.values.name for tensor in graph.sparse_initializer}
    stored |= {name for node in nodes if node.op_type == "Constant" for name in node.output}
    return OnnxFile(path, nodes, _shapes(graph), frozenset(stored), tuple(one.name for one in graph.output))


def _axes(value: onnx.ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


def _close_batch(graph: onnx.GraphProto) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    symbols = set()
    for value in graph.input:
        if value.name not in constants and _axes(value) and _axes(value)[0].dim_value < 1:
            symbols.add(_axes(value)[0].dim_param)
            _axes(value)[0].dim_value = 1
    for value in (*graph.input, *graph.value_info, *graph.output):
        for axis in _axes(value):
            if axis.dim_param and axis.dim_param in symbols:
                axis.dim_value = 1


def _replace_unknown(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type in KEEPING:
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
            del node.input[1:]


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | str, ...]]:
    found: dict[str, tuple[int | str, ...]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = [a.dim_value if a.HasField("dim_value") else a.dim_param or "?" for a in _axes(value)]
            found[value.name] = tuple(sizes)
    found |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return found | {tensor.values.name: tuple(tensor.dims) for tensor in graph.sparse_initializer}
