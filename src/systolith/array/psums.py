"""Every psum of a layer, by one batched GEMM per output-channel tile.

Codes are carried in floating point inside the GEMM, where BLAS is some twenty times faster than NumPy's integer
product, and only where it is exact: fp32 while every partial sum is below 2^24, else float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.sfp import fit

AXES = ("ic_tile", "oc_tile", "kij", "nij", "col")


def psum_dtype(mapping: Mapping) -> type[np.signedinteger[Any]]:
    """int32, or int64 for accumulators of more than 32 bits."""
    return np.int32 if mapping.spec.psum_bits <= 32 else np.int64


def psum_shape(mapping: Mapping) -> tuple[int, int, int, int, int]:
    """(ic_tile, oc_tile, kij, nij, col)"""
    return mapping.ic_tiles, mapping.oc_tiles, mapping.kijs, mapping.nijs, mapping.spec.cols


def iter_psums(mapping: Mapping, act: NDArray[np.integer]) -> Iterator[NDArray[np.signedinteger]]:
    """The psums of one oc_tile after another: (ic_tile of its `ic_range`, kij, nij, col), as wide as `psum_dtype`.

    Args:
        mapping: the layer on the array.
        act: activation codes (C, H, W), of a batch (picture, C, H, W), unpadded.

    Raises:
        BadInput: under overflow "error", naming the first psum that does not fit.
    """
    mapping.require(act)
    lo, hi = mapping.pass_bounds()
    fmt = mapping.spec.psum_format
    if lo < fmt.lo or hi > fmt.hi:
        yield from _row_by_row(mapping, act)
        return
    carrier = np.float32 if max(hi, -lo) < 1 << 24 else np.float64
    tiles = mapping.act_tiles(act).astype(carrier)
    weights = mapping.weight_tiles()
    for oc_tile in range(mapping.oc_tiles):
        made = _made(mapping, oc_tile)
        product = multiply(tiles[made], weights[made, oc_tile].astype(carrier))
        yield product.astype(psum_dtype(mapping), order="C")


def _made(mapping: Mapping, oc_tile: int) -> slice:
    """The ic_tiles of an oc_tile's passes, to index with."""
    ic_range = mapping.ic_range(oc_tile)
    return slice(ic_range.start, ic_range.stop)


def multiply(tiles: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Activations (ic_tile, nij, row) by one oc_tile's weights (ic_tile, kij, col, row): (ic_tile, kij, nij, col).

    In the dtype of the two, by one GEMM; the caller knows that it carries every sum exactly.
    """
    ic_tiles, kijs, cols, rows = weights.shape
    tall = weights.transpose(0, 3, 1, 2).reshape(ic_tiles, rows, -1)  # (ic_tile, row, kij*col)
    return np.matmul(tiles, tall).reshape(ic_tiles, -1, kijs, cols).transpose(0, 2, 1, 3)


def _row_by_row(mapping: Mapping, act: NDArray[np.integer]) -> Iterator[NDArray[np.signedinteger]]:
    """The same where a pass may overflow: each row adds to what came from above, and overflows there if at all.

    Output stationary, each step adds to what is there. The products of a lane's codes are added first.
    """
    tiles = mapping.act_tiles(act).astype(np.int64)
    weights = mapping.weight_tiles().astype(np.int64)
    for oc_tile in range(mapping.oc_tiles):
        made = _made(mapping, oc_tile)
        acts, kernels = tiles[made], weights[made, oc_tile]
        psum = np.zeros((len(acts), mapping.kijs, mapping.nijs, mapping.spec.cols), dtype=np.int64)
        for row in range(acts.shape[2] // mapping.simd):
            for code in range(row * mapping.simd, (row + 1) * mapping.simd):
                psum += acts[:, None, :, code, None] * kernels[:, :, None, :, code]
            what = "step" if mapping.stationary else "row"
            name = f"{mapping.conv.name} psum of oc_tile {oc_tile} after {what} {row}"
            psum = fit(psum, mapping.spec, name, ("ic_tile", "kij", "nij", "col"))
        yield psum.astype(psum_dtype(mapping))


def all_psums(mapping: Mapping, act: NDArray[np.integer]) -> NDArray[np.signedinteger]:
    """Every psum at once: (ic_tile, oc_tile, kij, nij, col), 0 where no pass is made.

    For layers whose psums do not fit memory, `iter_psums`.
    """
    psums = np.zeros(psum_shape(mapping), dtype=psum_dtype(mapping))
    for oc_tile, block in enumerate(iter_psums(mapping, act)):
        psums[mapping.ic_range(oc_tile), oc_tile] = block
    return psums


def leaving(mapping: Mapping, block: NDArray[np.integer], useful: bool) -> NDArray[np.integer]:
    """The words that leave the array for one oc_tile, (word, col), in their order.

    Args:
        mapping: the layer on the array.
        block: the oc_tile's psums, as `iter_psums` gives them.
        useful: only the positions that some output needs were streamed. Of the last fold, the words of idle rows are 0.
    """
    psums = block.swapaxes(0, 1)  # (kij, ic_tile, nij, col)
    if mapping.stationary:
        idle = mapping.folds * mapping.spec.rows - mapping.onijs
        psums = np.pad(psums, ((0, 0), (0, 0), (0, idle), (0, 0)))
    elif useful:
        psums = np.stack([one[:, window] for one, window in zip(psums, mapping.windows(), strict=True)])
    return psums.reshape(-1, mapping.spec.cols)
