"""One PE with a fault in it: its operands, its multiplier, its adder, its register."""

from __future__ import annotations

import numpy as np

from systolith.array import ArraySpec, Mapping
from systolith.array.sfp import fit
from systolith.faults.addresses import Ints
from systolith.faults.faults import KEPT, Fault
from systolith.formats import IntFormat, wrapped

OPERAND = (
    *("activation bit", "activation's sign", "weight bit", "weight taken as unsigned", "product bit", "product"),
    "code of a lane missing",
)
ADDER = ("psum bit", "carry of the adder dropped", "psum from above missing", "psum register", KEPT)
LOCAL = OPERAND + ADDER
"""Kinds of fault of one PE, which are functions of what enters it."""


def stuck(values: Ints, bit: int, value: int, fmt: IntFormat) -> Ints:
    """The values of a register of `fmt` with one bit stuck."""
    pattern = (values | (1 << bit)) if value else (values & ~(1 << bit))
    return wrapped(pattern, fmt)


def stuck_lane(codes: Ints, fault: Fault, fmt: IntFormat) -> Ints:
    """The codes (..., code) of a lane with one of its bits stuck."""
    code, bit = divmod(fault.number("bit"), fmt.bits)
    codes = codes.copy()
    codes[..., code] = stuck(codes[..., code], bit, fault.number("stuck at"), fmt)
    return codes


def without_carry(left: Ints, right: Ints, bit: int) -> Ints:
    """The sum without the carry from `bit` to the next."""
    mask = (1 << (bit + 1)) - 1
    carry = (left & mask) + (right & mask) > mask
    return left + right - (carry.astype(np.int64) << (bit + 1))


def overflowing(values: Ints, spec: ArraySpec, how: str) -> Ints:
    """What a register leaves of `values` that overflows in a wrong way; `spec` is held."""
    fmt = spec.psum_format
    if how == "one bit narrower":
        narrow = IntFormat(fmt.bits - 1, signed=True)
        return np.clip(values, narrow.lo, narrow.hi) if spec.overflow == "saturate" else wrapped(values, narrow)
    if how == "wraps":
        return wrapped(values, fmt)
    return np.clip(
        values, fmt.lo + (how == "saturates above its smallest"), fmt.hi - (how == "saturates below its largest")
    )


def multiplied(act: Ints, weight: Ints, fault: Fault, mapping: Mapping) -> Ints:
    """The product of a PE whose operands or multiplier are wrong, of its lane's codes (..., code) and weights."""
    spec, form, kind = mapping.spec, mapping.code_format, fault.kind
    product = IntFormat(spec.act_bits + spec.weight_bits, signed=True)
    if kind == "activation bit":
        act = stuck_lane(act, fault, form)
    elif kind == "activation's sign":
        act = wrapped(act, IntFormat(form.bits, not form.signed))
    elif kind == "weight bit":
        weight = stuck_lane(weight, fault, spec.weight_format)
    elif kind == "weight taken as unsigned":
        weight = wrapped(weight, IntFormat(spec.weight_bits, signed=False))
    elif kind == "code of a lane missing":
        act = act * (np.arange(mapping.simd) != fault.number("code"))
    right: Ints = (act * weight).sum(-1)
    if kind == "product bit":
        return stuck(right, fault.number("bit"), fault.number("stuck at"), product)
    if kind == "product":
        if fault["how"] == "without sign extension":
            return wrapped(right, IntFormat(product.bits, signed=False))
        if fault["how"] == "one bit narrower":
            return wrapped(right, IntFormat(product.bits - 1, signed=True))
        return -right if fault["how"] == "negated" else right * 0
    return right


def added(above: Ints, product: Ints, fault: Fault, spec: ArraySpec) -> Ints:
    """What leaves a PE whose adder or register is wrong; `spec` is held.

    Args:
        above: what it adds to: from the row above, or what it kept.
        product: right, or wrong as well.
    """
    if fault.kind == KEPT:
        above = stuck(above, fault.number("bit"), fault.number("stuck at"), spec.psum_format)
    if fault.kind == "carry of the adder dropped":
        return fit(without_carry(above, product, fault.number("out of bit")), spec, "", ())
    if fault.kind == "psum from above missing":
        return fit(product, spec, "", ())
    if fault.kind == "psum register":
        return overflowing(above + product, spec, str(fault["how"]))
    right = fit(above + product, spec, "", ())
    if fault.kind == "psum bit":
        return stuck(right, fault.number("bit"), fault.number("stuck at"), spec.psum_format)
    return right
