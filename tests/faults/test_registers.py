"""Registers with a stuck bit in the core one clock at a time, as `rtl/core` has it, against the simulated faults."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import naive_core
import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, Mapping
from systolith.array.layer import run_mapped
from systolith.array.psums import leaving
from systolith.faults.faults import KEPT, Fault, make_faults
from systolith.faults.faulty import columns_of, simulate
from systolith.faults.lattice import Machine
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.timing import Schedule

REGISTERS = {
    "activation bit": "code",
    "weight bit": "weight",
    "psum bit": "psum",
    KEPT: "acc",
    "drain register bit": "psum",
    "weight passing south bit": "south_weight",
}


def with_a_fault(result: ArrayResult, schedule: Schedule, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> list:
    """The words that leave the core if a bit of a register is stuck."""
    mapping, name = result.mapping, REGISTERS[fault.kind]
    row, col, bit, at = (fault.number(axis) for axis in ("row", "col", "bit", "stuck at"))
    col -= name == "code"  # what a processing element takes, its neighbour has held
    form = {"code": mapping.code_format, "weight": mapping.spec.weight_format}
    form["south_weight"] = form["weight"]
    places = count()

    def stuck(value: int, bit: int, fmt: IntFormat) -> int:
        pattern = value % (1 << fmt.bits) & ~(1 << bit) | at << bit
        return pattern - (1 << fmt.bits) if fmt.signed and pattern >> (fmt.bits - 1) else pattern

    @dataclass
    class Tile(naive_core.MacTile):
        place: int = -1

        def __post_init__(self) -> None:
            self.place = next(places) if self.place < 0 else self.place
            setattr(self, name, getattr(self, name))

        def __setattr__(self, key: str, value: object) -> None:
            if key == name and self.place == row * mapping.spec.cols + col:
                if isinstance(value, tuple):
                    fmt = form[name]
                    codes = [*value]
                    codes[bit // fmt.bits] = stuck(codes[bit // fmt.bits], bit % fmt.bits, fmt)
                    value = tuple(codes)
                else:
                    value = stuck(int(value), bit, mapping.spec.psum_format)  # type: ignore[call-overload]
            object.__setattr__(self, key, value)

    with monkeypatch.context() as patched:
        patched.setattr(naive_core, "MacTile", Tile)
        core = naive_core.Core(mapping, result.act, schedule)
    return [word for _, word in core.psums]


UINT2 = IntFormat(2, False)
# Weights that come from the west would meet a stuck bit of a code's register too.
LAYERS = {
    "useful": ((4, 3), UINT4, 1, {}, Schedule(), ("psum bit", "weight bit")),
    "simd": ((6, 3), UINT2, 1, {"simd": 2}, Schedule(), ("psum bit", "weight bit")),
    "double": ((4, 3), UINT4, 1, {}, Schedule(double=True), ("weight passing south bit", "activation bit")),
    "packed": ((3, 2), UINT2, 2, {"simd": 2}, Schedule(double=True), ("weight passing south bit", "activation bit")),
    "os": ((2, 3), UINT4, 1, {"dataflow": "os"}, Schedule(), tuple(set(REGISTERS) - {"weight bit", "psum bit"})),
    "os batch": (
        *((3, 2), UINT2, 2, {"dataflow": "os", "simd": 2, "overflow": "saturate"}, Schedule()),
        tuple(set(REGISTERS) - {"weight bit", "psum bit"}),
    ),
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, one in LAYERS.items() for kind in sorted(one[-1])])
def test_a_stuck_register_leaves_what_the_core_would(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (ins, outs), form, batch, array, schedule, _ = LAYERS[name]
    rng = np.random.default_rng(7)
    conv = Conv("layer", rng.integers(-8, 8, (outs, ins, 2, 2)), form, INT4, (1, 1), (1, 0))
    spec = ArraySpec(3, 2, psum_bits=8, **{"overflow": "wrap", **array})
    act = rng.integers(0, form.hi + 1, (batch, ins, 3, 3))
    act = act if batch > 1 else act[0]
    result = run_mapped(Mapping(conv, spec, 3, 3, batch, name == "packed"), act)
    machine, mapping = Machine(result), result.mapping
    faults = [f for f in make_faults(mapping, double=schedule.double) if f.kind == kind]
    faults = [f for f in faults if kind != "activation bit" or f.number("col")]
    for n in rng.permutation(len(faults))[:6]:
        fault = faults[n]
        words = []
        for o in range(mapping.oc_tiles):
            block = result.psum[mapping.ic_range(o), o].astype(np.int64)
            for c in columns_of(fault, mapping):
                block[..., c] = simulate(machine, fault, o, c).psum
            words += leaving(mapping, block, schedule.useful).tolist()
        found = with_a_fault(result, schedule, fault, monkeypatch)
        for number, (one, other) in enumerate(zip(found, words, strict=True)):
            # The words of idle rows are no outputs.
            if not mapping.stationary or number % (mapping.folds * spec.rows) < mapping.onijs:
                assert one == other, (str(fault), number)
