"""What narrow accumulators leave of a layer, for a batch of inputs: as `run_layer`, many times faster, keeping no psum.

Wrapping commutes with addition: it is done once, at the end. Saturation does not: every output channel whose bounds
exceed `psum_bits` is added up again in hardware order, one small GEMM a pass. Choosing single outputs first, by their
positive and negative products, would cost as much as these sums; within a pass that must go row by row it pays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.array.sfp import fit
from systolith.array.spec import ArraySpec
from systolith.formats import BadInput, IntFormat
from systolith.network.graph import Conv, require_act, sum_bounds

# Outputs of one block: its sums stay in the cache. Products of one GEMM: from 2^18 on OpenBLAS wakes other threads, and
# where something else uses those cores too, waiting for them takes a hundred times the GEMM.
MOST_OUTPUTS, MOST_PRODUCTS = 1 << 15, 1 << 18
STEPS = 32
"""Of an output that stays, those that are looked at together."""

Carrier = np.floating[Any]


@dataclass(frozen=True)
class Adding:
    """In what order a layer's products are added, and where sums overflow: as `narrow_accumulators` takes it."""

    spec: ArraySpec
    packed: bool = False
    parts: int = 1


@dataclass(frozen=True, eq=False)
class _Pass:
    """One (ic_tile, kij) of some output channels.

    Attributes:
        rows: the tile's input channels; where the reduction is one axis, codes of it.
        weight: codes (rows, channels).
        loose: int (n,), the channels whose bounds within the pass exceed the register.
        simd: rows whose products are added before they reach it.
    """

    rows: slice
    weight: NDArray[Carrier]
    loose: NDArray[np.intp]
    simd: int


def narrow_accumulators(
    conv: Conv,
    act: NDArray[np.integer],
    acc: NDArray[np.int64],
    spec: ArraySpec,
    packed: bool = False,
    parts: int = 1,
) -> NDArray[np.int64]:
    """The accumulators that `psum_bits` wide registers leave: `run_layer(conv, act[n], spec, packed).out` for every n.

    Args:
        conv: the layer.
        act: activation codes (N, C, H, W), unpadded.
        acc: int64 (N, O, OH, OW), the exact accumulators of the same. A bias is added behind the array, in full width.
        spec: the array; its overflow is "wrap" or "saturate".
        packed: kernel positions are packed into rows.
        parts: chunks of ic_tiles, each as `ceil(ic_tiles / parts)`, that are computed one after another, sums going on
            from the one before; without groups, neither packed nor output stationary.

    Returns:
        int64 (N, O, OH, OW), a new array. Beside it: a padded copy of `act`, the weights as int64 and as floats, and a
        few MiB.

    Raises:
        BadInput: overflow "error", lanes too narrow, or activations that are not the layer's.
    """
    if spec.overflow == "error":
        raise BadInput(f"{conv.name}: narrow accumulators need overflow 'wrap' or 'saturate', found 'error'")
    for picture in act:
        require_act(conv, picture)
    if conv.bias is not None:
        bias = conv.bias[:, None, None]
        return narrow_accumulators(conv.product(), act, acc - bias, spec, packed, parts) + bias
    mapping = Mapping(conv, spec, act.shape[2], act.shape[3], packed=packed)
    if spec.overflow == "wrap":
        return fit(acc, spec, conv.name, ())
    channels = np.flatnonzero(_misfit(*conv.bounds(), spec.psum_format))
    out = acc.copy()
    # The channels of one oc_tile are made of the same passes, without groups those of all.
    tiles = channels // spec.cols if conv.groups > 1 else np.zeros_like(channels)
    for tile in np.unique(tiles):
        mine = channels[tiles == tile]
        if mapping.flat is None:
            _saturate(mapping, act, mine, out, parts)
        else:
            _saturate_flat(mapping, act, mine, out)
    return out


def _misfit(lo: NDArray[np.int64], hi: NDArray[np.int64], fmt: IntFormat) -> NDArray[np.bool_]:
    return (lo < fmt.lo) | (hi > fmt.hi)


def _passes(mapping: Mapping, channels: NDArray[np.intp], parts: int) -> list[tuple[int, list[_Pass]]]:
    """The passes of the output channels `channels` in hardware order: a kij and its ic_tiles, chunk by chunk."""
    conv, spec = mapping.conv, mapping.spec
    weight = conv.dense[channels].astype(np.int64).reshape(channels.size, conv.in_channels, mapping.kijs)
    carrier = _carrier(conv, weight)
    made = mapping.ic_range(int(channels[0]) // spec.cols)
    size = -(-len(made) // parts)
    passes = []
    for first in range(0, len(made), size):
        for kij in range(mapping.kijs):
            tiles = []
            for ic_tile in made[first : first + size]:
                rows = slice(ic_tile * mapping.lanes, (ic_tile + 1) * mapping.lanes)
                tiles.append(_pass(mapping, rows, weight[:, rows, kij], carrier))
            passes.append((kij, tiles))
    return passes


def _carrier(conv: Conv, weight: NDArray[np.int64]) -> type[Carrier]:
    """What carries every sum of these channels' products exactly, weights (channels, ...)."""
    # 0 is in every register's range, so saturating never makes a sum larger than its products' magnitudes together.
    most = int(np.abs(weight.reshape(len(weight), -1)).sum(1).max()) * max(conv.act_format.hi, -conv.act_format.lo)
    # `_from_there` adds twice a register, which is narrower than that, to a sum and to magnitudes.
    return np.float32 if 4 * most < 1 << 24 else np.float64


def _pass(mapping: Mapping, rows: slice, codes: NDArray[np.int64], carrier: type[Carrier]) -> _Pass:
    """Of weights (channels, rows)."""
    loose = np.flatnonzero(_misfit(*sum_bounds(codes, mapping.conv.act_format), mapping.spec.psum_format))
    return _Pass(rows, codes.T.astype(carrier, order="C"), loose, mapping.simd)


def _saturate_flat(
    mapping: Mapping, act: NDArray[np.integer], channels: NDArray[np.intp], out: NDArray[np.int64]
) -> None:
    """As `_saturate` where the reduction is one axis: packed or output stationary."""
    lo, hi = mapping.spec.psum_format.lo, mapping.spec.psum_format.hi
    made = mapping.ic_range(int(channels[0]) // mapping.spec.cols)
    oc_tile, col = np.divmod(channels, mapping.spec.cols)
    weights = mapping.weight_tiles()[made.start : made.stop, oc_tile, 0, col].astype(np.int64)  # (tile, channel, code)
    carrier = _carrier(mapping.conv, weights.swapaxes(0, 1))
    codes = weights.shape[2]
    # A processing element that owns an output goes on from where it is: many a run of steps cannot leave the register.
    step = STEPS * mapping.simd if mapping.stationary else codes
    parts = [slice(at, at + step) for at in range(0, codes, step)]
    passes = [[_pass(mapping, part, tile[:, part], carrier) for part in parts] for tile in weights]
    flat, block = out.reshape(len(act), -1, mapping.onijs), max(1, MOST_OUTPUTS // channels.size)
    for picture, left in zip(act, flat, strict=True):
        tiles = mapping.act_tiles(picture)[made.start : made.stop]
        for first in range(0, mapping.onijs, block):
            total = np.zeros((min(block, mapping.onijs - first), channels.size), dtype=carrier)
            for tile, some in zip(tiles[:, first : first + block], passes, strict=True):
                here = tile.astype(carrier)
                for one in some:
                    if mapping.stationary:
                        total = _from_there(total, here[:, one.rows], one, lo, hi)
                    else:
                        total += _saturated_pass(here[:, one.rows], one, lo, hi)
                        np.clip(total, lo, hi, out=total)
            left[channels, first : first + block] = total.T


def _from_there(start: NDArray[Carrier], act: NDArray[Carrier], one: _Pass, lo: int, hi: int) -> NDArray[Carrier]:
    """The sums (positions, channels) that some steps leave of `start`, saturating after each."""
    psum = _product(act, one.weight)
    both = _product(np.abs(act), np.abs(one.weight))
    # Twice the most and the least that may be met on the way.
    position, channel = np.nonzero((2 * start + psum + both > 2 * hi) | (2 * start + psum - both < 2 * lo))
    psum += start
    if position.size:
        psum[position, channel] = _step_by_step(start[position, channel], act, one, position, channel, lo, hi)
    return psum


def _step_by_step(
    register: NDArray[Carrier],
    act: NDArray[Carrier],
    one: _Pass,
    position: NDArray[np.intp],
    channel: NDArray[np.intp],
    lo: int,
    hi: int,
) -> NDArray[Carrier]:
    """What registers (n,) hold behind the rows, of positions (n,) and channels (n,); they are overwritten."""
    for row, (codes, weights) in enumerate(zip(act.T, one.weight, strict=True), 1):
        register += codes[position] * weights[channel]
        if row % one.simd == 0 or row == len(one.weight):
            np.clip(register, lo, hi, out=register)
    return register


def _saturate(
    mapping: Mapping, act: NDArray[np.integer], channels: NDArray[np.intp], out: NDArray[np.int64], parts: int
) -> None:
    """Overwrite the output channels `channels` of `out` (N, O, OH, OW) with what saturating registers leave."""
    conv, windows, count = mapping.conv, mapping.windows(), act.shape[0]
    lo, hi = mapping.spec.psum_format.lo, mapping.spec.psum_format.hi
    top, _, left, _ = conv.pads
    padded = np.zeros((count, *mapping.padded_shape, conv.in_channels), dtype=act.dtype)
    padded[:, top : top + mapping.height, left : left + mapping.width] = act.transpose(0, 2, 3, 1)
    streamed = padded.reshape(count * mapping.nijs, conv.in_channels)
    passes = _passes(mapping, channels, parts)
    carrier = passes[0][1][0].weight.dtype
    flat = out.reshape(count, conv.out_channels, mapping.onijs)
    block = max(1, MOST_OUTPUTS // channels.size)
    for first in range(0, count * mapping.onijs, block):
        image, onij = np.divmod(np.arange(first, min(first + block, count * mapping.onijs)), mapping.onijs)
        total = np.zeros((image.size, channels.size), dtype=carrier)
        for kij, tiles in passes:
            patch = streamed[image * mapping.nijs + windows[kij][onij]].astype(carrier)
            for one in tiles:
                total += _saturated_pass(patch[:, one.rows], one, lo, hi)
                np.clip(total, lo, hi, out=total)
        flat[image[:, None], channels, onij[:, None]] = total


def _saturated_pass(act: NDArray[Carrier], one: _Pass, lo: int, hi: int) -> NDArray[Carrier]:
    """The psums (positions, channels) of one pass over `act` (positions, rows), saturating after each row."""
    psum = _product(act, one.weight)
    if not one.loose.size:
        return psum
    # Magnitudes plus or minus the sum are twice the positive or the negative products: where neither can leave the
    # register, the psum stands.
    extent = _product(np.abs(act), np.abs(one.weight[:, one.loose])) + np.abs(psum[:, one.loose])
    position, channel = np.nonzero(extent > 2 * hi)
    if position.size:
        channel = one.loose[channel]
        zeros = np.zeros(position.size, dtype=act.dtype)
        psum[position, channel] = _step_by_step(zeros, act, one, position, channel, lo, hi)
    return psum


def _product(left: NDArray[Carrier], right: NDArray[Carrier]) -> NDArray[Carrier]:
    """`left @ right`, in GEMMs of at most MOST_PRODUCTS (or of one row)."""
    out = np.empty((left.shape[0], right.shape[1]), dtype=left.dtype)
    step = max(1, MOST_PRODUCTS // right.size)
    for first in range(0, left.shape[0], step):
        np.matmul(left[first : first + step], right, out=out[first : first + step])
    return out
