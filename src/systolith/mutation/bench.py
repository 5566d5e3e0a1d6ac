"""What judges a mutant of our core: small layers in a simulator, every word and every clock compared."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from systolith.formats import BadInput
from systolith.mutation.layers import CORES
from systolith.mutation.mutants import Mutant
from systolith.mutation.proof import Prover, prover
from systolith.mutation.run import Fate
from systolith.rtl.compiling import build
from systolith.rtl.layer import outcome, parameters, shared, write_layer
from systolith.rtl.simulators import Simulator, simulate
from systolith.synthesis.yosys import Source
from systolith.timing import contract
from systolith.timing.mapper import EVERY_WAY

_KIB, _SECONDS = 4 << 20, 120
"""Of memory, and of a processor, for a compiler or a simulation."""


_WORDS = 4
"""Of each memory of a core that proofs are made for."""


@dataclass(frozen=True)
class Written:
    """A core's parameters, and its layers as the testbench reads them: the folder, and when a first try is aborted."""

    given: Mapping[str, int]
    layers: tuple[tuple[Path, int], ...]
    runs: int
    proves: bool


@dataclass(frozen=True)
class Bench:
    """Layers for several cores, and what proves a mutant equivalent.

    Attributes:
        simulator: what runs them.
        cores: those with proofs first.
        prover: of those; None without Yosys.
        timeout: seconds a layer may take; a mutant that takes longer hangs, and that kills it.
    """

    simulator: Simulator
    cores: tuple[Written, ...]
    prover: Prover | None
    timeout: float

    def require(self, core: Path, quick: bool = False) -> None:
        """Raise `BadInput` where the core as it is differs from the layers, or the first: its mutants say nothing."""
        with tempfile.TemporaryDirectory(prefix="systolith-mutant-") as made:
            copy = Path(shutil.copytree(core, Path(made) / "core"))
            for written in self.cores:
                fate = self._run(copy, written, written.layers[: 1 if quick else None])
                if fate is not None:
                    raise BadInput(f"{core}: differs without any change: {fate.why}")

    def judge(self, mutant: Mutant, core: Path) -> Fate:
        """What becomes of a mutant, its core in the folder `core`: each core's first layers, proofs, then the rest.

        A proof costs less than all layers, a layer in each schedule less than a proof.
        """
        for written in (one for one in self.cores if one.proves):
            fate = self._run(core, written, written.layers[: 1 + len(EVERY_WAY)])
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
                said = found.first[0] if found.first else "words or beats are missing"
                return Fate("killed", f"{folder.name}: {said}")
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
            among = (
                int(trial.schedule.out_clocks(mapping)[0, mapping.onijs // 2])
                + contract(mapping.spec).lead
                + trial.schedule.first(mapping)
            )
            layers.append((place, among if made.aborts else 0))
            write_layer(trial.result, place, trial.schedule, trial.requantize, made.code_bits)
        given = shared(parameters(trial.result.mapping, trial.schedule, made.code_bits) for trial in trials.values())
        cores.append(Written(given, tuple(layers), made.runs, made.proves))
    files = tuple(sorted(core.glob("*.sv")))
    # Memories become registers: a few words stand for all.
    shallow = {f"{memory}_DEPTH": _WORDS for memory in ("ACT", "WEIGHT", "PSUM")}
    sources = [Source(files, "core", {**written.given, **shallow}) for written in cores if written.proves]
    provers = prover(sources, core, folder) if proofs else None
    return Bench(limited(simulator, folder), tuple(cores), provers, timeout)


def limited(simulator: Simulator, folder: Path) -> Simulator:
    """The simulator with a limit on memory and time: a mutant's vector may be 2^32 bits wide."""

    def script(command: str) -> str:
        made = folder / Path(command).name
        made.write_text(f'#!/bin/sh\nulimit -v {_KIB} 2>/dev/null\nulimit -t {_SECONDS}\nexec "{command}" "$@"\n')
        made.chmod(0o755)
        return str(made)

    return replace(
        simulator, **{part: script(path) for part in ("command", "runs") if (path := getattr(simulator, part))}
    )
