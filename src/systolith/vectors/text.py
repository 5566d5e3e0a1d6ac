"""Words as characters: radixes, the containers that tools read, and back.

A word's lanes go from the highest index to lane 0. Binary and hexadecimal words are the lanes' bits, each lane most
significant bit first, two's complement where signed, back to back; decimal words are numbers with a blank between.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, from_bits, require_fit, to_bits

RADIXES = ("bin", "hex", "dec")
CONTAINERS = ("text", "readmem", "mif", "coe", "npy")
_MIF_END = b"END;\n"
_DIGITS = {"bin": "01", "hex": "0123456789abcdefABCDEF"}
_NAMES = {"bin": "binary", "hex": "hexadecimal"}


@dataclass(frozen=True)
class Style:
    """How words become characters: a radix and a container."""

    radix: str = "bin"
    container: str = "text"


def encode_file(
    name: str, words: NDArray[np.integer], fmt: IntFormat, header: Sequence[str] = (), style: Style | None = None
) -> bytes:
    """A whole file of `words` (lines, lanes), lane 0 first.

    Raises:
        BadInput: a value does not fit `fmt`; it is never truncated.
    """
    count, lanes = words.shape
    return b"".join(encode_blocks(name, [words], (count, lanes), fmt, header, style or Style()))


def encode_blocks(
    name: str,
    blocks: Iterable[NDArray[np.integer]],
    shape: tuple[int, int],
    fmt: IntFormat,
    header: Sequence[str],
    style: Style,
) -> Iterator[bytes]:
    """The same piece by piece: `blocks` are the words in order, `shape` is (lines, lanes) of them all."""
    at = 0
    yield _begin(shape, fmt, header, style)
    for words in blocks:
        if style.container == "npy":
            require_fit(name, words, fmt, ("line", "lane"), at)
            yield np.ascontiguousarray(words, dtype=np.int64).tobytes()
        else:
            content = encode_words(name, words, fmt, style.radix, at)
            yield content if style.container == "text" else _entries(content, at, shape[0], style.container)
        at += len(words)
    if style.container == "mif":
        yield _MIF_END


def encoded_size(shape: tuple[int, int], fmt: IntFormat, header: Sequence[str], style: Style) -> int:
    """The bytes that `encode_blocks` makes of words (lines, lanes); of decimal ones the most that they can be."""
    count, lanes = shape
    size = len(_begin(shape, fmt, header, style))
    if style.container == "npy":
        return size + 8 * count * lanes
    if style.radix == "dec":
        word = lanes * (max(len(str(fmt.lo)), len(str(fmt.hi))) + 1) - 1
    else:
        word = lanes * fmt.bits if style.radix == "bin" else -(-lanes * fmt.bits // 4)
    around = {"text": "\n", "readmem": "@ \n", "mif": " : ;\n", "coe": ",\n"}[style.container]
    size += count * (word + len(around))
    if style.container in ("readmem", "mif"):
        # Every address has a digit, those from 16 a second one, those from 256 a third ...
        size += sum(max(0, count - (16**digits if digits else 0)) for digits in range(16))
    return size + (len(_MIF_END) if style.container == "mif" else 0)


def _begin(shape: tuple[int, int], fmt: IntFormat, header: Sequence[str], style: Style) -> bytes:
    """What stands before the words."""
    count, lanes = shape
    if style.container == "npy":
        buffer = io.BytesIO()
        plain = np.lib.format.header_data_from_array_1_0(np.zeros((0, lanes), dtype=np.int64))
        np.lib.format.write_array_header_1_0(buffer, {**plain, "shape": shape})
        return buffer.getvalue()
    if style.container == "mif":
        start = f"DEPTH = {count};\nWIDTH = {lanes * fmt.bits};\nADDRESS_RADIX = HEX;\n"
        return f"{start}DATA_RADIX = {style.radix.upper()};\nCONTENT BEGIN\n".encode("ascii")
    if style.container == "coe":
        base = {"bin": 2, "hex": 16}[style.radix]
        return f"memory_initialization_radix = {base};\nmemory_initialization_vector =\n".encode("ascii")
    return "".join(f"{line}\n" for line in header).encode("ascii")


def _entries(content: bytes, first: int, count: int, container: str) -> bytes:
    """Plain lines, the first of them word `first` of `count`, as entries of a container."""
    lines = enumerate(content.decode("ascii").splitlines(), first)
    if container == "readmem":
        return "".join(f"@{at:x} {line}\n" for at, line in lines).encode("ascii")
    if container == "mif":
        return "".join(f"{at:x} : {line};\n" for at, line in lines).encode("ascii")
    return "".join(f"{line}{',' if at + 1 < count else ';'}\n" for at, line in lines).encode("ascii")


def encode_words(name: str, words: NDArray[np.integer], fmt: IntFormat, radix: str = "bin", first: int = 0) -> bytes:
    """ASCII lines of `words` (lines, lanes), each ended by a newline; `BadInput` if a value does not fit `fmt`.

    `first` is the number of lines before these, for the message.
    """
    require_fit(name, words, fmt, ("line", "lane"), first)
    if radix == "dec":
        return "".join(f"{' '.join(map(str, word))}\n" for word in words[:, ::-1].tolist()).encode("ascii")
    count, lanes = words.shape
    digits = _binary(words[:, ::-1], fmt.bits).reshape(count, lanes * fmt.bits)
    if radix == "hex":
        digits = _to_hex(digits)
    text = np.empty((count, digits.shape[1] + 1), dtype=np.uint8)
    text[:, :-1] = digits
    text[:, -1] = ord("\n")
    return text.tobytes()


def _binary(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """The characters 0 and 1 of each value, (..., bits)."""
    if bits > 16:
        return to_bits(values, bits) + np.uint8(ord("0"))
    # One look-up a value writes all of its characters: several times faster than one operation a bit.
    at = np.ascontiguousarray(values, dtype=np.intp) & ((1 << bits) - 1)
    return _characters(bits)[at].view(np.uint8).reshape(*values.shape, bits)


@functools.cache
def _characters(bits: int) -> NDArray[np.void]:
    every = to_bits(np.arange(1 << bits, dtype=np.int64), bits) + np.uint8(ord("0"))
    return np.ascontiguousarray(every).view(f"V{bits}").reshape(-1)


def _to_hex(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Binary characters (n, bits) to hexadecimal ones (n, ceil(bits/4)); the missing bits, on the left, are 0."""
    count, width = digits.shape
    bits = np.zeros((count, -(-width // 4), 4), dtype=np.uint8)
    bits.reshape(count, -1)[:, bits.shape[1] * 4 - width :] = digits & 1
    values = bits @ np.array([8, 4, 2, 1], dtype=np.uint8)
    return np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[values]


def decode_file(
    path: Path, lanes: int, fmt: IntFormat, header: Sequence[str] = (), style: Style | None = None
) -> NDArray[np.int64]:
    """Read a file; the inverse of `encode_file`.

    Of the header only the number of lines counts, and, where ours has none, that it has no white space.

    Returns:
        int64 (lines, lanes), lane 0 first.

    Raises:
        BadInput: missing, or a line that is not a word of the format; names file, line and column.
    """
    style = style or Style()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    if style.container == "npy":
        return _decode_npy(path, content, lanes, fmt)
    if style.container == "text":
        content, skipped = _skip_header(path, content, header)
    else:
        content, skipped = _unwrapped(path, content, style.container)
    if style.radix == "dec":
        return _decode_decimal(path, content, lanes, fmt, skipped)
    bits = _decode_bits(path, content, lanes * fmt.bits, style.radix, skipped)
    return from_bits(bits.reshape(-1, lanes, fmt.bits), fmt.signed)[:, ::-1]


def require_count(path: Path, found: int, expected: int, header: int = 0) -> None:
    """Raise `BadInput` naming the line, behind `header` lines, where words are missing or too many."""
    if found != expected:
        line = min(found, expected) + header + 1
        raise BadInput(f"{path}: line {line}: expected {expected} words, found {found}")


def _skip_header(path: Path, content: bytes, header: Sequence[str]) -> tuple[bytes, int]:
    start = 0
    for number, line in enumerate(header, 1):
        end = content.find(b"\n", start)
        found = content[start : end if end >= 0 else None].decode("ascii", "replace")
        if end < 0:
            raise BadInput(f"{path}: line {number}: expected {len(header)} header lines, found {number - 1}")
        if found.split() != [found] and line.split() == [line]:
            raise BadInput(
                f"{path}: line {number}: expected a header without white space (%s skips it), found {found[:40]!r}"
            )
        start = end + 1
    return content[start:], len(header)


def _unwrapped(path: Path, content: bytes, container: str) -> tuple[bytes, int]:
    """The words of a container as plain lines, and the number of lines before them."""
    text = content.decode("ascii", "replace")
    lines = text.splitlines()
    if container == "readmem":
        begin, end, pattern = 0, len(lines), r"@([0-9a-fA-F]+) (\S*)"
    elif container == "mif":
        begin = next((i + 1 for i, line in enumerate(lines) if line.split() == ["CONTENT", "BEGIN"]), len(lines))
        end = next((i for i, line in enumerate(lines) if line.strip() == "END;"), begin - 1)
        pattern = r"([0-9a-fA-F]+) : (\S*);"
    else:
        begin = next((i + 1 for i, line in enumerate(lines) if line.startswith("memory_initialization_vector")), -1)
        end, pattern = len(lines), r"()(\S*)[,;]"
    if not 0 <= begin <= end:
        raise BadInput(f"{path}: not a whole {container} file: its begin or its end is missing")
    words = []
    for at, line in enumerate(lines[begin:end]):
        match = re.fullmatch(pattern, line)
        if not match:
            raise BadInput(f"{path}: line {begin + at + 1}: expected a {container} entry, found {line[:40]!r}")
        if match[1] and int(match[1], 16) != at:
            raise BadInput(f"{path}: line {begin + at + 1}: expected address {at:x}, found {match[1]}")
        words.append(match[2])
    return "".join(f"{word}\n" for word in words).encode("ascii", "replace"), begin


def _decode_bits(path: Path, content: bytes, width: int, radix: str, skipped: int) -> NDArray[np.uint8]:
    """uint8 zeros and ones (lines, width)."""
    digits = width if radix == "bin" else -(-width // 4)
    raw = np.frombuffer(content, dtype=np.uint8)
    grid = raw.reshape(-1, digits + 1) if raw.size % (digits + 1) == 0 else None
    if grid is None or not (grid[:, -1] == ord("\n")).all():
        raise BadInput(f"{path}: {_first_fault(content, digits, radix, skipped)}")
    body = grid[:, :-1]
    if radix == "bin":
        if not ((body & 0xFE) == ord("0")).all():
            raise BadInput(f"{path}: {_first_fault(content, digits, radix, skipped)}")
        return body & np.uint8(1)
    values = _hex_values()[body]
    if (values > 15).any():
        raise BadInput(f"{path}: {_first_fault(content, digits, radix, skipped)}")
    bits = np.unpackbits(values[..., None], axis=-1)[..., 4:].reshape(len(values), -1)
    spare = digits * 4 - width
    if bits[:, :spare].any():
        line = int(np.argmax(bits[:, :spare].any(1))) + skipped + 1
        raise BadInput(f"{path}: line {line}: a number of more than {width} bits")
    return bits[:, spare:]


@functools.cache
def _hex_values() -> NDArray[np.uint8]:
    table = np.full(256, 255, dtype=np.uint8)
    for digit in _DIGITS["hex"]:
        table[ord(digit)] = int(digit, 16)
    return table


def _decode_decimal(path: Path, content: bytes, lanes: int, fmt: IntFormat, skipped: int) -> NDArray[np.int64]:
    words = []
    for number, line in enumerate(_lines(path, content, skipped), skipped + 1):
        found = line.split(" ")
        if len(found) != lanes or not all(re.fullmatch(r"-?\d+", item) for item in found):
            raise BadInput(
                f"{path}: line {number}: expected {lanes} numbers with one blank between, found {line[:60]!r}"
            )
        values = [int(item) for item in found]
        wrong = next((v for v in values if not fmt.lo <= v <= fmt.hi), None)
        if wrong is not None:
            raise BadInput(f"{path}: line {number}: {wrong} is outside the range {fmt.lo}..{fmt.hi} of a lane")
        words.append(values[::-1])
    return np.array(words, dtype=np.int64).reshape(-1, lanes)


def _lines(path: Path, content: bytes, skipped: int) -> list[str]:
    *lines, last = content.decode("ascii", "replace").split("\n")
    if last:
        raise BadInput(f"{path}: line {skipped + len(lines) + 1}: the last line is not ended by a newline")
    return lines


def _decode_npy(path: Path, content: bytes, lanes: int, fmt: IntFormat) -> NDArray[np.int64]:
    try:
        words = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy raises whatever the bytes provoke
        raise BadInput(f"{path}: not a readable .npy file ({error})") from None
    if words.ndim != 2 or words.shape[1] != lanes:
        raise BadInput(f"{path}: expected words of {lanes} lanes, found shape {words.shape}")
    require_fit(str(path), words, fmt, ("line", "lane"))
    return words.astype(np.int64)


def _first_fault(content: bytes, digits: int, radix: str, skipped: int) -> str:
    *lines, last = content.split(b"\n")
    allowed, name = _DIGITS[radix].encode(), _NAMES[radix]
    for number, line in enumerate(lines, skipped + 1):
        for column, char in enumerate(line, 1):
            if char in allowed:
                continue
            if chr(char) == "\r" and column == len(line):
                return f"line {number}, column {column}: expected the end of the line, found a carriage return (CRLF)"
            expected = "0 or 1" if radix == "bin" else "a hexadecimal digit"
            if column <= digits:
                return f"line {number}, column {column}: expected {expected}, found {chr(char)!r}"
            return f"line {number}, column {column}: expected the end of the line, found {chr(char)!r}"
        if len(line) != digits:
            found = f"{len(line)}" if line else "an empty line"
            at = min(len(line), digits) + 1
            return f"line {number}, column {at}: expected {digits} {name} digits, found {found}"
    return f"line {skipped + len(lines) + 1}: the last line is not ended by a newline ({len(last)} digits)"
