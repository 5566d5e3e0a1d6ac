"""The layers that judge a mutant of our core: random ones, the corner set, and what neither of them reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, ArraySpec, Mapping, run_layer, run_mapped
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.network.requantize import FixedPoint, Thresholds
from systolith.rtl.layer import B_BITS, M_BITS
from systolith.rtl.stress import (
    SCHEDULES,
    Trial,
    random_act,
    random_batch,
    random_fixed_point,
    random_layer,
    random_memory,
    random_thresholds,
)
from systolith.stimulus.stimulus import Case, make_cases
from systolith.timing import Choice, choose
from systolith.timing.mapper import EVERY_WAY
from systolith.timing.memory import Memory
from systolith.vectors.shape import Shape

Layers = Iterator[tuple[str, Trial]]
"""Layers and their names, the one that kills most first."""


@dataclass(frozen=True)
class Core:
    """A choice of our core's parameters, and what is run on it.

    Attributes:
        spec: its array; layers take wrap and saturate in turn.
        code_bits: of the codes that leave it.
        layers: makes them.
        runs: how often each is run, without a reset between: what one leaves behind shows in the next.
        aborts: whether each is started once before, and reset among the outputs of its first oc_tile.
        proves: whether it is small enough for proofs, and its layers short.
    """

    spec: ArraySpec
    code_bits: int
    layers: Callable[[Core], Layers]
    runs: int = 2
    aborts: bool = True
    proves: bool = True


def _trial(rng: np.random.Generator, core: Core, choice: Choice, act: NDArray[np.integer]) -> Trial:
    """A layer in a schedule, with thresholds."""
    result = run_mapped(choice.mapping, act)
    return Trial(result, random_thresholds(rng, result, core.code_bits), choice.schedule)


def _random(core: Core, seed: int = 0) -> Layers:
    rng = np.random.default_rng(seed)
    result = random_layer(rng, replace(core.spec, overflow="saturate"))
    yield "random", Trial(result, random_thresholds(rng, result, core.code_bits), SCHEDULES[0])


def _scheduled(core: Core, seed: int = 0) -> Layers:
    """A random layer, and one in each schedule: of a batch, with slow memories, with narrow codes."""
    yield from _random(core, seed)
    for number, (name, drained) in enumerate(EVERY_WAY):
        rng = np.random.default_rng((seed, number))
        layer = random_layer(rng, replace(core.spec, overflow=("wrap", "saturate")[number % 2])).mapping
        choice = choose(random_batch(rng, layer), name, drained, memory=random_memory(rng))
        called = f"{name}-drained" if drained else name
        yield called, _trial(rng, core, choice, random_act(rng, choice.mapping))


def _plain(core: Core) -> Layers:
    """Random layers in the schedules that ask nothing more of a core."""
    for number, schedule in enumerate(SCHEDULES):
        rng = np.random.default_rng((7, number))
        result = random_layer(rng, replace(core.spec, overflow=("saturate", "wrap")[number % 2]))
        yield f"plain{number}", Trial(result, random_thresholds(rng, result, core.code_bits), schedule)


def _leaving(core: Core) -> Layers:
    """Output stationary: so short that sums leave all the time, when it is aborted too; and two steps so far apart that
    what is added between them would show."""
    rng = np.random.default_rng(8)
    act, spec = IntFormat(2, False), replace(core.spec, overflow="wrap")
    for name, steps, memory in (("leaving", 1, Memory()), ("apart", 2, Memory(act=core.spec.act_bits))):
        weight = rng.integers(1, 4, (core.spec.cols, 1, 1, steps)) * (-1) ** rng.integers(
            0, 2, (core.spec.cols, 1, 1, 1)
        )
        choice = choose(Mapping(Conv("layer", weight, act, core.spec.weight_format), spec, 5, 6), "os", memory=memory)
        yield name, _trial(rng, core, choice, rng.integers(1, 4, (1, 5, 6)))


def _only(*names: str) -> Callable[[Core], Layers]:
    """A random layer in each of these schedules alone, on a core that is told no other."""

    def layers(core: Core) -> Layers:
        for number, name in enumerate(names):
            rng = np.random.default_rng((11, number))
            choice = choose(random_layer(rng, replace(core.spec, overflow="wrap")).mapping, name)
            yield name, _trial(rng, core, choice, random_act(rng, choice.mapping))

    return layers


def _corners(core: Core, shape: Shape, seed: int = 0) -> Layers:
    """A random layer and the corner set; schedules, overflows and requantizers take turns."""
    yield from _scheduled(core, seed)
    yield from _leaving(core)
    rng = np.random.default_rng(seed)
    cases = (
        made for made in make_cases("corner", shape, replace(core.spec, overflow="wrap")) if isinstance(made, Case)
    )
    for number, case in enumerate(cases):
        spec = replace(core.spec, overflow=("wrap", "saturate")[number % 2])
        result = run_layer(case.conv, case.act, spec)
        make = (random_thresholds, random_fixed_point, _low_thresholds, _wide_fixed_point)[number // 2 % 4]
        yield case.name, Trial(result, make(rng, result, core.code_bits), SCHEDULES[number % 4])


def _low_thresholds(rng: np.random.Generator, result: ArrayResult, code_bits: int) -> Thresholds:
    """None of them positive: the sign of the last, the highest bit of all, is 1."""
    found = random_thresholds(rng, result, code_bits)
    return replace(found, values=np.sort(-np.abs(found.values) - 1, axis=1))


def _wide_fixed_point(rng: np.random.Generator, result: ArrayResult, code_bits: int) -> FixedPoint:
    """(M, B, S) that fill their bits, so that each matters: a large M with a small S, a large B with a large S, and
    a product that carries B beyond its bits, shifted or not."""
    channels, levels = result.mapping.conv.out_channels, (1 << code_bits) - 1
    m, b, s = (1 << M_BITS - 1) - 1, (1 << B_BITS - 1) - 1, B_BITS - code_bits
    turns = (
        (m, 0, M_BITS - 2),
        (0, b // 2, s),
        (-m - 1, 0, M_BITS - 2),
        (m, b, s),
        (m, b, 0),
        (0, -b, s),
        (-m - 1, b, s),
    )
    multiplier, bias, shift = np.array([turns[channel % len(turns)] for channel in range(channels)], dtype=np.int64).T
    return FixedPoint(multiplier, bias, shift, levels)


def _long(core: Core) -> Layers:
    """Where a number of 16 bits needs all of them: outputs along a row, channels, dilation. Kernels of such a size are
    left out: their psums would be 2^30."""
    most = (1 << 15) + 2
    shapes = {
        "outputs": ((1, 1, 1, 1), (1, 1, most), (1, 1), 1),
        "dilated-columns": ((1, 1, 1, 2), (1, 2, most), (1, most - 1), 1),
        "dilated-rows": ((1, 1, 2, 1), (1, most, 1), (most - 1, 1), 1),
        "inputs": ((1, most, 1, 1), (most, 1, 1), (1, 1), 1),
        "groups": ((3, most // 2, 1, 1), (3 * (most // 2), 1, 1), (1, 1), 3),
        "outs": ((most, 1, 1, 1), (1, 1, 1), (1, 1), 1),
    }
    rng = np.random.default_rng(0)
    for name, (weights, acts, dilation, groups) in shapes.items():
        weight, act = rng.integers(-2, 2, weights), rng.integers(0, 4, acts)
        formats = IntFormat(2, False), core.spec.weight_format
        conv = Conv("layer", weight, *formats, dilation=dilation, groups=groups)
        result = run_layer(conv, act, core.spec)
        yield name, Trial(result, random_thresholds(rng, result, core.code_bits), SCHEDULES[0])


def _tight(core: Core) -> Layers:
    """Where a digit, its step and a unit carried into it make nearly three times the addresses there are: a memory that
    holds one map, and all but the last of its six taps, or of its six outputs, taken at once."""
    rng = np.random.default_rng(9)
    act, spec = IntFormat(core.spec.act_bits, False), replace(core.spec, overflow="wrap")
    for name, kernel, stride, dilation in (
        ("packed", (2, 3), (1, 1), (8, 1)),
        ("os", (1, 1), (8, 1), (1, 1)),
    ):
        conv = Conv("layer", rng.integers(1, 4, (1, 1, *kernel)), act, spec.weight_format, stride, dilation=dilation)
        choice = choose(Mapping(conv, spec, 9, 3), name)
        yield name, _trial(rng, core, choice, rng.integers(1, 4, (1, 9, 3)))


def _large(core: Core) -> Layers:
    """Accumulators as large as they can be, of either sign, under every (M, B, S)."""
    act, weight = IntFormat(core.spec.act_bits, False), core.spec.weight_format
    weights = np.where(np.arange(16) % 2, weight.lo, weight.hi)[:, None, None, None]
    conv = Conv("layer", weights, act, weight)
    result = run_layer(conv, np.array([[[act.hi, 1, 0]]]), core.spec)
    rng = np.random.default_rng(0)
    yield "large", Trial(result, _wide_fixed_point(rng, result, core.code_bits), SCHEDULES[0])


CORES = {
    # Weights wider than activations, psums narrower than a product.
    "narrow": Core(
        ArraySpec(3, 2, 3, 4, 6),
        4,
        lambda core: _corners(
            core, Shape(7, 8, (4, 6), (2, 3), (1, 0), (2, 1), (1, 2), IntFormat(3, False), IntFormat(4, True)), 4
        ),
    ),
    # The other way round, and fewer levels of codes than (M, B, S) have bits.
    "other": Core(
        ArraySpec(2, 3, 8, 3, 12, simd=2),
        2,
        lambda core: _corners(
            core, Shape(4, 5, (5, 3), (3, 2), (0, 1), (1, 2), (2, 1), IntFormat(8, True), IntFormat(3, True)), 5
        ),
    ),
    # Nothing that its schedules do not ask for.
    "plain": Core(ArraySpec(2, 3, 4, 3, 9), 2, _plain),
    # One of its two ways to have weights from the north, not both.
    "doubled": Core(ArraySpec(2, 2, 3, 3, 9), 2, _only("double", "packed-double"), proves=False),
    "staying": Core(ArraySpec(2, 2, 3, 3, 9), 2, _only("os"), proves=False),
    # A single PE, and psums so wide that acc*M has more bits than B.
    "single": Core(ArraySpec(1, 1, 4, 4, 26, simd=4), 1, _scheduled),
    # A single PE again, and layers of more than 2^15 of everything.
    "long": Core(ArraySpec(1, 1, 2, 2, 16, overflow="wrap"), 1, _long, runs=1, aborts=False, proves=False),
    # As many rows as a map of three columns needs to fill the addresses, less one.
    "tight": Core(ArraySpec(5, 1, 3, 3, 10), 1, _tight, proves=False),
    # Codes so wide that a product fills an accumulator of 26 bits; no SAT solver multiplies them.
    "wide": Core(ArraySpec(1, 1, 16, 12, 26, overflow="saturate"), 1, _large, proves=False),
}
