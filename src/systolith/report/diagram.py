"""A timing diagram of the core, drawn from the waveform of a real run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from systolith.array import ArraySpec
from systolith.formats import BadInput
from systolith.store import atomic_file
from systolith.verdict.waves import at_edges

_STATES = ("idle", "load", "gap", "stream", "wait")  # of core.sv
_DUT, _PATH = "testbench.dut.", "testbench.dut.datapath."
_WIDE, _HIGH, _LEFT, _BREAK = 24, 26, 150, 30  # of a clock, of a row, of the names, of what is left out, in pixels


@dataclass(frozen=True)
class Row:
    """One row of the diagram.

    Attributes:
        name: at its left.
        values: one a clock; "" is drawn as nothing. Bits are "0" and "1".
        is_bit: a line that is low or high, instead of boxes with text.
    """

    name: str
    values: tuple[str, ...]
    is_bit: bool


def read_rows(waves: Path, spec: ArraySpec) -> tuple[int, list[Row]]:
    """The clock of the first column, 0 being that of the first weight beat, and the rows.

    Args:
        waves: a VCD or FST that the core's testbench wrote.
        spec: the core's.

    Raises:
        BadInput: another waveform, or one in which nothing happens.
    """
    bits, last = spec.psum_bits, spec.cols - 1
    names = [f"{_DUT}state", *(f"{_PATH}{n}" for n in ("west_load", "west_stream", "west_code", "south_valid"))]
    names += [f"{_PATH}south_psum", *(f"{_DUT}{n}" for n in ("psum_valid", "psum", "psum_read", "psum_write"))]
    names += [f"{_DUT}{n}" for n in ("out_valid", "out_acc", "act_signed", "load")]
    found = at_edges(waves, "testbench.clk", names)
    state, load, stream, code, valid, south, psum_valid, psum, read, write, out_valid, out, act_signed, any_load = (
        found[name] for name in names
    )
    begin = next((at for at, word in enumerate(any_load) if word[-1:] == "1"), None)
    if begin is None:
        raise BadInput(f"{waves}: no weight enters the array")
    weights = _numbers("", code, spec.weight_bits, True, load)
    acts = _numbers("", code, spec.act_bits, act_signed[begin] == "1", stream)
    codes = tuple(one or other for one, other in zip(weights.values, acts.values, strict=True))
    west = any(word[-1:] == "1" for word in load)
    rows = [
        Row("state", tuple(_state(s) for s in state), False),
        _bit("weight into row 0" if west else "weight into col 0", any_load, 0),
        _bit("activation into row 0", stream, 0),
        Row("its code", codes, False),
        _bit("psum below col 0", valid, 0),
        _numbers("its value", south, bits, True, valid),
        _bit(f"psum below col {last}", valid, last),
        _bit("word leaves the OFIFO", psum_valid, 0),
        _numbers("its lane 0", psum, bits, True, psum_valid),
        _bit("psum memory is read", read, 0),
        _bit("psum memory is written", write, 0),
        _bit("output word", out_valid, 0),
        _numbers("its lane 0", out, bits, True, out_valid),
    ]
    # From the controller's first clock to the last output.
    start = next((at for at, text in enumerate(rows[0].values) if text not in ("", "idle")), begin)
    end = max((at for at, word in enumerate(out_valid) if word == "1"), default=len(state) - 1) + 2
    return start - begin, [Row(row.name, row.values[start:end], row.is_bit) for row in rows]


def _state(bits: str) -> str:
    if not bits or bits.strip("01"):
        return ""
    number = int(bits, 2)
    return _STATES[number] if number < len(_STATES) else f"state {number}"


def _bit(name: str, words: Sequence[str], at: int) -> Row:
    return Row(name, tuple(word[len(word) - 1 - at : len(word) - at] for word in words), True)


def _numbers(name: str, words: Sequence[str], bits: int, signed: bool, valid: Sequence[str]) -> Row:
    """Lane 0 of words, where bit 0 of `valid` is 1."""
    values = []
    for word, flags in zip(words, valid, strict=True):
        text = word[len(word) - bits :] if flags[-1:] == "1" else ""
        if text and not text.strip("01"):
            number = int(text, 2)
            text = str(number - (1 << bits) if signed and text[0] == "1" else number)
        values.append(text)
    return Row(name, tuple(values), False)


def draw(first: int, rows: Sequence[Row], title: str, most: int = 76) -> str:
    """The rows as SVG; of more than `most` clocks those at the beginning and, behind a break, those at the end."""
    clocks = len(rows[0].values)
    pieces = [(0, clocks)] if clocks <= most else [(0, most * 2 // 3), (clocks - most // 3, clocks)]
    shown = sum(end - begin for begin, end in pieces)
    width = _LEFT + shown * _WIDE + (len(pieces) - 1) * _BREAK + 10
    height = 56 + len(rows) * _HIGH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11"><title>{escape(title)}</title><rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="6" y="18" font-size="13" font-weight="bold">{escape(title)}</text>',
    ]
    for number, row in enumerate(rows):
        y = 48 + number * _HIGH + 15
        parts.append(f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end">{escape(row.name)}</text>')
    left = _LEFT
    for begin, end in pieces:
        for at in range(begin, end):
            x = left + (at - begin) * _WIDE
            parts.append(f'<line x1="{x}" x2="{x}" y1="44" y2="{height - 6}" stroke="#e4e4e4"/>')
            if (first + at) % 5 == 0:
                parts.append(f'<text x="{x + _WIDE / 2:g}" y="40" text-anchor="middle" fill="#666">{first + at}</text>')
        for number, row in enumerate(rows):
            piece = _line if row.is_bit else _boxes
            parts += piece(row.values[begin:end], left, 48 + number * _HIGH)
        left += (end - begin) * _WIDE + _BREAK
    return "\n".join([*parts, "</svg>\n"])


def _line(values: Sequence[str], left: int, top: int) -> list[str]:
    points = []
    for at, value in enumerate(values):
        y = top + (4 if value == "1" else 20)
        points += [f"{left + at * _WIDE},{y}", f"{left + (at + 1) * _WIDE},{y}"]
    return [f'<polyline points="{" ".join(points)}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>']


def _boxes(values: Sequence[str], left: int, top: int) -> list[str]:
    """Equal neighbours that are words, such as a state, share a box; numbers have one each."""
    parts, at = [], 0
    while at < len(values):
        end = at + 1
        while end < len(values) and values[end] == values[at] and not values[at].lstrip("-").isdigit():
            end += 1
        if values[at]:
            x, width = left + at * _WIDE, (end - at) * _WIDE
            parts.append(
                f'<rect x="{x + 1}" y="{top + 3}" width="{width - 2}" height="18" rx="3" fill="#eef4fb" '
                f'stroke="#1f5fa8"/><text x="{x + width / 2:g}" y="{top + 16}" text-anchor="middle" '
                f'font-size="{10 if len(values[at]) < 4 or end - at > 1 else 8}">{escape(values[at])}</text>'
            )
        at = end
    return parts


def write_diagram(waves: Path, spec: ArraySpec, picture: Path, title: str) -> None:
    """Draw what the core did in the waveform `waves` into `picture`, an SVG."""
    first, rows = read_rows(waves, spec)
    with atomic_file(picture) as temporary:
        temporary.write_text(draw(first, rows, title))
