"""The negative control: one bit flipped in a file of each kind; a testbench that still passes does not look there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.array import run_layer
from systolith.formats import BadInput
from systolith.projects.running import Trial, Workshop, run_trials
from systolith.vectors import Layout
from systolith.vectors.layout import VectorFile, spec_files, vector_files

GOLDEN = ("psum", "out", "out_os")
_PLACES = ("first", "middle", "last")
_TRIES = 24


@dataclass(frozen=True)
class Flip:
    """A bit that was flipped.

    Attributes:
        kind: the tensor of the file.
        file: its name.
        line, lane: of the word, from 0.
        value, instead: what stood there and what stands there now.
        noticed: the testbench did not pass with it.
    """

    kind: str
    file: str
    line: int
    lane: int
    value: int
    instead: int
    noticed: bool

    def __str__(self) -> str:
        return f"{self.file}, word {self.line}, lane {self.lane}: {self.instead} for {self.value}"


@dataclass(frozen=True)
class Control:
    """What a testbench notices of flips in files of one kind.

    Attributes:
        kind: the tensor.
        flips: each that was tried.
        golden: it is what the testbench compares with; else what it feeds.
    """

    kind: str
    flips: tuple[Flip, ...]
    golden: bool

    @property
    def noticed(self) -> int:
        return sum(flip.noticed for flip in self.flips)

    def __str__(self) -> str:
        if self.noticed == len(self.flips):
            return f"{self.noticed} of {len(self.flips)} flipped bits noticed"
        if self.noticed == 0:
            return f"{self.kind} files are never {'compared' if self.golden else 'read'}"
        missed = next(flip for flip in self.flips if not flip.noticed)
        return f"{self.kind} files are looked at in part: not {missed}"


def control(workshop: Workshop, trial: Trial) -> list[Control]:
    """Run a passing trial again with one bit flipped, in the first, a middle and the last word of each kind of file.

    A flip in an input is one that changes a golden word of the layout; where none does (all weights there are 0), the
    kind is left out. Golden files say nothing where the testbench compares nothing, but writes a dump for us.
    """
    made: list[tuple[Flip, Trial]] = []
    for kind in dict.fromkeys(file.spec.tensor for file in trial.files):
        if workshop.project.passes or kind not in GOLDEN:
            made += _flips(kind, trial)
    outcomes = run_trials(workshop, [changed for _, changed in made])
    flips = [replace(flip, noticed=not outcome.passed) for (flip, _), outcome in zip(made, outcomes, strict=True)]
    kinds = dict.fromkeys(flip.kind for flip in flips)
    return [Control(kind, tuple(f for f in flips if f.kind == kind), kind in GOLDEN) for kind in kinds]


def is_blind(controls: Sequence[Control]) -> bool:
    """Whether there are golden files and no flip in any of them was noticed."""
    golden = [one for one in controls if one.golden]
    return bool(golden) and not any(one.noticed for one in golden)


def judgement(controls: Sequence[Control]) -> str:
    """What is wrong with a testbench, in a sentence; "" if every kind of flip was noticed."""
    if controls and not any(one.noticed for one in controls):
        return "the testbench cannot fail: no flipped bit was noticed in any file"
    return "; ".join(str(one) for one in controls if one.noticed < len(one.flips))


def _flips(kind: str, trial: Trial) -> Iterator[tuple[Flip, Trial]]:
    files = [file for file in trial.files if file.spec.tensor == kind and all(file.shape)]
    if not files:
        return
    ends = len(files) - 1
    for where, file in zip(_PLACES, (files[0], files[ends // 2], files[ends]), strict=True):
        is_input = kind not in GOLDEN and kind != "address"
        sources = _sources(trial, file) if is_input else np.ones(file.shape, np.int64)
        candidates = np.flatnonzero(sources)
        half = len(candidates) // 2
        order = {"first": candidates, "middle": candidates[half:], "last": candidates[::-1]}[where]
        for at in order[:_TRIES].tolist():
            line, lane = divmod(at, file.shape[1])
            changed, value, instead = _flipped(file, line, lane)
            if kind == "address" and not _moves(trial, file.spec.offset, value, instead):
                continue
            if not is_input or _shows(trial, kind, int(sources[line, lane]) - 1, instead):
                others = tuple(changed if one is file else one for one in trial.files)
                flipped = replace(trial, name=f"{trial.name}, {kind} bit, {where}", files=others)
                yield Flip(kind, file.name, line, lane, value, instead, False), flipped
                break


def _moves(trial: Trial, offset: int, address: int, instead: int) -> bool:
    """Whether the psums at two addresses differ; what lies outside is as good as different."""
    psum = trial.result.psum.sum(0)  # of all input channels: (oc_tile, kij, nij, col)
    flat = psum.reshape(len(psum), -1, psum.shape[-1])
    there = instead - offset
    return not 0 <= there < flat.shape[1] or not np.array_equal(flat[:, address - offset], flat[:, there])


def _flipped(file: VectorFile, line: int, lane: int) -> tuple[VectorFile, int, int]:
    """The file with the lowest bit of one lane flipped, which every format can hold."""
    words = file.words.copy()
    value = int(words[line, lane])
    words[line, lane] = value ^ 1
    return replace(file, values=words, line_axes=1, kept=None), value, value ^ 1


def _array(trial: Trial, kind: str) -> NDArray[np.integer]:
    return trial.result.act if kind.startswith("act") else trial.result.mapping.conv.weight


def _sources(trial: Trial, file: VectorFile) -> NDArray[np.integer]:
    """(lines, lanes): one more than the place in the input's array that a word's lane comes from; 0 for padding."""
    array = _array(trial, file.spec.tensor)
    places = np.arange(1, array.size + 1).reshape(array.shape)
    files = spec_files(Layout("places", (file.spec,)), file.spec, trial.result.mapping, places)
    return next(one.words for one in files if one.name == file.name)


def _shows(trial: Trial, kind: str, place: int, instead: int) -> bool:
    """Whether an input changed there makes another golden word: the layer is computed again."""
    source = _array(trial, kind).copy()
    source.reshape(-1)[place] = instead
    mapping, act = trial.result.mapping, trial.result.act
    try:
        if kind.startswith("act"):
            again = run_layer(mapping.conv, source, mapping.spec)
        else:
            again = run_layer(replace(mapping.conv, weight=source), act, mapping.spec)
    except BadInput:  # it does not fit its format, or a sum does not: another word will do
        return False
    files = {file.name: file for file in vector_files(again, trial.layout)}
    golden = [file for file in trial.files if file.spec.tensor in GOLDEN]
    return any(not np.array_equal(file.words, files[file.name].words) for file in golden)
