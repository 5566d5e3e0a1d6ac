"""The processing elements of the machine: what each register holds, as histories over a block of clocks.

Columns go west to east, rows north to south; flags that only pass on are their neighbour's, a clock later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array.mapping import Mapping
from systolith.formats import least_signed_bits
from systolith.timing.histories import Bools, Ints, fit, hold, hold_flags, latched, running, safe
from systolith.timing.queues import Delayed

NOTHING, LOAD, STREAM = 0, 1, 2
"""What enters row 0 of the array in a clock."""
REGISTERS = ("weight", "loaded", "load", "stream", "code", "psum")
"""Those of every processing element: `load`, `stream` and `code` go on to the east, `psum` to the south."""
DOUBLE_REGISTERS = ("fresh", "shadow", "filled", "south_load", "south_weight")
"""Those of one with double-buffered weights, too: `fresh` goes on to the east, the last two to the south."""
STATIONARY_REGISTERS = ("fresh", "last", "south_weight", "acc")
"""Those of one whose output is stationary, too."""


@dataclass(frozen=True)
class Beats:
    """What enters the array in each clock of a block.

    Attributes:
        kinds: int8 (clock,), NOTHING, LOAD or STREAM, into row 0.
        fresh, last: the first stream beat of a pass or fold, the last one of a fold.
        codes: (clock, row, code), before the skew.
        north: weights that stay, into column 0.
        weights: (clock, col, code), before the skew.
    """

    kinds: NDArray[np.int8]
    fresh: Bools
    last: Bools
    codes: Ints
    north: Bools
    weights: Ints


@dataclass(frozen=True)
class Carrier:
    """The integers of the array.

    Attributes:
        dtype: the narrowest that hold the codes and whatever a processing element adds up.
        narrow: some sum of a pass could leave the psum register; otherwise there is nothing to wrap or saturate.
    """

    dtype: Any
    narrow: bool

    @classmethod
    def of(cls, mapping: Mapping) -> Carrier:
        """That of a layer's integers."""
        spec, (lo, hi) = mapping.spec, mapping.pass_bounds()
        narrow = not safe(spec.psum_format, lo, hi)
        codes = max(spec.act_bits + 1, spec.weight_bits)
        added = max(spec.psum_bits, spec.act_bits + 1 + spec.weight_bits) + 1 if narrow else least_signed_bits(lo, hi)
        bits = max(codes, added)
        return cls(np.int16 if bits <= 16 else np.int32 if bits <= 32 else np.int64, narrow)


def registers_of(mapping: Mapping, double: bool) -> tuple[str, ...]:
    """The names of a processing element's registers."""
    return REGISTERS + (STATIONARY_REGISTERS if mapping.stationary else DOUBLE_REGISTERS if double else ())


class Elements:
    """A column's histories at a time, (row, clock) each; those of codes and weights a list, one for each code."""

    def __init__(self, mapping: Mapping, carrier: Carrier, double: bool) -> None:
        self.spec, self.dtype, self.narrow, self.simd = mapping.spec, carrier.dtype, carrier.narrow, mapping.simd
        self.double, self.stationary = double and not mapping.stationary, mapping.stationary
        rows, cols = self.spec.rows, self.spec.cols
        self.names = registers_of(mapping, double)
        flags = ("loaded", "load", "stream", "fresh", "last", "filled", "south_load")
        several = ("weight", "code", "shadow", "south_weight")
        self.state: dict[str, Any] = {
            name: np.zeros(
                (cols, self.simd, rows) if name in several else (cols, rows), bool if name in flags else self.dtype
            )
            for name in self.names
        }
        self.skew = [Delayed(row) for row in range(rows)]
        self.north_skew = [Delayed(col) for col in range(cols)]
        self.drains = [Delayed(col) for col in range(cols)]
        self.left = 0
        self.adds = np.zeros(0, dtype=np.bool_)

    def step(self, beats: Beats, trace: dict[str, Ints] | None) -> tuple[Bools, list[Ints]]:
        """What leaves the bottom row, (col, clock) valid and psums, for the beats that leave the queues.

        Args:
            beats: what enters.
            trace: takes the registers' histories.
        """
        count = len(beats.kinds)
        flags = np.stack([beats.kinds == LOAD, beats.kinds == STREAM, beats.fresh, beats.last], axis=1)
        late = [skew.step(np.column_stack([flags, beats.codes[:, r]])) for r, skew in enumerate(self.skew)]
        west = np.stack(late)  # (row, clock, flag and code)
        now: dict[str, Any] = {
            name: west[:, :, n].astype(bool) for n, name in enumerate(("load", "stream", "fresh", "last"))
        }
        now["code"] = [np.ascontiguousarray(west[:, :, 4 + k]).astype(self.dtype, copy=False) for k in range(self.simd)]
        drain, leaves = self._drain(now["stream"][-1] & now["last"][-1])
        valid = np.empty((self.spec.cols, count), dtype=np.bool_)
        psums = []
        traced: dict[str, list[Any]] = {name: [] for name in self.names}
        for col in range(self.spec.cols):
            north = np.column_stack([beats.north, beats.weights[:, col]]) if self.double or self.stationary else None
            if north is not None:
                north = self.north_skew[col].step(north)
            drained = self.drains[col].step(np.column_stack([leaves, drain.T])) if self.stationary else None
            history = self._column(col, now, north, drained, trace is not None)
            for name in self.names:
                self.state[name][col] = _last(history[name])
                if trace is not None:
                    traced[name].append(_packed(history[name], self.spec, name))
            now = {name: history[name][:, :-1] for name in ("load", "stream")} | {
                name: history[name][:, :-1] if name in history else now[name] for name in ("fresh", "last")
            }
            now["code"] = [one[:, :-1] for one in history["code"]]
            valid[col] = drained[:, 0] if drained is not None else history["stream"][-1, :-1]
            psums.append(history["psum"][-1, :-1])
        if trace is not None:
            trace |= {name: np.stack(histories, axis=1) for name, histories in traced.items()}
        return valid, psums

    def _drain(self, seen: Bools) -> tuple[Bools, Bools]:
        """(row, clock), whether a row of column 0 passes on; (clock,), whether a word leaves there.

        Args:
            seen: (clock,), the bottom row's last beat: it begins ROWS clocks of sums leaving.
        """
        rows, count = self.spec.rows, len(seen)
        if not self.stationary:
            return np.zeros((0, count), dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        # The clock in which it was last seen, before each clock; one that leaves `left` clocks at the beginning.
        at = np.where(seen, np.arange(count), -(1 << 40))
        before = np.maximum.accumulate(np.concatenate([[self.left - rows - 1], at]))
        left = np.maximum(rows - (np.arange(count + 1) - 1 - before), 0)
        self.left = int(left[-1])
        passing = left[None, :-1] > rows - np.arange(rows)[:, None]
        return passing, left[:-1] > 0

    def _column(
        self, col: int, now: dict[str, Any], north: Ints | None, drained: Ints | None, trace: bool
    ) -> dict[str, Any]:
        """The registers of a column, (row, clock + 1): what they hold before each clock and after the last.

        A psum is read in the clock after it was written, if the row below streams then only (as the skew has it; looked
        at here). What the register holds until the next one is seen by a trace alone: without, it is left out.
        """
        load, stream, code = now["load"], now["stream"], now["code"]
        state = {name: values[col] for name, values in self.state.items()}
        history: dict[str, Any] = {"stream": _after(state["stream"], stream)}
        history["code"] = [_after(one, values) for one, values in zip(state["code"], code, strict=True)]
        loaded = _after(state["loaded"], load)
        hold_flags(loaded, load | stream)
        history["loaded"], keeps = loaded, load > loaded[:, :-1]
        history["load"] = _after(state["load"], load & loaded[:, :-1])
        factor = None
        if self.double or self.stationary:
            assert north is not None
            history["fresh"] = _after(state["fresh"], now["fresh"])
            history |= self._north(state, now["fresh"], north)
        weight = []
        for k in range(self.simd):
            taken, enable = code[k], keeps
            if self.double:
                taken, enable = np.where(now["fresh"], history["shadow"][k][:, :-1], code[k]), keeps | now["fresh"]
            weight.append(latched(state["weight"][k], taken, enable))
        history["weight"] = weight
        if self.stationary:
            assert north is not None
            factor = history.pop("north_weight")
        else:  # a fresh beat finds the shadow's
            factor = [one[:, 1:] if self.double else one[:, :-1] for one in weight]
        products = np.empty((len(load), load.shape[1] + 1), dtype=self.dtype)
        np.multiply(code[0], factor[0], out=products[:, 1:])
        for k in range(1, self.simd):
            products[:, 1:] += code[k] * factor[k]
        if self.stationary:
            assert drained is not None
            history["last"] = _after(state["last"], now["last"])
            self._staying(history, state, now, products[:, 1:], drained[:, 1:].T.astype(bool))
        else:
            self._passing(history, state, stream, products, trace)
        return history

    def _passing(self, history: dict[str, Any], state: dict[str, Any], stream: Bools, psum: Ints, trace: bool) -> None:
        """Psums from row to row; `psum` comes with the products in it."""
        psum[:, 0] = state["psum"]
        self.adds = stream[-1]
        holds = trace or bool((stream[1:] > history["stream"][:-1, :-1]).any())
        for row in range(len(psum)):
            if row:
                psum[row, 1:] += psum[row - 1, :-1]
            if self.narrow:
                psum[row, 1:] = fit(psum[row, 1:], self.spec.psum_format, self.spec.overflow)
            if holds:
                hold(psum[row : row + 1], stream[row : row + 1])
        history["psum"] = psum

    def _staying(
        self, history: dict[str, Any], state: dict[str, Any], now: dict[str, Any], products: Ints, drain: Bools
    ) -> None:
        """Sums that stay until a fold's last beat, and leave by the registers of the rows below."""
        stream, own = now["stream"], now["stream"] & now["last"]
        fmt = self.spec.psum_format if self.narrow else None
        acc = running(state["acc"], products, stream, now["fresh"], fmt, self.spec.overflow)
        history["acc"], psum = acc, np.empty_like(acc)
        for row in range(len(psum)):
            at = np.flatnonzero(own[row] | drain[row])
            above = psum[row - 1, at] if row else 0
            values = np.where(own[row, at], acc[row, at + 1], above)
            kept = np.diff(at, prepend=-1, append=psum.shape[1] - 1)
            psum[row] = np.repeat(np.concatenate([state["psum"][row : row + 1], values]), kept)
        history["psum"], self.adds = psum, own[-1] | drain[-1]

    def _north(self, state: dict[str, Any], fresh: Bools, north: Ints) -> dict[str, Any]:
        """What comes from the north, row after row: the weights that pass, and those that wait in the shadow."""
        rows = len(fresh)
        load, words = north[:, 0].astype(bool), [north[:, 1 + k].astype(self.dtype) for k in range(self.simd)]
        found: dict[str, list[Any]] = {name: [] for name in ("filled", "south_load")}
        takes, north_words, south = [], [], []
        for row in range(rows):
            north_words.append(words)
            passed = [_after(state["south_weight"][k][row : row + 1], words[k][None]) for k in range(self.simd)]
            south.append(passed)
            if self.double:
                filled = _after(state["filled"][row : row + 1], load[None])
                hold_flags(filled, (load | fresh[row])[None])
                keeps = filled[0, :-1] & ~fresh[row]
                passes = _after(state["south_load"][row : row + 1], (load & keeps)[None])
                takes.append(load & ~keeps)
                found["filled"].append(filled)
                found["south_load"].append(passes)
                load = passes[0, :-1]
            words = [one[0, :-1] for one in passed]
        each = range(self.simd)
        came = [np.stack([words[k] for words in north_words]) for k in each]
        made: dict[str, Any] = {"south_weight": [np.concatenate([one[k] for one in south]) for k in each]}
        if self.stationary:
            return made | {"north_weight": came}
        made |= {name: np.concatenate(values) for name, values in found.items()}
        return made | {"shadow": [latched(state["shadow"][k], came[k], np.stack(takes)) for k in each]}


def _after(before: Any, values: Any) -> Any:
    """(row, clock + 1): what a register holds that takes `values` (row, clock), one clock later."""
    history = np.empty((values.shape[0], values.shape[1] + 1), dtype=before.dtype)
    history[:, 0], history[:, 1:] = before, values
    return history


def _last(history: Any) -> Any:
    return [one[:, -1] for one in history] if isinstance(history, list) else history[:, -1]


def _packed(history: Any, spec: Any, name: str) -> Any:
    """(row, clock), what a register holds during each clock; of several codes the lane that they make."""
    if not isinstance(history, list):
        return history[:, :-1].copy()
    if len(history) == 1:
        return history[0][:, :-1].copy()
    bits = spec.act_bits // len(history) if name == "code" else spec.weight_bits
    lanes: Iterator[Any] = (one[:, :-1].astype(np.int64) % (1 << bits) << (k * bits) for k, one in enumerate(history))
    return sum(lanes)
