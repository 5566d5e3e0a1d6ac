"""The systolic array: spec, mapping, psums, SFP, clocks, register-level machine. Imports `network` and below."""

from systolith.array.layer import ArrayResult, run_layer
from systolith.array.mapping import Mapping
from systolith.array.observation import Observation, observe
from systolith.array.spec import ArraySpec
from systolith.array.timing import Clocks, Contract, Schedule, clocks, contract

__all__ = [
    "ArrayResult",
    "ArraySpec",
    "Clocks",
    "Contract",
    "Mapping",
    "Observation",
    "Schedule",
    "clocks",
    "contract",
    "observe",
    "run_layer",
]
