"""Which single change of the layout would make a failing testbench pass: tried by running it with each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from systolith.formats import BadInput
from systolith.projects.control import control
from systolith.projects.project import Project
from systolith.projects.running import Trial, Workshop, run_trials
from systolith.projects.testbench import opened
from systolith.vectors import Layout
from systolith.vectors.layout import FileSpec, vector_files
from systolith.vectors.layout_file import toml_lines
from systolith.vectors.tensors import SOURCES
from systolith.verdict.variants import CHANGES, LABELS, reverse_lanes, reverse_lines, toggle_relu

NAMES = {"act": "activations", "weight": "weights", "psum": "psums", "out": "outputs", "address": "addresses"}
_HEADERS = ("none", "three words", "1 line", "2 lines", "3 lines")


def passing(workshop: Workshop, trial: Trial) -> list[str]:
    """In words, each single change of the trial's layout with which the testbench passes, and notices flipped bits.

    A testbench that reads nothing from files in a wrong form compares x with x: such a pass is none. Changes that
    make no files are left out.
    """
    layout = trial.layout
    trials: list[tuple[str, Trial]] = []
    seen: list[tuple[FileSpec, ...]] = [layout.files]
    for said, changed in changes(layout, workshop.project):
        if changed.files in seen:
            continue
        seen.append(changed.files)
        try:
            files = tuple(vector_files(trial.result, changed))
            for file in files:
                for _ in file.encode():  # what does not fit its lane is no candidate
                    pass
        except BadInput:
            continue
        trials.append((said, Trial(f"with {said}", trial.result, changed, files)))
    outcomes = run_trials(workshop, [one for _, one in trials])
    passed = [one for one, outcome in zip(trials, outcomes, strict=True) if outcome.passed]
    return [said for said, one in passed if all(found.noticed for found in control(workshop, one))]


def edits(layout: Layout, project: Project, said: str) -> tuple[str, ...]:
    """What `changes` calls `said`, as lines of the layout's TOML, each behind the name of its file."""
    changed = dict(changes(layout, project))[said]
    found = []
    for old, new in zip(layout.files, changed.files, strict=True):
        before, after = (toml_lines(spec) for spec in (old, new))
        lines = [f"{key} = {value}" for key, value in after.items() if before.get(key) != value]
        lines += [f"no {key}" for key in before if key not in after]
        found += [f"{old.name}: {line}" for line in lines]
    return tuple(found)


def changes(layout: Layout, project: Project) -> Iterator[tuple[str, Layout]]:
    """Every single change of a layout that a testbench's author may have meant, in words."""
    for number, spec in enumerate(layout.files):
        for said, changed in _of_file(spec, project, layout):
            files = (*layout.files[:number], changed, *layout.files[number + 1 :])
            yield said, replace(layout, files=files)
    if len({(spec.tokens != (), len(spec.header)) for spec in layout.files}) == 1:
        for said, header in (("no header", "none"), ("three header words", "three words"), *_free()):
            yield f"{said} in every file", replace(layout, files=tuple(_headed(spec, header) for spec in layout.files))
    if len({spec.radix for spec in layout.files}) == 1:
        for radix, name in _RADIX.items():
            specs = [_with(spec, radix=radix) for spec in layout.files]
            if None not in specs:
                yield f"words in {name} in every file", replace(layout, files=tuple(filter(None, specs)))


_RADIX = {"bin": "binary", "hex": "hexadecimal", "dec": "decimal"}


def _free() -> list[tuple[str, str]]:
    return [(f"{n} free header line{'s' * (n > 1)}", f"{n} line{'s' * (n > 1)}") for n in (1, 2, 3)]


def _of_file(spec: FileSpec, project: Project, layout: Layout) -> Iterator[tuple[str, FileSpec]]:
    what = NAMES.get(SOURCES.get(spec.tensor, spec.tensor), spec.tensor)
    if spec.tensor in ("out", "out_os"):
        yield f"{what} {'before' if spec.relu else 'after'} ReLU", toggle_relu(spec)
    for said, change in CHANGES.get(spec.tensor, []):
        yield said, change(spec)
    yield f"{what}: lines reversed", reverse_lines(spec)
    yield f"{what}: lanes reversed", reverse_lanes(spec)
    if spec.tensor == "address":
        for offset in (spec.offset - 1, spec.offset + 1, *range(17), *(1 << n for n in range(5, 12))):
            yield f"addresses with offset {offset}", replace(spec, offset=offset)
    for header in _HEADERS:
        yield f"{what}: {header if header != 'none' else 'no header'} in front", _headed(spec, header)
    for order in itertools.permutations(spec.lines):
        yield f"{what}: lines in the order {', '.join(order)} (the slowest first)", replace(spec, lines=order)
    for order in itertools.permutations(spec.lanes):
        yield f"{what}: lanes in the order {', '.join(order)} (the slowest first)", replace(spec, lanes=order)
    if "kij" in spec.axes_of_files:
        left = re.findall(r"\{(?!kij)[^}]*\}", spec.name)
        plain = re.sub(r"_?(?:kij)?\{kij[^}]*\}", "", spec.name)
        for name in (plain, *_opened_as(left, project, layout)):
            for at, lines in (("first", ("kij", *spec.lines)), ("last", (*spec.lines, "kij"))):
                said = f"{what}: one file for all kij, {name}, kij {at}"
                yield said, replace(spec, name=name, single=None, lines=lines)
    elif "kij" in spec.lines:
        rest = tuple(term for term in spec.lines if term != "kij")
        base = _base(spec)
        fields = [*re.findall(r"\{[^}]*\}", spec.name), f"{{kij+{base}}}" if base else "{kij}"]
        stem, dot, suffix = spec.name.rpartition(".")
        for name in (f"{stem}{{kij}}{dot}{suffix}", *_opened_as(fields, project, layout)):
            yield f"{what}: a file for each kij, {name}", replace(spec, name=name, single=None, lines=rest)
    if spec.axes_of_files:
        for by in (1, -1):
            if (moved := _counted(spec, by)) is not None:
                yield f"{what}: file names counted from {_base(spec) + by}", moved
    if spec.container in ("text", "readmem") and not (spec.tokens or spec.header):
        other = "readmem" if spec.container == "text" else "text"
        way = "with an address before each word" if other == "readmem" else "without addresses"
        if (changed := _with(replace(spec, tokens=(), header=()), container=other)) is not None:
            yield f"{what}: {way}", changed
    for radix, name in _RADIX.items():
        if (changed := _with(spec, radix=radix)) is not None:
            yield f"{what}: words in {name}", changed
    if spec.signed is not None or spec.bits is not None:
        yield f"{what}: lanes as wide as the array's", replace(spec, bits=None, signed=None)
    for name in _opened_as(re.findall(r"\{[^}]*\}", spec.name), project, layout):
        yield f"{what}: files called {name}", replace(spec, name=name, single=None)


def _with(spec: FileSpec, **given: str) -> FileSpec | None:
    try:
        return replace(spec, **given)  # type: ignore[arg-type]
    except BadInput:
        return None


def _headed(spec: FileSpec, header: str) -> FileSpec:
    if spec.container != "text":
        return spec
    if header == "three words":
        return replace(spec, header=(), tokens=LABELS[SOURCES.get(spec.tensor, "out")])
    lines = 0 if header == "none" else int(header.split()[0])
    return replace(spec, tokens=(), header=("// free",) * lines)


def _base(spec: FileSpec) -> int:
    match = re.search(r"\{[a-z]+([+-]\d+)?", spec.name)
    return int(match[1] or 0) if match else 0


def _counted(spec: FileSpec, by: int) -> FileSpec | None:
    """Its names counted from another number."""
    if _base(spec) + by < 0:
        return None

    def moved(match: re.Match[str]) -> str:
        number = int(match[2] or 0) + by
        return f"{{{match[1]}{f'{number:+d}' if number else ''}{match[3]}}}"

    return replace(spec, name=re.sub(r"\{([a-z]+)([+-]\d+)?(:[^}]*|)\}", moved, spec.name))


def _opened_as(fields: Sequence[str], project: Project, layout: Layout) -> Iterator[str]:
    """Names that the testbench opens and no file of the layout has, with these fields for what is formatted in."""
    mine = [_shape(one.name) for one in layout.files]
    for one in opened(project):
        if not one.reads or _shape(one.name) in mine:
            continue
        name = Path(one.name).name
        holes = re.findall(r"%\d*[dD]", name)
        numbers = re.findall(r"%\d*[dD]|\d+", name)
        if fields and holes and len(holes) < len(fields) == len(numbers):
            yield _put(r"%\d*[dD]|\d+", name, fields)
        elif len(holes) == len(fields):
            yield _put(r"%\d*[dD]", name, fields)
        elif len(fields) and not holes and (numbered := _numbered(name, fields)):
            yield numbered


def _numbered(name: str, fields: Sequence[str]) -> str:
    """ "w0_1.txt" with fields for its numbers; "" where there are not as many."""
    stem, dot, suffix = name.rpartition(".")
    numbers = re.findall(r"\d+", stem)
    if len(numbers) != len(fields):
        return ""
    return _put(r"\d+", stem, fields) + dot + suffix


def _put(pattern: str, text: str, fields: Sequence[str]) -> str:
    """The text with the fields in the places of a pattern, one after another."""
    rest = iter(fields)
    return re.sub(pattern, lambda _: next(rest), text)


def _shape(name: str) -> str:
    """A name with every number and field alike."""
    return re.sub(r"%\d*[dD]|\{[^}]*\}|\d+", "#", Path(name).name)
