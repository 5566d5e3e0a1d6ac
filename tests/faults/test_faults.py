"""Every kind of fault against hardware as one would draw it: PEs, registers and adders in loops of Python integers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_faults import Hardware, some

from conftest import INT4, UINT4, layers
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.faults.faults import Fault, count, kinds, make_faults
from systolith.faults.faulty import columns_of, simulate
from systolith.faults.lattice import Machine
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv


@cache
def layer(overflow: str, signed: bool = False, groups: int = 1) -> ArrayResult:
    """Two tiles each way on a 3x3 array, the second of each not full; stride and dilation; 7 bits overflow.

    With two groups three input tiles, of which the second output tile takes the last two.
    """
    rng = np.random.default_rng(3)
    form, ins = IntFormat(4, signed), 5 if groups == 1 else 4
    pads = (1, 1) if groups == 1 else (1, 2, 0, 1)
    conv = Conv("layer", rng.integers(-8, 8, (4, ins, 2, 2)), form, INT4, (1, 2), pads, (2, 1), groups)
    act = rng.integers(form.lo, form.hi + 1, (groups * ins, 3, 2))
    return run_layer(conv, act, ArraySpec(3, 3, psum_bits=16 if overflow == "error" else 7, overflow=overflow))


ALL = sorted({kind for overflow in ("error", "saturate") for kind in kinds(layer(overflow).mapping)})


@pytest.mark.parametrize(
    ("overflow", "groups"), [("error", 1), ("wrap", 1), ("saturate", 1), ("wrap", 2), ("saturate", 2)]
)
@pytest.mark.parametrize("kind", ALL)
def test_a_fault_does_what_the_hardware_would(kind: str, overflow: str, groups: int) -> None:
    result = layer(overflow, kind in ("activation's sign", "activation bit") and overflow == "wrap", groups)
    machine = Machine(result)
    for fault in some(result, kind, 4):
        hardware = Hardware(result, fault)
        touched = columns_of(fault, result.mapping)
        for o in range(result.mapping.oc_tiles):
            for c in range(result.mapping.spec.cols):
                out, after = hardware.outputs(o, c)
                if c in touched:
                    found = simulate(machine, fault, o, c)
                    assert found.psum.tolist() == hardware.psum(o, c), (str(fault), o, c)
                    assert found.out.tolist() == out, (str(fault), o, c)
                    assert found.after.tolist() == after, (str(fault), o, c)
                else:
                    assert hardware.psum(o, c) == machine.psum(o, c).tolist(), str(fault)
                    assert out == machine.out[o, c].tolist(), str(fault)


@given(layers(), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.sampled_from(["wrap", "saturate", "error"]))
@settings(max_examples=40)
def test_without_a_fault_all_is_golden(drawn: tuple[Conv, np.ndarray], size: tuple[int, int], overflow: str) -> None:
    spec = ArraySpec(*size, psum_bits=20 if overflow == "error" else 8, overflow=overflow)
    machine = Machine(run_layer(*drawn, spec))
    none = Fault("none", (("col", 0),))
    for o in range(machine.mapping.oc_tiles):
        for c in range(spec.cols):
            right = machine.psum(o, c)
            assert (machine.column(machine.acts(o), machine.weights(o)[:, :, c]) == right).all()
            for row, entering in enumerate(machine.registers(o, c)[0]):
                assert (machine.down(o, c, row, entering) == right).all()
            found = simulate(machine, none, o, c)
            assert (found.psum == right).all()
            assert (found.out == machine.out[o, c]).all()
            assert (found.after == np.maximum(machine.out[o, c], 0)).all()


def test_the_list_is_whole_or_drawn_with_some_of_every_kind() -> None:
    mapping = layer("error").mapping
    by_kind = kinds(mapping)
    faults = make_faults(mapping)
    assert len(faults) == len(set(faults)) == sum(map(count, by_kind.values()))
    assert {f.kind for f in faults} == set(by_kind)
    assert sum(f.kind == "psum bit" for f in faults) == 9 * 16 * 2
    assert sum(f.kind == "weight bit" for f in faults) == 9 * 4 * 2
    assert "ReLU" not in {f.kind for f in make_faults(mapping, relu=False)}
    drawn = make_faults(mapping, most=100, seed=1)
    assert len(drawn) == len(set(drawn)) <= 100
    assert {f.kind for f in drawn} == set(by_kind)
    assert set(drawn) < set(faults)
    assert drawn == make_faults(mapping, most=100, seed=1) != make_faults(mapping, most=100, seed=2)
    assert make_faults(mapping, most=len(faults), seed=5) == faults
    with pytest.raises(BadInput, match=f"5 faults: expected at least {len(by_kind)}, one of each kind"):
        make_faults(mapping, most=5)
    with pytest.raises(BadInput, match="seed -1: expected 0 or more"):
        make_faults(mapping, seed=-1)


def test_only_faults_that_this_layer_has() -> None:
    point = Conv("point", np.ones((1, 1, 1, 1), dtype=int), UINT4, INT4)
    found = kinds(run_layer(point, np.ones((1, 1, 1), dtype=int), ArraySpec(1, 1)).mapping)
    for kind in ("neighbouring rows swapped", "order of lanes reversed", "pass of ic_tile", "weight address bit"):
        assert kind not in found
    padded = replace(point, padding=(0, 1))
    more = kinds(run_layer(padded, np.ones((1, 1, 1), dtype=int), ArraySpec(1, 1)).mapping)
    assert "width without padding" in more["psum address"]["how"]
    assert "width without padding" not in found["psum address"]["how"]


def test_a_fault_in_words() -> None:
    fault = next(f for f in make_faults(layer("error").mapping) if f.kind == "weight bit")
    assert str(fault) == "weight bit: row 0, col 0, bit 0, stuck at 0"
    assert str(Fault("ReLU", (("col", 3), ("how", "absent")))) == "ReLU: col 3, absent"
