"""The systolic array: spec, mapping, psums, SFP. Imports `network` and below."""

from systolith.array.layer import ArrayResult, run_layer, run_mapped
from systolith.array.mapping import Mapping
from systolith.array.spec import ArraySpec

__all__ = ["ArrayResult", "ArraySpec", "Mapping", "run_layer", "run_mapped"]
