// ROWS rows, one above the other. What row r takes from the west must come r clocks after what row 0 takes, what column
// c takes from the north c clocks after what column 0 takes (see l0).
module mac_array #(
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int SIMD = 1,
    parameter int DOUBLE = 0,
    parameter int STATIONARY = 0,
    parameter int WEIGHTS = SIMD * WEIGHT_BITS,
    parameter int CODE_BITS = ACT_BITS > WEIGHTS ? ACT_BITS : WEIGHTS
) (
    input  logic                        clk,
    input  logic                        reset,
    input  logic                        act_signed,
    input  logic                        saturate,
    input  logic [                 1:0] split,
    input  logic                        stationary,
    input  logic [            ROWS-1:0] west_load,
    input  logic [            ROWS-1:0] west_stream,
    input  logic [            ROWS-1:0] west_fresh,
    input  logic [            ROWS-1:0] west_last,
    input  logic [  ROWS*CODE_BITS-1:0] west_code,
    input  logic [            COLS-1:0] north_load,
    input  logic [COLS*WEIGHTS-1:0] north_weight,
    output logic [  COLS*PSUM_BITS-1:0] south_psum,
    output logic [            COLS-1:0] south_valid
);
  // Output stationary, when the bottom row has its last beat, every row's sum is finished. In the next ROWS clocks they
  // leave column 0, column c c clocks later: row r passes on the r sums from above it, and then holds its own next one.
  wire [ROWS-1:0] drain;
  wire [COLS-1:0] leaves;
  if (STATIONARY != 0) begin : draining
    localparam int COUNT = $clog2(ROWS + 1);
    logic [COUNT-1:0] left;
    logic [COLS-1:0] way;
    assign leaves = COLS'({way, left != 0});
    always_ff @(posedge clk) begin
      way <= reset ? '0 : leaves;
      if (reset) left <= '0;
      else if (stationary && west_stream[ROWS-1] && west_last[ROWS-1]) left <= COUNT'(ROWS);
      else if (left != 0) left <= left - 1'b1;
    end
    assign drain[0] = 1'b0;
    for (genvar r = 1; r < ROWS; r++) begin : passing
      assign drain[r] = left > COUNT'(ROWS - r);
    end
  end else begin : flowing
    assign drain = '0;
    assign leaves = '0;
  end

  // A bus for each row, not one for all of them: simulators evaluate a bus whole.
  for (genvar r = 0; r < ROWS; r++) begin : row
    wire [COLS*PSUM_BITS-1:0] north, south;
    wire [COLS*WEIGHTS-1:0] weight, next_weight;
    wire [COLS-1:0] load, next_load, valid;
    if (r == 0) begin : first
      assign north = '0;
      assign load = north_load;
      assign weight = north_weight;
    end else begin : further
      assign north = row[r-1].south;
      assign load = row[r-1].next_load;
      assign weight = row[r-1].next_weight;
    end
    mac_row #(
        .COLS(COLS),
        .ACT_BITS(ACT_BITS),
        .WEIGHT_BITS(WEIGHT_BITS),
        .PSUM_BITS(PSUM_BITS),
        .SIMD(SIMD),
        .DOUBLE(DOUBLE),
        .STATIONARY(STATIONARY)
    ) tiles (
        .clk(clk),
        .reset(reset),
        .act_signed(act_signed),
        .saturate(saturate),
        .split(split),
        .stationary(stationary),
        .west_load(west_load[r]),
        .west_stream(west_stream[r]),
        .west_fresh(west_fresh[r]),
        .west_last(west_last[r]),
        .west_drain(drain[r]),
        .west_code(west_code[r*CODE_BITS+:CODE_BITS]),
        .north_load(load),
        .north_weight(weight),
        .north_psum(north),
        .south_load(next_load),
        .south_weight(next_weight),
        .south_psum(south),
        .south_valid(valid)
    );
    if (r == ROWS - 1) begin : bottom
      assign south_psum = south;
      assign south_valid = stationary ? leaves : valid;
      wire unused = &{1'b0, next_load, next_weight};
    end else begin : above
      wire unused = &{1'b0, valid};
    end
  end
endmodule
