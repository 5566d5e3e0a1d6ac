"""Networks as shapes, without weights: built in, of SCALE-Sim's and ONNX files, of networks of integers."""

from systolith.topologies.built_in import BUILT_IN, built_in
from systolith.topologies.find import find_topology
from systolith.topologies.onnx_shapes import read_onnx
from systolith.topologies.scalesim import read_csv
from systolith.topologies.topology import Layer, Topology, convolution, following, gemm, of_network, with_bits

__all__ = [
    "BUILT_IN",
    "Layer",
    "Topology",
    "built_in",
    "convolution",
    "find_topology",
    "following",
    "gemm",
    "of_network",
    "read_csv",
    "read_onnx",
    "with_bits",
]
