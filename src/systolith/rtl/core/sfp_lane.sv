// One column of the special function processor: accumulation in place, ReLU, and the next layer's code.
//
// The code is the number of thresholds that sign*acc reaches, or clamp((acc*M + B) >> S, 0, 2^CODE_BITS - 1); both read
// the accumulator itself. Each oc_tile has its own thresholds and (M, B, S).
module sfp_lane #(
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = 4,
    parameter int OC_TILES = 1,
    parameter int LEVELS = (1 << CODE_BITS) - 1,
    parameter int T_BITS = PSUM_BITS + 1,  // one beyond the largest accumulator is "never"
    parameter int M_BITS = 24,
    parameter int B_BITS = 48,
    parameter int S_BITS = 6,
    parameter int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1,
    parameter int STORE = LEVELS * T_BITS + 1 > M_BITS + B_BITS + S_BITS ? LEVELS * T_BITS + 1 : M_BITS + B_BITS + S_BITS
) (
    input  logic                 clk,
    input  logic                 saturate,
    input  logic                 fixed_point,
    input  logic                 store_write,
    input  logic [  TILE_AT-1:0] store_at,
    input  logic [    STORE-1:0] store_in,
    input  logic                 add,        // a psum and what its accumulator holds are there
    input  logic                 fresh,      // its accumulator starts anew
    input  logic [  TILE_AT-1:0] oc_tile,
    input  logic [PSUM_BITS-1:0] psum,
    input  logic [PSUM_BITS-1:0] held,
    output logic [PSUM_BITS-1:0] sum,        // at once
    output logic [PSUM_BITS-1:0] acc,        // two clocks later, and with it
    output logic [PSUM_BITS-1:0] relu,
    output logic [CODE_BITS-1:0] code
);
  localparam int WIDE = M_BITS + PSUM_BITS > B_BITS ? M_BITS + PSUM_BITS : B_BITS + 1;  // of the product plus B

  wire signed [PSUM_BITS:0] added = (PSUM_BITS + 1)'($signed(psum)) + (fresh ? '0 : (PSUM_BITS + 1)'($signed(held)));
  fit #(
      .WIDE(PSUM_BITS + 1),
      .BITS(PSUM_BITS)
  ) fit_sum (
      .saturate(saturate),
      .value(added),
      .held(sum)
  );

  logic [STORE-1:0] stores[OC_TILES];
  logic [STORE-1:0] store;
  logic signed [PSUM_BITS-1:0] total;
  always_ff @(posedge clk) begin
    if (store_write) stores[store_at] <= store_in;
    if (add) begin
      store <= stores[oc_tile];
      total <= sum;
    end
  end

  // Thresholds: bit 0 says that a larger accumulator gives a smaller code.
  wire signed [PSUM_BITS:0] wide = (PSUM_BITS + 1)'(total);
  wire signed [PSUM_BITS:0] turned = store[0] ? -wide : wide;
  logic [CODE_BITS-1:0] count;
  always_comb begin
    count = '0;
    for (int k = 0; k < LEVELS; k++) count = count + CODE_BITS'(turned >= $signed(store[1+k*T_BITS+:T_BITS]));
  end

  // Fixed point: M, B, S from bit 0 upwards.
  wire signed [M_BITS-1:0] m = store[0+:M_BITS];
  wire signed [B_BITS-1:0] b = store[M_BITS+:B_BITS];
  wire [S_BITS-1:0] s = store[M_BITS+B_BITS+:S_BITS];
  wire signed [WIDE-1:0] scaled = (WIDE'(total) * WIDE'(m) + WIDE'(b)) >>> s;
  wire signed [WIDE-1:0] most = WIDE'(LEVELS);
  wire [CODE_BITS-1:0] clamped = scaled < 0 ? '0 : scaled > most ? CODE_BITS'(LEVELS) : scaled[CODE_BITS-1:0];

  always_ff @(posedge clk) begin
    acc <= total;
    relu <= total < 0 ? '0 : total;
    code <= fixed_point ? clamped : count;
  end
endmodule
