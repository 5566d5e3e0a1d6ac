"""What each fault of `faults.py` does to registers, addresses and orders, and what a column then leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from systolith.array import Mapping
from systolith.faults import stationary
from systolith.faults.addresses import psum_addresses, stuck_address
from systolith.faults.element import LOCAL, added, multiplied, overflowing, stuck, stuck_lane, without_carry
from systolith.faults.faults import KEPT_WRONG, Fault
from systolith.faults.lattice import Column, Ints, Machine, Step
from systolith.faults.operands import rerouted, shifted


def pass_order(mapping: Mapping, fault: Fault, o: int) -> list[tuple[int, int]]:
    """(kij, number of the ic_tile among those of oc_tile `o`) of what is added up, one after another."""
    kijs, tiles = range(mapping.kijs), mapping.ic_range(o)
    if fault.kind == "order of passes":
        return [(kij, number) for number in range(len(tiles)) for kij in kijs]
    axis, index = fault.at[0]
    times = 0 if fault["how"] == "missing" else 2
    found = []
    for kij in kijs:
        for number, tile in enumerate(tiles):
            found += [(kij, number)] * (times if (kij if axis == "kij" else tile) == index else 1)
    return found


def columns_of(fault: Fault, mapping: Mapping) -> range:
    """The columns that the fault can touch."""
    cols = mapping.spec.cols
    at = dict(fault.at)
    if "col" not in at:
        return range(cols)
    col = int(at["col"])
    if fault.kind == "activation bit":  # the register hands it on to the east
        return range(col, cols)
    return range(col, col + 1 + (fault.kind == "neighbouring columns swapped"))


def faulty_psum(m: Machine, fault: Fault, o: int, c: int) -> Ints | None:
    """The column's psums (ic_tile of its `ic_range`, kij, nij), or None where the fault is not in front of them."""
    if fault.kind in LOCAL:
        return _in_element(m, fault, o, c)
    entering = rerouted(m.operands, fault, o, c)
    if entering is not None:
        return m.column(*entering)
    change = _PSUMS.get(fault.kind)
    return change(m, fault, o, c) if change else None


def _in_element(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    if m.mapping.stationary:
        return stationary.in_element(m, fault, o, c)
    row, (acts, weights) = fault.number("row"), m.operands.entering(o, c)
    product = multiplied(acts[:, None, :, row], weights[:, :, None, row], fault, m.mapping)
    return m.down(o, c, row + 1, added(m.registers(o, c)[0][row], product, fault, m.spec))


def _neighbour(fault: Fault, c: int) -> int:
    return 2 * fault.number("col") + 1 - c


def _swapped_columns(m: Machine, fault: Fault, o: int, c: int) -> Ints | None:
    return m.psum(o, _neighbour(fault, c)) if fault["how"] == "psums" else None


def _stale(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    if fault["how"] == "added from the position before":
        return m.down(o, c, 0, shifted(m.psum(o, c), "one position late"))
    before = m.pass_before(o, c)
    return before if fault["how"] == "of the pass before instead" else m.down(o, c, 0, before)


def _reversed(m: Machine, fault: Fault, o: int, c: int) -> Ints | None:
    return m.psum(o, m.spec.cols - 1 - c) if fault["how"] == "psums" else None


def _first_position(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    """The PE takes its pass's weights too late for the first position that an output needs."""
    row, (acts, weights) = fault.number("row"), m.operands.entering(o, c)
    weights = np.repeat(weights[:, :, None, row], acts.shape[1], 2)  # (ic_tile, kij, nij, code)
    kij, first = np.arange(m.mapping.kijs), m.mapping.windows()[:, 0]
    weights[:, kij, first] = m.operands.in_turn(o, c, -1)[:, :, row]
    product = (weights * acts[:, None, :, row]).sum(-1)
    return m.down(o, c, row + 1, m.fit(m.registers(o, c)[0][row] + product))


def _passing_weights(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    """Those that go on to the rows below have passed through the register."""
    (acts, weights), row = m.operands.entering(o, c), fault.number("row")
    wrong = stuck_lane(weights, fault, m.spec.weight_format)
    if m.mapping.stationary:
        return stationary.in_rows(m, o, c, row + 1, m.column(acts, wrong))
    return m.column(acts, np.concatenate([weights[:, :, : row + 1], wrong[:, :, row + 1 :]], axis=2))


_PSUMS: dict[str, Callable[[Machine, Fault, int, int], Ints | None]] = {
    "skew of a column": lambda m, fault, o, c: shifted(m.psum(o, c), str(fault["how"])),
    "neighbouring columns swapped": _swapped_columns,
    "stale psum": _stale,
    "order of lanes reversed": _reversed,
    "shadow weight": _first_position,
    "weight passing south bit": _passing_weights,
    KEPT_WRONG: stationary.kept_wrong,
    "drain register bit": stationary.drain_register,
    "drain": stationary.drained,
}


def _step(m: Machine, fault: Fault) -> Step | None:
    """The faulty adder and register of the SFP's sum."""
    kind = fault.kind
    if kind == "sum bit":
        bit, value = fault.number("bit"), fault.number("stuck at")
        return lambda acc, psum: stuck(m.fit(acc + psum), bit, value, m.spec.psum_format)
    if kind == "carry of the sum dropped":
        return lambda acc, psum: m.fit(without_carry(acc, psum, fault.number("out of bit")))
    if kind == "sum register":
        return lambda acc, psum: overflowing(acc + psum, m.spec, str(fault["how"]))
    if kind == "ReLU" and fault["how"] == "of partial sums":
        return lambda acc, psum: positive(m.fit(acc + psum))
    return None


def faulty_out(m: Machine, fault: Fault, o: int, c: int, psum: Ints) -> tuple[Ints, Ints]:
    """The column's outputs (onij,) before and after ReLU, from its psums."""
    kind, mapping = fault.kind, m.mapping
    if kind in ("neighbouring columns swapped", "order of lanes reversed") and fault["how"] == "sums":
        out = m.out[o, _neighbour(fault, c) if kind.startswith("neigh") else m.spec.cols - 1 - c]
    elif kind in ("psum address bit", "psum address"):
        out = m.accumulate(psum, addresses=psum_addresses(mapping, fault))
    elif kind in ("pass of kij", "pass of ic_tile", "order of passes"):
        out = m.accumulate(psum, passes=pass_order(mapping, fault, o))
    elif kind == "stale sum":
        before = m.out[o - 1, c] if o else np.zeros_like(m.out[o, c])
        if fault["how"] == "of the position before":
            before = shifted(m.out[o, c], "one position late")
        out = m.accumulate(psum, start=before)
    elif kind == "output address bit":
        out, addresses = np.zeros_like(m.out[o, c]), stuck_address(np.arange(mapping.onijs), fault)
        inside = addresses < mapping.onijs
        out[addresses[inside]] = m.out[o, c][inside]  # the last one written stays
    else:
        out = m.accumulate(psum, step=_step(m, fault))
    return out, wrong_relu(out, str(fault["how"])) if kind == "ReLU" else positive(out)


def positive(values: Ints) -> Ints:
    """The right ReLU, in int64."""
    return np.maximum(values, 0)


STARTS = {"above 0 instead of from 0": 1, "from 2": 2, "from -1": -1}
"""The least value that a ReLU with a wrong threshold lets through."""


def wrong_relu(values: Ints, how: str) -> Ints:
    """What a wrong ReLU leaves of sums."""
    if how in STARTS:
        return np.where(values >= STARTS[how], values, 0)
    if how == "of partial sums":
        return positive(values)
    return {"absent": values, "always 0": values * 0, "magnitude": abs(values)}[how]


def simulate(m: Machine, fault: Fault, o: int, c: int) -> Column:
    """What column `c` leaves in oc_tile `o` if the fault is there."""
    psum = faulty_psum(m, fault, o, c)
    psum = m.psum(o, c) if psum is None else psum
    return Column(psum, *faulty_out(m, fault, o, c, psum))
