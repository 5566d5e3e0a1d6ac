"""Pictures on which two networks are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput


def pictures_to_compare(
    data: str | None, limit: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]] | None, str]:
    """uint8 pictures of a network's `shape`, their labels (None for seeded noise), and what to call them.

    Args:
        data: a data set, or None for noise.
        limit: the first so many (0: all).
    """
    if data is None:
        pixels = np.random.default_rng(0).integers(0, 256, (limit, *shape), dtype=np.uint8)
        return pixels, None, f"{limit:,} of seeded random pixels (--data DIR takes real ones)"
    from systolith.training.data import load_data

    test = load_data(data, "test")
    if test.images.shape[1:] != shape:
        found, wanted = ("x".join(map(str, s)) for s in (test.images.shape[1:], shape))
        raise BadInput(f"{test.source} has pictures of {found}, the network takes {wanted}")
    total = min(limit, len(test)) if limit else len(test)
    return test.images[:total], np.asarray(test.labels[:total]), f"the first {total:,} of {test.source}"
