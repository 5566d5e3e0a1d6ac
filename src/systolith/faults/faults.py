"""The hardware faults that vectors are graded by: what can be wrong, and where.

A fault lives in hardware: in a PE (row, col), a lane, a bit of a register, the SFP of a column, an address counter. It
acts there in every pass, tile, position, fold and step. What each does is in `faulty.py` (of operands in `operands.py`,
of outputs that stay in `stationary.py`), which ones cannot show in `undetectable.py`.

Which there are depends on how the layer is on the array: several codes a lane, weights double-buffered, kernel
positions packed into rows, outputs stationary.
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
KEPT = "sum bit in the processing element"
KEPT_WRONG = "sum in the processing element"
PLACE = "place of a row"
"""Where a row with an address of its own begins: packed in the reduction, output stationary among the positions."""


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


def kinds(mapping: Mapping, relu: bool = True, double: bool = False) -> dict[str, Places]:
    """Every kind of fault that the array has on this layer, and where.

    Args:
        mapping: the layer on the array.
        relu: whether the SFP has a ReLU.
        double: weights are double-buffered.

    Raises:
        BadInput: double-buffered weights with stationary outputs.
    """
    if double and mapping.stationary:
        raise BadInput("double-buffered weights: expected weights that stay, found stationary outputs")
    found = _of_elements(mapping, double) | _of_lanes(mapping) | _of_sums(mapping) | _of_control(mapping, double)
    if relu:
        hows = ("absent", "always 0", "magnitude", "above 0 instead of from 0", "from 2", "from -1", "of partial sums")
        found["ReLU"] = {"col": range(mapping.spec.cols), "how": hows}
    return {kind: places for kind, places in found.items() if all(len(values) for values in places.values())}


def _of_elements(mapping: Mapping, double: bool) -> dict[str, Places]:
    """One PE."""
    spec, stationary = mapping.spec, mapping.stationary
    pe: Places = {"row": range(spec.rows), "col": range(spec.cols)}
    bits, weight = range(spec.psum_bits), range(mapping.simd * spec.weight_bits)
    found: dict[str, Places] = {
        "activation bit": {**pe, "bit": range(spec.act_bits), "stuck at": STUCK},
        "weight bit": {**pe, "bit": weight, "stuck at": STUCK},
        "product bit": {**pe, "bit": range(spec.act_bits + spec.weight_bits), "stuck at": STUCK},
        KEPT if stationary else "psum bit": {**pe, "bit": bits, "stuck at": STUCK},
        "carry of the adder dropped": {**pe, "out of bit": bits[:-1]},
        "activation's sign": pe,
        "weight taken as unsigned": pe,
        "product": {**pe, "how": ("without sign extension", "negated", "one bit narrower", "missing")},
    }
    if stationary:
        hows = ("not kept", "not begun anew", "without the last step")
        found[KEPT_WRONG] = {**pe, "how": hows}
    else:
        found["psum from above missing"] = pe
    found["psum register"] = {**pe, "how": _overflows(mapping)}
    if mapping.simd > 1:
        found["code of a lane missing"] = {**pe, "code": range(mapping.simd)}
    if double:
        hows = ("not taken", "not in the first position", "of the pass behind")
        found["shadow weight"] = {**pe, "how": hows}
    if double or stationary:
        found["weight passing south bit"] = {**pe, "row": pe["row"][:-1], "bit": weight, "stuck at": STUCK}
    if stationary:
        found["drain register bit"] = {**pe, "bit": bits, "stuck at": STUCK}
    return found


def _of_lanes(mapping: Mapping) -> dict[str, Places]:
    """A row or a column."""
    rows, cols = range(mapping.spec.rows), range(mapping.spec.cols)
    late: tuple[str, ...] = LATE
    swapped: tuple[str, ...] = ("activations", "weights")
    if mapping.stationary:  # weights are the column's, not the row's
        late, swapped = ("one step early", "one step late"), swapped[:1]
    found: dict[str, Places] = {
        "skew of a row": {"row": rows, "how": late},
        "neighbouring rows swapped": {"row": rows[:-1], "how": swapped},
    }
    if mapping.simd > 1:
        places: Places = {"row": rows, "code": range(mapping.simd - 1), "how": swapped}
        found["neighbouring codes of a lane swapped"] = places
    if mapping.flat is not None:
        found[PLACE] = {"row": rows, "how": tuple(offsets(mapping))}
        found["carry of a row"] = {"row": rows, "how": carries(mapping)}
    found["skew of a column"] = {"col": cols, "how": late}
    found["neighbouring columns swapped"] = {"col": cols[:-1], "how": ("psums", "sums")}
    if mapping.stationary:
        found["drain"] = {"col": cols, "how": ("one word early", "one word late", "of the fold before")}
    else:
        hows = ("added from the position before", "added from the pass before", "of the pass before instead")
        found["stale psum"] = {"col": cols, "how": hows}
    return found


def _of_sums(mapping: Mapping) -> dict[str, Places]:
    """The SFP of a column."""
    cols, bits = range(mapping.spec.cols), range(mapping.spec.psum_bits)
    stale = ("of the position before", "of the output tile before")
    return {
        "sum bit": {"col": cols, "bit": bits, "stuck at": STUCK},
        "carry of the sum dropped": {"col": cols, "out of bit": bits[:-1]},
        "sum register": {"col": cols, "how": _overflows(mapping)},
        "stale sum": {"col": cols, "how": stale[: 1 + (mapping.oc_tiles > 1)]},
    }


def _of_control(mapping: Mapping, double: bool) -> dict[str, Places]:
    """The array as a whole, its control and its addresses."""
    flat, conv = mapping.flat is not None, mapping.conv
    found: dict[str, Places] = {"order of lanes reversed": {"how": _reversals(mapping)}}
    if not mapping.stationary:
        found["weight load"] = {"how": ("one row early", "one row late") if double else LATE}
    if flat:  # positions are addressed where they are read, psums come in their order
        found["activation address bit"] = {"bit": _bits(mapping.batch * mapping.map_size), "stuck at": STUCK}
    else:
        found["pass of kij"] = {"kij": range(mapping.kijs), "how": ("missing", "added twice")}
        found["weight address bit"] = {"bit": _bits(mapping.kijs), "stuck at": STUCK}
        found["activation address bit"] = {"bit": _bits(mapping.nijs), "stuck at": STUCK}
        found["psum address bit"] = {"bit": _bits(mapping.kijs * mapping.nijs), "stuck at": STUCK}
    found["output address bit"] = {"bit": _bits(mapping.onijs), "stuck at": STUCK}
    if flat:
        found["activation address"] = {"how": _addresses(mapping)}
    else:
        found["activation address"] = {"how": (*LATE, "width without padding")[: 2 + any(conv.pads[2:])]}
        found["psum address"] = {"how": _addresses(mapping)}
    if mapping.kijs > 1:
        found["weights of another kij"] = {"how": ("the one before", "the one behind")}
    if mapping.ic_tiles > 1 and not mapping.stationary:
        found["pass of ic_tile"] = {"ic_tile": range(mapping.ic_tiles), "how": ("missing", "added twice")}
    if mapping.most_tiles > 1:
        found["tile before"] = {"how": ("activations of ic_tile", "weights of ic_tile")}
        if mapping.kijs > 1:
            found["order of passes"] = {"how": ("ic_tile outer, kij inner",)}
    if mapping.oc_tiles > 1:
        found["weights of the oc_tile before"] = {"how": ("in every pass",)}
    return found


def _overflows(mapping: Mapping) -> tuple[str, ...]:
    if mapping.spec.overflow == "saturate":
        return "one bit narrower", "wraps", "saturates below its largest", "saturates above its smallest"
    return "one bit narrower", "saturates"


def _bits(count: int) -> range:
    """The bits of an address of `count` places."""
    return range((count - 1).bit_length())


def _reversals(mapping: Mapping) -> tuple[str, ...]:
    rows, cols = mapping.spec.rows, mapping.spec.cols
    found = ("activations",) * (rows > 1) + ("psums", "sums") * (cols > 1)
    return found + ("rows for columns in the weights",) * (rows == cols > 1 and not mapping.stationary)


def _addresses(mapping: Mapping) -> tuple[str, ...]:
    conv = mapping.conv
    found: tuple[str, ...] = LATE
    found += ("width without padding",) * any(conv.pads[2:])
    found += ("stride ignored",) * (conv.stride != (1, 1))
    found += ("dilation ignored",) * (conv.dilation != (1, 1))
    found += ("kij reversed",) * (mapping.kijs > 1)
    return found + ("ki and kj swapped",) * (min(conv.kernel) > 1) + ("i and j swapped",)


def radices(mapping: Mapping) -> tuple[int, int, int]:
    """The counts of a row's three digits, the least significant first. Packed: maps in its bank that an oc_tile reads,
    columns and rows of the kernel; output stationary: columns and rows of the output map, pictures."""
    flat, (kh, kw), (oh, ow) = mapping.flat, mapping.conv.kernel, mapping.output_shape
    assert flat is not None
    return (ow, oh, mapping.batch) if mapping.stationary else (flat.groups // mapping.apart, kw, kh)


def offsets(mapping: Mapping) -> dict[str, int]:
    """Of each wrong place of a row, how far it is from the right one."""
    low, middle, high = radices(mapping)
    least, more = ("output", "row of outputs") if mapping.stationary else ("channel", "kernel position")
    found = {f"{least} before": -1, f"{least} behind": 1} if low > 1 else {}
    return found | ({f"{more} before": -low, f"{more} behind": low} if middle * high > 1 else {})


def carries(mapping: Mapping) -> tuple[str, ...]:
    """The carries between a row's digits, each dropped: the first is out of the least digit."""
    low, middle, high = radices(mapping)
    names = ("columns", "rows", "pictures") if mapping.stationary else ("channels", "columns", "rows")
    found = (f"from {names[0]} into {names[1]} dropped",) * (low > 1 and middle * high > 1)
    return found + (f"from {names[1]} into {names[2]} dropped",) * (low * middle > 1 and high > 1)


def count(places: Places) -> int:
    """How many faults a kind has."""
    return prod(len(values) for values in places.values())


def make_faults(
    mapping: Mapping, relu: bool = True, most: int | None = None, seed: int = 0, double: bool = False
) -> list[Fault]:
    """The faults of a layer on the array, kind after kind.

    Args:
        mapping: the layer on the array.
        relu: whether the SFP has a ReLU.
        most: where there are more, so many are drawn at random: the rare kinds whole, the others in equal numbers.
        seed: of the draw, not negative.
        double: weights are double-buffered.

    Raises:
        BadInput: `most` leaves some kind without a fault, a negative seed, or `double` with stationary outputs.
    """
    if seed < 0:
        raise BadInput(f"seed {seed}: expected 0 or more")
    by_kind = kinds(mapping, relu, double)
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
