"""One dumped word: its characters to its bits, and the radix that words show to be of.

A binary word has a digit a bit, a hexadecimal one a digit for four bits, as `$writememb` and `$writememh` write them:
the length says the radix. Decimal is a number a lane with blanks between, as in the layouts, or one number a word.
A prefix (0b, 0x, or as Verilog writes it, 16'h3f) goes before all that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from systolith.formats import BadInput
from systolith.verdict.words import RADIXES, Form

NAMES = {"bin": "binary", "hex": "hexadecimal", "dec": "decimal"}
_LITERAL = re.compile(r"(?:0([bxd])|\d*'s?([bhd]))(.*)", re.IGNORECASE | re.DOTALL)
_RADIXES = {"b": "bin", "x": "hex", "h": "hex", "d": "dec"}
_DIGITS = {"bin": frozenset("01xz"), "hex": frozenset("0123456789abcdefxz"), "dec": frozenset("0123456789")}
_NIBBLES = {f"{value:x}": f"{value:04b}" for value in range(16)} | {"x": "xxxx", "z": "zzzz"}
_NUMBER = re.compile(r"-?(0|[1-9]\d*)")  # as %0d writes it


def whole(text: str, radix: str, form: Form) -> bool:
    """Whether `text` is a word of `radix` by its length and digits; a decimal one by its numbers and their range."""
    if radix == "dec":
        found = text.split()
        if not found or len(found) not in (1, form.lanes) or not all(map(_NUMBER.fullmatch, found)):
            return False
        lo, hi = _range(form.fmt.bits if len(found) == form.lanes else form.width)
        return all(len(number) <= form.width + 1 and lo <= int(number) <= hi for number in found)
    word = text.replace("_", "").lower()
    return len(word) == (form.width if radix == "bin" else form.digits) and set(word) <= _DIGITS[radix]


def prefixed(text: str) -> bool:
    """Whether a prefix says the radix of `text`, and all of it are its digits."""
    match = _LITERAL.fullmatch(text.replace("_", "").lower())
    return bool(match and match[3] and set(match[3]) <= _DIGITS[_RADIXES[match[1] or match[2]]])


def radix_of(texts: Sequence[str], form: Form, short: bool) -> str:
    """The radix of words: the layout's, unless most are words of another one and hardly any are of the layout's.

    Args:
        texts: as found.
        form: the layout's.
        short: leading zeros may be missing, so that the length alone says nothing.
    """
    own = sum(whole(text, form.radix, form) for text in texts)
    for radix in RADIXES:
        fitting = [text for text in texts if radix != form.radix and whole(text, radix, form)]
        if len(fitting) > 2 * max(own, len(texts) // 4) and _shows(radix, fitting, form, short):
            return radix
    return form.radix


def _shows(radix: str, texts: Sequence[str], form: Form, short: bool) -> bool:
    """Whether words of `radix` cannot be of another one that is read here."""
    if radix == "bin":
        return True
    if radix == "hex":
        # 0101 may be a short binary word; and 1234 a decimal one, but then without leading zeros.
        if short and form.radix == "bin" and not any(set(text.lower()) - _DIGITS["bin"] - {"_"} for text in texts):
            return False
        return any(text[:1] == "0" or set(text.lower()) - _DIGITS["dec"] for text in texts)
    # One number a word: only a sign or more digits than a hexadecimal word has tell it from a hexadecimal word.
    return any(" " in text.strip() or text[:1] == "-" or len(text) > form.digits for text in texts)


def bits_of(text: str, radix: str, form: Form, short: bool = True) -> str:
    """Binary text of a word, as wide as the word; "" of an empty one.

    Args:
        text: as found.
        radix: of one without a prefix.
        form: the layout's.
        short: whether one of fewer digits is extended on the left, as in Verilog; otherwise it has no bits.

    Raises:
        BadInput: digits of another radix, or more of them than a word has; the place is left to the caller.
    """
    word, width = text.replace("_", "").lower(), form.width
    if not short and radix == "bin" and len(word) == width and set(word) <= _DIGITS["bin"]:
        return word
    # An unprefixed hexadecimal word may itself begin with 0b or 0d.
    match = _LITERAL.fullmatch(word) if radix != "hex" or word.startswith("0x") or "'" in word else None
    if match:
        radix, word, short = _RADIXES[match[1] or match[2]], match[3].strip(), True
    if not word:
        return ""
    if radix == "dec":
        return _decimal(text, word, form)
    if not set(word) <= _DIGITS[radix]:
        raise BadInput(f"expected a {NAMES[radix]} value (--radix says another), found {text[:60]!r}")
    if not short and len(word) != (width if radix == "bin" else form.digits):
        return ""
    bits = word if radix == "bin" else "".join(_NIBBLES[digit] for digit in word)
    spare, bits = bits[:-width], bits[-width:]
    if spare.strip("0") and set(spare) != {bits[0]} & {"x", "z"}:
        raise BadInput(f"found more bits than the {width} of a word: {text[:60]!r}")
    return bits.rjust(width, bits[0] if bits[0] in "xz" else "0")


def _decimal(text: str, word: str, form: Form) -> str:
    """Binary text of decimal numbers, one a lane or one of them all."""
    found = word.split()
    each = form.fmt.bits if len(found) == form.lanes else form.width
    bits = ""
    for number in found if len(found) == form.lanes else [word]:
        if set(number) in ({"x"}, {"z"}):
            bits += number[0] * each
            continue
        if not number.lstrip("-") or not set(number.removeprefix("-")) <= _DIGITS["dec"]:
            raise BadInput(f"expected a decimal value (--radix says another), found {text[:60]!r}")
        lo, hi = _range(each)
        # A number has no more digits than bits; thousands of them are not turned into an integer.
        if len(number) > each + 1 or not lo <= int(number) <= hi:
            raise BadInput(
                f"{number[:60]} does not fit the {each} bits of a {'word' if each == form.width else 'lane'}"
            )
        bits += f"{int(number) & ((1 << each) - 1):0{each}b}"
    return bits


def _range(bits: int) -> tuple[int, int]:
    """What so many bits may show as a number, signed or not."""
    return -(1 << (bits - 1)), (1 << bits) - 1
