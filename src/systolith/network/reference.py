"""The referee: plain NumPy integer arithmetic, written to be read. int64 throughout, no float, no BLAS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from systolith.network.graph import Conv


def conv2d(conv: Conv, act: NDArray[np.integer]) -> NDArray[np.int64]:
    """The accumulators of a convolution.

    Args:
        conv: the layer.
        act: activation codes (N, C, H, W).

    Returns:
        int64 (N, O, OH, OW).
    """
    n, _, height, width = act.shape
    oh, ow = conv.output_shape(height, width)
    (ph, pw), (sh, sw), (dh, dw) = conv.padding, conv.stride, conv.dilation
    padded = np.pad(act.astype(np.int64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    weight = conv.weight.astype(np.int64)
    acc = np.zeros((n, conv.out_channels, oh * ow), dtype=np.int64)
    for ki in range(conv.kernel[0]):
        for kj in range(conv.kernel[1]):
            rows = slice(ki * dh, ki * dh + (oh - 1) * sh + 1, sh)
            cols = slice(kj * dw, kj * dw + (ow - 1) * sw + 1, sw)
            window = padded[:, :, rows, cols].reshape(n, conv.in_channels, oh * ow)
            acc += np.matmul(weight[:, :, ki, kj], window)
    return acc.reshape(n, conv.out_channels, oh, ow)
