"""What enters the PEs: codes and weights of every lane, and how faults of streams, orders and addresses reroute them.

A sum goes through *stages*: weight stationary the rows of its column, output stationary the steps of its PE. The codes
of a position are (ic_tile, nij, stage, code), the weights of a column (ic_tile, kij, stage, code); `ic_tile` counts
those of the oc_tile's `ic_range`.

Nothing here looks at values: run on numbered activations or weights, it says which one is where (`undetectable.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.faults.addresses import act_addresses, kij_addresses, owned, row_of, tap_addresses, walked
from systolith.faults.faults import PLACE, Fault
from systolith.vectors.tensors import picked

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Operands:
    """The integers of a layer as they enter the array.

    Attributes:
        mapping: the layer on the array; its own weights are not looked at.
        act: (C, H, W), of a batch (picture, C, H, W).
        weight: (O, C/groups, KH, KW).
    """

    mapping: Mapping
    act: NDArray[np.integer]
    weight: NDArray[np.integer]

    @cached_property
    def _acts(self) -> Ints:
        return self.lanes(self.mapping.act_tiles(self.act).astype(np.int64))

    @cached_property
    def _weights(self) -> Ints:
        return self.lanes(self.mapping.weight_tiles_of(self.weight).astype(np.int64))

    @cached_property
    def _padded(self) -> Ints:
        """(C, position), and at the end a position where nothing is."""
        padded = self.mapping.padded(self.act.astype(np.int64), self.mapping.conv.in_channels)
        return np.pad(padded, ((0, 0), (0, 1)))

    def lanes(self, codes: Ints) -> Ints:
        """(..., stage*code) to (..., stage, code)"""
        return codes.reshape(*codes.shape[:-1], -1, self.mapping.simd)

    def acts(self, o: int) -> Ints:
        """(ic_tile, nij, stage, code)"""
        return self._acts[made(self.mapping, o)]

    def weights(self, o: int) -> Ints:
        """(ic_tile, kij, col, stage, code)"""
        return self._weights[made(self.mapping, o), o]

    def entering(self, o: int, c: int) -> tuple[Ints, Ints]:
        """A column's: codes (ic_tile, nij, stage, code) and weights (ic_tile, kij, stage, code)"""
        return self.acts(o), self.weights(o)[:, :, c]

    def in_turn(self, o: int, c: int, step: int) -> Ints:
        """A column's weights of the pass before each (-1) or of the one behind (1), passes in their order: 0 before the
        first, its own behind the last."""
        weights = self.weights(o)[:, :, c].swapaxes(0, 1)  # (kij, ic_tile, stage, code)
        flat = weights.reshape(-1, *weights.shape[2:])
        if step < 0:
            end = self.weights(o - 1)[-1, -1, c] if o else np.zeros_like(flat[0])
            moved = np.concatenate([end[None], flat[:-1]])
        else:
            end = self.weights(o + 1)[0, 0, c] if o + 1 < self.mapping.oc_tiles else flat[-1]
            moved = np.concatenate([flat[1:], end[None]])
        return moved.reshape(weights.shape).swapaxes(0, 1)

    def read(self, o: int, positions: Ints) -> Ints:
        """`acts` of a flat reduction if `positions` (tap, onij) are read; 0 where no memory is."""
        flat, spare = self.mapping.flat, self._padded.shape[1] - 1
        assert flat is not None
        inside = np.where((positions >= 0) & (positions < spare), positions, spare)
        return self.lanes(flat.act_tiles(self._padded, inside)[made(self.mapping, o)])

    def read_lanes(self, o: int, lanes: Ints) -> Ints:
        """(tile, onij, code) if the lanes of the reduction that `lanes` (tile,) names are read; 0 where it is -1."""
        mapping, flat = self.mapping, self.mapping.flat
        assert flat is not None
        codes = np.maximum(lanes, 0)[:, None] * mapping.simd + np.arange(mapping.simd)
        spare = np.pad(self._padded, ((0, 1), (0, 0)))
        channels, positions = flat.channels(flat.band[o])[codes], mapping.positions()[flat.axis[1][codes]]
        found = spare[channels[..., None], positions] * (lanes >= 0)[:, None, None]  # (tile, code, onij)
        return found.swapaxes(1, 2)


@lru_cache(maxsize=1024)  # keeps no layer for ever
def made(mapping: Mapping, o: int) -> slice:
    """The ic_tiles of an oc_tile's passes."""
    tiles = mapping.ic_range(o)
    return slice(tiles.start, tiles.stop)


def shifted(values: Ints, how: str, axis: int = -1) -> Ints:
    """The values along `axis` one place late or early, 0 at the end."""
    moved = np.moveaxis(np.zeros_like(values), axis, 0)
    source = np.moveaxis(values, axis, 0)
    if how.endswith("late"):
        moved[1:] = source[:-1]
    else:
        moved[:-1] = source[1:]
    return np.moveaxis(moved, 0, axis)


# What enters a column instead: codes (ic_tile, nij, stage, code) and its weights (ic_tile, kij, stage, code).

Entering = tuple[Ints, Ints]


def _swap(values: Ints, first: int, axis: int) -> Ints:
    """The values with `first` and its neighbour along the axis swapped."""
    order = np.arange(values.shape[axis])
    order[[first, first + 1]] = first + 1, first
    return np.take(values, order, axis)


def _row(mapping: Mapping, fault: Fault) -> tuple[Any, ...]:
    """Where the codes of the fault's row are: at a stage, or output stationary at its positions."""
    row = fault.number("row")
    return (slice(None), owned(mapping, row)) if mapping.stationary else (slice(None), slice(None), row)


def _permuted(mapping: Mapping, acts: Ints, rows: Ints) -> Ints:
    """The codes if each row takes those of `rows[row]`."""
    if not mapping.stationary:
        return acts[:, :, rows]
    place = np.arange(mapping.onijs)
    return picked(acts, place + row_of(mapping) - rows[row_of(mapping)], 1)


def _skewed_row(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    (acts, weights), row = m.entering(o, c), _row(m.mapping, fault)
    acts = acts.copy()
    acts[row] = shifted(acts[row], str(fault["how"]), 2 if m.mapping.stationary else 1)
    return acts, weights


def _swapped_rows(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    (acts, weights), row = m.entering(o, c), fault.number("row")
    if fault["how"] == "weights":
        return acts, _swap(weights, row, 2)
    return _permuted(m.mapping, acts, _swap(np.arange(m.mapping.spec.rows), row, 0)), weights


def _swapped_codes(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    codes, code = [part.copy() for part in m.entering(o, c)], fault.number("code")
    part, at = codes[fault["how"] == "weights"], _row(m.mapping, fault)
    part[at] = _swap(part[at], code, -1)
    return codes[0], codes[1]


def _placed(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    (acts, weights), at, found = m.entering(o, c), _row(m.mapping, fault), walked(m.mapping, fault)
    right, acts = acts, acts.copy()
    if m.mapping.stationary:
        acts[at] = picked(right, found[: acts[at].shape[1]], 1)
    else:
        acts[at] = m.read_lanes(o, found)
    return acts, weights


def _skewed_column(m: Operands, fault: Fault, o: int, c: int) -> Entering | None:
    acts, weights = m.entering(o, c)
    return (acts, shifted(weights, str(fault["how"]), 2)) if m.mapping.stationary else None


def _reversed(m: Operands, fault: Fault, o: int, c: int) -> Entering | None:
    acts, weights = m.entering(o, c)
    if fault["how"] == "activations":
        return _permuted(m.mapping, acts, np.arange(m.mapping.spec.rows)[::-1]), weights
    return (acts, m.weights(o)[:, :, :, c]) if fault["how"] == "rows for columns in the weights" else None


def _load(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    acts, weights = m.entering(o, c)
    if str(fault["how"]).startswith("one row"):
        return acts, shifted(weights, str(fault["how"]), 2)
    return acts, shifted(m.weights(o), str(fault["how"]), 2)[:, :, c]


def _kij_weights(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    acts, weights = m.entering(o, c)
    return acts, picked(weights, kij_addresses(m.mapping, fault), 1)


def _streamed(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    acts, weights = m.entering(o, c)
    if m.mapping.flat is not None:
        return m.read(o, tap_addresses(m.mapping, fault)), weights
    return picked(acts, act_addresses(m.mapping, fault), 1), weights


def _tile_before(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    acts, weights = m.entering(o, c)
    if fault["how"] == "activations of ic_tile":
        return np.roll(acts, 1, 0), weights
    return acts, np.roll(weights, 1, 0)


def _oc_tile_before(m: Operands, fault: Fault, o: int, c: int) -> Entering:
    # Where that one takes fewer ic_tiles, they come again.
    acts, weights = m.acts(o), m.weights((o or m.mapping.oc_tiles) - 1)[:, :, c]
    return acts, weights[np.arange(len(acts)) % len(weights)]


def _shadow(m: Operands, fault: Fault, o: int, c: int) -> Entering | None:
    (acts, weights), row = m.entering(o, c), fault.number("row")
    if fault["how"] == "not in the first position":
        return None
    weights = weights.copy()
    weights[:, :, row] = m.in_turn(o, c, -1 if fault["how"] == "not taken" else 1)[:, :, row]
    return acts, weights


_REROUTED: dict[str, Callable[[Operands, Fault, int, int], Entering | None]] = {
    "skew of a row": _skewed_row,
    "neighbouring rows swapped": _swapped_rows,
    "neighbouring codes of a lane swapped": _swapped_codes,
    PLACE: _placed,
    "carry of a row": _placed,
    "skew of a column": _skewed_column,
    "order of lanes reversed": _reversed,
    "weight load": _load,
    "weight address bit": _kij_weights,
    "weights of another kij": _kij_weights,
    "activation address bit": _streamed,
    "activation address": _streamed,
    "tile before": _tile_before,
    "weights of the oc_tile before": _oc_tile_before,
    "shadow weight": _shadow,
}


def rerouted(m: Operands, fault: Fault, o: int, c: int) -> Entering | None:
    """What enters column `c` in oc_tile `o` with the fault, or None if it does not reroute what enters."""
    change = _REROUTED.get(fault.kind)
    return change(m, fault, o, c) if change else None
