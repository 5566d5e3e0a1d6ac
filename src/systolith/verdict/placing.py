"""Which dumped word is which golden one, where there are too few or too many: missing words are no wrong words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LISTED = 4  # places named one by one


@dataclass(frozen=True, eq=False)
class Placed:
    """Where the words of a dump belong.

    Attributes:
        slots: int64 (golden words,): which dumped word is there; -1 where none is.
        extra: dumped words that belong nowhere.
        said: what is missing or too many, such as "15 of 16 words: the last is missing"; "" if nothing is.
        assumed: what was taken for granted, or "".
    """

    slots: NDArray[np.int64]
    extra: int = 0
    said: str = ""
    assumed: str = ""


def placed(found: Sequence[str], golden: Sequence[str], addresses: Sequence[int] | None) -> Placed:
    """Place dumped words by their addresses, else in their order.

    In order, words that are missing or too many are taken to be successive ones; where they are, the others show: that
    place is taken at which they are right, unless hardly more of them are than with the gap at the end. But where just
    the words are missing that repeat the one before, in several places, it is those.

    Args:
        found, golden: the bits of each word.
        addresses: of each dumped word, or None.
    """
    if addresses is not None:
        return _by_address(addresses, len(golden))
    count, total = len(found), len(golden)
    in_order = np.arange(total, dtype=np.int64)
    if count == total:
        return Placed(in_order)
    gap = abs(total - count)
    if not count:
        return Placed(np.full(total, -1), 0, f"0 of {total:,} words: all are missing")
    # $monitor, and a waveform without its clock, tell of changes alone.
    changes = [at for at in range(total) if not at or golden[at] != golden[at - 1]]
    if count == len(changes) and all(word == golden[at] for word, at in zip(found, changes, strict=True)):
        slots = np.full(total, -1)
        slots[changes] = np.arange(count)
        missing = np.flatnonzero(slots < 0)
        if missing[-1] - missing[0] >= gap:  # in several places
            return Placed(
                slots, 0, f"{count:,} of {total:,} words: of equal ones in succession only the first is there"
            )
    at, sure, equals = _gap(*((found, golden) if count < total else (golden, found)))
    which = "missing" if count < total else "surplus"
    place = _place(at, gap, max(count, total)) if sure else f"{gap:,}"
    said = f"{count:,} of {total:,} words: {place} {'is' if gap == 1 else 'are'} {which}"
    if equals and sure:
        said += ", or an equal one beside it" if gap == 1 else ", or equal ones beside them"
    if count < total:
        slots = np.where(in_order < at, in_order, in_order - gap)
        slots[at : at + gap] = -1
        return Placed(slots, 0, said)
    return Placed(np.where(in_order < at, in_order, in_order + gap), gap, said)


def _gap(short: Sequence[str], long: Sequence[str]) -> tuple[int, bool, bool]:
    """Where a gap in `short` begins, whether its words show that, and whether another place would do as well."""
    count, gap = len(short), len(long) - len(short)
    before = [a != b for a, b in zip(short, long, strict=False)]
    after = [a != b for a, b in zip(short, long[gap:], strict=True)]
    wrong = np.concatenate([[0], np.cumsum(before)]) + np.concatenate([np.cumsum(after[::-1])[::-1], [0]])
    best = int(np.argmin(wrong))
    at = best if wrong[best] * 4 < wrong[count] else count
    return at, bool(wrong[at] * 2 < max(count, 1)), bool(at < count and (wrong == wrong[at]).sum() > 1)


def _place(at: int, gap: int, total: int) -> str:
    """The words from `at` (from 0) in words."""
    if at in (0, total - gap):
        end = "first" if at == 0 else "last"
        return f"the {end}" if gap == 1 else f"the {end} {gap:,}"
    return f"word {at + 1:,}" if gap == 1 else f"words {at + 1:,} to {at + gap:,}"


def _by_address(addresses: Sequence[int], total: int) -> Placed:
    base, assumed = 0, ""
    low, high = min(addresses, default=0), max(addresses, default=0)
    # A memory's part that is the dump, whole or with words left out, need not begin at address 0.
    if low >= total or (high >= total and high - low + 1 == total):
        base, assumed = low, f"addresses count from {low:x}"
    slots = np.full(total, -1, dtype=np.int64)
    extra = 0
    for word, address in enumerate(addresses):
        if address - base < total:
            slots[address - base] = word
        else:
            extra += 1
    missing = np.flatnonzero(slots < 0)
    if not len(missing) and not extra:
        return Placed(slots, 0, "", assumed)
    said = f"{len(addresses):,} of {total:,} words"
    if len(missing):
        gap, at = len(missing), int(missing[0])
        if missing[-1] - at + 1 == gap:
            place = _place(at, gap, total)
        else:
            named = ", ".join(f"{i + 1:,}" for i in missing[:_LISTED])
            place = f"words {named}" + (f" and {gap - _LISTED:,} more" if gap > _LISTED else "")
        said += f": {place} {'is' if gap == 1 else 'are'} missing"
    if extra:
        said += f"{', ' if len(missing) else ': '}{extra:,} {'is' if extra == 1 else 'are'} beyond the last"
    return Placed(slots, extra, said, assumed)
