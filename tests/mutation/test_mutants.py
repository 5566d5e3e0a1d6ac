"""What is changed in a source: every operator's mutants, text by text."""

from __future__ import annotations

import pytest

from systolith.formats import BadInput
from systolith.mutation.mutants import OPERATORS, mutants

TOY = """module toy #(parameter int W = 4) (
    input logic clk, reset,
    input logic signed [W-1:0] a, output logic [W-1:0] q);
  wire [W-1:0] sum = a + 2 * $signed(q);
  wire low = !reset && sum[1+:2] >= 2'b11 || sum[W-1];
  always_ff @(posedge clk)
    if (reset) q <= '0;
    else if (low) q <= W'(-sum >>> 1);
endmodule
"""
# By line and operator, in the order of the text.
EXPECTED = {
    (1, "constant"): ["4 -> 3", "4 -> 5"],
    (3, "sign"): ["signed -> (nothing)"],
    (3, "width"): ["W-1 -> (W-1) - 1"] * 2,
    (4, "width"): ["W-1 -> (W-1) - 1"],
    (4, "operator"): ["+ -> -", "* -> +"],
    (4, "constant"): ["2 -> 1", "2 -> 3"],
    (4, "sign"): ["$signed -> $unsigned"],
    (5, "operator"): ["! -> (nothing)", "&& -> ||", ">= -> >", "|| -> &&", "- -> +"],
    (5, "constant"): ["1 -> 0", "1 -> 2", "2 -> 1", "2 -> 3", "2'b11 -> 2'b0", "2'b11 -> 2'b10", "1 -> 0", "1 -> 2"],
    (5, "index"): ["W-1 -> (W-1) + 1"],
    (7, "condition"): ["reset -> 1'b0", "reset -> 1'b1"],
    (7, "reset"): ["q <= '0; -> ;"],
    (7, "constant"): ["'0 -> '1"],
    (8, "condition"): ["low -> 1'b0", "low -> 1'b1"],
    (8, "width"): ["W -> (W - 1)"],
    (8, "operator"): ["- -> (nothing)", ">>> -> >>"],
    (8, "constant"): ["1 -> 0", "1 -> 2"],
}


def test_every_mutant_of_a_toy() -> None:
    found: dict[tuple[int, str], list[str]] = {}
    for mutant in mutants(TOY, "toy.sv"):
        found.setdefault((mutant.line, mutant.operator), []).append(mutant.change)
    assert found == EXPECTED
    assert {operator for _, operator in found} == set(OPERATORS)


def test_a_mutant_differs_in_its_place_alone_and_parses() -> None:
    every = mutants(TOY, "toy.sv")
    assert len({mutant.name for mutant in every}) == len(every)
    for mutant in every:
        line = TOY.splitlines()[mutant.line - 1]
        assert line[mutant.column - 1 :].startswith(mutant.before)
        assert mutant.context == line.strip()
        changed = mutant.apply(TOY)
        head = sum(len(text) + 1 for text in TOY.splitlines()[: mutant.line - 1]) + mutant.column - 1
        assert changed == TOY[:head] + mutant.after + TOY[head + len(mutant.before) :] != TOY
        mutants(changed, "toy.sv")
    assert every == mutants(TOY, "toy.sv")


@pytest.mark.parametrize(
    ("expression", "changes"),
    [
        ("a - b", ["- -> +"]),
        ("a / b", ["/ -> *"]),
        ("a % b", ["% -> *"]),
        ("a & b", ["& -> |"]),
        ("a | b", ["| -> &"]),
        ("a ^ b", ["^ -> |"]),
        ("a == b", ["== -> !="]),
        ("a != b", ["!= -> =="]),
        ("a < b", ["< -> <="]),
        ("a <= b", ["<= -> <"]),
        ("a > b", ["> -> >="]),
        ("a << b", ["<< -> >>"]),
        ("a >> b", [">> -> <<"]),
        ("a <<< b", ["<<< -> >>>"]),
        ("&a", ["& -> |"]),
        ("|a", ["| -> &"]),
        ("~a", ["~ -> (nothing)"]),
        ("a ? b : c", ["a -> 1'b0", "a -> 1'b1"]),
        ("a[b-:2]", ["b -> b + 1", "2 -> 1", "2 -> 3"]),
        ("8'hff", ["8'hff -> 8'h0", "8'hff -> 8'hfe"]),
        ("4'sd0", ["4'sd0 -> 4'sd1", "4'sd0 -> 4'sd15"]),
        ("1'b1", ["1'b1 -> 1'b0"]),
        ("1_0", ["1_0 -> 9", "1_0 -> 11"]),
        ("'1", ["'1 -> '0"]),
        ("8'hxf", []),
        ("int'(a)", []),
        ("16'(a)", ["16 -> 15"]),
        ("$unsigned(a)", ["$unsigned -> $signed"]),
        ("f(a)", []),
    ],
)
def test_what_is_put_in_its_place(expression: str, changes: list[str]) -> None:
    found = mutants(f"module m; assign y = {expression}; endmodule", "m.sv")
    assert [mutant.change for mutant in found] == changes


def test_generate_conditions_and_resets_by_any_of_their_names() -> None:
    (never, always) = mutants("module m; if (A) begin assign y = x; end endmodule", "m.sv")
    assert (never.operator, never.after, always.after) == ("condition", "1'b0", "1'b1")
    for reset in ("rst", "!rst_n", "areset", "~aresetn", "restart", "i_clear", "rst == 1'b0"):
        source = f"module m; always_ff @(posedge c) if ({reset}) begin q <= x; p <= y; end else r <= z; endmodule"
        assert [m.before for m in mutants(source, "m.sv") if m.operator == "reset"] == ["q <= x;", "p <= y;"]


def test_what_a_macro_brings_is_left_alone() -> None:
    source = "`define TWO 2\nmodule m; assign y = `TWO + x; endmodule\n"
    assert [mutant.change for mutant in mutants(source, "m.sv")] == ["+ -> -"]


def test_letters_beyond_ascii_shift_no_place() -> None:
    source = "module m; /* größer */ assign y = a + b; endmodule\n"
    (mutant,) = mutants(source, "m.sv")
    assert mutant.apply(source) == source.replace("+", "-")
    assert source[mutant.column - 1] == "+"


def test_refusals() -> None:
    with pytest.raises(BadInput, match=r"^m\.sv:2: does not parse \(ExpectedExpression\)$"):
        mutants("module m;\n  assign y = ; endmodule", "m.sv")
    (mutant,) = mutants("module m; assign y = a + b; endmodule", "m.sv")
    with pytest.raises(BadInput, match="the source has changed"):
        mutant.apply("module m; assign y = a - b; endmodule")
