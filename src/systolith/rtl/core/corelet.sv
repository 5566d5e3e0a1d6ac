// All but the memories and the control: L0, the array, the OFIFO, the special function processor.
module corelet #(
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = 4,
    parameter int OC_TILES = 1,
    parameter int PSUM_AT = 8,
    parameter int L0_DEPTH = 2,
    parameter int OFIFO_DEPTH = COLS,
    parameter int STORE = 256,
    parameter int LANE_BITS = ACT_BITS > WEIGHT_BITS ? ACT_BITS : WEIGHT_BITS,
    parameter int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1,
    parameter int COL_AT = COLS > 1 ? $clog2(COLS) : 1
) (
    input  logic                      clk,
    input  logic                      reset,
    input  logic                      act_signed,
    input  logic                      saturate,
    input  logic                      fixed_point,
    input  logic                      store_write,
    input  logic [        COL_AT-1:0] store_col,
    input  logic [       TILE_AT-1:0] store_at,
    input  logic [         STORE-1:0] store_in,
    input  logic                      push_load,
    input  logic                      push_stream,
    input  logic [ROWS*LANE_BITS-1:0] push_code,
    output logic                      overrun,
    output logic                      west_load,    // row 0, for those who watch
    output logic                      west_stream,
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
  wire [ROWS-1:0] load, stream;
  wire [ROWS*LANE_BITS-1:0] code;
  wire [COLS*PSUM_BITS-1:0] south_psum;
  wire [COLS-1:0] south_valid;
  wire l0_full, ofifo_overrun;
  assign overrun = l0_full && (push_load || push_stream) || ofifo_overrun;
  assign west_load = load[0];
  assign west_stream = stream[0];

  l0 #(
      .ROWS(ROWS),
      .CODE_BITS(LANE_BITS),
      .DEPTH(L0_DEPTH)
  ) west (
      .clk(clk),
      .reset(reset),
      .push_load(push_load),
      .push_stream(push_stream),
      .push_code(push_code),
      .full(l0_full),
      .west_load(load),
      .west_stream(stream),
      .west_code(code)
  );
  mac_array #(
      .ROWS(ROWS),
      .COLS(COLS),
      .ACT_BITS(ACT_BITS),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS)
  ) array (
      .clk(clk),
      .reset(reset),
      .act_signed(act_signed),
      .saturate(saturate),
      .west_load(load),
      .west_stream(stream),
      .west_code(code),
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
