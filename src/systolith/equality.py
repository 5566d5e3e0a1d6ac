"""Equality, element by element: how many were compared, how many are equal, and the first that is not.

There is no tolerance here, and none may be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput


@dataclass(frozen=True)
class Equality:
    """The outcome of one comparison.

    Attributes:
        name: what was compared with what.
        compared: number of elements.
        different: how many of them differ.
        first: the place and both values of the first difference, or "".
    """

    name: str
    compared: int
    different: int
    first: str = ""

    @property
    def holds(self) -> bool:
        """All equal, and at least one element compared: nothing is proved by comparing nothing."""
        return self.different == 0 and self.compared > 0

    def __str__(self) -> str:
        text = f"{self.compared - self.different:,} of {self.compared:,} equal"
        return f"{text}; first difference: {self.first}" if self.first else text


def compare(name: str, expected: NDArray, found: NDArray, axes: Sequence[str] = ()) -> Equality:
    """Compare two arrays of the same shape with `==`; `axes` names the dimensions in the report.

    Raises:
        BadInput: the shapes differ.
    """
    if expected.shape != found.shape:
        raise BadInput(f"{name}: expected shape {expected.shape}, found {found.shape}")
    # `!=` is true for NaN against anything, so a NaN never counts as equal.
    unequal = expected != found
    different = int(np.count_nonzero(unequal))
    if not different:
        return Equality(name, expected.size, 0)
    index = np.unravel_index(int(np.argmax(unequal)), expected.shape)
    place = ", ".join(f"{axes[d]} {int(i)}" if d < len(axes) else str(int(i)) for d, i in enumerate(index))
    return Equality(name, expected.size, different, f"[{place}] expected {expected[index]}, found {found[index]}")
