"""Made-up layers that ask of a core what one trained layer does not: signs, strides, dilation, overflow, every code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, ArraySpec, Mapping, run_layer, run_mapped
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.network.requantize import FixedPoint, Thresholds
from systolith.timing import Schedule, choose
from systolith.timing.mapper import EVERY_WAY
from systolith.timing.memory import Memory

SCHEDULES = tuple(Schedule(useful, drained) for useful in (True, False) for drained in (False, True))
"""Those of a core without double-buffered weights."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A layer to run, in one of the schedules, and what makes codes of its accumulators."""

    result: ArrayResult
    requantize: Thresholds | FixedPoint
    schedule: Schedule


def trials(spec: ArraySpec, count: int, seed: int, code_bits: int = 4) -> Iterator[Trial]:
    """`count` layers for one array; wrap and saturate, thresholds and (M, B, S), and the schedules take turns.

    Some are of a batch, some wait for slow memories; codes are narrow enough for the array's lanes to take several.
    """
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        result = random_layer(rng, replace(spec, overflow=("wrap", "saturate")[number % 2]))
        name, drained = EVERY_WAY[number // 2 % len(EVERY_WAY)]
        choice = choose(random_batch(rng, result.mapping), name, drained, memory=random_memory(rng))
        result = run_mapped(choice.mapping, random_act(rng, choice.mapping))
        make = (random_thresholds, random_fixed_point)[number // 2 % 2]
        yield Trial(result, make(rng, result, code_bits), choice.schedule)


def random_batch(rng: np.random.Generator, mapping: Mapping) -> Mapping:
    """The layer for one to three pictures, its codes perhaps so narrow that a lane takes several."""
    conv, simd = mapping.conv, int(rng.choice([n for n in (1, 2, 4, 8) if n <= mapping.spec.simd]))
    fmt = replace(conv.act_format, bits=max(1, min(conv.act_format.bits, mapping.spec.act_bits // simd)))
    return replace(mapping, conv=replace(conv, act_format=fmt), batch=int(rng.integers(1, 4)))


def random_act(rng: np.random.Generator, mapping: Mapping) -> NDArray[np.int64]:
    """Codes for a mapping: (C, H, W), of a batch (picture, C, H, W)."""
    fmt, shape = mapping.conv.act_format, (mapping.conv.in_channels, mapping.height, mapping.width)
    return rng.integers(fmt.lo, fmt.hi + 1, shape if mapping.batch == 1 else (mapping.batch, *shape))


def random_memory(rng: np.random.Generator) -> Memory:
    """One that keeps up, or one whose ports are slow, some or all."""
    if rng.integers(0, 2):
        return Memory()
    act, weight, psum = (int(rng.integers(1, 80)) if rng.integers(0, 3) else None for _ in range(3))
    return Memory(act, weight, psum, int(rng.integers(0, 6)))


def random_layer(rng: np.random.Generator, spec: ArraySpec) -> ArrayResult:
    """A layer for the lanes of `spec`: tiles, perhaps groups, stride, dilation, pads, at most 64 outputs a channel."""

    def upto(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    kernel, stride, dilation = ((upto(1, 3), upto(1, 3)), (upto(1, 2), upto(1, 2)), (upto(1, 2), upto(1, 2)))
    padding = upto(0, 1), upto(0, 1), upto(0, 1), upto(0, 1)
    size = [max(1, dilation[d] * (kernel[d] - 1) + 1 - sum(padding[2 * d :][:2])) + upto(0, 5) for d in (0, 1)]
    act, weight = IntFormat(upto(1, spec.act_bits), bool(upto(0, 1))), IntFormat(upto(1, spec.weight_bits), True)
    groups = (1, upto(1, 2 * min(spec.rows, spec.cols)))[upto(0, 1)]
    tiles = 2 if groups == 1 else 3  # so that a group may lie on several, the first not among them
    outs, ins = upto(1, tiles * spec.cols // groups), upto(1, tiles * spec.rows // groups)
    codes = rng.integers(weight.lo, weight.hi + 1, (groups * outs, ins, *kernel))
    conv = Conv("layer", codes, act, weight, stride, padding, dilation, groups)
    return run_layer(conv, rng.integers(act.lo, act.hi + 1, (groups * ins, *size)), spec)


def random_thresholds(rng: np.random.Generator, result: ArrayResult, code_bits: int) -> Thresholds:
    """Half of a channel's among its accumulators, so that some are met exactly; the rest anywhere, out of reach too."""
    fmt, levels = result.mapping.spec.psum_format, (1 << code_bits) - 1
    out = _by_channel(result)
    sign = rng.choice([-1, 1], len(out)).astype(np.int8)
    values = rng.integers(2 * fmt.lo, 2 * fmt.hi, (len(out), levels))
    met = rng.integers(0, out.shape[1], (len(out), levels // 2))
    values[:, : levels // 2] = sign[:, None] * np.take_along_axis(out, met, axis=1)
    ends = np.full(len(out), fmt.lo), np.full(len(out), fmt.hi)
    return Thresholds(np.sort(values, axis=1), sign, *ends)


def random_fixed_point(rng: np.random.Generator, result: ArrayResult, code_bits: int) -> FixedPoint:
    """(M, B, S) of either sign whose codes are spread over what the accumulators reach."""
    out = _by_channel(result)
    shift = rng.integers(4, 12, len(out))
    span = np.maximum(1, out.max(axis=1) - out.min(axis=1))
    multiplier = rng.choice([-1, 1], len(out)) * (((2 << code_bits) << shift) // span)
    multiplier = np.clip(multiplier, -(1 << 23), (1 << 23) - 1)
    bias = -multiplier * ((out.max(axis=1) + out.min(axis=1)) // 2) + ((1 << code_bits >> 1) << shift)
    return FixedPoint(multiplier, bias, shift, (1 << code_bits) - 1)


def _by_channel(result: ArrayResult) -> NDArray[np.int64]:
    """(O, n), all accumulators of each channel."""
    channels = result.mapping.conv.out_channels
    return result.out.reshape(result.mapping.batch, channels, -1).swapaxes(0, 1).reshape(channels, -1)
