// A processing element. Codes come from the west, a beat a clock, and go on to the east one clock later.
//
// A load beat carries a weight: the first one since the last stream beat is kept and goes no further, so beat c of a
// pass ends in column c. A stream beat carries an activation: the psum from the north plus its product with the weight
// goes to the south.
module mac_tile #(
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = ACT_BITS > WEIGHT_BITS ? ACT_BITS : WEIGHT_BITS
) (
    input  logic                 clk,
    input  logic                 reset,
    input  logic                 act_signed,
    input  logic                 saturate,
    input  logic                 west_load,
    input  logic                 west_stream,
    input  logic [CODE_BITS-1:0] west_code,
    input  logic [PSUM_BITS-1:0] north_psum,
    output logic                 east_load,
    output logic                 east_stream,
    output logic [CODE_BITS-1:0] east_code,
    output logic [PSUM_BITS-1:0] south_psum
);
  // What holds any product of two codes, one bit more than the wider of the two addends.
  localparam int PRODUCT = ACT_BITS + WEIGHT_BITS;
  localparam int SUM = (PSUM_BITS > PRODUCT ? PSUM_BITS : PRODUCT) + 1;

  logic signed [WEIGHT_BITS-1:0] weight;
  logic loaded;

  wire signed [ACT_BITS:0] act = {act_signed & west_code[ACT_BITS-1], west_code[ACT_BITS-1:0]};
  wire signed [PRODUCT-1:0] product = PRODUCT'(act) * PRODUCT'(weight);
  wire signed [SUM-1:0] sum = SUM'($signed(north_psum)) + SUM'(product);
  wire signed [PSUM_BITS-1:0] held;

  fit #(
      .WIDE(SUM),
      .BITS(PSUM_BITS)
  ) fit_sum (
      .saturate(saturate),
      .value(sum),
      .held(held)
  );

  always_ff @(posedge clk) begin
    east_code <= west_code;
    if (west_load && !loaded) weight <= west_code[WEIGHT_BITS-1:0];
    if (west_stream) south_psum <= held;
    if (reset) begin
      loaded <= 1'b0;
      east_load <= 1'b0;
      east_stream <= 1'b0;
    end else begin
      loaded <= (loaded || west_load) && !west_stream;
      east_load <= west_load && loaded;
      east_stream <= west_stream;
    end
  end
endmodule
