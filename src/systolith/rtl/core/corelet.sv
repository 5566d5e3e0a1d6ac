// All but the memories and the control: L0, the array, the OFIFO, the special function processor.
module corelet #(
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = 4,
    parameter int SIMD = 1,
    parameter int DOUBLE = 0,
    parameter int STATIONARY = 0,
    parameter int OC_TILES = 1,
    parameter int PSUM_AT = 8,
    parameter int L0_DEPTH = 2,
    parameter int OFIFO_DEPTH = COLS,
    parameter int STORE = 256,
    parameter int WEIGHTS = SIMD * WEIGHT_BITS,
    parameter int LANE_BITS = ACT_BITS > WEIGHTS ? ACT_BITS : WEIGHTS,
    parameter int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1,
    parameter int COL_AT = COLS > 1 ? $clog2(COLS) : 1
) (
    input  logic                      clk,
    input  logic                      reset,
    input  logic                      act_signed,
    input  logic                      saturate,
    input  logic                      fixed_point,
    input  logic [               1:0] split,
    input  logic                      stationary,
    input  logic                      store_write,
    input  logic [        COL_AT-1:0] store_col,
    input  logic [       TILE_AT-1:0] store_at,
    input  logic [         STORE-1:0] store_in,
    input  logic                      push_load,
    input  logic                      push_stream,
    input  logic                      push_fresh,
    input  logic                      push_last,
    input  logic [ROWS*LANE_BITS-1:0] push_code,
    input  logic                      push_north,
    input  logic                      push_weights,   // to stay: else they pass through, output stationary
    input  logic [COLS*WEIGHTS-1:0] push_weight,
    output logic                      overrun,
    output logic                      load,        // row 0 or column 0, for those who watch
    output logic                      stream,
    output logic                      psum_valid,
    output logic [COLS*PSUM_BITS-1:0] psum,
    input  logic                      needed,
    input  logic                      first,
    input  logic                      last,
    input  logic [       TILE_AT-1:0] oc_tile,
    input  logic [       PSUM_AT-1:0] onij,
    output logic                      read,
    output logic [       PSUM_AT-1:0] read_at,
    input  logic [COLS*PSUM_BITS-1:0] held,
    output logic                      write,
    output logic [       PSUM_AT-1:0] write_at,
    output logic [COLS*PSUM_BITS-1:0] sum,
    output logic                      out_valid,
    output logic [COLS*PSUM_BITS-1:0] out_acc,
    output logic [COLS*PSUM_BITS-1:0] out_relu,
    output logic [COLS*CODE_BITS-1:0] out_code
);
  wire [4*ROWS-1:0] flags;
  wire [ROWS-1:0] west_load, west_stream, west_fresh, west_last;
  wire [ROWS*LANE_BITS-1:0] west_code;
  wire [COLS-1:0] north_load;
  wire [COLS*WEIGHTS-1:0] north_weight;
  wire [COLS*PSUM_BITS-1:0] south_psum;
  wire [COLS-1:0] south_valid;
  wire west_overrun, north_overrun, ofifo_overrun;
  assign overrun = west_overrun || north_overrun || ofifo_overrun;
  assign load = west_load[0] || north_load[0] || stationary && west_stream[0];
  assign stream = west_stream[0];

  l0 #(
      .LANES(ROWS),
      .CODE_BITS(LANE_BITS),
      .FLAGS(4),
      .DEPTH(L0_DEPTH)
  ) west (
      .clk(clk),
      .reset(reset),
      .push(push_load || push_stream),
      .push_flags({push_load, push_stream, push_fresh, push_last}),
      .push_code(push_code),
      .overrun(west_overrun),
      .flags(flags),
      .code(west_code)
  );
  for (genvar r = 0; r < ROWS; r++) begin : row
    assign {west_load[r], west_stream[r], west_fresh[r], west_last[r]} = flags[4*r+:4];
  end
  if (DOUBLE != 0 || STATIONARY != 0) begin : weights
    l0 #(
        .LANES(COLS),
        .CODE_BITS(WEIGHTS),
        .FLAGS(1),
        .DEPTH(L0_DEPTH)
    ) north (
        .clk(clk),
        .reset(reset),
        .push(push_north),
        .push_flags(push_weights),
        .push_code(push_weight),
        .overrun(north_overrun),
        .flags(north_load),
        .code(north_weight)
    );
  end else begin : none
    wire unused = &{1'b0, push_north, push_weights, push_weight};
    assign north_overrun = 1'b0;
    assign north_load = '0;
    assign north_weight = '0;
  end
  mac_array #(
      .ROWS(ROWS),
      .COLS(COLS),
      .ACT_BITS(ACT_BITS),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS),
      .SIMD(SIMD),
      .DOUBLE(DOUBLE),
      .STATIONARY(STATIONARY)
  ) array (
      .clk(clk),
      .reset(reset),
      .act_signed(act_signed),
      .saturate(saturate),
      .split(split),
      .stationary(stationary),
      .west_load(west_load),
      .west_stream(west_stream),
      .west_fresh(west_fresh),
      .west_last(west_last),
      .west_code(west_code),
      .north_load(north_load),
      .north_weight(north_weight),
      .south_psum(south_psum),
      .south_valid(south_valid)
  );
  ofifo #(
      .COLS(COLS),
      .PSUM_BITS(PSUM_BITS),
      .DEPTH(OFIFO_DEPTH)
  ) south (
      .clk(clk),
      .reset(reset),
      .south_valid(south_valid),
      .south_psum(south_psum),
      .overrun(ofifo_overrun),
      .valid(psum_valid),
      .psum(psum)
  );
  sfp #(
      .COLS(COLS),
      .PSUM_BITS(PSUM_BITS),
      .CODE_BITS(CODE_BITS),
      .OC_TILES(OC_TILES),
      .PSUM_AT(PSUM_AT),
      .STORE(STORE)
  ) processor (
      .clk(clk),
      .reset(reset),
      .saturate(saturate),
      .fixed_point(fixed_point),
      .store_write(store_write),
      .store_col(store_col),
      .store_at(store_at),
      .store_in(store_in),
      .valid(psum_valid),
      .needed(needed),
      .first(first),
      .last(last),
      .oc_tile(oc_tile),
      .onij(onij),
      .psum(psum),
      .read(read),
      .read_at(read_at),
      .held(held),
      .write(write),
      .write_at(write_at),
      .sum(sum),
      .out_valid(out_valid),
      .out_acc(out_acc),
      .out_relu(out_relu),
      .out_code(out_code)
  );
endmodule
