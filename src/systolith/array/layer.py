"""One layer, computed by the array: psums, outputs, and the comparison with direct arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, eq=False)
class ArrayResult:
    """What the array computed for one input, or for a batch of them.

    Attributes:
        mapping: the layer on the array.
        act: activation codes (C, H, W), of a batch (picture, C, H, W), unpadded.
        psum: (ic_tile, oc_tile, kij, nij, col).
        out: int64 (O, OH, OW), of a batch (picture, O, OH, OW), before ReLU.
    """

    mapping: Mapping
    act: NDArray[np.integer]
    psum: NDArray[np.signedinteger]
    out: NDArray[np.int64]

    def check(self) -> Equality:
        """The array's outputs against a direct integer convolution, element by element."""
        direct = conv2d(self.mapping.conv, self.act if self.act.ndim == 4 else self.act[None])
        direct = direct.reshape(self.out.shape)
        return compare("array outputs = direct integer convolution", direct, self.out, out_axes(self.out))

    def check_psums(self) -> Equality:
        """Every psum, padding ring and empty lanes included, against integer products, one input channel at a time.

        This goes the other way than `psums.py`: from the untiled weights, in int64, without a GEMM.
        """
        mapping, conv, spec = self.mapping, self.mapping.conv, self.mapping.spec
        lanes = mapping.oc_tiles * spec.cols
        padded = mapping.padded(self.act.astype(np.int64), conv.in_channels)
        kernels = np.zeros((conv.in_channels, lanes, mapping.taps), dtype=np.int64)
        kernels[:, : conv.out_channels] = conv.dense.reshape(*conv.dense.shape[:2], -1).swapaxes(0, 1)
        direct = np.zeros((mapping.ic_tiles, lanes, mapping.kijs, mapping.nijs), dtype=np.int64)
        if mapping.flat is None:
            for ic in range(conv.in_channels):
                direct[ic // mapping.lanes] += np.multiply.outer(kernels[ic], padded[ic])
        else:
            flat, positions = mapping.flat, mapping.positions()
            for oc_tile, band in enumerate(flat.band):
                mine = slice(oc_tile * spec.cols, (oc_tile + 1) * spec.cols)
                for at, (ic, kij) in enumerate(zip(flat.channels(band), flat.axis[1], strict=True)):
                    if ic < conv.in_channels:
                        products = np.multiply.outer(kernels[ic, mine, kij], padded[ic, positions[kij]])
                        direct[band * flat.tiles + at // flat.depth, mine, 0] += products
        tiled = direct.reshape(mapping.ic_tiles, mapping.oc_tiles, spec.cols, mapping.kijs, mapping.nijs)
        direct = tiled.transpose(0, 1, 3, 4, 2)
        return compare("psums = integer products, channel by channel", direct, self.psum, PSUM_AXES)


def out_axes(out: NDArray[Any]) -> tuple[str, ...]:
    """The axes of outputs of one picture, or of a batch."""
    return ("oc", "oi", "oj") if out.ndim == 3 else ("picture", "oc", "oi", "oj")


def accumulate_all(mapping: Mapping, psum: NDArray[np.integer]) -> NDArray[np.int64]:
    """Outputs int64 (picture, O, OH, OW), before ReLU, from psums (ic_tile, oc_tile, kij, nij, col)."""
    tiles = range(mapping.oc_tiles)
    parts = [accumulate(mapping, psum[mapping.ic_range(oc_tile), oc_tile], oc_tile) for oc_tile in tiles]
    outs = np.concatenate(parts).reshape(mapping.conv.out_channels, mapping.batch, *mapping.output_shape)
    return np.ascontiguousarray(outs.swapaxes(0, 1))


def run_layer(conv: Conv, act: NDArray[np.integer], spec: ArraySpec, packed: bool = False) -> ArrayResult:
    """Compute every psum and output of `conv` for `act` (C, H, W), or a batch of them, on the array `spec`.

    Raises:
        BadInput: lanes too narrow, a wrong shape, or (overflow "error") a value that does not fit psum_bits.

    Examples:
        >>> import numpy as np, systolith as sl
        >>> conv = sl.Conv.of(np.ones((8, 8, 3, 3), int), padding=1)
        >>> print(sl.run_layer(conv, np.ones((8, 4, 4), int), sl.ArraySpec(8, 8)).check())
        128 of 128 equal
    """
    if act.ndim != 4:
        require_act(conv, act)
    height, width = act.shape[-2:]
    return run_mapped(Mapping(conv, spec, height, width, len(act) if act.ndim == 4 else 1, packed), act)


def run_mapped(mapping: Mapping, act: NDArray[np.integer]) -> ArrayResult:
    """The same of a layer that is on an array already."""
    return result_of(mapping, act, all_psums(mapping, act))


def result_of(mapping: Mapping, act: NDArray[np.integer], psum: NDArray[np.signedinteger]) -> ArrayResult:
    """The same where the psums are known."""
    out = accumulate_all(mapping, psum)
    return ArrayResult(mapping, act, psum, out if act.ndim == 4 else out[0])
