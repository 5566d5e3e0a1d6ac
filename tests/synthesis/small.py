"""A small design whose cells are known, and a library of five."""

SMALL = """module small #(parameter int W = 4) (
    input logic clk, input logic [W-1:0] a, b, output logic [W-1:0] q, p);
  always_ff @(posedge clk) begin
    q <= a & b;
    p <= a ^ b;
  end
endmodule
"""


def _cell(name: str, area: int, function: str, pins: str) -> str:
    inputs = " ".join(f"pin({pin}) {{ direction : input; }}" for pin in pins)
    return f'cell({name}) {{ area : {area}; {inputs} pin(Y) {{ direction : output; function : "{function}"; }} }}\n'


LIBRARY = (
    "library(tiny) {\n"
    + _cell("BUF", 2, "A", "A")
    + _cell("INV", 1, "A'", "A")
    + _cell("NAND", 2, "(A*B)'", "AB")
    + _cell("NOR", 2, "(A+B)'", "AB")
    + "cell(DFF) { area : 6; ff(IQ, IQN) { clocked_on : C; next_state : D; } "
    + "pin(C) { direction : input; clock : true; } pin(D) { direction : input; } "
    + "pin(Q) { direction : output; function : IQ; } }\n}\n"
)
