"""When things happen in the core: contract, closed forms, register-level machine, the choice of a schedule.

Imports `array` and below.
"""

from systolith.timing.mapper import WAYS, Choice, choose
from systolith.timing.observation import Observation, observe
from systolith.timing.schedule import Clocks, Contract, Schedule, clocks, contract

__all__ = ["WAYS", "Choice", "Clocks", "Contract", "Observation", "Schedule", "choose", "clocks", "contract", "observe"]
