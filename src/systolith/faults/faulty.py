"""What each fault of `faults.py` does to registers, addresses and orders, and what a column then leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from systolith.array import ArraySpec, Mapping
from systolith.array.sfp import fit
from systolith.faults.faults import Fault
from systolith.faults.lattice import Column, Ints, Machine, Step
from systolith.formats import IntFormat, wrapped
from systolith.vectors.tensors import picked

OPERAND = ("activation bit", "activation's sign", "weight bit", "weight taken as unsigned", "product bit", "product")
ADDER = ("psum bit", "carry of the adder dropped", "psum from above missing", "psum register")
LOCAL = OPERAND + ADDER
"""Kinds of fault of one PE, which are functions of what enters it."""


def stuck(values: Ints, bit: int, value: int, fmt: IntFormat) -> Ints:
    """The values of a register of `fmt` with one bit stuck."""
    pattern = (values | (1 << bit)) if value else (values & ~(1 << bit))
    return wrapped(pattern, fmt)


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
    """The product of a PE whose operands or multiplier are wrong."""
    spec = mapping.spec
    form, product = spec.act_format(mapping.conv), IntFormat(spec.act_bits + spec.weight_bits, signed=True)
    kind = fault.kind
    if kind == "activation bit":
        act = stuck(act, fault.number("bit"), fault.number("stuck at"), form)
    elif kind == "activation's sign":
        act = wrapped(act, IntFormat(form.bits, not form.signed))
    elif kind == "weight bit":
        weight = stuck(weight, fault.number("bit"), fault.number("stuck at"), spec.weight_format)
    elif kind == "weight taken as unsigned":
        weight = wrapped(weight, IntFormat(spec.weight_bits, signed=False))
    right = act * weight
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
    """What leaves a PE whose adder or register is wrong; `spec` is held."""
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


def shifted(values: Ints, how: str, axis: int = -1) -> Ints:
    """The values along `axis` one place late or early, 0 at the end."""
    moved = np.moveaxis(np.zeros_like(values), axis, 0)
    source = np.moveaxis(values, axis, 0)
    if how == "one position late":
        moved[1:] = source[:-1]
    else:
        moved[:-1] = source[1:]
    return np.moveaxis(moved, 0, axis)


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
    """(kij, onij): the address that is read in place of each."""
    conv, how = mapping.conv, fault.at[0][1]
    base = np.arange(mapping.kijs)[:, None] * mapping.nijs
    right = mapping.windows() + base
    if fault.kind == "psum address bit":
        return stuck_address(right, fault)
    if how in ("one position late", "one position early"):
        return right + (1 if how == "one position early" else -1)
    if how == "kij reversed":
        return mapping.windows() + base[::-1]
    ki, kj = np.divmod(np.arange(mapping.kijs), conv.kernel[1])
    oi, oj = np.divmod(np.arange(mapping.onijs), mapping.output_shape[1])
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
    start = oi * stride[0] * width + oj * stride[1]
    return base + (ki * dilation[0] * width + kj * dilation[1])[:, None] + start


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
    kind, mapping = fault.kind, m.mapping
    if kind in LOCAL:
        row = fault.number("row")
        acts, weights = m.acts(o)[:, None, :, row], m.weights(o)[:, :, c, row, None]
        product = multiplied(acts, weights, fault, mapping)
        return m.down(o, c, row + 1, added(m.registers(o, c)[0][row], product, fault, m.spec))
    change = _PSUMS.get(kind)
    return change(m, fault, o, c) if change else None


def _swapped(values: Ints, first: int) -> Ints:
    """The values with `first` and its neighbour along the last axis swapped."""
    order = np.arange(values.shape[-1])
    order[[first, first + 1]] = first + 1, first
    return values[..., order]


def _skewed_row(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    acts, row = m.acts(o).copy(), fault.number("row")
    acts[..., row] = shifted(acts[..., row], str(fault["how"]))
    return m.column(acts, m.weights(o)[:, :, c])


def _swapped_rows(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    acts, weights, row = m.acts(o), m.weights(o)[:, :, c], fault.number("row")
    if fault["how"] == "activations":
        return m.column(_swapped(acts, row), weights)
    return m.column(acts, _swapped(weights, row))


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
    if fault["how"] == "activations":
        return m.column(m.acts(o)[..., ::-1], m.weights(o)[:, :, c])
    if fault["how"] == "rows for columns in the weights":
        return m.column(m.acts(o), m.weights(o)[..., c])
    return m.psum(o, m.spec.cols - 1 - c) if fault["how"] == "psums" else None


def _load(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    other = c + (1 if fault["how"] == "one position early" else -1)
    return m.psum(o, other) if 0 <= other < m.spec.cols else np.zeros_like(m.psum(o, c))


def _kij_weights(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    return m.column(m.acts(o), picked(m.weights(o)[:, :, c], kij_addresses(m.mapping, fault), 1))


def _streamed(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    return m.column(picked(m.acts(o), act_addresses(m.mapping, fault), 1), m.weights(o)[:, :, c])


def _tile_before(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    acts, weights = m.acts(o), m.weights(o)[:, :, c]
    if fault["how"] == "activations of ic_tile":
        return m.column(np.roll(acts, 1, 0), weights)
    return m.column(acts, np.roll(weights, 1, 0))


def _oc_tile_before(m: Machine, fault: Fault, o: int, c: int) -> Ints:
    # Where that one takes fewer ic_tiles, they come again.
    acts, weights = m.acts(o), m.weights((o or m.mapping.oc_tiles) - 1)[:, :, c]
    return m.column(acts, weights[np.arange(len(acts)) % len(weights)])


_PSUMS: dict[str, Callable[[Machine, Fault, int, int], Ints | None]] = {
    "skew of a row": _skewed_row,
    "neighbouring rows swapped": _swapped_rows,
    "skew of a column": lambda m, fault, o, c: shifted(m.psum(o, c), str(fault["how"])),
    "neighbouring columns swapped": _swapped_columns,
    "stale psum": _stale,
    "order of lanes reversed": _reversed,
    "weight load": _load,
    "weight address bit": _kij_weights,
    "weights of another kij": _kij_weights,
    "activation address bit": _streamed,
    "activation address": _streamed,
    "tile before": _tile_before,
    "weights of the oc_tile before": _oc_tile_before,
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
