"""Words out of a waveform (VCD, FST, GHW), sampled as a flip-flop samples them. Needs pywellen (extra `waves`)."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput
from systolith.verdict.words import How, Words


def sample(path: Path, how: How) -> tuple[Words, int]:
    """The words of `how.signal` while `how.valid` is 1, and the signal's width in bits.

    With `how.clock`, a word at each rising edge of the clock (a change to 1) at which valid is 1; signal and valid are
    taken as they were before the time of the edge: what changes at that very time is not seen.

    Without, a word at each time at which valid becomes 1, or stays 1 while the signal changes; both are taken as they
    are after everything that happens at that time. Equal words in succession under one valid are then one word.

    Raises:
        BadInput: no signal or valid named, no such file, not a waveform, no such signal, valid or clock of more bits.
    """
    if not how.signal or not how.valid:
        raise BadInput(f"{path}: a waveform needs --signal and --valid (full dotted names)")
    variables, unit = _open(path)
    times, values, width = _changes(path, variables, how.signal)
    valid_times, valids, valid_width = _changes(path, variables, how.valid)
    if valid_width != 1:
        raise BadInput(f"{how.valid} has {valid_width} bits: expected one bit for --valid")
    high = np.array([value == "1" for value in valids], dtype=bool)
    if how.clock:
        clock_times, clocks, clock_width = _changes(path, variables, how.clock)
        if clock_width != 1:
            raise BadInput(f"{how.clock} has {clock_width} bits: expected one bit for --clock")
        # The value at the start of the dump is no edge: what came before it is not known.
        edges = np.array([t for t, v in zip(clock_times[1:], clocks[1:], strict=True) if v == "1"], dtype=np.int64)
        at, valid_at = (np.searchsorted(t, edges, "left") - 1 for t in (times, valid_times))
    else:
        edges = np.union1d(times, valid_times)
        at, valid_at = (np.searchsorted(t, edges, "right") - 1 for t in (times, valid_times))
    taken = _at(high, valid_at)
    if not how.clock:
        rises = taken & ~np.concatenate([[False], taken[:-1]])
        taken &= rises | np.isin(edges, times)
    unknown = "x" * width
    bits = [values[i] if i >= 0 else unknown for i in at[taken].tolist()]
    stamps, name, factor, base = edges[taken], how.signal, *unit
    hint = "" if how.clock else "; without --clock equal words in succession count once"
    return Words(
        bits, bits, lambda i: f"{name} at {int(stamps[i]) * factor} {base}", f"{name} after its end{hint}"
    ), width


def at_edges(path: Path, clock: str, signals: Sequence[str]) -> dict[str, list[str]]:
    """What signals are at each rising edge of a clock, as before the edge: binary text, or "" before their first value.

    Raises:
        BadInput: not a waveform, or no such signal.
    """
    variables, _ = _open(path)
    times, values, _ = _changes(path, variables, clock)
    edges = np.array([t for t, v in zip(times[1:], values[1:], strict=True) if v == "1"], dtype=np.int64)
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
