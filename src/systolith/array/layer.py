"""One layer, computed by the array: psums, outputs, and the comparison with direct arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.psums import AXES as PSUM_AXES
from systolith.array.psums import all_psums
from systolith.array.sfp import accumulate
from systolith.array.spec import ArraySpec
from systolith.equality import Equality, compare
from systolith.network.graph import Conv, require_act
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

    def check_psums(self) -> Equality:
        """Every psum, padding ring and empty lanes included, against integer products, one input channel at a time.

        This goes the other way than `psums.py`: from the untiled weights, in int64, without a GEMM.
        """
        mapping, (top, bottom, left, right) = self.mapping, self.mapping.conv.pads
        conv, spec = mapping.conv, mapping.spec
        lanes = mapping.oc_tiles * spec.cols
        padded = np.pad(self.act.astype(np.int64), ((0, 0), (top, bottom), (left, right)))
        kernels = np.zeros((conv.in_channels, lanes, mapping.kijs), dtype=np.int64)
        kernels[:, : conv.out_channels] = conv.dense.reshape(*conv.dense.shape[:2], -1).swapaxes(0, 1)
        direct = np.zeros((mapping.ic_tiles, lanes, mapping.kijs, mapping.nijs), dtype=np.int64)
        for ic in range(conv.in_channels):
            direct[ic // spec.rows] += np.multiply.outer(kernels[ic], padded[ic].reshape(-1))
        tiled = direct.reshape(mapping.ic_tiles, mapping.oc_tiles, spec.cols, mapping.kijs, mapping.nijs)
        direct = tiled.transpose(0, 1, 3, 4, 2)
        return compare("psums = integer products, channel by channel", direct, self.psum, PSUM_AXES)


def accumulate_all(mapping: Mapping, psum: NDArray[np.integer]) -> NDArray[np.int64]:
    """Outputs int64 (O, OH, OW), before ReLU, from psums (ic_tile, oc_tile, kij, nij, col)."""
    tiles = range(mapping.oc_tiles)
    parts = [accumulate(mapping, psum[mapping.ic_range(oc_tile), oc_tile], oc_tile) for oc_tile in tiles]
    return np.concatenate(parts).reshape(mapping.conv.out_channels, *mapping.output_shape)


def run_layer(conv: Conv, act: NDArray[np.integer], spec: ArraySpec) -> ArrayResult:
    """Compute every psum and output of `conv` for `act` (C, H, W) on the array `spec`.

    Raises:
        BadInput: lanes too narrow, a wrong shape, or (overflow "error") a value that does not fit psum_bits.

    Examples:
        >>> import numpy as np, systolith as sl
        >>> conv = sl.Conv.of(np.ones((8, 8, 3, 3), int), padding=1)
        >>> print(sl.run_layer(conv, np.ones((8, 4, 4), int), sl.ArraySpec(8, 8)).check())
        128 of 128 equal
    """
    require_act(conv, act)
    mapping = Mapping(conv, spec, *act.shape[1:])
    psum = all_psums(mapping, act)
    return ArrayResult(mapping, act, psum, accumulate_all(mapping, psum))
