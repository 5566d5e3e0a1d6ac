"""The core under cocotb: driven and checked from the bundle in `vectors/`. SIM=verilator takes Verilator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from systolith import BundleBus, read_bundle

HERE = Path(__file__).parent
BUNDLE = HERE / "vectors"


def parameters() -> dict[str, int]:
    """Those of `core` for the bundle's layer."""
    mapping = read_bundle(BUNDLE)[0].mapping
    spec = mapping.spec
    return {
        **{"ROWS": spec.rows, "COLS": spec.cols, "ACT_BITS": spec.act_bits, "WEIGHT_BITS": spec.weight_bits},
        **{"PSUM_BITS": spec.psum_bits, "ACT_DEPTH": mapping.ic_tiles * mapping.nijs, "OC_TILES": mapping.oc_tiles},
        **{"WEIGHT_DEPTH": mapping.oc_tiles * mapping.kijs * mapping.ic_tiles * spec.cols},
        **{"PSUM_DEPTH": mapping.onijs},
    }


@cocotb.test()
async def layer(dut: Any) -> None:
    """Every psum and every output of the bundle's layer."""
    mapping = read_bundle(BUNDLE)[0].mapping
    conv = mapping.conv
    numbers = mapping.oc_tiles, *conv.kernel, *mapping.padded_shape, *mapping.output_shape, *conv.stride, *conv.dilation
    for name in ("act_write", "weight_write", "store_write", "range_write", "start", "act_signed", "saturate"):
        getattr(dut, name).value = 0
    for name in ("fixed_point", "useful", "drained", "store_col", "store_at", "store_in"):
        getattr(dut, name).value = 0
    dut.shape.value = sum(number << 16 * place for place, number in enumerate(reversed(numbers)))
    dut.reset.value = 1
    Clock(dut.clk, 10, "step").start()
    for _ in range(4):
        await FallingEdge(dut.clk)
    dut.reset.value = 0
    for tile in range(mapping.oc_tiles):
        dut.range_write.value, dut.range_at.value = 1, tile
        dut.range_in.value = (mapping.ic_tiles - 1) << 16
        await FallingEdge(dut.clk)
    dut.range_write.value = 0
    act, weight = BundleBus(BUNDLE, "act"), BundleBus(BUNDLE, "weight")
    await act.drive(dut.act_in, dut.clk, valid=dut.act_write, address=dut.act_at)
    await weight.drive(dut.weight_in, dut.clk, valid=dut.weight_write, address=dut.weight_at)
    psum, out = BundleBus(BUNDLE, "psum"), BundleBus(BUNDLE, "out")
    checks = [
        cocotb.start_soon(psum.check(dut.psum, dut.clk, valid=dut.psum_valid)),
        cocotb.start_soon(out.check(dut.out_relu, dut.clk, valid=dut.out_valid)),
    ]
    dut.start.value = 1
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.start.value = 0
    compared = [await check for check in checks]
    assert all(compared)
    dut._log.info("equal: %d psum words and %d output words", *compared)


def test_core() -> None:
    """Compile the core and run the above, by Icarus unless SIM says otherwise."""
    from systolith.projects.bus import cocotb_runner

    sources = sorted((HERE / "rtl").glob("*.sv"))
    cocotb_runner(os.environ.get("SIM", "icarus"), sources, "core", parameters(), "test_core", HERE)
