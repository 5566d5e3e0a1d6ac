// What a register of BITS bits holds of a wider signed value: the wrapped or the saturated one.
module fit #(
    parameter int WIDE = 24,
    parameter int BITS = 16
) (
    input  logic                   saturate,
    input  logic signed [WIDE-1:0] value,
    output logic signed [BITS-1:0] held
);
  // It fits if every bit from the register's sign bit upwards is that sign.
  wire fits = value[WIDE-1:BITS-1] == {(WIDE - BITS + 1) {value[WIDE-1]}};
  wire signed [BITS-1:0] most = value[WIDE-1] ? {1'b1, {(BITS - 1) {1'b0}}} : {1'b0, {(BITS - 1) {1'b1}}};
  assign held = saturate && !fits ? most : value[BITS-1:0];
endmodule
