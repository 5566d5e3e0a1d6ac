"""The special function processor: accumulation over passes in hardware order, overflow, ReLU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.spec import ArraySpec
from systolith.formats import require_fit, wrapped


def fit(values: NDArray[np.int64], spec: ArraySpec, name: str, axes: Sequence[str]) -> NDArray[np.int64]:
    """What a `psum_bits` wide register holds of `values`: an error, the wrapped or the saturated value."""
    fmt = spec.psum_format
    if spec.overflow == "error":
        require_fit(name, values, fmt, axes)
        return values
    if spec.overflow == "saturate":
        return np.clip(values, fmt.lo, fmt.hi)
    return wrapped(values, fmt)


def accumulate(mapping: Mapping, block: NDArray[np.integer], oc_tile: int) -> NDArray[np.int64]:
    """Sum one oc_tile's psums into outputs: kij outer, ic_tile inner, each partial sum in a `psum_bits` register.

    Args:
        mapping: the layer on the array.
        block: psums of the oc_tile's passes, (ic_tile of its `ic_range`, kij, nij, col).
        oc_tile: which; for messages and to drop the lanes without a channel.

    Returns:
        int64 (oc of this tile, onij), before ReLU.

    Raises:
        BadInput: under overflow "error", naming the first partial sum that does not fit.
    """
    conv, spec = mapping.conv, mapping.spec
    windows = mapping.windows()
    first = oc_tile * spec.cols
    channels = min(spec.cols, conv.out_channels - first)
    lo, hi = (bound[first : first + channels] for bound in conv.bounds())
    safe = int(lo.min()) >= spec.psum_format.lo and int(hi.max()) <= spec.psum_format.hi
    acc = np.zeros((mapping.onijs, channels), dtype=np.int64)
    for kij in range(mapping.kijs):
        windowed = block[:, kij, windows[kij], :channels]
        if safe:
            acc += windowed.sum(axis=0, dtype=np.int64)
            continue
        for one, ic_tile in enumerate(mapping.ic_range(oc_tile)):
            name = f"{conv.name} output of oc_tile {oc_tile} after kij {kij}, ic_tile {ic_tile}"
            acc = fit(acc + windowed[one], spec, name, ("onij", "col"))
    return np.ascontiguousarray(acc.T)


def relu(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """max(value, 0) on raw accumulators."""
    return np.maximum(values, 0)
