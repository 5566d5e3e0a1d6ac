"""The words of a dumped text file: plain words, `time,value`, lines of `$monitor`, or what a pattern finds.

Plain words are what `$readmemh` reads: words between white space, `@address` (hexadecimal) before the word that lies
there. In a log a line is a word, with the time that it has. `//`, `#` and `--` begin comments.

A pattern (`How.pattern`) has one group, the value, or two, time and value, or named ones: `value`; `time`, a number
with a unit or none; `address`, hexadecimal; `lane`, a decimal number, if a line is a lane of a word. It is searched for
in each line as it stands, comments too; where it is not found, there is no word. The other forms are patterns too: that
of `time,value`, those of MIF and COE files, and of other logs one that is made of its first line (`_learned`).
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from systolith.formats import BadInput
from systolith.verdict.values import NAMES, bits_of, prefixed, radix_of, whole
from systolith.verdict.words import Form, How, Words

_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 text with a byte order mark"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16 text"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16 text"),
)
_COMMENT = re.compile(r"//.*|#.*|/\*.*?\*/")
_ADDRESS = re.compile(r"@([0-9a-fA-F]+)")
_TOKEN = re.compile(r"[^\s,:;=()\[\]{}\"]+")
_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_STAMP = rf"{_NUMBER}(?:\s*[munpf]?s\b)?"
_STAMPS = re.compile(rf"(?<![\w.]){_STAMP}(?![\w.])")
_TIME = re.compile(rf"({_NUMBER})\s*([munpf]?s)?")
_UNITS = {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12, "fs": 1e-15}
_CSV = re.compile(r"^\s*(?P<time>[^,]*?)\s*,\s*(?P<value>[^,]*)$")
_CSV_FIRST = re.compile(rf"\s*{_STAMP}\s*,\s*[^,\s][^,]*")
_CONTAINERS = {
    "mif": re.compile(r"^\s*(?P<address>[0-9a-fA-F]+)\s*:\s*(?P<value>[^;]*?)\s*;\s*$"),
    "coe": re.compile(r"^\s*(?P<value>[0-9a-fA-FxXzZ_]+)\s*[,;]\s*$"),
}
_GROUPS = ("value", "time", "address", "lane")


class Found(NamedTuple):
    """A word of a file: the line's number from 1, the word as found, and what else the line says."""

    line: int
    text: str
    time: str = ""
    address: int | None = None
    lane: int = 0


class Text(NamedTuple):
    """A file as text: its lines, whether it was empty, and what had to be assumed to read it."""

    lines: list[str]
    empty: bool
    assumed: tuple[str, ...]


def text_of(content: bytes) -> Text:
    """A file's lines, in the encoding that its byte order mark says, else ASCII."""
    for mark, encoding, what in _MARKS:
        if content.startswith(mark):
            text = content[len(mark) :].decode(encoding, "replace")
            return Text(text.splitlines(), not text, (what,))
    return Text(content.decode("ascii", "replace").splitlines(), not content, ())


def words_of(
    path: Path, name: str, text: Text, form: Form, how: How, header: Sequence[str] = (), style: str = "text"
) -> Words:
    """The words of a file.

    Args:
        path: of the file, for messages.
        name: of the file, for places.
        text: what it holds.
        form: how the layout writes a word.
        how: its pattern and radix go before what the file itself shows.
        header: the layout's lines before the words.
        style: the layout's container.

    Raises:
        BadInput: a log whose lines or values are none, or times that go back.
    """
    body = _body(text.lines, header, form)
    pattern = _pattern(path, body, form, how, style)
    log = pattern is not None and pattern is not _CONTAINERS.get(style)
    assumed, unit, short = list(text.assumed), form, log or how.radix is not None
    if pattern is None:
        entries = list(_plain(body, form))
    else:
        raw = [(number, line) for number, line in enumerate(text.lines, 1) if line.strip()]
        entries, skipped = _matched(path, raw if how.pattern else body, pattern)
        if log and pattern is not _CSV:
            assumed += _said(entries, skipped)
        if "lane" in pattern.groupindex:
            unit = replace(form, lanes=1)
    radix = how.radix or radix_of([entry.text for entry in entries], unit, short)
    if how.radix is None and radix != form.radix:
        assumed.append(f"{NAMES[radix]} words (the layout's are {NAMES[form.radix]})")
    bits = []
    for entry in entries:
        try:
            bits.append(bits_of(entry.text, radix, unit, short))
        except BadInput as error:
            if log:
                raise BadInput(f"{path}: line {entry.line}: {error}") from None
            bits.append("")  # damaged: a difference
    if not log and entries and not any(bits):
        assumed.append("no line is a whole word: --radix or --pattern may say how to read it")
    if unit is not form:
        entries, bits = _joined(entries, bits, form)
    addresses = _addresses(path, entries)
    if addresses is not None and style == "text":
        assumed.append("words at their @addresses")

    def place(at: int) -> str:
        entry = entries[at]
        return f"{name}, line {entry.line}" + (f" (time {entry.time})" if entry.time else "")

    return Words(name, bits, [entry.text for entry in entries], place, addresses, tuple(assumed))


def is_log(path: Path, text: Text, form: Form, how: How, header: Sequence[str] = ()) -> bool:
    """Whether a file is a log, a line a word, rather than plain words."""
    return _pattern(path, _body(text.lines, header, form), form, how, "text") is not None


def holds_words(text: Text, form: Form) -> bool:
    """Whether some line of a file has a whole word of any radix."""
    own = form.radix == "dec"
    return any(_telling(line, form) or (own and whole(line, "dec", form)) for _, line in _body(text.lines, (), form))


def _body(lines: list[str], header: Sequence[str], form: Form) -> list[tuple[int, str]]:
    """The lines behind the header that hold something, numbered from 1, without comments."""
    start = len(header) if lines[: len(header)] == list(header) else 0
    found: list[tuple[int, str]] = []
    for number, line in enumerate(lines[start:], start + 1):
        if "/" in line or "#" in line:
            line = _COMMENT.sub(" ", line)
        if "--" in line:
            line = _without_dashes(line, form)
        if line and not line.isspace():
            found.append((number, line))
    if not found and any(line.startswith("# ") for line in lines):
        # All of it comments: the transcript of a simulator that begins every line so, if there are words in it.
        found = _body([line.removeprefix("# ") for line in lines], (), form)
        return found if any(_telling(line, form) for _, line in found) else []
    return found


def _without_dashes(line: str, form: Form) -> str:
    """Without a comment as VHDL writes it; two hyphens before the word of a line that has none before them are none."""
    before, _, after = line.partition("--")
    if before.strip() and not _telling(before, form) and _telling(after, form):
        return line
    return before


def _telling(line: str, form: Form, radix: str | None = None) -> list[re.Match[str]]:
    """The tokens of a line that are whole words, of `radix` or of any."""
    radixes = (radix,) if radix else ("bin", "hex")
    tokens = _TOKEN.finditer(line)
    return [token for token in tokens if prefixed(token[0]) or any(whole(token[0], each, form) for each in radixes)]


def _plain(body: list[tuple[int, str]], form: Form) -> Iterator[Found]:
    """The words of lines without a time: one a line, or several if all are whole."""
    address: int | None = None
    for number, line in body:
        rest = line.strip()
        while match := _ADDRESS.match(rest):
            address, rest = int(match[1], 16), rest[match.end() :].lstrip()
        if not rest:
            continue
        parts = rest.split()
        several = not whole(rest, "dec", form) and all(whole(p, "bin", form) or whole(p, "hex", form) for p in parts)
        for part in parts if several else [rest]:
            yield Found(number, part, "", address)
            address = address + 1 if address is not None else None


def _pattern(path: Path, body: list[tuple[int, str]], form: Form, how: How, style: str) -> re.Pattern[str] | None:
    """What finds the words of a file's lines; None for plain words."""
    if how.pattern is not None:
        return _compiled(how.pattern)
    if style in _CONTAINERS and any(_CONTAINERS[style].search(line) for _, line in body):
        return _CONTAINERS[style]
    timed = body[1:] if body and _heads(body[0][1]) else body
    if (timed and _CSV_FIRST.fullmatch(timed[0][1])) or (body and not timed and "," in body[0][1]):
        return _CSV
    for number, line in body:
        numbers = len(line.split()) == form.lanes and whole(line, "dec", form)
        if numbers and (form.radix == "dec" or form.lanes > 2):
            return None  # with two lanes, 10 5 may be a time and a value
        if found := _telling(line, form):
            rest = line
            for token in reversed(found):
                rest = rest[: token.start()] + rest[token.end() :]
            if not rest.strip() or _ADDRESS.fullmatch(rest.strip()):
                return None
            return _learned(f"{path}: line {number}", [line for _, line in body], form)
    return None


def _heads(line: str) -> bool:
    """Whether a first line is the heading of a log: it has no number at its beginning."""
    return not re.match(r"\s*[\d.+-]", line)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise BadInput(f"--pattern {pattern!r}: not a regular expression ({error})") from None
    named = set(found.groupindex)
    if named - set(_GROUPS) or (named and "value" not in named) or (not named and found.groups not in (1, 2)):
        raise BadInput(f"--pattern {pattern!r}: expected a group (?P<value>...), beside it one of time, address, lane")
    return found


def _learned(where: str, lines: list[str], form: Form) -> re.Pattern[str]:
    """The pattern of a log's lines: the first with one whole word, its time and value replaced by groups.

    Every line with a whole word has to be of it: what else changes from line to line (a valid that falls) may say that
    the word does not count.
    """
    for radix in sorted(("bin", "hex"), key=lambda radix: radix != form.radix):
        telling = [(line, found) for line in lines if (found := _telling(line, form, radix))]
        first = next(((line, found[0]) for line, found in telling if len(found) == 1), None)
        if first is None:
            continue
        line, value = first
        stamps = [s for s in _STAMPS.finditer(line) if s.end() <= value.start() or s.start() >= value.end()]
        patterns = [_around(line, value.span(), stamp and stamp.span()) for stamp in (None, *stamps)]
        fitting = [pattern for pattern in patterns if all(pattern.search(other) for other, _ in telling)]
        if fitting:
            return max(fitting, key=lambda pattern: sum(bool(pattern.search(other)) for other in lines))
    raise BadInput(f"{where}: expected lines that differ in time and value alone; --pattern says where the words are")


def _around(line: str, value: tuple[int, int], stamp: tuple[int, int] | None) -> re.Pattern[str]:
    """A line as a pattern; white space is free, as numbers are padded with it."""
    groups = [(*value, rf"(?P<value>{_TOKEN.pattern}|)")] + ([(*stamp, rf"(?P<time>{_STAMP})")] if stamp else [])
    made, at = "^", 0
    for start, end, group in sorted(groups):
        only_blanks = at and line[at:start].isspace()
        made += r"\s+" + group if only_blanks else _escaped(line[at:start]) + group
        at = end
    return re.compile(made + _escaped(line[at:]) + "$")


def _escaped(text: str) -> str:
    return r"\s*" + r"\s+".join(re.escape(part) for part in text.split()) + r"\s*"


def _matched(
    path: Path, lines: list[tuple[int, str]], pattern: re.Pattern[str]
) -> tuple[list[Found], list[tuple[int, str]]]:
    """The words that a pattern finds, and the lines in which it finds none; of `time,value` that is an error."""
    if pattern is _CSV and lines and _heads(lines[0][1]):
        lines = lines[1:]
    named = set(pattern.groupindex)
    value = "value" if named else pattern.groups
    stamp = "time" if "time" in named else 1 if not named and pattern.groups == 2 else None
    words, skipped, before, last = [], [], 0.0, ""
    for number, line in lines:
        match = pattern.search(line)
        time = (match[stamp] or "").strip() if match and stamp else ""
        timed = _TIME.fullmatch(time)
        if not timed and (time or pattern is _CSV):
            shape = "time,value with a number for the time" if pattern is _CSV else "a number for the time"
            raise BadInput(f"{path}: line {number}: expected {shape}, found {line.strip()[:60]!r}")
        if match is None:
            skipped.append((number, line))
            continue
        if timed:
            now = float(timed[1]) * _UNITS.get(timed[2], 1)
            if now < before * (1 - 1e-12):  # 1000 ps is not before 1 ns
                raise BadInput(f"{path}: line {number}: time {time} is before time {last} of the line above")
            before, last = now, time
        at, lane = (match[key] if key in named else None for key in ("address", "lane"))
        where = f"{path}: line {number}"
        words.append(
            Found(
                number,
                (match[value] or "").strip().strip('"'),
                time,
                None if at is None else _integer(where, "address", at, 16),
                0 if lane is None else _integer(where, "lane", lane, 10),
            )
        )
    return words, skipped


def _integer(where: str, what: str, text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise BadInput(f"{where}: expected a number of base {base} for the {what}, found {text[:40]!r}") from None


def _said(entries: list[Found], skipped: list[tuple[int, str]]) -> Iterator[str]:
    """What a pattern took for words."""
    if entries:
        first = entries[0]
        time = f" at time {first.time}" if first.time else ""
        yield f"a log: line {first.line} is word {first.text[:40]!r}{time}"
    if skipped:
        number, line = skipped[0]
        yield f"lines without a word: {len(skipped)}, first line {number}, {line.strip()[:40]!r}"


def _joined(entries: list[Found], bits: list[str], form: Form) -> tuple[list[Found], list[str]]:
    """Words of lanes, one a line: the next begins where a lane comes again."""
    words: list[tuple[Found, dict[int, str]]] = []
    for entry, lane in zip(entries, bits, strict=True):
        if not words or entry.lane in words[-1][1] or len(words[-1][1]) == form.lanes:
            words.append((entry._replace(text=""), {}))
        first, lanes = words[-1]
        lanes[entry.lane] = lane
        words[-1] = first._replace(text=f"{entry.text} {first.text}".strip()), lanes
    return [entry for entry, _ in words], [
        "".join(lanes.get(lane, "?" * form.fmt.bits) or "?" * form.fmt.bits for lane in reversed(range(form.lanes)))
        for _, lanes in words
    ]


def _addresses(path: Path, entries: list[Found]) -> list[int] | None:
    """The address of each word, if they have any."""
    found = [entry.address for entry in entries]
    if not any(address is not None for address in found):
        return None
    # Words before the first address lie from 0, as $readmemh puts them.
    count = itertools.count()
    addresses = [next(count) if address is None else address for address in found]
    seen: dict[int, int] = {}
    for address, entry in zip(addresses, entries, strict=True):
        if address in seen:
            raise BadInput(f"{path}: line {entry.line}: address {address:x} is that of line {seen[address]} too")
        seen[address] = entry.line
    return addresses
