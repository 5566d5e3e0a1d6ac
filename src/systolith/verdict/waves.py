"""Words out of a waveform (VCD, FST, GHW), sampled as a flip-flop samples them. Needs pywellen (extra `waves`)."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat
from systolith.verdict.values import bits_of
from systolith.verdict.words import Form, How, Words

_MOST_TIMES = 100_000_000
_UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15}
_TIME = re.compile(r"(\d+)\s*([munpf]?s)?")


def sample(path: Path, how: How) -> tuple[Words, int]:
    """The words of `how.signal` while `how.valid` is 1, or `how.when` holds, or at `how.times`; and its width in bits.

    With `how.clock`, a word at each rising edge of the clock (a change to 1) at which valid is 1; signal and valid are
    taken as they were before the time of the edge: what changes at that very time is not seen.

    Without, a word at each time at which valid becomes 1, or stays 1 while the signal changes; both are taken as they
    are after everything that happens at that time. Equal words in succession under one valid are then one word.
    At given times, too, the signal is taken as it is after everything that happens then.

    Raises:
        BadInput: no signal or nothing that says when, or two things that do; no such file, not a waveform, no such
            signal, valid or clock of more bits, a value that its signal cannot have, times that are none or go back.
    """
    given = [f"--{name}" for name in ("valid", "when", "times") if getattr(how, name)]
    if not how.signal or not given:
        raise BadInput(
            f"{path}: a waveform needs --signal and --valid (full dotted names), or --when SIGNAL=VALUE or --times"
        )
    if len(given) > 1 or (how.times and how.clock):
        raise BadInput(f"expected one of --valid, --when and --times (without --clock), found {' and '.join(given)}")
    variables, unit = _open(path)
    times, values, width = _changes(path, variables, how.signal)
    hint = ""
    if how.times:
        stamps = _times(how.times, unit)
        at = np.searchsorted(times, stamps, "right") - 1
    else:
        valid_times, high = _condition(path, variables, how)
        if how.clock:
            edges = _rises(path, variables, how.clock)
            at, valid_at = (np.searchsorted(t, edges, "left") - 1 for t in (times, valid_times))
        else:
            edges = np.union1d(times, valid_times)
            at, valid_at = (np.searchsorted(t, edges, "right") - 1 for t in (times, valid_times))
        taken = _at(high, valid_at)
        if not how.clock:
            rises = taken & ~np.concatenate([[False], taken[:-1]])
            taken &= rises | np.isin(edges, times)
            hint = "without --clock equal words in succession count once"
        stamps, at = edges[taken], at[taken]
    unknown = "x" * width
    bits = [values[i] if i >= 0 else unknown for i in at.tolist()]
    name, factor, base = how.signal, *unit
    return Words(name, bits, bits, lambda i: f"{name} at {int(stamps[i]) * factor} {base}", hint=hint), width


def _condition(path: Path, variables: dict[str, Any], how: How) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The times at which it changes whether there is a word, and whether there is one from then on."""
    if how.valid:
        times, values, width = _changes(path, variables, how.valid)
        if width != 1:
            raise BadInput(f"{how.valid} has {width} bits: expected one bit for --valid")
        wanted = "1"
    else:
        name, equals, value = (how.when or "").rpartition("=")
        if not equals or not name.strip() or not value.strip():
            raise BadInput(
                f"--when {how.when!r}: expected SIGNAL=VALUE, such as top.dut.state=3 or top.dut.state=2'b11"
            )
        times, values, width = _changes(path, variables, name.strip().rstrip("="))
        try:
            wanted = bits_of(value.strip(), "dec", Form("dec", width, IntFormat(1, signed=False)))
        except BadInput as error:
            raise BadInput(f"--when {how.when}: {error}") from None
    return times, np.array([value == wanted for value in values], dtype=bool)


def _rises(path: Path, variables: dict[str, Any], clock: str) -> NDArray[np.int64]:
    """The times of a clock's rising edges."""
    times, values, width = _changes(path, variables, clock)
    if width != 1:
        raise BadInput(f"{clock} has {width} bits: expected one bit for --clock")
    # The value at the start of the dump is no edge: what came before it is not known.
    return np.array([t for t, v in zip(times[1:], values[1:], strict=True) if v == "1"], dtype=np.int64)


def _times(text: str, unit: tuple[int, str]) -> NDArray[np.int64]:
    """T,T,... or FROM:TO:STEP (TO included) in the waveform's steps of `unit`; a bare number is of the unit's kind."""
    factor, base = unit

    def steps(one: str) -> int:
        match = _TIME.fullmatch(one.strip())
        if not match or (match[2] and base not in _UNITS):
            raise BadInput(
                f"--times {text!r}: expected T,T,... or FROM:TO:STEP, such as 15ns:315ns:10ns, found {one!r}"
            )
        power = _UNITS[base] - _UNITS[match[2]] if match[2] else 0
        count, rest = divmod(int(match[1]) * 10 ** max(power, 0), factor * 10 ** max(-power, 0))
        if rest or count >= 1 << 62:
            raise BadInput(f"--times {text!r}: {one.strip()} is no multiple of the waveform's {factor} {base}")
        return count

    if ":" in text:
        if text.count(":") != 2:
            raise BadInput(f"--times {text!r}: expected FROM:TO:STEP")
        first, last, step = map(steps, text.split(":"))
        if not step or last < first or (last - first) // step > _MOST_TIMES:
            raise BadInput(f"--times {text!r}: expected FROM before TO, and at most {_MOST_TIMES:,} steps between")
        return np.arange(first, last + 1, step, dtype=np.int64)
    found = np.array([steps(one) for one in text.split(",")], dtype=np.int64)
    if (np.diff(found) <= 0).any():
        raise BadInput(f"--times {text!r}: expected times one after another")
    return found


def at_edges(path: Path, clock: str, signals: Sequence[str]) -> dict[str, list[str]]:
    """What signals are at each rising edge of a clock, as before the edge: binary text, or "" before their first value.

    Raises:
        BadInput: not a waveform, no such signal, or a clock of more than one bit.
    """
    variables, _ = _open(path)
    edges = _rises(path, variables, clock)
    found = {}
    for name in signals:
        times, values, _ = _changes(path, variables, name)
        found[name] = [values[i] if i >= 0 else "" for i in (np.searchsorted(times, edges, "left") - 1).tolist()]
    return found


def _at(values: NDArray[np.bool_], index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`values` at `index`; False before the first."""
    found = np.zeros(index.shape, dtype=bool)
    found[index >= 0] = values[index[index >= 0]]
    return found


def _open(path: Path) -> tuple[dict[str, Any], tuple[int, str]]:
    """The waveform's variables by full name, and what one unit of its times is."""
    import pywellen

    if not path.is_file():
        raise BadInput(f"{path}: no such waveform")
    try:
        wave = pywellen.Waveform(str(path))
        variables = {variable.full_name: variable for variable in wave.all_vars()}
        scale = wave.timescale
    except BaseException as error:
        # The reader's panics are no `Exception`; everything else that is none (an interrupt) is not of the file.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a readable waveform ({reason})") from None
    return variables, (int(scale.factor), str(scale.unit)) if scale is not None else (1, "units")


def _changes(path: Path, variables: dict[str, Any], name: str) -> tuple[NDArray[np.int64], list[str], int]:
    """Times, binary values where they change, and the width of a signal."""
    if name not in variables:
        near = difflib.get_close_matches(name, variables, 3, 0.5)
        near += [n for n in variables if n.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1] and n not in near][:3]
        said = f"did you mean {' or '.join(near)}?" if near else f"it has {len(variables)} signals"
        raise BadInput(f"{path}: no signal {name!r}; {said}")
    width = variables[name].bitwidth
    if width is None:
        raise BadInput(f"{path}: {name} is a {variables[name].type}, not a vector of bits")
    found = [(t, v if isinstance(v, str) else f"{v:0{width}b}") for t, v in variables[name].signal]
    # Some writers repeat an unchanged value.
    kept = [next(same) for _, same in itertools.groupby(found, key=lambda change: change[1])]
    return np.array([t for t, _ in kept], dtype=np.int64), [v.lower() for _, v in kept], int(width)
