"""Words as text: one line a word, lanes from the highest index to lane 0, each most significant bit first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, from_bits, require_fit, to_bits


def encode_words(name: str, words: NDArray[np.integer], fmt: IntFormat) -> bytes:
    """ASCII lines of `words` (lines, lanes), each ended by a newline.

    Raises:
        BadInput: a value does not fit `fmt`; it is never truncated.
    """
    require_fit(name, words, fmt, ("line", "lane"))
    count, lanes = words.shape
    text = np.empty((count, lanes * fmt.bits + 1), dtype=np.uint8)
    np.add(to_bits(words[:, ::-1], fmt.bits).reshape(count, lanes * fmt.bits), ord("0"), out=text[:, :-1])
    text[:, -1] = ord("\n")
    return text.tobytes()


def encode_file(name: str, words: NDArray[np.integer], fmt: IntFormat, header: Sequence[str]) -> bytes:
    """A whole file: header lines, then the words."""
    return "".join(f"{line}\n" for line in header).encode("ascii") + encode_words(name, words, fmt)


def decode_file(path: Path, lanes: int, fmt: IntFormat, header: Sequence[str]) -> NDArray[np.int64]:
    """Read a file of the `header` lines and then words; the inverse of `encode_file`.

    Returns:
        int64 (lines, lanes), lane 0 first.

    Raises:
        BadInput: missing, or a line that is not a word of lanes*bits binary digits; names file, line and column.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    start = 0
    for number, line in enumerate(header, 1):
        end = content.find(b"\n", start)
        found = content[start : end if end >= 0 else None].decode("ascii", "replace")
        if end < 0 or found != line:
            raise BadInput(f"{path}: line {number}: expected the header {line[:40]!r}..., found {found[:40]!r}")
        start = end + 1
    width = lanes * fmt.bits
    raw = np.frombuffer(content, dtype=np.uint8)[start:]
    grid = raw.reshape(-1, width + 1) if raw.size % (width + 1) == 0 else None
    if grid is None or not ((grid[:, -1] == ord("\n")).all() and ((grid[:, :-1] & 0xFE) == ord("0")).all()):
        raise BadInput(f"{path}: {_first_fault(content[start:], width, len(header))}")
    bits = (grid[:, :-1] - ord("0")).reshape(-1, lanes, fmt.bits)
    return from_bits(bits, fmt.signed)[:, ::-1]


def _first_fault(content: bytes, width: int, header: int) -> str:
    *lines, last = content.split(b"\n")
    for number, line in enumerate(lines, header + 1):
        for column, char in enumerate(line[:width], 1):
            if char not in b"01":
                return f"line {number}, column {column}: expected 0 or 1, found {chr(char)!r}"
        if len(line) != width:
            return f"line {number}: expected {width} binary digits, found {len(line)}"
    return f"line {header + len(lines) + 1}: the last line is not ended by a newline ({len(last)} digits)"
