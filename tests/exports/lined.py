"""Random networks whose codes are lines of their accumulators, as a format of floats and quantizers holds them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from network.nets import random_network
from systolith.network import IntegerNetwork, Step
from systolith.network.graph import Input, Requantize
from systolith.network.requantize import find_thresholds


def lined_network(seed: int) -> IntegerNetwork:
    """`random_network(seed)`, every pixel table and threshold replaced by that of a random line, in float64; some at
    exact ties, which are rounded half to even; some falling, some flat."""
    network, rng = random_network(seed), np.random.default_rng(seed)
    steps = []
    for step in network.steps:
        node = step.node
        if isinstance(node, Input):
            gain = rng.uniform(-0.2, 0.2, (len(node.table), 1)) * node.format.hi / 8
            codes = np.rint(gain * np.arange(256) + rng.normal(size=gain.shape)).clip(node.format.lo, node.format.hi)
            node = replace(node, table=codes.astype(np.int16))
        elif isinstance(node, Requantize):
            node = replace(node, thresholds=_lined(node, rng))
        steps.append(Step(node, step.inputs))
    return IntegerNetwork(tuple(steps), network.outputs)


def _lined(node: Requantize, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    t, (low, high) = node.thresholds, node.code_range
    spread = np.maximum(1, np.maximum(t.hi, -t.lo))[:, None]
    gain = rng.uniform(0.1, 8, spread.shape) * (high - low) / spread
    gain = np.where(rng.random(gain.shape) < 0.25, 2.0 ** np.rint(np.log2(gain)), gain)  # ties, exactly
    gain = np.where(rng.random(gain.shape) < 0.1, 0, gain) * t.sign[:, None]
    offset = np.where(rng.random(gain.shape) < 0.5, 0, rng.normal(size=gain.shape) * (high - low) / 4)

    def epilogue(acc: np.ndarray) -> np.ndarray:
        return np.rint(acc * gain + offset).clip(low, high).astype(np.int64)

    return find_thresholds(epilogue, t.lo, t.hi, t.sign, high - low, low)
