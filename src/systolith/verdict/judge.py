"""What RTL dumped against the golden words: the first that is wrong, explained, and the mistake that makes it so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult
from systolith.array.sfp import relu
from systolith.formats import IntFormat, wrapped
from systolith.vectors.layout import Layout, VectorFile, spec_files
from systolith.verdict.dumps import Dump, read_dumps, source_of
from systolith.verdict.mistakes import Mistaken, contributions, mistakes, operands, position
from systolith.verdict.words import How

Ints = NDArray[np.integer]
_MOST = 3  # of mistakes named where none gives every word
_EXPLAINED = 300  # wrong words, for a map of them


@dataclass(frozen=True)
class Level:
    """One level's comparison: words compared and different."""

    name: str
    words: int
    different: int


@dataclass(frozen=True)
class Alternative:
    """What a mistake would leave.

    Attributes:
        name: of the mistake.
        value: of the first wrong lane, in decimal and binary, or "x".
        words: dumped words that it gives, of all.
        first: it gives the whole first wrong word.
    """

    name: str
    value: str
    words: int
    first: bool


@dataclass(frozen=True, eq=False)
class WrongMap:
    """Where a dumped file differs.

    Attributes:
        name: of the golden file.
        level: in words, as of `Level`.
        wrong: bool (lines,).
        lines: of the first wrong words, which are to be explained.
        explain: says of a line what it should be, down to its products; takes its time.
    """

    name: str
    level: str
    wrong: NDArray[np.bool_]
    lines: tuple[int, ...]
    explain: Callable[[int], str]

    @property
    def words(self) -> tuple[tuple[int, str], ...]:
        """The lines, explained."""
        return tuple((line, self.explain(line)) for line in self.lines)


@dataclass(frozen=True)
class Verdict:
    """The outcome.

    Attributes:
        levels: psums and outputs, those that were dumped. Where a layout has outputs before ReLU beside those after it,
            their names say so.
        first: the first wrong word, explained; where none is wrong, the first of `counts`; or "".
        suspects: the mistakes that give every dumped word, in words; more than one only where these vectors cannot tell
            them apart.
        matched: words that the suspects give, of all.
        expected: what the first wrong lane should be, as in `Alternative.value`.
        alternatives: every mistake known here, the most words first; empty if no word is wrong.
        counts: of each file, log or signal with words missing or too many, which: no mistake in the numbers.
        assumed: what was taken for granted to read the dump, a sentence each.
        maps: of each dumped file, where it differs.
    """

    levels: tuple[Level, ...]
    first: str
    suspects: tuple[str, ...]
    matched: tuple[int, int]
    expected: str = ""
    alternatives: tuple[Alternative, ...] = ()
    counts: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    maps: tuple[WrongMap, ...] = ()

    @property
    def holds(self) -> bool:
        """Every word was dumped and is right, and there was at least one."""
        return bool(self.levels) and all(level.words and not level.different for level in self.levels)

    @property
    def closest(self) -> tuple[Alternative, ...]:
        """Where no mistake gives every word: at most three that give the first wrong one, and more than are right."""
        right = self.matched[1] - sum(level.different for level in self.levels)
        if self.suspects:
            return ()
        return tuple(a for a in self.alternatives if a.first and a.words > right)[:_MOST]

    @property
    def sentence(self) -> str:
        """The outcome in one line, under 200 characters."""
        matched, total = self.matched
        if self.holds:
            return f"all equal: {total:,} words"
        if self.suspects:
            suspects = " or ".join(f"'{name}'" for name in self.suspects)
            return f"NOT EQUAL: matches {suspects} at {matched:,} of {total:,} words"[:190]
        if self.first in self.counts:
            more = f" and {len(self.counts) - 1:,} more like it" if len(self.counts) > 1 else ""
            return f"NOT EQUAL: {self.first[:150]}{more}"
        wrong = sum(level.different for level in self.levels)
        said = f"NOT EQUAL: {wrong:,} words wrong, {total:,} expected; no mistake known here makes them"
        if self.closest:
            best = self.closest[0]
            said += f" all; closest: '{best.name}' at {best.words:,} of {total:,} words"
        return said[:190]


@dataclass(frozen=True)
class _Wrong:
    """The first wrong lane: which dump, line, lane."""

    dump: Dump
    line: int
    lane: int


def judge(result: ArrayResult, layout: Layout, against: Path, how: How | None = None) -> Verdict:
    """Compare the psums and outputs dumped at `against` with those of `result`.

    Args:
        result: the golden layer.
        layout: of the dumped files; logs and waveforms have their words in the order of its files.
        against: a folder, a file of words, a log, or a waveform (`dumps.read_dumps`).
        how: to read it.

    Raises:
        BadInput: nothing there to compare, or it cannot be read; says what was expected.
    """
    dumps = read_dumps(result, layout, against, how or How())
    right = [dump.matches(dump.golden.words) for dump in dumps]
    names = _names(layout, dumps)
    levels = []
    for level, name in names.items():
        counted = [
            (len(ok), int((~ok).sum()) + d.extra) for d, ok in zip(dumps, right, strict=True) if d.level == level
        ]
        levels.append(Level(name, sum(c for c, _ in counted), sum(d for _, d in counted)))
    total = sum(level.words for level in levels)
    counts, assumed = tuple(dump.count for dump in dumps if dump.count), _assumed(dumps)
    wrong = _first_wrong(dumps, right)
    maps = _maps(result, layout, dumps, right, names)
    if wrong is None:
        # Words that are missing are nobody's mistake in the numbers, and so are those too many.
        same = 0 if counts else total
        return Verdict(
            tuple(levels), next(iter(counts), ""), (), (same, total), counts=counts, assumed=assumed, maps=maps
        )
    weighed = [(c, _weigh(c, dumps, right, wrong)) for c in _candidates(result, layout, dumps)]
    suspects = _one_a_family([c for c, a in weighed if not counts and a.words == total])
    return Verdict(
        tuple(levels),
        _first(result, layout, wrong),
        suspects,
        (total if suspects else 0, total),
        _said(int(wrong.dump.golden.words[wrong.line, wrong.lane]), wrong.dump.golden.fmt),
        tuple(sorted((a for _, a in weighed), key=lambda a: -a.words)),
        counts,
        assumed,
        maps,
    )


def _maps(
    result: ArrayResult, layout: Layout, dumps: list[Dump], right: list[NDArray[np.bool_]], names: dict[str, str]
) -> tuple[WrongMap, ...]:
    """Where each file differs; of all wrong words the first `_EXPLAINED` are to be explained."""
    found, left = [], _EXPLAINED
    for dump, ok in zip(dumps, right, strict=True):
        lines = tuple(np.flatnonzero(~ok & ~dump.missing)[:left].tolist())
        left -= len(lines)

        def explain(line: int, dump: Dump = dump) -> str:
            return _first(result, layout, _Wrong(dump, line, _lane(dump, line)))

        found.append(WrongMap(dump.golden.name, names[dump.level], ~ok, lines, explain))
    return tuple(found)


def _lane(dump: Dump, line: int) -> int:
    """The first lane of a line that is wrong."""
    return int(np.argmax((dump.state[line] != 0) | (dump.found[line] != dump.golden.words[line])))


def _first_wrong(dumps: list[Dump], right: list[NDArray[np.bool_]]) -> _Wrong | None:
    """The first lane that was dumped and is wrong."""
    for dump, ok in zip(dumps, right, strict=True):
        wrong = ~ok & ~dump.missing
        if wrong.any():
            line = int(np.argmax(wrong))
            return _Wrong(dump, line, _lane(dump, line))
    return None


def _assumed(dumps: list[Dump]) -> tuple[str, ...]:
    """What was taken for granted, once for all the files of which it was."""
    sources: dict[str, list[str]] = {}
    for dump in dumps:
        for clause in dump.assumed:
            names = sources.setdefault(clause, [])
            if dump.source not in names:
                names.append(dump.source)
    several = {clause: f" and {len(names) - 1:,} more" if len(names) > 1 else "" for clause, names in sources.items()}
    return tuple(f"{names[0]}{several[clause]}: {clause}" for clause, names in sources.items())


def _names(layout: Layout, dumps: list[Dump]) -> dict[str, str]:
    """The levels that were dumped, by the names that people see."""
    both = len({spec.relu for spec in layout.files if spec.tensor in ("out", "out_os")}) == 2
    names = {"psum": "psum", "sfp": "SFP before ReLU", "output": "output after ReLU" if both else "output"}
    return {level: name for level, name in names.items() if any(d.level == level for d in dumps)}


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A mistake on the dumped files.

    Attributes:
        name, family: of the mistake.
        words: beside each dump, what it would hold, and where it would hold x (not 0), if anywhere.
    """

    name: str
    family: str
    words: list[tuple[Ints, Ints | None]]


def _candidates(result: ArrayResult, layout: Layout, dumps: list[Dump]) -> Iterator[_Candidate]:
    for mistaken in mistakes(result):
        yield _Candidate(mistaken.name, mistaken.family, _mistaken_words(mistaken, result, layout, dumps))
    # Which zeros an RTL leaves undriven is its own affair; that it does, a level shows.
    with_x = {dump.level for dump in dumps if (dump.state == 1).any()}
    family = "x instead of 0"
    for name in (family, f"{family} in words of zeros alone") if with_x else ():
        words: list[tuple[Ints, Ints | None]] = []
        for dump in dumps:
            golden = dump.golden.words
            zero = golden == 0
            unknown = zero if name == family else np.broadcast_to(zero.all(1, keepdims=True), zero.shape)
            words.append((golden, unknown.view(np.int8) if dump.level in with_x else None))
        yield _Candidate(name, family, words)


def _mistaken_words(
    mistaken: Mistaken, result: ArrayResult, layout: Layout, dumps: list[Dump]
) -> list[tuple[Ints, Ints | None]]:
    specs = {id(dump.golden.spec): dump.golden.spec for dump in dumps}
    found: dict[tuple[int, str], tuple[Ints, Ints | None]] = {}
    for key, spec in specs.items():
        is_psum = spec.tensor == "psum"
        if is_psum and mistaken.psum is result.psum and mistaken.unknown is None:
            continue  # right there
        changed = spec if is_psum or mistaken.relu is None else replace(spec, relu=mistaken.relu)
        source = mistaken.psum if is_psum else mistaken.out
        files = spec_files(layout, changed, result.mapping, source)
        xs: dict[str, Ints] = {}
        if mistaken.unknown is not None:
            unknown = mistaken.unknown[0 if is_psum else 1].astype(np.int8)
            xs = {file.name: file.words for file in spec_files(layout, spec, result.mapping, unknown)}
        for file in files:
            found[key, file.name] = _held(file.words, file.fmt), xs.get(file.name)
    return [found.get((id(dump.golden.spec), dump.golden.name), (dump.golden.words, None)) for dump in dumps]


def _held(words: Ints, fmt: IntFormat) -> Ints:
    """What a lane shows of numbers that may be too large for it: its low bits."""
    if not words.size or (fmt.lo <= int(words.min()) and int(words.max()) <= fmt.hi):
        return words
    return wrapped(words, fmt)


def _weigh(candidate: _Candidate, dumps: list[Dump], right: list[NDArray[np.bool_]], wrong: _Wrong) -> Alternative:
    count, value, first = 0, "", False
    for dump, golden, (words, unknown) in zip(dumps, right, candidate.words, strict=True):
        as_golden = words is dump.golden.words and unknown is None
        same = golden if as_golden else dump.matches(words, unknown)
        count += int(same.sum())
        if dump is wrong.dump:
            first = bool(same[wrong.line])
            is_x = unknown is not None and bool(unknown[wrong.line, wrong.lane])
            value = "x" if is_x else _said(int(words[wrong.line, wrong.lane]), dump.golden.fmt)
    return Alternative(candidate.name, value, count, first)


def _one_a_family(found: list[_Candidate]) -> tuple[str, ...]:
    """The names; forms of one mistake that the words cannot tell apart are one answer, the mistake."""
    named: dict[str, list[str]] = {}
    for candidate in found:
        named.setdefault(candidate.family or candidate.name, []).append(candidate.name)
    return tuple(names[0] if len(names) == 1 else family for family, names in named.items())


def _said(value: int, fmt: IntFormat) -> str:
    return f"{value} ({value & ((1 << fmt.bits) - 1):0{fmt.bits}b})"


def _first(result: ArrayResult, layout: Layout, wrong: _Wrong) -> str:
    """The first wrong word: where it is, what it should be, what it is, and the numbers it is made of."""
    dump, line, lane = wrong.dump, wrong.line, wrong.lane
    golden, text = dump.golden, dump.text(line)
    found = _said(int(dump.found[line, lane]), golden.fmt)
    if dump.state[line, lane]:
        found = repr(text[:80]) if text else "no word"
    expected = _said(int(golden.words[line, lane]), golden.fmt)
    what = _place(result, layout, golden, line, lane)
    return f"{dump.place(line)}, lane {lane}: {what}: expected {expected}, found {found}"


def _place(result: ArrayResult, layout: Layout, golden: VectorFile, line: int, lane: int) -> str:
    """What the word is of, and its operands."""
    spec, mapping = golden.spec, result.mapping
    source = source_of(result, spec)
    places = np.arange(1, source.size + 1).reshape(source.shape)
    files = spec_files(layout, replace(spec, relu=False), mapping, places)
    place = int(next(file.words for file in files if file.name == golden.name)[line, lane])
    name = mapping.conv.name
    if place == 0:
        return f"layer {name}, a lane without a channel"
    index = tuple(int(i) for i in np.unravel_index(place - 1, source.shape))
    if spec.tensor == "psum":
        ic_tile, oc_tile, kij, nij, col = index
        tap = "" if mapping.flat is not None else f"kij {kij}, "
        where = f"oc_tile {oc_tile}, ic_tile {ic_tile}, {tap}{position(mapping, nij)}, col {col}"
        return f"layer {name}, psum of {where} = {operands(result, index)}"
    value = int(result.out[index])
    after = f", after ReLU of {value}" if spec.relu and relu(result.out[index]) != value else ""
    *picture, oc, oi, oj = index
    where = f"output channel {oc} at ({oi}, {oj}){f' of picture {picture[0]}' if picture else ''}"
    return f"layer {name}, {where}{after} = {contributions(result, index)}"
