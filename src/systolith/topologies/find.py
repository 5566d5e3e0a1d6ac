"""A topology by what a user types."""

from __future__ import annotations

from pathlib import Path

from systolith.formats import BadInput
from systolith.topologies.built_in import BUILT_IN, built_in
from systolith.topologies.onnx_shapes import read_onnx
from systolith.topologies.scalesim import read_csv
from systolith.topologies.topology import BITS, Topology, with_bits


def find_topology(name_or_path: str, act_bits: int = BITS, weight_bits: int = BITS) -> Topology:
    """A built-in topology, or that of a SCALE-Sim file (`.csv`) or an ONNX file.

    Args:
        name_or_path: one of `BUILT_IN`, or a path.
        act_bits, weight_bits: of a code.

    Raises:
        BadInput: neither, or a file that cannot be read.

    Examples:
        >>> from systolith.topologies import find_topology
        >>> len(find_topology("vgg16", act_bits=4, weight_bits=4).layers)
        14
    """
    if name_or_path in BUILT_IN:
        return built_in(name_or_path, act_bits, weight_bits)
    path = Path(name_or_path)
    if path.suffix.lower() == ".csv":
        return with_bits(read_csv(path), act_bits, weight_bits)
    if path.suffix.lower() == ".onnx":
        return read_onnx(path, act_bits, weight_bits)
    raise BadInput(f"no topology {name_or_path!r}: expected a .csv or .onnx file or one of {', '.join(BUILT_IN)}")
