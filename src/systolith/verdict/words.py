"""How to read a dump, and the words that come out of one, whatever it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEVELS = ("psum", "sfp", "output")
RADIXES = ("bin", "hex", "dec")
WAVEFORMS = (".vcd", ".fst", ".ghw")


@dataclass(frozen=True)
class How:
    """How to read a dump.

    Attributes:
        level: of a log or a signal: one of LEVELS; None goes by the file's name, else by the number of words.
        radix: of a log's values: "bin", "hex" or "dec"; None is the layout's.
        signal, valid, clock: of a waveform, full dotted names.
    """

    level: str | None = None
    radix: str | None = None
    signal: str | None = None
    valid: str | None = None
    clock: str | None = None


@dataclass(frozen=True, eq=False)
class Words:
    """Words in the order that they were dumped.

    Attributes:
        bits: binary text of each, as wide as a word unless damaged.
        texts: of each, as found.
        places: where each is, in words.
        end: where the next one would be.
    """

    bits: Sequence[str]
    texts: Sequence[str]
    places: Callable[[int], str]
    end: str
