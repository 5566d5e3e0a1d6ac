"""What RTL dumped beside the golden words: a folder of files in the layout, `time,value` logs, or a waveform.

A word that is damaged is a difference, never an error: x, z, too short, missing. What is no dump at all (a log without
times, an unknown signal) is `BadInput`.

A log has a line a word, `time,value`, in the order of the level's golden words (the layout's files one after another);
`#` and `//` comments, empty lines and one heading are skipped. A value is in the radix of `How`, or as its prefix says
(0b, 0x, or as Verilog writes it, 16'h3f); shorter ones are extended on the left as in Verilog.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult
from systolith.formats import BadInput, IntFormat, from_bits
from systolith.vectors import tensors
from systolith.vectors.layout import FileSpec, Layout, VectorFile, spec_files
from systolith.vectors.text import encode_words
from systolith.verdict.waves import sample
from systolith.verdict.words import WAVEFORMS, How, Words

_PREFIXES = {"psum": "psum", "sfp": "sfp", "out": "output"}
_KNOWN, _X, _DAMAGED = 0, 1, 2  # of a lane
_CHUNK = 1 << 16  # words decoded at once


@dataclass(frozen=True, eq=False)
class Dump:
    """A dumped file, or its part of a log or waveform, beside the golden one.

    Attributes:
        level: one of `words.LEVELS`.
        golden: what it should hold.
        found: integers (lines, lanes), where `state` is 0.
        state: uint8 (lines, lanes): 0 a number, 1 x or z, 2 malformed or missing.
        text: of a line as found; "" where missing.
        place: of a line, in words.
        extra: words too many.
    """

    level: str
    golden: VectorFile
    found: NDArray[np.integer]
    state: NDArray[np.uint8]
    text: Callable[[int], str]
    place: Callable[[int], str]
    extra: int

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
        against: a folder of files in the layout, a folder of logs (`psum*`, `sfp*`, `out*`), a log, or a waveform.

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
        level, files = _level_of(result, layout, how.level, against.stem, len(words.bits))
        expected = _word_width(level, files)
        if width != expected:
            lane = f"{files[0].words.shape[1]} lanes of {files[0].fmt.bits}"
            raise BadInput(f"{how.signal} has {width} bits, a word of level {level} has {expected} ({lane})")
        return _spread(level, files, words)
    if any((how.signal, how.valid, how.clock)):
        raise BadInput(f"{against}: --signal, --valid and --clock are of waveforms: expected a .vcd, .fst or .ghw file")
    if against.is_dir():
        return _folder(result, layout, against, how)
    if not against.is_file():
        raise BadInput(f"{against}: expected a folder of dumped files, a log or a waveform")
    return _log(result, layout, against, how.level, how.radix)


def _folder(result: ArrayResult, layout: Layout, folder: Path, how: How) -> list[Dump]:
    found: list[Dump] = []
    levels = {how.level: levels_of(layout)[how.level]} if how.level else levels_of(layout)
    for level, specs in levels.items():
        for spec in specs:
            files = golden_files(result, layout, [spec])
            # A level that was not dumped at all is not compared; a file missing among others is.
            if any((folder / file.name).exists() for file in files):
                found += [_file(level, folder / file.name, file, how.radix) for file in files]
    if found:
        return found
    for level in levels:
        logs = [p for p in sorted(folder.iterdir()) if _prefix(p.name) == level and p.is_file() and _is_log(_text(p))]
        if len(logs) > 1:
            raise BadInput(f"{folder}: expected one log of level {level}, found {', '.join(p.name for p in logs)}")
        found += [dump for path in logs for dump in _log(result, layout, path, level, how.radix)]
    if not found:
        names = ", ".join(spec.name for specs in levels.values() for spec in specs)
        raise BadInput(f"{folder}: holds none of the psum and output files of layout {layout.name} ({names})")
    return found


def _prefix(name: str) -> str | None:
    return next((level for prefix, level in _PREFIXES.items() if name.lower().startswith(prefix)), None)


def _level_of(
    result: ArrayResult, layout: Layout, level: str | None, name: str, count: int
) -> tuple[str, list[VectorFile]]:
    """The level asked for, that of the name, the only one of so many words, or the outputs; and its golden files."""
    levels = levels_of(layout)
    named = level or _prefix(name)
    if named is not None and named in levels:
        return named, golden_files(result, layout, levels[named])
    files = {each: golden_files(result, layout, specs) for each, specs in levels.items()}
    fitting = [each for each in files if sum(len(f.words) for f in files[each]) == count]
    level = fitting[0] if len(fitting) == 1 else "output"
    if level not in files:
        raise BadInput(f"layout {layout.name} has no outputs: --level says what was dumped ({', '.join(files)})")
    return level, files[level]


def _word_width(level: str, files: list[VectorFile]) -> int:
    widths = {file.words.shape[1] * file.fmt.bits for file in files}
    if len(widths) != 1:
        raise BadInput(f"the words of level {level} are not all of one width in this layout: dump files instead")
    return widths.pop()


def _spread(level: str, files: list[VectorFile], words: Words) -> list[Dump]:
    """The words of a level over its files."""
    dumps, start = [], 0
    for file in files:
        end = start + len(file.words)
        extra = max(0, len(words.bits) - end) if file is files[-1] else 0
        found, state = _numbers(words.bits[start:end], len(file.words), file.fmt, file.words.shape[1])

        def text(line: int, start: int = start) -> str:
            return words.texts[start + line] if start + line < len(words.texts) else ""

        def place(line: int, start: int = start, name: str = file.name) -> str:
            at = start + line
            return f"{words.places(at) if at < len(words.bits) else words.end}, word {line + 1} of {name}"

        dumps.append(Dump(level, file, found, state, text, place, extra))
        start = end
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


def _text(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _file(level: str, path: Path, golden: VectorFile, radix: str | None) -> Dump:
    """A file of the layout, however damaged."""
    style, header, count = golden.style, list(golden.header), len(golden.words)
    if style.container != "text" or style.radix == "dec":
        raise BadInput(f"{path}: dumps are read as text, binary or hexadecimal, or as a time,value log")
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    # Almost every file of almost every dump is right: then there is nothing to decode, or to keep.
    right = encode_words(golden.name, golden.words, golden.fmt, style.radix)
    if content.endswith(right):
        top = content[: -len(right)].decode("ascii", "replace")
        if top == "".join(f"{line}\n" for line in header) or (
            top[-1:] in ("", "\n") and not _with_numbers(top.splitlines())
        ):
            clear = np.broadcast_to(np.uint8(_KNOWN), golden.words.shape)
            return Dump(level, golden, golden.words, clear, lambda line: "", lambda line: "", 0)
    lines = content.decode("ascii", "replace").splitlines()
    if lines[: len(header)] == header:
        body = list(enumerate(lines[len(header) :], len(header) + 1))
    else:
        body = _with_numbers(lines)
    if body and _is_log([line for _, line in body]):
        words = _log_words(path, lines, radix or style.radix, _word_width(level, [golden]))
        (dump,) = _spread(level, [golden], words)
        return dump
    texts = [line.strip() for _, line in body]
    bits = [word.replace("_", "") for word in texts[:count]]
    if style.radix == "hex":
        bits = [_hex_bits(word, golden.words.shape[1] * golden.fmt.bits) for word in bits]
    found, state = _numbers(bits, count, golden.fmt, golden.words.shape[1])
    after = body[-1][0] + 1 if body else len(header) + 1

    def place(line: int) -> str:
        number = body[line][0] if line < len(body) else after + line - len(body)
        return f"{golden.name}, line {number}"

    extra = max(0, len(body) - count)
    return Dump(level, golden, found, state, lambda line: texts[line] if line < len(texts) else "", place, extra)


_NIBBLES = {f"{value:x}": f"{value:04b}" for value in range(16)} | {"x": "xxxx", "z": "zzzz"}


def _hex_bits(word: str, width: int) -> str:
    """Binary text of a hexadecimal word of the right length; else something that is no word."""
    spare = -width % 4
    bits = "".join(_NIBBLES.get(digit, "????") for digit in word.lower())
    if len(bits) != width + spare or "1" in bits[:spare]:
        return ""
    return bits[spare:]


def _with_numbers(lines: list[str]) -> list[tuple[int, str]]:
    """Lines that hold something, comments left out, numbered from 1."""
    return [(n, line) for n, line in enumerate(lines, 1) if _holds(line)]


def _holds(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(("#", "//"))


def _is_log(lines: list[str]) -> bool:
    """Whether the first line that is no comment has a comma: no word of a layout has."""
    return "," in next(filter(_holds, lines), "")


def _log(result: ArrayResult, layout: Layout, path: Path, level: str | None, radix: str | None) -> list[Dump]:
    lines = _text(path)
    if not _is_log(lines):
        raise BadInput(f"{path}: expected a log of lines time,value (or the folder that holds files of the layout)")
    level, files = _level_of(result, layout, level, path.name, len(_entries(lines)))
    words = _log_words(path, lines, radix or files[0].style.radix, _word_width(level, files))
    return _spread(level, files, words)


_TIME = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?")


def _entries(lines: list[str]) -> list[tuple[int, str]]:
    """The numbered lines of a log behind its heading, if it has one (the first line, where that has no time)."""
    entries = _with_numbers(lines)
    return entries[1:] if entries and not re.match(r"\s*[\d.+-]", entries[0][1]) else entries


def _log_words(path: Path, lines: list[str], radix: str, width: int) -> Words:
    entries = _entries(lines)
    times: list[str] = []
    texts: list[str] = []
    bits: list[str] = []
    before: float = 0
    for number, line in entries:
        time, comma, text = line.partition(",")
        time, text = time.strip(), text.strip().strip('"')
        if not comma or not _TIME.fullmatch(time):
            raise BadInput(
                f"{path}: line {number}: expected time,value with a number for the time, found {line[:60]!r}"
            )
        now = int(time) if time.isdigit() else float(time)
        if now < before:
            raise BadInput(f"{path}: line {number}: time {time} is before time {times[-1]} of the line above")
        before = now
        times.append(time)
        texts.append(text)
        bits.append(_value(text, radix, width, f"{path}: line {number}"))
    end = f"{path.name}, line {len(lines) + 1}"
    return Words(bits, texts, lambda at: f"{path.name}, line {entries[at][0]} (time {times[at]})", end)


_LITERAL = re.compile(r"(?:0([bxd])|\d*'s?([bhd]))(.*)", re.IGNORECASE | re.DOTALL)
_RADIXES = {"b": "bin", "x": "hex", "h": "hex", "d": "dec"}
_DIGITS = {"bin": "01xz", "hex": "0123456789abcdefxz", "dec": "0123456789"}


def _value(text: str, radix: str, width: int, where: str) -> str:
    """Binary text of a log's value, extended to `width`; "" of an empty one."""
    word = text.replace("_", "").lower()
    # An unprefixed hexadecimal word may itself begin with 0b or 0d.
    match = _LITERAL.fullmatch(word) if radix != "hex" or word.startswith("0x") or "'" in word else None
    if match:
        radix, word = _RADIXES[match[1] or match[2]], match[3].strip()
    if not word:
        return ""
    negative = radix == "dec" and word.startswith("-")
    digits = word[1:] if negative else word
    if radix == "dec" and not negative and set(digits) in ({"x"}, {"z"}):
        return digits[0] * width
    if not digits or not set(digits) <= set(_DIGITS[radix]):
        name = {"bin": "binary", "hex": "hexadecimal", "dec": "decimal"}[radix]
        raise BadInput(f"{where}: expected a {name} value (--radix says another), found {text[:60]!r}")
    if radix == "dec":
        value = -int(digits) if negative else int(digits)
        if not -(1 << (width - 1)) <= value < 1 << width:
            raise BadInput(f"{where}: {value} does not fit the {width} bits of a word")
        return f"{value & ((1 << width) - 1):0{width}b}"
    bits = digits if radix == "bin" else "".join(_NIBBLES[digit] for digit in digits)
    spare, bits = bits[:-width], bits[-width:]
    if spare.strip("0") and set(spare) != {bits[0]} & {"x", "z"}:
        raise BadInput(f"{where}: found more bits than the {width} of a word: {text[:60]!r}")
    return bits.rjust(width, bits[0] if bits[0] in "xz" else "0")
