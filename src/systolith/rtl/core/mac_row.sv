// COLS processing elements side by side; the psum of column c becomes valid c clocks after that of column 0.
module mac_row #(
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
    input  logic                      west_load,
    input  logic                      west_stream,
    input  logic [     CODE_BITS-1:0] west_code,
    input  logic [COLS*PSUM_BITS-1:0] north_psum,
    output logic [COLS*PSUM_BITS-1:0] south_psum,
    output logic [          COLS-1:0] south_valid
);
  for (genvar c = 0; c < COLS; c++) begin : col
    wire load, stream, east_load, east_stream;
    wire [CODE_BITS-1:0] code, east_code;
    if (c == 0) begin : first
      assign load = west_load;
      assign stream = west_stream;
      assign code = west_code;
    end else begin : further
      assign load = col[c-1].east_load;
      assign stream = col[c-1].east_stream;
      assign code = col[c-1].east_code;
    end
    mac_tile #(
        .ACT_BITS(ACT_BITS),
        .WEIGHT_BITS(WEIGHT_BITS),
        .PSUM_BITS(PSUM_BITS)
    ) tile (
        .clk(clk),
        .reset(reset),
        .act_signed(act_signed),
        .saturate(saturate),
        .west_load(load),
        .west_stream(stream),
        .west_code(code),
        .north_psum(north_psum[c*PSUM_BITS+:PSUM_BITS]),
        .east_load(east_load),
        .east_stream(east_stream),
        .east_code(east_code),
        .south_psum(south_psum[c*PSUM_BITS+:PSUM_BITS])
    );
    assign south_valid[c] = east_stream;
    if (c == COLS - 1) begin : eastmost
      wire unused = &{1'b0, east_load, east_code};
    end
  end
endmodule
