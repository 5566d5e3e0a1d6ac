"""The referee: plain NumPy integer arithmetic, written to be read. int64 throughout, no float, no BLAS.

`run` executes a network, for those without torch; `conv2d` is what every faster convolution is compared with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput
from systolith.network.graph import (
    Add,
    Argmax,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Input,
    Linear,
    MaxPool,
    Node,
    Pair,
    Requantize,
    Upsample,
    sides,
)
from systolith.network.integer import IntegerNetwork


def conv2d(conv: Conv, act: NDArray[np.integer]) -> NDArray[np.int64]:
    """The accumulators of a convolution, its bias included.

    Args:
        conv: the layer.
        act: activation codes (N, C, H, W).

    Returns:
        int64 (N, O, OH, OW).
    """
    n, _, height, width = act.shape
    oh, ow = conv.output_shape(height, width)
    (top, bottom, left, right), (sh, sw), (dh, dw) = conv.pads, conv.stride, conv.dilation
    padded = np.pad(act.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    weight = conv.weight.astype(np.int64).reshape(conv.groups, -1, *conv.weight.shape[1:])
    acc = np.zeros((n, conv.groups, weight.shape[1], oh * ow), dtype=np.int64)
    for ki in range(conv.kernel[0]):
        for kj in range(conv.kernel[1]):
            rows = slice(ki * dh, ki * dh + (oh - 1) * sh + 1, sh)
            cols = slice(kj * dw, kj * dw + (ow - 1) * sw + 1, sw)
            window = padded[:, :, rows, cols].reshape(n, conv.groups, -1, oh * ow)
            acc += np.matmul(weight[:, :, :, ki, kj], window)
    acc = acc.reshape(n, conv.out_channels, oh, ow)
    return acc if conv.bias is None else acc + conv.bias[:, None, None]


def run(network: IntegerNetwork, pixels: NDArray[np.uint8], *until: str) -> dict[str, NDArray[np.int64]]:
    """Execute the network, or the part of it that the nodes `until` need.

    Args:
        network: the network.
        pixels: uint8 pictures (N, C, H, W).
        until: the names of the last nodes wanted; by default whatever leaves the network.

    Returns:
        What each node produced, int64 (N, ...), by name.

    Raises:
        BadInput: pictures of another size or dtype, or no such node.
    """
    size = network.values[network.input.name].shape
    if pixels.dtype != np.uint8 or pixels.shape[1:] != size:
        raise BadInput(f"expected uint8 pictures (N, {', '.join(map(str, size))}), found {pixels.dtype} {pixels.shape}")
    wanted = {network[name].name for name in until or network.results}
    for step in reversed(network.steps):
        if step.name in wanted:
            wanted.update(step.inputs)
    results: dict[str, NDArray[np.int64]] = {}
    for step in network.steps:
        if step.name in wanted:
            taken = [results[name] for name in step.inputs] or [pixels.astype(np.int64)]
            results[step.name] = compute(step.node, *taken)
    return results


def compute(node: Node, *taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """What one node makes of what it takes, int64 (N, ...)."""
    first = taken[0]
    if isinstance(node, Input):
        channel = np.arange(len(node.table)).reshape(-1, *[1] * (first.ndim - 2))
        return node.table[channel, first].astype(np.int64)
    if isinstance(node, Conv):
        return conv2d(node, first)
    if isinstance(node, Linear):
        return np.matmul(first, node.weight.astype(np.int64).T) + node.bias
    if isinstance(node, Requantize):
        return node.thresholds.apply(first)
    if isinstance(node, Add):
        return first * node.gains[0] + taken[1] * node.gains[1]
    if isinstance(node, Concat):
        return np.concatenate(taken, axis=1)
    if isinstance(node, Upsample):
        return first.repeat(node.factor[0], axis=2).repeat(node.factor[1], axis=3)
    if isinstance(node, Flatten):
        return first.reshape(len(first), -1)
    if isinstance(node, Argmax):
        return first.argmax(axis=1)
    if isinstance(node, MaxPool):
        top, bottom, left, right = sides(node.padding)
        outside = np.iinfo(np.int64).min  # never the largest: no window lies in the padding alone
        padded = np.pad(first, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=outside)
        return _windows(padded, node.reach, node.stride)[..., :: node.dilation[0], :: node.dilation[1]].max(
            axis=(-2, -1)
        )
    assert isinstance(node, AvgPool)
    return _windows(first, node.kernel, node.stride).sum(axis=(-2, -1))


def _windows(act: NDArray[np.int64], extent: Pair, stride: Pair) -> NDArray[np.int64]:
    """(N, C, OH, OW, KH, KW)"""
    every = np.lib.stride_tricks.sliding_window_view(act, extent, axis=(2, 3))
    return every[:, :, :: stride[0], :: stride[1]]
