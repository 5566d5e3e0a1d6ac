"""The acceptance of the vectors: no change of the core's sources slips through; a share of `make mutate`."""

from __future__ import annotations

import pytest

from cli.calling import call, one_object
from systolith.rtl.simulators import Simulator

pytestmark = pytest.mark.slow


def test_no_mutant_survives(icarus: Simulator) -> None:
    value = one_object(call("mutate", "--limit", "90", "--json"))
    assert value["survivors"] == []
    assert value["mutants"] == 90
    assert len(value["modules"]) == 9
    counts = value["modules"].values()
    assert sum(count["killed"] for count in counts) >= 60
