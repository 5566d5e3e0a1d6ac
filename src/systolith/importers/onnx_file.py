"""An ONNX file, read with suspicion: nothing outside its folder, nothing too large, its constants as NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput

if TYPE_CHECKING:
    import onnx

MOST = 1 << 29
"""Bytes of a file, of its external data, and of one tensor."""


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """What there is to walk.

    Attributes:
        path: the file.
        nodes: in order.
        constants: initializers by name.
        input, size: the name of the one input that is no initializer, and its shape without the batch.
        outputs: names.
        batch: that the file was made for, 0 for any.
        pixels: whether the input is uint8.
    """

    path: Path
    nodes: tuple[onnx.NodeProto, ...]
    constants: dict[str, NDArray[Any]]
    input: str
    size: tuple[int, ...]
    batch: int
    pixels: bool
    outputs: tuple[str, ...]


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model of a file; `BadInput` if it is missing, too large, damaged, or points out of its folder."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    _require_size(path, path)
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise BadInput(
            f"{path}: not a readable ONNX file, truncated or of another kind ({type(error).__name__})"
        ) from None
    if not model.graph.node:
        raise BadInput(f"{path}: not a readable ONNX file: it holds no graph of nodes")
    for tensor in model.graph.initializer:
        size = prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if min(tensor.dims, default=1) < 0 or size > MOST:
            raise BadInput(f"{path}: initializer {tensor.name!r} has {size:,} bytes: expected at most {MOST:,}")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
            _require_inside(path, tensor.name, place)
            try:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            except Exception as error:  # whatever the file's own offsets provoke
                raise BadInput(f"{path}: the external data of {tensor.name!r} cannot be read ({error})") from None
    return model


def _require_size(path: Path, file: Path) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    if size > MOST:
        raise BadInput(f"{path}: {file.name} has {size:,} bytes: expected at most {MOST:,}")


def _require_inside(path: Path, tensor: str, place: str) -> None:
    folder = path.resolve().parent
    file = (folder / place).resolve()
    if not place or not file.is_relative_to(folder) or file == folder:
        raise BadInput(f"{path}: initializer {tensor!r} points to {place!r}, outside the file's folder: not read")
    _require_size(path, file)


def open_graph(model: onnx.ModelProto, path: Path, size: tuple[int, ...] | None = None) -> OnnxGraph:
    """The graph of a model.

    Args:
        size: of the pictures, (C, H, W), where the file leaves it open.

    Raises:
        BadInput: several inputs, open shapes, or a constant that is damaged.
    """
    import onnx
    from onnx import numpy_helper

    graph, constants = model.graph, {}
    for tensor in graph.initializer:
        try:
            constants[tensor.name] = numpy_helper.to_array(tensor)
        except Exception as error:  # bytes that are not as many as the shape says, and the like
            raise BadInput(f"{path}: initializer {tensor.name!r} is damaged ({error})") from None
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise BadInput(f"{path}: expected one input, found {', '.join(value.name for value in inputs) or 'none'}")
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    found = tuple(dims[1:])
    if size is not None and len(size) == len(found) and all(a in (0, b) for a, b in zip(found, size, strict=True)):
        found = size
    if len(found) not in (1, 3) or min(found) < 1:
        shown = "x".join(str(d.dim_value or d.dim_param or "?") for d in inputs[0].type.tensor_type.shape.dim)
        raise BadInput(
            f"{path}: input {inputs[0].name!r} has shape {shown}: expected a batch of pictures (N, C, H, W) of known "
            "size, or of vectors"
        )
    pixels = inputs[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    outputs = tuple(value.name for value in graph.output)
    return OnnxGraph(path, tuple(graph.node), constants, inputs[0].name, found, dims[0], pixels, outputs)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name; text decoded, tensors as arrays."""
    from onnx import AttributeProto, helper, numpy_helper

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            value = numpy_helper.to_array(value)
        found[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return found


def name_of(node: onnx.NodeProto) -> str:
    """A node's name, or its result's where it has none."""
    return node.name or node.output[0]


def scalar(value: Any) -> float:
    """The one number of a constant, or its first."""
    return float(np.asarray(value).reshape(-1)[0])
