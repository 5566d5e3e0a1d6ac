// ROWS rows, one above the other. What row r takes from the west must come r clocks after what row 0 takes (see l0).
module mac_array #(
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = ACT_BITS > WEIGHT_BITS ? ACT_BITS : WEIGHT_BITS
) (
    input  logic                      clk,
    input  logic                      reset,
    input  logic                      act_signed,
    input  logic                      saturate,
    input  logic [          ROWS-1:0] west_load,
    input  logic [          ROWS-1:0] west_stream,
    input  logic [ROWS*CODE_BITS-1:0] west_code,
    output logic [COLS*PSUM_BITS-1:0] south_psum,
    output logic [          COLS-1:0] south_valid
);
  // A bus for each row, not one for all of them: simulators evaluate a bus whole.
  for (genvar r = 0; r < ROWS; r++) begin : row
    wire [COLS*PSUM_BITS-1:0] north, south;
    wire [COLS-1:0] valid;
    if (r == 0) begin : first
      assign north = '0;
    end else begin : further
      assign north = row[r-1].south;
    end
    mac_row #(
        .COLS(COLS),
        .ACT_BITS(ACT_BITS),
        .WEIGHT_BITS(WEIGHT_BITS),
        .PSUM_BITS(PSUM_BITS)
    ) tiles (
        .clk(clk),
        .reset(reset),
        .act_signed(act_signed),
        .saturate(saturate),
        .west_load(west_load[r]),
        .west_stream(west_stream[r]),
        .west_code(west_code[r*CODE_BITS+:CODE_BITS]),
        .north_psum(north),
        .south_psum(south),
        .south_valid(valid)
    );
    if (r == ROWS - 1) begin : bottom
      assign south_psum = south;
      assign south_valid = valid;
    end else begin : above
      wire unused = &{1'b0, valid};
    end
  end
endmodule
