from __future__ import annotations

import numpy as np
from hypothesis import given

from conftest import layers
from systolith.network import Conv
from systolith.network.reference import conv2d


def naive(conv: Conv, act: np.ndarray) -> np.ndarray:
    """Loops of Python integers over one map (C, H, W)."""
    height, width = act.shape[1:]
    out = np.zeros((conv.out_channels, *conv.output_shape(height, width)), dtype=np.int64)
    outs = conv.out_channels // conv.groups
    for oc, oi, oj in np.ndindex(*out.shape):
        total = 0
        for ic, ki, kj in np.ndindex(*conv.weight.shape[1:]):
            i = oi * conv.stride[0] + ki * conv.dilation[0] - conv.pads[0]
            j = oj * conv.stride[1] + kj * conv.dilation[1] - conv.pads[2]
            if 0 <= i < height and 0 <= j < width:
                total += int(act[oc // outs * len(conv.weight[0]) + ic, i, j]) * int(conv.weight[oc, ic, ki, kj])
        out[oc, oi, oj] = total
    return out


@given(layers(max_channels=5))
def test_against_loops(case: tuple[Conv, np.ndarray]) -> None:
    conv, act = case
    got = conv2d(conv, np.stack([act, act[:, ::-1, ::-1]]))
    assert got.dtype == np.int64
    assert (got[0] == naive(conv, act)).all()
    assert (got[1] == naive(conv, act[:, ::-1, ::-1])).all()
