"""What judges a mutant of our core: small layers in a simulator, every word and every clock compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from systolith.array import ArrayResult, ArraySpec, contract, run_layer
from systolith.formats import BadInput, IntFormat
from systolith.mutation.mutants import Mutant
from systolith.mutation.proof import Prover, prover
from systolith.mutation.run import Fate
from systolith.network import Conv
from systolith.rtl.layer import B_BITS, M_BITS, outcome, parameters, shared, write_layer
from systolith.network.requantize import FixedPoint, Thresholds
from systolith.rtl.simulators import Simulator, build, simulate
from systolith.rtl.stress import SCHEDULES, Trial, random_fixed_point, random_layer, random_thresholds
from systolith.stimulus.stimulus import Case, make_cases
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
    """

    spec: ArraySpec
    code_bits: int
    layers: Callable[[Core], Layers]
    runs: int = 2
    aborts: bool = True


@dataclass(frozen=True)
class Written:
    """A core's parameters, and its layers as the testbench reads them: the folder, and when a first try is aborted."""

    given: Mapping[str, int]
    layers: tuple[tuple[Path, int], ...]
    runs: int


@dataclass(frozen=True)
class Bench:
    """Layers for several cores, and what proves a mutant equivalent.

    Attributes:
        simulator: what runs them.
        cores: what runs, and the last one only what no other kills: its layers are long.
        prover: of all cores but the last; None without Yosys.
        timeout: seconds a layer may take; a mutant that takes longer hangs, and that kills it.
    """

    simulator: Simulator
    cores: tuple[Written, ...]
    prover: Prover | None
    timeout: float

    def judge(self, mutant: Mutant, core: Path) -> Fate:
        """What becomes of a mutant, its core in the folder `core`: each core's first layer, then proofs, then the rest.

        A proof costs less than all layers, a layer less than a proof.
        """
        for written in self.cores[:-1]:
            fate = self._run(core, written, written.layers[:1])
            if fate is not None:
                return fate
        proof = self.prover.prove(core) if self.prover is not None else ""
        if proof:
            return Fate("equivalent", proof)
        for written in self.cores:
            fate = self._run(core, written, written.layers)
            if fate is not None:
                return fate
        return Fate("survived")

    def _run(self, core: Path, written: Written, layers: tuple[tuple[Path, int], ...]) -> Fate | None:
        """The fate of a core that does not compile, or not do what these layers need; None of one that does."""
        try:
            model = build(self.simulator, written.given, core.parent / "models", core)
        except BadInput as error:
            return Fate("uncompiled", str(error))
        for folder, abort in layers:
            try:
                how = written.runs, self.timeout, abort
                found = outcome(simulate(self.simulator, model, folder, 0, None, *how))
            except BadInput as error:  # no end, a crash, no verdict
                return Fate("killed", f"{folder.name}: {error}")
            if not found.holds:
                return Fate("killed", f"{folder.name}: {found.first[0] if found.first else 'words or beats are missing'}")
        return None


def prepare(simulator: Simulator, folder: Path, core: Path, proofs: bool, timeout: float) -> Bench:
    """Write the layers of `CORES` into the existing folder `folder`.

    Args:
        simulator: what will run them.
        folder: for the layers.
        core: the folder of the sources that proofs compare with.
        proofs: whether survivors go to Yosys.
        timeout: of `Bench`.

    Raises:
        BadInput: proofs are wanted, and Yosys is not installed.
    """
    cores = []
    for name, made in CORES.items():
        trials = dict(made.layers(made))
        layers = []
        for called, trial in trials.items():
            mapping, place = trial.result.mapping, folder / f"{name}-{called}"
            place.mkdir()
            among = int(trial.schedule.out_clocks(mapping)[0, mapping.onijs // 2]) + contract(mapping.spec).lead + 1
            layers.append((place, among if made.aborts else 0))
            write_layer(trial.result, place, trial.schedule, trial.requantize, made.code_bits)
        given = shared(parameters(trial.result.mapping, made.code_bits) for trial in trials.values())
        cores.append(Written(given, tuple(layers), made.runs))
    provers = prover(core, "core", [written.given for written in cores[:-1]], folder) if proofs else None
    return Bench(simulator, tuple(cores), provers, timeout)


def _random(core: Core, seed: int = 0) -> Layers:
    rng = np.random.default_rng(seed)
    result = random_layer(rng, replace(core.spec, overflow="saturate"))
    yield "random", Trial(result, random_thresholds(rng, result, core.code_bits), SCHEDULES[0])


def _corners(core: Core, shape: Shape, seed: int = 0) -> Layers:
    """A random layer and the corner set; schedules, overflows and requantizers take turns."""
    yield from _random(core, seed)
    rng = np.random.default_rng(seed)
    cases = (made for made in make_cases("corner", shape, replace(core.spec, overflow="wrap")) if isinstance(made, Case))
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
    a product that carries B beyond its bits."""
    channels, levels = result.mapping.conv.out_channels, (1 << code_bits) - 1
    m, b, s = (1 << M_BITS - 1) - 1, (1 << B_BITS - 1) - 1, B_BITS - code_bits
    turns = ((m, 0, M_BITS - 2), (0, b // 2, s), (-m - 1, 0, M_BITS - 2), (m, b, s), (0, -b, s), (-m - 1, b, s))
    numbers = np.array([turns[channel % len(turns)] for channel in range(channels)], dtype=np.int64)
    return FixedPoint(*numbers.T, levels)


def _long(core: Core) -> Layers:
    """Where a number of 16 bits needs all of them: outputs along a row, channels, dilation. Kernels of such a size are
    left out: their psums would be 2^30."""
    most = (1 << 15) + 2
    shapes = {
        "outputs": ((1, 1, 1, 1), (1, 1, most), {}),
        "dilated-columns": ((1, 1, 1, 2), (1, 1, most), {"dilation": (1, most - 1)}),
        "dilated-rows": ((1, 1, 2, 1), (1, most, 1), {"dilation": (most - 1, 1)}),
        "inputs": ((1, most, 1, 1), (most, 1, 1), {}),
        "groups": ((3, most // 2, 1, 1), (3 * (most // 2), 1, 1), {"groups": 3}),
        "outs": ((most, 1, 1, 1), (1, 1, 1), {}),
    }
    rng = np.random.default_rng(0)
    for name, (weights, acts, more) in shapes.items():
        weight, act = rng.integers(-2, 2, weights), rng.integers(0, 4, acts)
        conv = Conv("layer", weight, IntFormat(2, False), core.spec.weight_format, **more)
        result = run_layer(conv, act, core.spec)
        yield name, Trial(result, random_thresholds(rng, result, core.code_bits), SCHEDULES[0])


CORES = {
    # Weights wider than activations, psums narrower than a product.
    "narrow": Core(
        ArraySpec(4, 3, 3, 4, 6),
        4,
        lambda core: _corners(
            core, Shape(7, 8, (4, 6), (2, 3), (1, 0), (2, 1), (1, 2), IntFormat(3, False), IntFormat(4, True)), 4
        ),
    ),
    # The other way round, and fewer levels of codes than (M, B, S) have bits.
    "other": Core(
        ArraySpec(3, 4, 5, 3, 12),
        2,
        lambda core: _corners(
            core, Shape(4, 5, (5, 3), (3, 2), (0, 1), (1, 2), (2, 1), IntFormat(5, True), IntFormat(3, True)), 5
        ),
    ),
    # A single PE, and psums so wide that (acc*M) has more bits than B.
    "single": Core(ArraySpec(1, 1, 4, 4, 26), 1, _random),
    # A single PE again, and layers of more than 2^15 of everything.
    "long": Core(ArraySpec(1, 1, 2, 2, 16, overflow="wrap"), 1, _long, runs=1, aborts=False),
}
