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
from systolith.faults.faults import kinds
from systolith.faults.faulty import columns_of, simulate
from systolith.faults.lattice import Machine
from systolith.formats import IntFormat
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
