"""Every layout that is one change away from what a style's testbench reads, and what is said when it gets that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from projects.styles import STYLES, write
from systolith.formats import BadInput
from systolith.hardware.testbenches import trials_of
from systolith.projects.control import control, is_blind
from systolith.projects.project import read_project
from systolith.projects.questions import changes, passing
from systolith.projects.running import Trial, Workshop, run_trials
from systolith.requests.verbs import CosimRequest
from systolith.rtl.simulators import Simulator
from systolith.vectors import Layout
from systolith.vectors.layout import vector_files


@dataclass(frozen=True)
class Answer:
    """Of one wrong layout: the change that made it, and whether the change back was named, among how many."""

    wrong: str
    named: bool
    hints: tuple[str, ...]


def plain(layout: Layout) -> list[object]:
    """A layout's files but for the words of free headers, which no testbench reads."""
    return [replace(spec, header=("",) * len(spec.header), single=None) for spec in layout.files]


def answers(name: str, folder: Path, simulator: Simulator, wanted: tuple[str, ...] = ()) -> Iterator[Answer]:
    """An answer for every change of the style's layout with which its testbench fails; of the `wanted` ones alone, if
    there are any."""
    project = read_project(write(STYLES[name], folder / "project"))
    trial = next(iter(trials_of(project, CosimRequest(project=folder / "project"), folder / "vectors")))
    seen = [plain(project.layout)]
    for number, (said, wrong) in enumerate(changes(project.layout, project)):
        if plain(wrong) in seen or (wanted and said not in wanted):
            continue
        seen.append(plain(wrong))
        try:
            files = tuple(vector_files(trial.result, wrong))
            for file in files:
                list(file.encode())
        except BadInput:
            continue
        runs = folder / str(number)
        runs.mkdir()
        shop = Workshop(replace(project, layout=wrong), simulator, runs)
        asked = Trial("wrong", trial.result, wrong, files)
        (outcome,) = run_trials(shop, [asked])
        if outcome.passed and not is_blind(control(shop, asked)):  # the testbench does not care
            continue
        hints = passing(shop, asked)
        back = dict(changes(wrong, shop.project))
        yield Answer(said, any(plain(back[hint]) == seen[0] for hint in hints), tuple(hints))
