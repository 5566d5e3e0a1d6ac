"""What judges a mutant of our core: small layers in a simulator, every word and every clock compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from systolith.array import ArraySpec, run_layer
from systolith.formats import BadInput, IntFormat
from systolith.mutation.run import Fate
from systolith.rtl.layer import outcome, parameters, shared, write_layer
from systolith.rtl.simulators import Simulator, build, simulate
from systolith.rtl.stress import SCHEDULES, Trial, random_fixed_point, random_layer, random_thresholds
from systolith.stimulus.stimulus import Case, make_cases
from systolith.vectors.shape import Shape

UNSIGNED, SIGNED = False, True


@dataclass(frozen=True)
class Core:
    """A core that layers run on, and the shape whose corner set is run there.

    Attributes:
        spec: its array; layers take wrap and saturate in turn.
        code_bits: of the codes that leave it.
        shape: of the corner set.
        random: seed of the random layer.
        corners: names of the cases that are run, or all of them.
    """

    spec: ArraySpec
    code_bits: int
    shape: Shape
    random: int
    corners: tuple[str, ...] = ()


CORES = (
    Core(
        ArraySpec(4, 3, 3, 4, 8),
        4,
        Shape(7, 8, (4, 6), (2, 3), (1, 0), (2, 1), (1, 2), IntFormat(3, SIGNED), IntFormat(4, SIGNED)),
        4,
    ),
)


@dataclass(frozen=True)
class Bench:
    """Layers written as the testbench reads them, for one or more cores.

    Attributes:
        simulator: what runs them.
        cores: of each, its parameters and the folders of its layers.
        timeout: seconds a layer may take; a mutant that takes longer hangs.
    """

    simulator: Simulator
    cores: tuple[tuple[Mapping[str, int], tuple[Path, ...]], ...]
    timeout: float

    def judge(self, core: Path) -> Fate:
        """What becomes of a changed core: the first layer that differs kills it."""
        for given, folders in self.cores:
            try:
                model = build(self.simulator, given, core.parent / "models", core)
            except BadInput as error:
                return Fate("uncompiled", str(error))
            for folder in folders:
                try:
                    found = outcome(simulate(self.simulator, model, folder, runs=RUNS, timeout=self.timeout))
                except BadInput as error:  # no end, a crash, no verdict
                    return Fate("killed", f"{folder.name}: {error}")
                if not found.holds:
                    return Fate("killed", f"{folder.name}: {found.first[0] if found.first else 'words or beats missing'}")
        return Fate("survived")


RUNS = 2
"""A layer twice, without a reset between: what the first one leaves behind shows in the second."""


def prepare(simulator: Simulator, folder: Path, timeout: float = 20) -> Bench:
    """Write the layers of `CORES` into the existing folder `folder`."""
    cores = []
    for number, core in enumerate(CORES):
        every = dict(_trials(core))
        folders = []
        for name, trial in every.items():
            place = folder / f"{number}-{name}"
            place.mkdir()
            write_layer(trial.result, place, trial.schedule, trial.requantize, core.code_bits)
            folders.append(place)
        given = shared(parameters(trial.result.mapping, core.code_bits) for trial in every.values())
        cores.append((given, tuple(folders)))
    return Bench(simulator, tuple(cores), timeout)


def _trials(core: Core) -> Iterator[tuple[str, Trial]]:
    """A random layer, which kills most, then the corner set; schedules, overflows and requantizers take turns."""
    rng = np.random.default_rng(core.random)
    random = random_layer(rng, replace(core.spec, overflow="saturate"))
    yield "random", Trial(random, random_thresholds(rng, random, core.code_bits), SCHEDULES[0])
    wrapping = replace(core.spec, overflow="wrap")
    cases = [made for made in make_cases("corner", core.shape, wrapping) if isinstance(made, Case)]
    for number, case in enumerate(case for case in cases if not core.corners or case.name in core.corners):
        spec = replace(core.spec, overflow=("wrap", "saturate")[number % 2])
        result = run_layer(case.conv, case.act, spec)
        make = (random_thresholds, random_fixed_point)[number // 2 % 2]
        yield case.name, Trial(result, make(rng, result, core.code_bits), SCHEDULES[number % 4])
