"""The forms in which tools write words, of a layer's every psum and output file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.network import Conv
from systolith.vectors import find_layout
from systolith.vectors.layout import Layout
from systolith.verdict.dumps import golden_files, levels_of
from systolith.verdict.judge import Verdict

LANES = 3
WIDTH = 16 * LANES


def styled(radix: str) -> Layout:
    """The course's layout in another radix."""
    course = find_layout("course")
    return replace(course, name=radix, files=tuple(replace(spec, radix=radix) for spec in course.files))


LAYOUTS = {name: find_layout(name) for name in ("course", "seed", "readmemh", "mif", "coe")}
LAYOUTS |= {name: styled(name) for name in ("hex", "dec")}


def one_tile() -> ArrayResult:
    """A layer of one tile, as the seed's layout wants it; no two words of its outputs are alike."""
    rng = np.random.default_rng(4)
    conv = Conv("layer", rng.integers(-8, 8, (LANES, LANES, 2, 2)), UINT4, INT4, padding=(1, 1))
    return run_layer(conv, rng.integers(0, 16, (LANES, 4, 3)), ArraySpec(LANES, LANES))


Lines = list[str]


def hexed(word: str) -> str:
    return f"{int(word, 2):0{WIDTH // 4}x}"


def numbers(word: str) -> Lines:
    """The lanes of a word as decimals, lane 2 first."""
    lanes = [int(word[at : at + 16], 2) for at in range(0, WIDTH, 16)]
    return [str(lane - (1 << 16) if lane >> 15 else lane) for lane in lanes]


def lines(make: Callable[[int, str], str]) -> Callable[[Lines], bytes]:
    """A line a word, made of its place and its bits."""
    return lambda words: "".join(f"{make(at, word)}\n" for at, word in enumerate(words)).encode()


def both(prefix: str, make: Callable[[int, str], str]) -> dict[str, Callable[[Lines], bytes]]:
    """A form with binary and with hexadecimal words."""
    return {f"{prefix}, bin": lines(make), f"{prefix}, hex": lines(lambda at, word: make(at, hexed(word)))}


def pairs(words: Lines) -> bytes:
    return "".join(" ".join(map(hexed, words[at : at + 2])) + "\n" for at in range(0, len(words), 2)).encode()


def backwards(words: Lines) -> bytes:
    return "".join(f"@{at:x}\n{words[at]}\n" for at in reversed(range(len(words)))).encode()


def with_banner(words: Lines) -> bytes:
    told = "".join(f"# {10 * at + 5} out={word}\n" for at, word in enumerate(words))
    return f"# Loading work.tb\n{told}# ** Note: $finish    : tb.sv(9)\n".encode()


FORMS: dict[str, Callable[[Lines], bytes]] = {
    **both("plain", lambda at, word: word),
    **both("upper case, blanks and underscores", lambda at, word: f"  {word[:4]}_{word[4:].upper()}\t"),
    "UTF-8 with a mark": lambda words: b"\xef\xbb\xbf" + "".join(f"{w}\n" for w in words).encode(),
    "UTF-16 LE": lambda words: b"\xff\xfe" + "".join(f"{w}\r\n" for w in words).encode("utf-16-le"),
    "UTF-16 BE": lambda words: b"\xfe\xff" + "".join(f"{hexed(w)}\n" for w in words).encode("utf-16-be"),
    "CRLF, no last line end": lambda words: "\r\n".join(words).encode(),
    **both("// behind", lambda at, word: f"{word} // 0x{at:x}: 00"),
    **both("# behind", lambda at, word: f"{word}# {at}"),
    **both("-- behind", lambda at, word: f"{word} -- word {at}"),
    **both("comments between", lambda at, word: f"// 0x{at:08x}\n-- {at}\n/* {word} */ {word}\n"),
    **both("an address each", lambda at, word: f"@{at:x} {word}"),
    **both("an address before all", lambda at, word: f"@0\n{word}" if not at else word),
    **both("addresses from 0x100", lambda at, word: f"@{at + 256:08X} {word}"),
    "the last address first": backwards,
    "two words a line": pairs,
    "prefixed": lines(lambda at, word: [f"48'b{word}", f"0x{hexed(word)}", f"48'H{hexed(word)}"][at % 3]),
    "decimal lanes": lines(lambda at, word: " ".join(numbers(word))),
    "commas at the end": lines(lambda at, word: f"{word},"),
    **both("time,value", lambda at, word: f"{10 * at + 5},{word}"),
    **both("time ns,value", lambda at, word: f"{10 * at + 5} ns, {word}"),
    **both("time ns: value", lambda at, word: f"{10 * at + 5} ns: {word}"),
    **both("time value", lambda at, word: f"{10 * at + 5} {word}"),
    **both("units that change", lambda at, word: f"@{at + 995} ps: {word}" if at < 5 else f"@{at} ns: {word}"),
    **both("padded times", lambda at, word: f"{10 * at + 5:20d}  out = {word} valid=1"),
    **both("$monitor", lambda at, word: f"At time {10 * at:>20}, out = {word}, valid = 1"),
    **both("a report", lambda at, word: f'tb.vhd:42:9:@{10 * at + 5}ns:(report note): "{word}"'),
    **both("no time", lambda at, word: f"out={word}"),
    "a transcript": with_banner,
}


def own_words(result: ArrayResult, layout: Layout) -> dict[str, Lines]:
    """The golden words of every psum and output file, in bits."""
    found = {}
    for specs in levels_of(layout).values():
        for file in golden_files(result, layout, specs):
            rows = file.words[:, ::-1].tolist()
            found[file.name] = ["".join(f"{lane & 0xFFFF:016b}" for lane in row) for row in rows]
    return found


def dump(folder: Path, words: dict[str, Lines], form: Callable[[Lines], bytes] = FORMS["plain, bin"]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, held in words.items():
        (folder / name).write_bytes(form(held))
    return folder


def flipped(words: Lines, at: int) -> Lines:
    """With the lowest bit of the middle lane of one word the other way round."""
    word = words[at]
    return [*words[:at], word[:31] + "10"[int(word[31])] + word[32:], *words[at + 1 :]]


def explained(verdict: Verdict) -> str:
    """The first wrong word without the place in the file."""
    return re.sub(r"^.*?(?=, lane)", "", verdict.first)
