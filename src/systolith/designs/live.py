"""How many products have no zero operand: counted on real activations, not assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArraySpec, Mapping
from systolith.array.mapping import read_by
from systolith.network.graph import Conv


def live_products(conv: Conv, act: NDArray[Any]) -> tuple[int, int]:
    """Products of a layer of which neither operand is 0, and all of them, those with the padding's zeros too.

    Of an input channel under a kernel position every activation that is not 0 meets every weight that is not 0.

    Args:
        conv: the layer, without a bias.
        act: its codes (C, H, W), of a batch (picture, C, H, W).
    """
    height, width = act.shape[-2:]
    spec = ArraySpec(act_bits=conv.act_format.bits, weight_bits=conv.weight_format.bits, psum_bits=48)
    mapping = Mapping(conv, spec, height, width, len(act) if act.ndim == 4 else 1)
    there = mapping.padded(act, conv.in_channels)[:, mapping.positions()] != 0  # (ic, kij, onij)
    acts = there.sum(2, dtype=np.int64)
    reads = read_by(conv.out_channels, conv.in_channels, conv.groups)
    weights = conv.weight.reshape(*conv.weight.shape[:2], -1) != 0  # (oc, ic of its group, kij)
    return int((acts[reads] * weights).sum()), mapping.macs
