"""The systolic array: spec, mapping, psums, SFP, clocks. Imports `network` and the ground floor."""

from systolith.array.layer import ArrayResult, run_layer
from systolith.array.mapping import Mapping
from systolith.array.spec import ArraySpec
from systolith.array.timing import Clocks, Contract, Schedule, clocks, contract

__all__ = ["ArrayResult", "ArraySpec", "Clocks", "Contract", "Mapping", "Schedule", "clocks", "contract", "run_layer"]
