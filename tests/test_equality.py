from __future__ import annotations

import numpy as np
import pytest

from systolith.equality import compare
from systolith.formats import BadInput


def test_equal() -> None:
    outcome = compare("a = b", np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 4))
    assert outcome.holds
    assert str(outcome) == "12 of 12 equal"


def test_the_first_difference_is_located() -> None:
    found = np.zeros((2, 3), dtype=np.int64)
    found[1, 0], found[1, 2] = 4, -4  # a signed sum of differences would be 0
    outcome = compare("a = b", np.zeros((2, 3), dtype=np.int64), found, ("row", "col"))
    assert not outcome.holds
    assert (outcome.compared, outcome.different) == (6, 2)
    assert str(outcome) == "4 of 6 equal; first difference: [row 1, col 0] expected 0, found 4"


def test_nothing_compared_proves_nothing_and_nan_equals_nothing() -> None:
    assert not compare("a = b", np.zeros(0), np.zeros(0)).holds
    assert not compare("a = b", np.array([np.nan]), np.array([np.nan])).holds


def test_shapes_must_agree() -> None:
    with pytest.raises(BadInput, match=r"a = b: expected shape \(2,\), found \(3,\)"):
        compare("a = b", np.zeros(2), np.zeros(3))
