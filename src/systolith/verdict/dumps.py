"""What RTL dumped beside the golden words: a folder of files in the layout, logs, or a waveform.

A word that is damaged is a difference, never an error: x, z, too short, missing. What is no dump at all (a log whose
lines are none, an unknown signal) is `BadInput`.

A log has a line a word in the order of the level's golden words (the layout's files one after another). How text is
read, `lines.py` and `values.py` say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult
from systolith.formats import BadInput, IntFormat, from_bits
from systolith.vectors import tensors
from systolith.vectors.layout import FileSpec, Layout, VectorFile, spec_files
from systolith.vectors.text import encode_words
from systolith.verdict.lines import Text, holds_words, is_log, text_of, words_of
from systolith.verdict.placing import placed
from systolith.verdict.waves import sample
from systolith.verdict.words import WAVEFORMS, Form, How, Words

_PREFIXES = {"psum": "psum", "sfp": "sfp", "out": "output"}
_KNOWN, _X, _DAMAGED, MISSING = 0, 1, 2, 3  # of a lane
_CHUNK = 1 << 16  # words decoded at once


@dataclass(frozen=True, eq=False)
class Dump:
    """A dumped file, or its part of a log or waveform, beside the golden one.

    Attributes:
        level: one of `words.LEVELS`.
        golden: what it should hold.
        found: integers (lines, lanes), where `state` is 0.
        state: uint8 (lines, lanes): 0 a number, 1 x or z, 2 malformed, 3 (MISSING) in a line that was not dumped.
        text: of a line as found; "" where missing.
        place: of a line, in words.
        extra: words too many.
        count: which words of its file or log are missing or too many, or "".
        assumed: what was taken for granted to read it, a clause each.
        source: the name of what was dumped.
    """

    level: str
    golden: VectorFile
    found: NDArray[np.integer]
    state: NDArray[np.uint8]
    text: Callable[[int], str]
    place: Callable[[int], str]
    extra: int
    count: str = ""
    assumed: tuple[str, ...] = ()
    source: str = ""

    @property
    def missing(self) -> NDArray[np.bool_]:
        """bool (lines,): where no word was dumped."""
        where: NDArray[np.bool_] = (self.state == MISSING).all(1)
        return where

    def matches(self, words: NDArray[np.integer], unknown: NDArray[np.integer] | None = None) -> NDArray[np.bool_]:
        """bool (lines,): where every lane is as `words` say, and x exactly where `unknown` is not 0."""
        same = (self.found == words) & (self.state == _KNOWN)
        if unknown is not None:
            same = np.where(unknown != 0, self.state == _X, same)
        equal: NDArray[np.bool_] = same.all(1)
        return equal


def levels_of(layout: Layout) -> dict[str, list[FileSpec]]:
    """The files of each level of `words.LEVELS` that the layout has.

    Outputs before ReLU are a level of their own, "sfp", only where there are outputs after ReLU beside them.
    """
    outs = [spec for spec in layout.files if spec.tensor in ("out", "out_os")]
    both = len({spec.relu for spec in outs}) == 2
    found = {
        "psum": [spec for spec in layout.files if spec.tensor == "psum"],
        "sfp": [spec for spec in outs if both and not spec.relu],
        "output": [spec for spec in outs if spec.relu or not both],
    }
    return {level: specs for level, specs in found.items() if specs}


def source_of(result: ArrayResult, spec: FileSpec) -> NDArray[np.integer]:
    """The array that a psum or output file is made of."""
    return result.psum if tensors.SOURCES[spec.tensor] == "psum" else result.out


def golden_files(result: ArrayResult, layout: Layout, specs: Sequence[FileSpec]) -> list[VectorFile]:
    """Every file of `specs` with its golden words."""
    return [f for spec in specs for f in spec_files(layout, spec, result.mapping, source_of(result, spec))]


def read_dumps(result: ArrayResult, layout: Layout, against: Path, how: How) -> list[Dump]:
    """The dump at `against`, level after level, file after file.

    Args:
        against: a folder of files in the layout, a folder of logs (`psum*`, `sfp*`, `out*`), a file of words, a log, or
            a waveform.

    Raises:
        BadInput: nothing there to compare, or it cannot be read; says what was expected.
    """
    levels = levels_of(layout)
    if how.level is not None and how.level not in levels:
        raise BadInput(
            f"level {how.level!r}: layout {layout.name} has {', '.join(levels) or 'neither psums nor outputs'}"
        )
    if against.suffix.lower() in WAVEFORMS:
        words, width = sample(against, how)
        level, files = _level_of(result, layout, how.level, against.stem, lambda _: len(words.bits))
        expected = _form(level, files).width
        if width != expected:
            lane = f"{files[0].words.shape[1]} lanes of {files[0].fmt.bits}"
            raise BadInput(f"{how.signal} has {width} bits, a word of level {level} has {expected} ({lane})")
        return _spread(level, files, words)
    if any((how.signal, how.valid, how.clock, how.when, how.times)):
        options = "--signal, --valid, --clock, --when and --times"
        raise BadInput(f"{against}: {options} are of waveforms: expected a .vcd, .fst or .ghw file")
    if against.is_dir():
        return _folder(result, layout, against, how)
    if not against.is_file():
        raise BadInput(f"{against}: expected a folder of dumped files, a log or a waveform")
    return _log(result, layout, against, how.level, how)


def _folder(result: ArrayResult, layout: Layout, folder: Path, how: How) -> list[Dump]:
    found: list[Dump] = []
    levels = {how.level: levels_of(layout)[how.level]} if how.level else levels_of(layout)
    listed: dict[Path, Mapping[str, list[Path]]] = {}
    for level, specs in levels.items():
        for spec in specs:
            files = golden_files(result, layout, [spec])
            paths = [_find(folder / file.name, listed) for file in files]
            # A level that was not dumped at all is not compared; a file missing among others is.
            if any(paths):
                found += [_file(level, path, file, how) for path, file in zip(paths, files, strict=True)]
    if found:
        return found
    for level in levels:
        form = _form(level, golden_files(result, layout, levels[level]))
        logs = [p for p in sorted(folder.iterdir()) if _prefix(p.name) == level and _holds_log(p, form, how)]
        if len(logs) > 1:
            raise BadInput(f"{folder}: expected one log of level {level}, found {', '.join(p.name for p in logs)}")
        found += [dump for path in logs for dump in _log(result, layout, path, level, how)]
    if not found:
        names = ", ".join(spec.name for specs in levels.values() for spec in specs)
        raise BadInput(f"{folder}: holds none of the psum and output files of layout {layout.name} ({names})")
    return found


def _find(path: Path, listed: dict[Path, Mapping[str, list[Path]]]) -> Path | None:
    """The file, or the one whose name differs in upper and lower case alone."""
    if path.exists():
        return path
    if path.parent not in listed:
        names: dict[str, list[Path]] = {}
        for each in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
            names.setdefault(each.name.lower(), []).append(each)
        listed[path.parent] = names
    near = listed[path.parent].get(path.name.lower(), [])
    if len(near) > 1:
        raise BadInput(f"{path}: expected a file of this name, found {' and '.join(p.name for p in near)}")
    return near[0] if near else None


def _prefix(name: str) -> str | None:
    return next((level for prefix, level in _PREFIXES.items() if name.lower().startswith(prefix)), None)


def _holds_log(path: Path, form: Form, how: How) -> bool:
    if path.suffix.lower() in WAVEFORMS or not path.is_file():
        return False
    return is_log(path, _read(path), form, how)


def _level_of(
    result: ArrayResult, layout: Layout, level: str | None, name: str, count: Callable[[Form], int]
) -> tuple[str, list[VectorFile]]:
    """The level asked for, that of the name, the only one of so many words, or the outputs; and its golden files.

    `count` says how many words the dump has, read in the form of a level.
    """
    levels = levels_of(layout)
    named = level or _prefix(name)
    if named is not None and named in levels:
        return named, golden_files(result, layout, levels[named])
    files = {each: golden_files(result, layout, specs) for each, specs in levels.items()}
    fitting = [each for each in files if sum(len(f.words) for f in files[each]) == count(_form(each, files[each]))]
    level = fitting[0] if len(fitting) == 1 else "output"
    if level not in files:
        raise BadInput(f"layout {layout.name} has no outputs: --level says what was dumped ({', '.join(files)})")
    return level, files[level]


def _form(level: str, files: Sequence[VectorFile]) -> Form:
    """How the layout writes the words of a level."""
    forms = {Form(file.style.radix, file.words.shape[1], file.fmt) for file in files}
    if len({form.width for form in forms}) != 1:
        raise BadInput(f"the words of level {level} are not all of one width in this layout: dump files instead")
    first = files[0]
    return Form(first.style.radix, first.words.shape[1], first.fmt)


def _spread(level: str, files: list[VectorFile], words: Words) -> list[Dump]:
    """The words of a level over its files."""
    total = sum(len(file.words) for file in files)
    golden: list[str] = []
    if len(words.bits) != total and words.addresses is None:
        for file in files:
            held = encode_words(file.name, file.words, file.fmt)
            golden += held.decode("ascii").splitlines()
    where = placed(words.bits, golden or [""] * total, words.addresses)
    said = f"{words.name}: {where.said}" if where.said else ""
    if said and words.hint:
        said += f"; {words.hint}"
    assumed = (*words.assumed, where.assumed) if where.assumed else words.assumed
    dumps, start = [], 0
    for file in files:
        slots = where.slots[start : start + len(file.words)]
        bits = [words.bits[slot] if slot >= 0 else "" for slot in slots.tolist()]
        found, state = _numbers(bits, len(bits), file.fmt, file.words.shape[1])
        state[slots < 0] = MISSING

        def text(line: int, slots: NDArray[np.int64] = slots) -> str:
            return words.texts[slots[line]] if slots[line] >= 0 else ""

        def place(line: int, slots: NDArray[np.int64] = slots, name: str = file.name) -> str:
            at = words.places(int(slots[line]))
            return at if len(files) == 1 and words.name == name else f"{at}, word {line + 1} of {name}"

        dump = Dump(level, file, found, state, text, place, 0, "", assumed, words.name)
        dumps.append(dump)
        start += len(file.words)
    if said:
        dumps[-1] = replace(dumps[-1], extra=where.extra, count=said)
    return dumps


def _numbers(
    bits: Sequence[str], count: int, fmt: IntFormat, lanes: int
) -> tuple[NDArray[np.integer], NDArray[np.uint8]]:
    """Numbers and states (count, lanes) of binary texts; those that are short, long or missing are damaged."""
    found = np.zeros((count, lanes), dtype=np.int32 if fmt.bits < 32 else np.int64)
    state = np.full((count, lanes), _DAMAGED, dtype=np.uint8)
    width = lanes * fmt.bits
    for start in range(0, len(bits), _CHUNK):
        lines = [word if len(word) == width else "?" * width for word in bits[start : start + _CHUNK]]
        grid = np.frombuffer("".join(lines).encode("ascii", "replace"), dtype=np.uint8)
        grid = grid.reshape(len(lines), lanes, fmt.bits)[:, ::-1]
        known = (grid & 0xFE) == ord("0")
        unknown = np.isin(grid, np.frombuffer(b"xXzZ", dtype=np.uint8))
        numbers, part = known.all(-1), slice(start, start + len(lines))
        state[part] = np.where(numbers, _KNOWN, np.where((known | unknown).all(-1), _X, _DAMAGED))
        found[part] = np.where(numbers, from_bits(grid & np.uint8(1), fmt.signed), 0)
    return found, state


def _read(path: Path) -> Text:
    try:
        return text_of(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def _file(level: str, path: Path | None, golden: VectorFile, how: How) -> Dump:
    """A file of the layout, however damaged."""
    form = _form(level, [golden])
    if path is None:
        (dump,) = _spread(level, [golden], Words(golden.name, [], [], str, hint="there is no such file"))
        return dump
    # Almost every file of almost every dump is right: then there is nothing to decode, or to keep.
    if path.name == Path(golden.name).name and not how.pattern and how.radix in (None, form.radix):
        right = b"".join(golden.encode())
        content = path.read_bytes() if path.is_file() else b""
        body = right[len("".join(f"{line}\n" for line in golden.header)) :]
        if content in (right, body):
            clear = np.broadcast_to(np.uint8(_KNOWN), golden.words.shape)
            return Dump(level, golden, golden.words, clear, lambda line: "", lambda line: "", 0)
    if golden.style.container == "npy":
        raise BadInput(f"{path}: not the golden file; words are compared in text: dump text (--layout), not .npy files")
    text = _read(path)
    words = words_of(path, golden.name, text, form, how, golden.header, golden.style.container)
    assumed = words.assumed
    if path.name != Path(golden.name).name:
        assumed += ("found under a name in other upper and lower case",)
    hint = "the file is empty" if text.empty else ""
    (dump,) = _spread(level, [golden], replace(words, assumed=assumed, hint=hint))
    return dump


def _log(result: ArrayResult, layout: Layout, path: Path, level: str | None, how: How) -> list[Dump]:
    """A file that holds a level's words, or those of one of its files whose name it has."""
    text = _read(path)

    def count(form: Form) -> int:
        try:
            return len(words_of(path, path.name, text, form, how).bits)
        except BadInput:
            return -1  # not of this level, or of none

    level, files = _level_of(result, layout, level, path.name, count)
    form = _form(level, files)
    if not is_log(path, text, form, how):
        if not holds_words(text, form):
            raise BadInput(f"{path}: expected a log of lines time,value (or the folder that holds files of the layout)")
        files = [file for file in files if Path(file.name).name.lower() == path.name.lower()] or files
    header = files[0].header if len(files) == 1 else ()
    return _spread(level, files, words_of(path, path.name, text, form, how, header, files[0].style.container))
