// COLS processing elements side by side; the psum of column c becomes valid c clocks after that of column 0.
module mac_row #(
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
    input  logic                        west_load,
    input  logic                        west_stream,
    input  logic                        west_fresh,
    input  logic                        west_last,
    input  logic                        west_drain,
    input  logic [       CODE_BITS-1:0] west_code,
    input  logic [            COLS-1:0] north_load,
    input  logic [COLS*WEIGHTS-1:0] north_weight,
    input  logic [  COLS*PSUM_BITS-1:0] north_psum,
    output logic [            COLS-1:0] south_load,
    output logic [COLS*WEIGHTS-1:0] south_weight,
    output logic [  COLS*PSUM_BITS-1:0] south_psum,
    output logic [            COLS-1:0] south_valid
);
  for (genvar c = 0; c < COLS; c++) begin : col
    wire load, stream, fresh, last, drain, east_load, east_stream, east_fresh, east_last, east_drain;
    wire [CODE_BITS-1:0] code, east_code;
    if (c == 0) begin : first
      assign load = west_load;
      assign stream = west_stream;
      assign fresh = west_fresh;
      assign last = west_last;
      assign drain = west_drain;
      assign code = west_code;
    end else begin : further
      assign load = col[c-1].east_load;
      assign stream = col[c-1].east_stream;
      assign fresh = col[c-1].east_fresh;
      assign last = col[c-1].east_last;
      assign drain = col[c-1].east_drain;
      assign code = col[c-1].east_code;
    end
    mac_tile #(
        .ACT_BITS(ACT_BITS),
        .WEIGHT_BITS(WEIGHT_BITS),
        .PSUM_BITS(PSUM_BITS),
        .SIMD(SIMD),
        .DOUBLE(DOUBLE),
        .STATIONARY(STATIONARY)
    ) tile (
        .clk(clk),
        .reset(reset),
        .act_signed(act_signed),
        .saturate(saturate),
        .split(split),
        .stationary(stationary),
        .west_load(load),
        .west_stream(stream),
        .west_fresh(fresh),
        .west_last(last),
        .west_drain(drain),
        .west_code(code),
        .north_load(north_load[c]),
        .north_weight(north_weight[c*WEIGHTS+:WEIGHTS]),
        .north_psum(north_psum[c*PSUM_BITS+:PSUM_BITS]),
        .east_load(east_load),
        .east_stream(east_stream),
        .east_fresh(east_fresh),
        .east_last(east_last),
        .east_drain(east_drain),
        .east_code(east_code),
        .south_load(south_load[c]),
        .south_weight(south_weight[c*WEIGHTS+:WEIGHTS]),
        .south_psum(south_psum[c*PSUM_BITS+:PSUM_BITS])
    );
    assign south_valid[c] = east_stream;
    if (c == COLS - 1) begin : eastmost
      wire unused = &{1'b0, east_load, east_fresh, east_last, east_drain, east_code};
    end
  end
endmodule
