from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith.formats import BadInput, IntFormat
from systolith.vectors.text import decode_file, encode_file, encode_words


def naive_line(word: list[int], bits: int) -> str:
    """Character by character: highest lane first, most significant bit first, two's complement."""
    line = ""
    for value in reversed(word):
        for bit in reversed(range(bits)):
            line += "1" if (value >> bit) & 1 else "0"
    return line


def test_a_word_by_hand() -> None:
    # lanes 0..2 hold 1, -2, 7: written 7, -2, 1
    assert encode_words("w", np.array([[1, -2, 7]]), IntFormat(4, True)) == b"011111100001\n"


@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 6), st.booleans(), st.integers(0, 10**6))
def test_words_against_characters_and_back(bits: int, lanes: int, count: int, signed: bool, seed: int) -> None:
    fmt = IntFormat(bits, signed)
    words = np.random.default_rng(seed).integers(fmt.lo, fmt.hi + 1, (count, lanes))
    content = encode_file("w", words, fmt, ("#a#", "#b#", "#c#"))
    expected = "#a#\n#b#\n#c#\n" + "".join(naive_line(w, bits) + "\n" for w in words.tolist())
    assert content == expected.encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.txt"
        path.write_bytes(content)
        assert (decode_file(path, lanes, fmt, ("#a#", "#b#", "#c#")) == words).all()


def test_a_value_that_does_not_fit_is_never_truncated() -> None:
    with pytest.raises(BadInput, match=r"psum.txt\[line 1, lane 0\] is 8, outside the range -8..7 of 4 signed bits"):
        encode_words("psum.txt", np.array([[1, 2], [8, 0]]), IntFormat(4, True))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("#\n0101\n01\n", "line 3, column 3: expected 4 binary digits, found 2"),
        ("#\n0101\n01x1\n", "line 3, column 3: expected 0 or 1, found 'x'"),
        ("#\n0101 \n0101\n", "line 2, column 5: expected the end of the line, found ' '"),
        ("#\n0101\r\n0101\r\n", "line 2, column 5: expected the end of the line, found a carriage return (CRLF)"),
        ("#\n0101\n0101", "line 3: the last line is not ended by a newline"),
        ("", "line 1: expected 1 header lines, found 0"),
        ("# #\n0101\n", "line 1: expected a header without white space (%s skips it), found '# #'"),
    ],
)
def test_faults_are_located(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    with pytest.raises(BadInput, match=re.escape(f"a.txt: {message}")):
        decode_file(tmp_path / "a.txt", 1, IntFormat(4, True), ("#",))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.txt: cannot be read \(No such file"):
        decode_file(tmp_path / "none.txt", 1, IntFormat(4, True), ())
