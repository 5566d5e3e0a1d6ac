"""Where what is read comes from: positions, kernel positions, psums, places of rows; right, and with a fault."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from systolith.array import Mapping
from systolith.faults.faults import PLACE, Fault, offsets, radices

Ints = NDArray[np.int64]


def stuck_address(addresses: Ints, fault: Fault) -> Ints:
    bit = 1 << fault.number("bit")
    return addresses | bit if fault["stuck at"] else addresses & ~bit


def act_addresses(mapping: Mapping, fault: Fault) -> Ints:
    """(nij,): the position that streams in place of each."""
    nij = np.arange(mapping.nijs)
    if fault.kind == "activation address bit":
        return stuck_address(nij, fault)
    if fault["how"] == "width without padding":
        i, j = np.divmod(nij, mapping.padded_shape[1])
        return i * mapping.width + j
    return nij + (1 if fault["how"] == "one position early" else -1)


def kij_addresses(mapping: Mapping, fault: Fault) -> Ints:
    """(kij,): the kij whose weights are loaded in place of each."""
    kij = np.arange(mapping.kijs)
    if fault.kind == "weight address bit":
        return stuck_address(kij, fault)
    return (kij + (-1 if fault["how"] == "the one before" else 1)) % mapping.kijs


def psum_addresses(mapping: Mapping, fault: Fault) -> Ints:
    """(kij, onij): the address of a psum that is read in place of each."""
    base = np.arange(mapping.kijs)[:, None] * mapping.nijs
    if fault.kind == "psum address bit":
        return stuck_address(mapping.windows() + base, fault)
    if fault["how"] == "kij reversed":
        return mapping.windows() + base[::-1]
    return base + _positions(mapping, str(fault["how"]))


def tap_addresses(mapping: Mapping, fault: Fault) -> Ints:
    """(tap, onij): the position that a row with an address of its own reads in place of each."""
    if fault.kind == "activation address bit":
        return stuck_address(mapping.positions(), fault)
    return _positions(mapping, str(fault["how"]))


def _positions(mapping: Mapping, how: str) -> Ints:
    """The mapping's `positions`, wrong."""
    if how in ("one position late", "one position early"):
        return mapping.positions() + (1 if how == "one position early" else -1)
    conv, (oh, ow) = mapping.conv, mapping.output_shape
    ki, kj = np.divmod(np.arange(mapping.taps), conv.kernel[1])
    picture, onij = np.divmod(np.arange(mapping.onijs), oh * ow)
    oi, oj = np.divmod(onij, ow)
    width, stride, dilation = mapping.padded_shape[1], conv.stride, conv.dilation
    if how == "stride ignored":
        stride = (1, 1)
    elif how == "dilation ignored":
        dilation = (1, 1)
    elif how == "width without padding":
        width = mapping.width
    elif how == "ki and kj swapped":
        ki, kj = kj, ki
    else:  # the output positions counted down the columns
        oi, oj = oj, oi
    start = picture * mapping.map_size + oi * stride[0] * width + oj * stride[1]
    return (ki * dilation[0] * width + kj * dilation[1])[:, None] + start


# Rows with an address of their own.


@lru_cache(maxsize=64)  # keeps no layer for ever
def row_of(mapping: Mapping) -> Ints:
    """(onij,): output stationary, the row that owns each position; the bottom row has a fold's first."""
    rows = mapping.spec.rows
    return rows - 1 - np.arange(mapping.onijs) % rows


@lru_cache(maxsize=1024)  # keeps no layer for ever
def owned(mapping: Mapping, row: int) -> Ints:
    """(fold,): output stationary, the positions of a row."""
    return np.arange(mapping.spec.rows - 1 - row, mapping.onijs, mapping.spec.rows)


def walked(mapping: Mapping, fault: Fault) -> Ints:
    """(round,): where the fault's row is in each tile or fold, -1 for beyond the end: packed the lane of the reduction,
    output stationary the position."""
    row, rows, apart = fault.number("row"), mapping.spec.rows, mapping.apart
    assert mapping.flat is not None
    first = rows - 1 - row if mapping.stationary else row
    rounds = mapping.folds if mapping.stationary else mapping.flat.tiles
    low, middle, high = radices(mapping)
    if fault.kind == PLACE:
        number = (first + rows * np.arange(rounds)) // apart + offsets(mapping)[str(fault["how"])]
        number = np.where((number >= 0) & (number < low * middle * high), number, -1)
    else:
        lost = ("columns", "rows", "pictures") if mapping.stationary else ("channels", "columns", "rows")
        number = _without_carry(first // apart, rows // apart, rounds, (low, middle, high), lost.index(_from(fault)))
    return np.where(number < 0, -1, number * apart + first % apart)


def _from(fault: Fault) -> str:
    return str(fault["how"]).split()[1]


def _without_carry(first: int, step: int, rounds: int, counts: tuple[int, int, int], lost: int) -> Ints:
    """The numbers `first`, `first + step` and so on of three digits, whose carry out of digit `lost` is dropped."""
    low, middle, _ = counts

    def digits(number: int) -> list[int]:
        return [number % low, number // low % middle, number // low // middle]

    at, by, found = digits(first), digits(step), []
    for _ in range(rounds):
        found.append(at[0] + low * (at[1] + middle * at[2]) if at[2] < counts[2] else -1)
        carry = 0
        for digit, limit in enumerate(counts[:2]):
            total = at[digit] + by[digit] + carry
            carry = int(total >= limit)
            at[digit] = total - limit * carry
            carry *= digit != lost
        at[2] += by[2] + carry
    return np.array(found)
