"""One layer, computed by the array: psums, outputs, and the comparison with direct arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.psums import all_psums
from systolith.array.sfp import accumulate
from systolith.array.spec import ArraySpec
from systolith.equality import Equality, compare
from systolith.network.graph import Conv
from systolith.network.reference import conv2d

OUT_AXES = ("oc", "oi", "oj")


@dataclass(frozen=True, eq=False)
class ArrayResult:
    """What the array computed for one input.

    Attributes:
        mapping: the layer on the array.
        act: activation codes (C, H, W), unpadded.
        psum: (ic_tile, oc_tile, kij, nij, col).
        out: int64 (O, OH, OW), before ReLU.
    """

    mapping: Mapping
    act: NDArray[np.integer]
    psum: NDArray[np.signedinteger]
    out: NDArray[np.int64]

    def check(self) -> Equality:
        """The array's outputs against a direct integer convolution, element by element."""
        direct = conv2d(self.mapping.conv, self.act[None])[0]
        return compare("array outputs = direct integer convolution", direct, self.out, OUT_AXES)


def accumulate_all(mapping: Mapping, psum: NDArray[np.integer]) -> NDArray[np.int64]:
    """Outputs int64 (O, OH, OW), before ReLU, from psums (ic_tile, oc_tile, kij, nij, col)."""
    parts = [accumulate(mapping, psum[:, oc_tile], oc_tile) for oc_tile in range(mapping.oc_tiles)]
    return np.concatenate(parts).reshape(mapping.conv.out_channels, *mapping.output_shape)


def run_layer(conv: Conv, act: NDArray[np.integer], spec: ArraySpec) -> ArrayResult:
    """Compute every psum and output of `conv` for `act` (C, H, W) on the array `spec`.

    Raises:
        BadInput: lanes too narrow, a wrong shape, or (overflow "error") a value that does not fit psum_bits.
    """
    mapping = Mapping(conv, spec, *act.shape[1:]) if act.ndim == 3 else Mapping(conv, spec, 1, 1)
    psum = all_psums(mapping, act)
    return ArrayResult(mapping, act, psum, accumulate_all(mapping, psum))
