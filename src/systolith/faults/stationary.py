"""Output stationary, what faults of a PE and of the drain leave: a PE adds up its own positions, step after step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from systolith.array.sfp import fit
from systolith.faults.addresses import owned, row_of
from systolith.faults.element import OPERAND, added, multiplied, stuck
from systolith.faults.faults import KEPT, Fault
from systolith.faults.lattice import Ints, Machine


def in_element(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    """The column's psums (1, 1, onij) with a fault of one PE, which acts in each step."""
    mine, (acts, weights) = owned(m.mapping, fault.number("row")), m.operands.entering(o, c)
    if not mine.size:
        return m.psum(o, c)
    product = multiplied(acts[0, mine].swapaxes(0, 1), weights[0, 0, :, None], fault, m.mapping)  # (step, position)
    psum = m.psum(o, c).copy()
    if fault.kind in OPERAND:
        psum[0, 0, mine] = m.added_up(product)
        return psum
    entering = m.registers(o, c)[0][:, 0, 0, mine]
    after = added(entering[:-1], product, fault, m.spec)
    if fault.kind == KEPT:  # the first step takes 0 in its place
        after[0] = entering[1]
    # Up to the first step that differs all is right.
    wrong = (after != entering[1:]).any(1)
    if wrong.any():
        first = int(wrong.argmax())
        value = after[first]
        for step in range(first + 1, len(product)):
            value = added(value, product[step], fault, m.spec)
        psum[0, 0, mine] = value
    return psum


def in_rows(m: Machine, o: int, c: int, first: int, wrong: Ints) -> Ints:
    """The column's psums, from row `first` on the wrong ones."""
    return np.where(row_of(m.mapping) >= first, wrong, m.psum(o, c))


def kept_wrong(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    """The column's psums if a PE keeps its sum when it should not, or not when it should."""
    psum, mine, (entering, exact) = m.psum(o, c).copy(), owned(m.mapping, fault.number("row")), m.registers(o, c)
    if fault["how"] == "not kept":
        wrong = m.fit(exact[-1] - exact[-2])
    elif fault["how"] == "without the last step":
        wrong = entering[-2]
    else:
        wrong = _never_anew(m, o, c)[None, None]
    psum[0, 0, mine] = wrong[0, 0, mine]
    return psum


@lru_cache(maxsize=64)  # the faults come column by column, oc_tiles in turn
def _never_anew(m: Machine, o: int, c: int) -> Ints:
    """(onij,) sums of which each goes on from its PE's in the fold before, and in the oc_tile before."""
    rows, onijs, form = m.spec.rows, m.mapping.onijs, m.spec.psum_format
    products = m.products(o, c)[:, 0, 0]
    # What a fold's steps make of any sum, when they saturate: a number added, between two bounds.
    total, lo, hi = (np.full(onijs, value) for value in (0, form.lo, form.hi))
    for product in products:
        total, lo, hi = total + product, fit(lo + product, m.spec, "", ()), fit(hi + product, m.spec, "", ())
    found, value = np.zeros(onijs, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    if o:
        before = _never_anew(m, o - 1, c)
        for row in range(min(rows, onijs)):
            value[row] = before[row::rows][-1]
    for first in range(0, onijs, rows):
        fold = slice(first, min(first + rows, onijs))
        going_on = value[: fold.stop - first] + total[fold]
        sums = np.clip(going_on, lo[fold], hi[fold]) if m.spec.overflow == "saturate" else m.fit(going_on)
        found[fold] = value[: fold.stop - first] = sums
    return found


def drain_register(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    """The column's psums if a bit of a drain register is stuck: of its own row's words, and of those that pass."""
    wrong = stuck(m.psum(o, c), fault.number("bit"), fault.number("stuck at"), m.spec.psum_format)
    return np.where(row_of(m.mapping) <= fault.number("row"), wrong, m.psum(o, c))


def drained(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    """The column's psums if others of its words are taken: they leave fold by fold, those of idle rows are 0."""
    mapping, words = m.mapping, m.mapping.folds * m.spec.rows
    leaving = np.zeros(3 * words, dtype=np.int64)
    for n, tile in enumerate((o - 1, o, o + 1)):
        if 0 <= tile < mapping.oc_tiles:
            leaving[n * words :][: mapping.onijs] = m.psum(tile, c)[0, 0]
    apart = {"one word early": 1, "one word late": -1, "of the fold before": -m.spec.rows}[str(fault["how"])]
    return leaving[words + apart :][: mapping.onijs][None, None]
