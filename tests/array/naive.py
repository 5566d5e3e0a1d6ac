"""The mapping as loops of Python integers, straight from the definition; slow on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from systolith.array import ArraySpec
from systolith.network import Conv


def tiles(count: int, size: int) -> int:
    return (count + size - 1) // size


def weight_at(conv: Conv, oc: int, ic: int, ki: int, kj: int) -> int:
    """The weight from an input channel to an output channel; 0 from one group to another."""
    outs, ins = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    return int(conv.weight[oc, ic % ins, ki, kj]) if oc // outs == ic // ins else 0


def is_made(conv: Conv, spec: ArraySpec, oc_tile: int, ic_tile: int) -> bool:
    """Whether some channel of the one tile is in the group of some channel of the other."""
    outs, ins = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    ocs = range(oc_tile * spec.cols, min(conv.out_channels, (oc_tile + 1) * spec.cols))
    ics = range(ic_tile * spec.rows, min(conv.in_channels, (ic_tile + 1) * spec.rows))
    return any(oc // outs == ic // ins for oc in ocs for ic in ics)


def naive_psums(conv: Conv, act: np.ndarray, spec: ArraySpec) -> np.ndarray:
    """(ic_tile, oc_tile, kij, nij, col) as unbounded integers."""
    kh, kw = conv.kernel
    channels, height, width = act.shape
    top, bottom, left, right = conv.pads
    hp, wp = height + top + bottom, width + left + right
    shape = (tiles(channels, spec.rows), tiles(conv.out_channels, spec.cols), kh * kw, hp * wp, spec.cols)
    psum = np.zeros(shape, dtype=np.int64)
    for ic_tile, oc_tile, kij, nij, col in np.ndindex(*shape):
        oc, i, j = oc_tile * spec.cols + col, nij // wp - top, nij % wp - left
        if oc >= conv.out_channels or not (0 <= i < height and 0 <= j < width):
            continue
        total = 0
        for row in range(spec.rows):
            ic = ic_tile * spec.rows + row
            if ic < channels:
                total += int(act[ic, i, j]) * weight_at(conv, oc, ic, kij // kw, kij % kw)
        psum[ic_tile, oc_tile, kij, nij, col] = total
    return psum


def contributions(conv: Conv, act: np.ndarray, spec: ArraySpec, oc: int, oi: int, oj: int) -> Iterator[Iterator[int]]:
    """For one output, in hardware order (kij outer, ic_tile inner): the products of each pass, row after row."""
    kh, kw = conv.kernel
    channels, height, width = act.shape
    for ki in range(kh):
        for kj in range(kw):
            i = oi * conv.stride[0] + ki * conv.dilation[0] - conv.pads[0]
            j = oj * conv.stride[1] + kj * conv.dilation[1] - conv.pads[2]
            inside = 0 <= i < height and 0 <= j < width
            for ic_tile in range(tiles(channels, spec.rows)):
                lanes = range(ic_tile * spec.rows, min(channels, (ic_tile + 1) * spec.rows))
                yield (int(act[ic, i, j]) * weight_at(conv, oc, ic, ki, kj) if inside else 0 for ic in lanes)


def register(value: int, bits: int, overflow: str) -> int:
    """What a signed register of `bits` bits holds."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if overflow == "saturate":
        return min(max(value, low), high)
    return (value - low) % 2**bits + low


def naive_output(conv: Conv, act: np.ndarray, spec: ArraySpec, oc: int, oi: int, oj: int) -> int:
    """One output with every partial sum in a psum_bits register."""
    total = 0
    for products in contributions(conv, act, spec, oc, oi, oj):
        partial = 0
        for product in products:
            partial = register(partial + product, spec.psum_bits, spec.overflow)
        total = register(total + partial, spec.psum_bits, spec.overflow)
    return total
