"""Every kind of fault in every schedule, against naive hardware; and what the corner set reveals there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from naive_faults import Hardware, right_hardware, some

from conftest import INT4
from systolith.array import ArrayResult, ArraySpec, Mapping
from systolith.array.layer import run_mapped
from systolith.faults.faults import Fault, kinds, make_faults
from systolith.faults.faulty import columns_of, simulate
from systolith.faults.lattice import Machine
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv


@dataclass(frozen=True)
class Way:
    """How a layer is on the array: (C, O) channels in groups, a map, a kernel, (stride, pads, dilation)."""

    channels: tuple[int, int]
    size: tuple[int, int] = (3, 3)
    kernel: tuple[int, int] = (2, 2)
    windows: tuple[tuple[int, ...], ...] = ((1, 1), (1, 1), (1, 1))
    groups: int = 1
    array: tuple[int, int] = (3, 2)
    act: IntFormat = IntFormat(4, False)  # noqa: RUF009 (frozen)
    simd: int = 1
    batch: int = 1
    packed: bool = False
    double: bool = False
    dataflow: str = "ws"
    overflow: str = "wrap"
    psum_bits: int = 7

    @property
    def spec(self) -> ArraySpec:
        registers = {"psum_bits": self.psum_bits, "overflow": self.overflow}
        return ArraySpec(*self.array, dataflow=self.dataflow, simd=self.simd, **registers)


STRIDED = ((1, 2), (1, 0, 2, 1), (2, 1))
UINT2, INT2 = IntFormat(2, False), IntFormat(2, True)
WAYS = {
    "double": Way((4, 3), double=True),
    "double, saturating": Way((4, 3), windows=STRIDED, double=True, overflow="saturate"),
    "double, groups": Way((6, 6), groups=3, double=True),
    "packed": Way((3, 3), packed=True, array=(4, 2)),
    "packed, two maps a bank": Way((4, 3), packed=True, array=(2, 3), overflow="saturate"),
    "packed, stride, rows that share no channel": Way((5, 3), windows=STRIDED, packed=True, array=(3, 2)),
    "packed, a kernel of one column": Way((4, 2), kernel=(3, 1), packed=True, array=(6, 2), double=True),
    "packed, groups": Way((6, 4), (3, 2), groups=2, packed=True, array=(4, 3), double=True, overflow="saturate"),
    "packed, 1x1, batch": Way((3, 3), kernel=(1, 1), windows=((1, 1), (0, 0), (1, 1)), packed=True, batch=2),
    "simd": Way((7, 3), act=UINT2, simd=2),
    "simd, signed, saturating": Way((5, 3), act=INT2, simd=2, windows=STRIDED, overflow="saturate", double=True),
    "four codes a lane": Way((9, 2), (2, 2), act=IntFormat(1, False), simd=4, array=(2, 2)),
    "simd, packed": Way((6, 3), act=UINT2, simd=2, packed=True, array=(2, 2), batch=2, double=True),
    "batch": Way((4, 3), (3, 2), batch=2, windows=STRIDED),
    "stationary": Way((2, 3), dataflow="os"),
    "stationary, saturating": Way((3, 3), windows=STRIDED, dataflow="os", overflow="saturate", array=(4, 2)),
    "stationary, wide": Way((2, 3), dataflow="os", psum_bits=16, overflow="error", array=(2, 3)),
    "stationary, groups": Way((4, 6), (2, 3), groups=2, dataflow="os", overflow="saturate", array=(3, 2)),
    "stationary, simd, batch": Way((3, 2), act=UINT2, simd=2, batch=2, dataflow="os", array=(3, 2)),
    "stationary, batch of small maps": Way((2, 3), (2, 2), (1, 1), ((1, 1), (0, 0), (1, 1)), dataflow="os", batch=3),
    "stationary, more rows than positions": Way((2, 3), (1, 2), (1, 1), ((1, 1), (0, 0), (1, 1)), dataflow="os"),
    "stationary, one step": Way((1, 3), (2, 3), (1, 1), ((1, 1), (0, 0), (1, 1)), dataflow="os"),
}


@cache
def layer(name: str) -> ArrayResult:
    way = WAYS[name]
    rng = np.random.default_rng(5)
    weight = rng.integers(-8, 8, (way.channels[1], way.channels[0] // way.groups, *way.kernel))
    conv = Conv("layer", weight, way.act, INT4, *way.windows, way.groups)
    shape = (way.batch, way.channels[0], *way.size)
    act = rng.integers(way.act.lo, way.act.hi + 1, shape if way.batch > 1 else shape[1:])
    return run_mapped(Mapping(conv, way.spec, *way.size, way.batch, way.packed), act)


def every(name: str) -> dict:
    return kinds(layer(name).mapping, double=WAYS[name].double)


@pytest.mark.parametrize("name", list(WAYS))
def test_naive_hardware_without_a_fault_is_right(name: str) -> None:
    result = layer(name)
    hardware, machine = right_hardware(result), Machine(result)
    for o in range(result.mapping.oc_tiles):
        for c in range(result.mapping.spec.cols):
            assert hardware.psum(o, c) == machine.psum(o, c).tolist()
            assert hardware.outputs(o, c)[0] == machine.out[o, c].tolist()


@pytest.mark.parametrize("name", list(WAYS))
def test_a_fault_does_what_the_hardware_would(name: str) -> None:
    result, double = layer(name), WAYS[name].double
    machine, mapping = Machine(result), result.mapping
    for kind in every(name):
        for fault in some(result, kind, 3, double):
            hardware, touched = Hardware(result, fault), columns_of(fault, mapping)
            for c in touched:
                for o in range(mapping.oc_tiles):
                    found, (out, after) = simulate(machine, fault, o, c), hardware.outputs(o, c)
                    assert found.psum.tolist() == hardware.psum(o, c), (str(fault), o, c)
                    assert found.out.tolist() == out, (str(fault), o, c)
                    assert found.after.tolist() == after, (str(fault), o, c)
            for c in set(range(mapping.spec.cols)) - set(touched):
                assert hardware.psum(0, c) == machine.psum(0, c).tolist(), str(fault)


def simple(spec: ArraySpec, act: list, weight: list, packed: bool = False) -> Machine:
    """Activations (C, W) of one row, weights (O, C)."""
    conv = Conv("simple", np.array(weight)[:, :, None, None], IntFormat(4, False), INT4)
    acts = np.array(act)[:, None, :]
    return Machine(run_mapped(Mapping(conv, spec, 1, acts.shape[2], 1, packed), acts))


def sums(machine: Machine, kind: str, o: int = 0, **at: object) -> list[int]:
    return simulate(machine, Fault(kind, tuple(at.items())), o, 0).out.tolist()


def test_sums_that_stay_in_numbers() -> None:
    machine = simple(ArraySpec(1, 1, dataflow="os"), [[1, 2, 3], [4, 5, 6]], [[1, 2]])
    assert machine.out[0, 0].tolist() == [9, 12, 15]
    pe = {"row": 0, "col": 0}
    assert sums(machine, "sum in the processing element", **pe, how="not kept") == [8, 10, 12]
    assert sums(machine, "sum in the processing element", **pe, how="without the last step") == [1, 2, 3]
    assert sums(machine, "sum in the processing element", **pe, how="not begun anew") == [9, 21, 36]
    stuck = {"bit": 0, "stuck at": 0}
    assert sums(machine, "sum bit in the processing element", **pe, **stuck) == [8, 12, 14]  # what is kept, 1 2 3
    assert sums(machine, "drain register bit", **pe, **stuck) == [8, 12, 14]
    assert sums(machine, "drain", col=0, how="one word late") == [0, 9, 12]
    assert sums(machine, "drain", col=0, how="one word early") == [12, 15, 0]
    assert sums(machine, "skew of a row", row=0, how="one step late") == [2, 4, 6]


def test_words_pass_through_the_rows_below() -> None:
    machine = simple(ArraySpec(2, 1, dataflow="os"), [[1, 3, 5, 7]], [[1]])
    stuck = {"bit": 0, "stuck at": 0}
    assert sums(machine, "drain register bit", row=1, col=0, **stuck) == [0, 2, 4, 6]
    assert sums(machine, "drain register bit", row=0, col=0, **stuck) == [1, 2, 5, 6]  # the upper row has the second
    assert sums(machine, "drain", col=0, how="of the fold before") == [0, 0, 1, 3]
    assert sums(machine, "place of a row", row=0, how="output behind") == [1, 5, 5, 0]
    assert sums(machine, "weight passing south bit", row=0, col=0, bit=0, **{"stuck at": 0}) == [0, 3, 0, 7]


def test_shadow_weights_in_numbers() -> None:
    machine = simple(ArraySpec(1, 1), [[1, 2, 3], [4, 5, 6]], [[1, 2]])
    pe = {"row": 0, "col": 0}
    assert sums(machine, "shadow weight", **pe, how="not taken") == [4, 5, 6]
    assert sums(machine, "shadow weight", **pe, how="not in the first position") == [4, 12, 15]
    assert sums(machine, "shadow weight", **pe, how="of the pass behind") == [10, 14, 18]


def test_kinds_are_those_of_the_schedule() -> None:
    found = {name: set(every(name)) for name in ("double", "packed, two maps a bank", "stationary", "simd", "batch")}
    plain = found["batch"]
    assert found["double"] - plain == {"shadow weight", "weight passing south bit"}
    assert found["packed, two maps a bank"] - plain == {"place of a row", "carry of a row"}
    assert plain - found["packed, two maps a bank"] >= {"psum address", "psum address bit", "pass of kij"}
    assert found["simd"] - plain == {"code of a lane missing", "neighbouring codes of a lane swapped"}
    assert {"drain", "drain register bit", "sum bit in the processing element"} <= found["stationary"] - plain
    double = layer("double").mapping
    assert "shadow weight" not in {fault.kind for fault in make_faults(double)}
    with pytest.raises(BadInput, match="double-buffered weights: expected weights that stay, found stationary outputs"):
        kinds(layer("stationary").mapping, double=True)
