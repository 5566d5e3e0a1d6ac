"""Adders and multipliers in cells of 45 nm: the numbers of `[area]` in `assets/energy/45nm.toml` that nobody publishes.

    python tools/areas.py

Yosys maps each to a library of `CELLS`, as `systolith synth --liberty` does, and adds up their areas. It has no full
adders, which Yosys' mapper cannot use, so multipliers come out large.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from systolith.designs.area import Core, adders, array_bits, multipliers
from systolith.designs.energy import read_table
from systolith.rtl.simulators import RTL
from systolith.synthesis.area import LIBERTY, Area, synthesize
from systolith.synthesis.yosys import Source

HEIGHT = 1.4
"""um of every cell."""
CELLS = (
    ("AND2_X1", 0.76, "A1 A2", "ZN", "A1 & A2"),
    ("AOI211_X1", 0.95, "A B C1 C2", "ZN", "!(A | B | (C1 & C2))"),
    ("AOI21_X1", 0.76, "A B1 B2", "ZN", "!(A | (B1 & B2))"),
    ("BUF_X1", 0.57, "A", "Z", "A"),
    ("INV_X1", 0.38, "A", "ZN", "!A"),
    ("MUX2_X1", 1.33, "A B S", "Z", "(S & B) | (A & !S)"),
    ("NAND2_X1", 0.57, "A1 A2", "ZN", "!(A1 & A2)"),
    ("NAND3_X1", 0.76, "A1 A2 A3", "ZN", "!(A1 & A2 & A3)"),
    ("NAND4_X1", 0.95, "A1 A2 A3 A4", "ZN", "!(A1 & A2 & A3 & A4)"),
    ("NOR2_X1", 0.57, "A1 A2", "ZN", "!(A1 | A2)"),
    ("NOR3_X1", 0.76, "A1 A2 A3", "ZN", "!(A1 | A2 | A3)"),
    ("NOR4_X1", 0.95, "A1 A2 A3 A4", "ZN", "!(A1 | A2 | A3 | A4)"),
    ("OAI211_X1", 0.95, "A B C1 C2", "ZN", "!(A & B & (C1 | C2))"),
    ("OAI21_X1", 0.76, "A B1 B2", "ZN", "!(A & (B1 | B2))"),
    ("OR2_X1", 0.76, "A1 A2", "ZN", "A1 | A2"),
    ("XNOR2_X1", 1.14, "A B", "ZN", "!(A ^ B)"),
    ("XOR2_X1", 1.14, "A B", "Z", "A ^ B"),
)
"""Name, um of width, inputs, output and function. Height, width and pins were read in NanGate's 45 nm library, as it is
in The-OpenROAD-Project/OpenROAD-flow-scripts, flow/platforms/nangate45/lef/NangateOpenCellLibrary.macro.mod.lef."""
FLIP_FLOP = 3.23
"""um of width of DFF_X1, from the same file."""

BETWEEN = ((2, 4), (8, 4), (4, 8), (16, 4), (12, 12))
"""Multipliers between the table's, bits of an activation and of a weight."""

ADDER = """module adder #(parameter int BITS = 8) (
    input logic signed [BITS-1:0] a, b, output logic signed [BITS-1:0] sum);
  assign sum = a + b;
endmodule
"""
# As in mac_tile.sv: a flag says whether the activation is signed.
MULTIPLIER = """module multiplier #(parameter int ACT = 8, parameter int WEIGHT = 8) (
    input logic act_signed, input logic [ACT-1:0] act, input logic [WEIGHT-1:0] weight,
    output logic signed [ACT+WEIGHT-1:0] product);
  assign product = (ACT + WEIGHT)'($signed({act_signed & act[ACT-1], act})) * (ACT + WEIGHT)'($signed(weight));
endmodule
"""


def library() -> str:
    """The cells as a liberty file."""
    text = "library(cells) {\n"
    for name, width, inputs, output, function in CELLS:
        pins = " ".join(f"pin({pin}) {{ direction : input; }}" for pin in inputs.split())
        text += f"  cell({name}) {{ area : {width * HEIGHT:.4f}; {pins} "
        text += f'pin({output}) {{ direction : output; function : "{function}"; }} }}\n'
    text += f"  cell(DFF_X1) {{ area : {FLIP_FLOP * HEIGHT:.4f}; ff(IQ, IQN) {{ clocked_on : CK; next_state : D; }} "
    text += "pin(CK) { direction : input; clock : true; } pin(D) { direction : input; } "
    return text + "pin(Q) { direction : output; function : IQ; } }\n}\n"


def cells(files: tuple[Path, ...], top: str, **parameters: int) -> Area:
    """A module of SystemVerilog in these cells; um2."""
    with tempfile.TemporaryDirectory() as folder:
        liberty = Path(folder) / "cells.lib"
        liberty.write_text(library())
        return synthesize(Source(files, top, parameters), LIBERTY, liberty)


def _um2(text: str, top: str, **parameters: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{top}.sv"
        path.write_text(text)
        return round(cells((path,), top, **parameters).area or 0.0, 3)


def adder(bits: int) -> float:
    """um2 of adding two numbers of so many bits."""
    return _um2(ADDER, "adder", BITS=bits)


def multiplier(act: int, weight: int) -> float:
    """um2 of an activation times a signed weight of so many bits."""
    return _um2(MULTIPLIER, "multiplier", ACT=act, WEIGHT=weight)


def array(core: Core) -> Area:
    """The whole of `mac_array.sv` in these cells."""
    given = {"ROWS": core.rows, "COLS": core.cols, "ACT_BITS": core.act_bits, "WEIGHT_BITS": core.weight_bits}
    given |= {"PSUM_BITS": core.psum_bits, "SIMD": core.simd}
    given |= {"DOUBLE": int(core.double), "STATIONARY": int(core.stationary)}
    return cells(tuple(sorted((RTL / "core").glob("*.sv"))), "mac_array", **given)


def main() -> None:
    """Print the table, what lies between its numbers, and whole arrays beside what is counted of them."""
    print("add =", [[bits, adder(bits)] for bits in (4, 8, 16, 32, 48)])
    print("multiply =", [[bits, multiplier(bits, bits)] for bits in (1, 2, 4, 8, 16)])
    print(f"flip_flop = {FLIP_FLOP * HEIGHT:.3f}")
    table = read_table().area
    assert table is not None
    for act, weight in BETWEEN:
        said = table.multiplying(act, weight)
        print(f"multiplier {act}x{weight}: {multiplier(act, weight):,.3f} um2, by the table {said:,.3f}")
    for rows, cols, psum_bits, every in ((4, 4, 20, False), (8, 8, 20, False), (8, 8, 16, True)):
        core = Core(rows, cols, 4, 4, psum_bits, double=every, stationary=every)
        parts = multipliers(core, table) + adders(core, table) + array_bits(core) * table.flip_flop
        print(f"array {core}: {array(core).area:,.0f} um2, parts by the table {parts:,.0f}")


if __name__ == "__main__":
    main()
