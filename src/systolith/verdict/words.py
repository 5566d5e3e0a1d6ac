"""How to read a dump, and the words that come out of one, whatever it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from systolith.formats import IntFormat

LEVELS = ("psum", "sfp", "output")
RADIXES = ("bin", "hex", "dec")
WAVEFORMS = (".vcd", ".fst", ".ghw")


@dataclass(frozen=True)
class How:
    """How to read a dump.

    Attributes:
        level: of a log or a signal: one of LEVELS; None goes by the file's name, else by the number of words.
        radix: of the words of files and logs: "bin", "hex" or "dec"; None is the layout's, or another that they show.
        signal, valid, clock: of a waveform, full dotted names.
        pattern: of text, a regular expression that finds a word in a line; what its groups are, `lines.py` says.
        when: of a waveform, instead of `valid`: SIGNAL=VALUE.
        times: of a waveform, instead: T,T,... or FROM:TO:STEP.
    """

    level: str | None = None
    radix: str | None = None
    signal: str | None = None
    valid: str | None = None
    clock: str | None = None
    pattern: str | None = None
    when: str | None = None
    times: str | None = None


@dataclass(frozen=True)
class Form:
    """How the layout writes a word: the radix, and lanes of a format."""

    radix: str
    lanes: int
    fmt: IntFormat

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.lanes * self.fmt.bits

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a word."""
        return -(-self.width // 4)


@dataclass(frozen=True, eq=False)
class Words:
    """Words in the order that they were dumped.

    Attributes:
        name: of the file or signal.
        bits: binary text of each, as wide as a word unless damaged.
        texts: of each, as found.
        places: where each is, in words.
        addresses: of each, where they have addresses.
        assumed: what was taken for granted to read them, a clause each.
        hint: why words may be missing.
    """

    name: str
    bits: Sequence[str]
    texts: Sequence[str]
    places: Callable[[int], str]
    addresses: Sequence[int] | None = None
    assumed: tuple[str, ...] = ()
    hint: str = ""
