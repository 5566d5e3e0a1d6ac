"""The hardware faults that vectors are graded by: what can be wrong, and where.

A fault lives in hardware: in a PE (row, col), a lane, a bit of a register, the SFP of a column, an address counter. It
acts there in every pass, tile and position. What each does is in `faulty.py`, which ones cannot show in
`undetectable.py`.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from systolith.array import Mapping
from systolith.formats import BadInput

Value = int | str
Places = MappingType[str, Sequence[Value]]
"""Of a kind of fault: its axes and the values of each; the faults are the product."""

STUCK = (0, 1)
LATE = ("one position early", "one position late")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: of `kinds`.
        at: the axes of the kind and this fault's value of each, such as (("row", 2), ("col", 5), ("stuck at", 1)).
    """

    kind: str
    at: tuple[tuple[str, Value], ...]

    def __getitem__(self, axis: str) -> Value:
        return dict(self.at)[axis]

    def number(self, axis: str) -> int:
        """The value of an axis that counts."""
        return int(self[axis])

    def __str__(self) -> str:
        return f"{self.kind}: " + ", ".join(f"{v}" if axis == "how" else f"{axis} {v}" for axis, v in self.at)


def kinds(mapping: Mapping, relu: bool = True) -> dict[str, Places]:
    """Every kind of fault that the array has on this layer, and where.

    Args:
        mapping: the layer on the array.
        relu: whether the SFP has a ReLU.
    """
    spec, conv = mapping.spec, mapping.conv
    rows, cols = range(spec.rows), range(spec.cols)
    pe: Places = {"row": rows, "col": cols}
    bits, carries = range(spec.psum_bits), range(spec.psum_bits - 1)
    product = range(spec.act_bits + spec.weight_bits)
    overflow: tuple[str, ...]
    if spec.overflow == "saturate":
        overflow = ("one bit narrower", "wraps", "saturates below its largest", "saturates above its smallest")
    else:
        overflow = ("one bit narrower", "saturates")
    stale = ("of the position before", "of the output tile before")
    found: dict[str, Places] = {
        # One PE.
        "activation bit": {**pe, "bit": range(spec.act_bits), "stuck at": STUCK},
        "weight bit": {**pe, "bit": range(spec.weight_bits), "stuck at": STUCK},
        "product bit": {**pe, "bit": product, "stuck at": STUCK},
        "psum bit": {**pe, "bit": bits, "stuck at": STUCK},
        "carry of the adder dropped": {**pe, "out of bit": carries},
        "activation's sign": pe,
        "weight taken as unsigned": pe,
        "product": {**pe, "how": ("without sign extension", "negated", "one bit narrower", "missing")},
        "psum from above missing": pe,
        "psum register": {**pe, "how": overflow},
        # A row or a column.
        "skew of a row": {"row": rows, "how": LATE},
        "neighbouring rows swapped": {"row": rows[:-1], "how": ("activations", "weights")},
        "skew of a column": {"col": cols, "how": LATE},
        "neighbouring columns swapped": {"col": cols[:-1], "how": ("psums", "sums")},
        "stale psum": {
            "col": cols,
            "how": ("added from the position before", "added from the pass before", "of the pass before instead"),
        },
        # The SFP of a column.
        "sum bit": {"col": cols, "bit": bits, "stuck at": STUCK},
        "carry of the sum dropped": {"col": cols, "out of bit": carries},
        "sum register": {"col": cols, "how": overflow},
        "stale sum": {"col": cols, "how": stale[: 1 + (mapping.oc_tiles > 1)]},
        # The array as a whole, its control and its addresses.
        "order of lanes reversed": {"how": _reversals(spec.rows, spec.cols)},
        "weight load": {"how": LATE},
        "pass of kij": {"kij": range(mapping.kijs), "how": ("missing", "added twice")},
        "weight address bit": {"bit": _bits(mapping.kijs), "stuck at": STUCK},
        "activation address bit": {"bit": _bits(mapping.nijs), "stuck at": STUCK},
        "psum address bit": {"bit": _bits(mapping.kijs * mapping.nijs), "stuck at": STUCK},
        "output address bit": {"bit": _bits(mapping.onijs), "stuck at": STUCK},
        "activation address": {"how": (*LATE, "width without padding")[: 2 + any(conv.pads[2:])]},
        "psum address": {"how": _addresses(mapping)},
    }
    if mapping.kijs > 1:
        found["weights of another kij"] = {"how": ("the one before", "the one behind")}
    if mapping.ic_tiles > 1:
        found["pass of ic_tile"] = {"ic_tile": range(mapping.ic_tiles), "how": ("missing", "added twice")}
    if mapping.most_tiles > 1:
        found["tile before"] = {"how": ("activations of ic_tile", "weights of ic_tile")}
        if mapping.kijs > 1:
            found["order of passes"] = {"how": ("ic_tile outer, kij inner",)}
    if mapping.oc_tiles > 1:
        found["weights of the oc_tile before"] = {"how": ("in every pass",)}
    if relu:
        hows = ("absent", "always 0", "magnitude", "above 0 instead of from 0", "from 2", "from -1", "of partial sums")
        found["ReLU"] = {"col": cols, "how": hows}
    return {kind: places for kind, places in found.items() if all(len(values) for values in places.values())}


def _bits(count: int) -> range:
    """The bits of an address of `count` places."""
    return range((count - 1).bit_length())


def _reversals(rows: int, cols: int) -> tuple[str, ...]:
    found = ("activations",) * (rows > 1) + ("psums", "sums") * (cols > 1)
    return found + ("rows for columns in the weights",) * (rows == cols > 1)


def _addresses(mapping: Mapping) -> tuple[str, ...]:
    conv = mapping.conv
    found: tuple[str, ...] = LATE
    found += ("width without padding",) * any(conv.pads[2:])
    found += ("stride ignored",) * (conv.stride != (1, 1))
    found += ("dilation ignored",) * (conv.dilation != (1, 1))
    found += ("kij reversed",) * (mapping.kijs > 1)
    return found + ("ki and kj swapped",) * (min(conv.kernel) > 1) + ("i and j swapped",)


def count(places: Places) -> int:
    """How many faults a kind has."""
    return prod(len(values) for values in places.values())


def make_faults(mapping: Mapping, relu: bool = True, most: int | None = None, seed: int = 0) -> list[Fault]:
    """The faults of a layer on the array, kind after kind.

    Args:
        relu: whether the SFP has a ReLU.
        most: where there are more, so many are drawn at random: the rare kinds whole, the others in equal numbers.
        seed: of the draw, not negative.

    Raises:
        BadInput: `most` leaves some kind without a fault, or a negative seed.
    """
    if seed < 0:
        raise BadInput(f"seed {seed}: expected 0 or more")
    by_kind = kinds(mapping, relu)
    shares = {kind: count(places) for kind, places in by_kind.items()}
    if most is not None and sum(shares.values()) > most:
        if most < len(shares):
            raise BadInput(f"{most} faults: expected at least {len(shares)}, one of each kind")
        left = most
        for done, kind in enumerate(sorted(shares, key=lambda kind: shares[kind])):
            shares[kind] = min(shares[kind], left // (len(shares) - done))
            left -= shares[kind]
    rng = np.random.default_rng(seed)
    faults = []
    for kind, places in by_kind.items():
        total = count(places)
        chosen = np.arange(total) if shares[kind] == total else np.sort(rng.choice(total, shares[kind], replace=False))
        index = np.unravel_index(chosen, [len(values) for values in places.values()])
        for one in zip(*index, strict=True):
            at = ((axis, values[int(n)]) for (axis, values), n in zip(places.items(), one, strict=True))
            faults.append(Fault(kind, tuple(at)))
    return faults
