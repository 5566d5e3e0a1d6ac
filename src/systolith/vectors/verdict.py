"""What RTL dumped against the golden words: the first that is wrong, explained, and the mistake that makes it so."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult
from systolith.array.sfp import relu
from systolith.formats import BadInput
from systolith.vectors import tensors
from systolith.vectors.layout import FileSpec, Layout, VectorFile, spec_files
from systolith.vectors.mistakes import Mistaken, contributions, mistakes, operands

LEVELS = {"psum": "psum", "out": "output", "out_os": "output"}


@dataclass(frozen=True)
class Level:
    """One level's comparison: words compared and different."""

    name: str
    words: int
    different: int


@dataclass(frozen=True)
class Verdict:
    """The outcome.

    Attributes:
        levels: psums and outputs, those that were dumped.
        first: the first wrong word, explained, or "".
        suspects: the mistakes that give every dumped word, in words; more than one only where these vectors cannot tell
            them apart.
        matched: words that the suspects give, of all.
    """

    levels: tuple[Level, ...]
    first: str
    suspects: tuple[str, ...]
    matched: tuple[int, int]

    @property
    def holds(self) -> bool:
        """Every word was dumped and is right, and there was at least one."""
        return bool(self.levels) and all(level.words and not level.different for level in self.levels)


@dataclass(frozen=True, eq=False)
class _Dump:
    """A dumped file beside the golden one.

    Attributes:
        golden: what it should hold.
        found: int64 (lines, lanes), where `valid`.
        valid: bool (lines, lanes): neither x, z, malformed nor missing.
        lines: the text of each line; "" where missing.
        extra: words too many.
    """

    golden: VectorFile
    found: NDArray[np.int64]
    valid: NDArray[np.bool_]
    lines: list[str]
    extra: int

    def wrong(self, words: NDArray[np.integer]) -> NDArray[np.bool_]:
        """bool (lines,): where some lane is not what `words` say."""
        unequal: NDArray[np.bool_] = (~self.valid | (self.found != words)).any(1)
        return unequal


def judge(result: ArrayResult, layout: Layout, folder: Path) -> Verdict:
    """Compare the psum and output files in `folder` with those of `result`.

    Raises:
        BadInput: no such folder, or none of the layout's psum and output files in it.
    """
    dumps = _dumps(result, layout, folder)
    levels = []
    for tensor, name in LEVELS.items():
        files = [d for d in dumps if d.golden.spec.tensor == tensor]
        if files:
            words = sum(len(d.golden.words) for d in files)
            levels.append(Level(name, words, sum(int(d.wrong(d.golden.words).sum()) + d.extra for d in files)))
    total = sum(level.words for level in levels)
    if not any(level.different for level in levels):
        return Verdict(tuple(levels), "", (), (total, total))
    suspects = _suspects(result, layout, dumps)
    return Verdict(tuple(levels), _first(result, layout, dumps), suspects, (total if suspects else 0, total))


def _dumps(result: ArrayResult, layout: Layout, folder: Path) -> list[_Dump]:
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder of dumped files")
    found: list[_Dump] = []
    for spec in layout.files:
        if spec.tensor in LEVELS:
            files = list(spec_files(layout, spec, result.mapping, _source(result, spec)))
            # A level that was not dumped at all is not compared; a file missing among others is.
            if any((folder / file.name).exists() for file in files):
                found += [_read(folder / file.name, file) for file in files]
    if not found:
        names = [spec.name for spec in layout.files if spec.tensor in LEVELS]
        raise BadInput(
            f"{folder}: holds none of the psum and output files of layout {layout.name} ({', '.join(names)})"
        )
    return found


def _source(result: ArrayResult, spec: FileSpec) -> NDArray[np.integer]:
    return result.psum if tensors.SOURCES[spec.tensor] == "psum" else result.out


def _read(path: Path, golden: VectorFile) -> _Dump:
    """A dump, however damaged: what cannot be read is invalid, not an error."""
    if golden.style.container != "text" or golden.style.radix == "dec":
        raise BadInput(f"{path}: dumps are read as text, binary or hexadecimal")
    count, lanes = golden.words.shape
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    lines = text.splitlines()
    body = (
        lines[len(golden.header) :] if lines[: len(golden.header)] == list(golden.header) else _without_comments(lines)
    )
    bits = golden.fmt.bits
    found, valid = np.zeros((count, lanes), dtype=np.int64), np.zeros((count, lanes), dtype=bool)
    for at, line in enumerate(body[:count]):
        word = line.strip().replace("_", "")
        if golden.style.radix == "hex":
            word = "".join(_NIBBLES.get(c, "xxxx") for c in word.lower())[-lanes * bits :]
        if len(word) != lanes * bits:
            continue
        for lane in range(lanes):
            part = word[(lanes - 1 - lane) * bits : (lanes - lane) * bits]
            if re.fullmatch("[01]+", part):
                valid[at, lane] = True
                value = int(part, 2)
                found[at, lane] = value - (1 << bits) if golden.fmt.signed and part[0] == "1" else value
    kept = [line.strip() for line in body[:count]]
    return _Dump(golden, found, valid, kept + [""] * (count - len(kept)), max(0, len(body) - count))


_NIBBLES = {f"{value:x}": f"{value:04b}" for value in range(16)} | {"x": "xxxx", "z": "zzzz"}


def _without_comments(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]


def _suspects(result: ArrayResult, layout: Layout, dumps: list[_Dump]) -> tuple[str, ...]:
    """The mistakes that give every dumped word."""
    found = [m.name for m in mistakes(result) if _gives(m, result, layout, dumps)]
    if not found and _zeros_are_x(dumps):
        found = ["x where the word should be 0"]
    return tuple(found)


def _gives(mistaken: Mistaken, result: ArrayResult, layout: Layout, dumps: list[_Dump]) -> bool:
    words: dict[str, NDArray[np.integer]] = {}
    for spec in layout.files:
        if not any(d.golden.spec is spec for d in dumps):
            continue
        source = mistaken.out
        if spec.tensor == "psum":
            source = mistaken.psum
        elif mistaken.relu is not None:
            spec = replace(spec, relu=mistaken.relu)
        words |= {file.name: file.words for file in spec_files(layout, spec, result.mapping, source)}
    if any(d.extra or d.wrong(words[d.golden.name]).any() for d in dumps):
        return False
    return any((words[d.golden.name] != d.golden.words).any() for d in dumps)


def _zeros_are_x(dumps: list[_Dump]) -> bool:
    """Whether the only difference is x or z where a lane should be 0."""
    return all(
        not d.extra and (~d.valid == (d.golden.words == 0)).all() and (d.found == d.golden.words)[d.valid].all()
        for d in dumps
    )


def _first(result: ArrayResult, layout: Layout, dumps: list[_Dump]) -> str:
    """The first wrong word: where it is, what it should be, what it is, and the numbers it is made of."""
    for dump in dumps:
        golden = dump.golden
        wrong = dump.wrong(golden.words)
        if not wrong.any():
            continue
        line = int(np.argmax(wrong))
        bad = ~dump.valid[line] | (dump.found[line] != golden.words[line])
        lane = int(np.argmax(bad))
        expected, bits = int(golden.words[line, lane]), golden.fmt.bits
        binary = f"{expected & ((1 << bits) - 1):0{bits}b}"
        if dump.valid[line, lane]:
            value = int(dump.found[line, lane])
            said = f"{value} ({value & ((1 << bits) - 1):0{bits}b})"
        else:
            said = f"{dump.lines[line][:80]!r}" if dump.lines[line] else "no word"
        where = f"{golden.name}, line {line + len(golden.header) + 1}, lane {lane}"
        return f"{where}: {_place(result, layout, golden, line, lane)}: expected {expected} ({binary}), found {said}"
    dump = next(d for d in dumps if d.extra)
    return f"{dump.golden.name}: {dump.extra} words more than the {len(dump.golden.words)} expected"


def _place(result: ArrayResult, layout: Layout, golden: VectorFile, line: int, lane: int) -> str:
    """What the word is of, and its operands."""
    spec, mapping = golden.spec, result.mapping
    source = _source(result, spec)
    places = np.arange(1, source.size + 1).reshape(source.shape)
    files = spec_files(layout, spec, mapping, places)
    place = int(next(file.words for file in files if file.name == golden.name)[line, lane])
    name = mapping.conv.name
    if place == 0:
        return f"layer {name}, a lane without a channel"
    index = tuple(int(i) for i in np.unravel_index(place - 1, source.shape))
    if spec.tensor == "psum":
        ic_tile, oc_tile, kij, nij, col = index
        i, j = divmod(nij, mapping.padded_shape[1])
        where = f"oc_tile {oc_tile}, ic_tile {ic_tile}, kij {kij}, nij {nij} (i {i}, j {j}), col {col}"
        return f"layer {name}, psum of {where} = {operands(result, index)}"
    value = int(result.out[index])
    after = f", after ReLU of {value}" if spec.relu and relu(result.out[index]) != value else ""
    return (
        f"layer {name}, output channel {index[0]} at ({index[1]}, {index[2]}){after} = {contributions(result, index)}"
    )
