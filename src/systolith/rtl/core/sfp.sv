// The special function processor: COLS lanes behind the OFIFO, and the read-modify-write of the psum memory.
//
// Clock 0: a word and its place; the memory is read. Clock 1: the sum is written back. Clocks 2, 3: outputs of a last
// pass are registered.
module sfp #(
    parameter int COLS = 8,
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = 4,
    parameter int OC_TILES = 1,
    parameter int PSUM_AT = 8,
    parameter int STORE = 256,
    parameter int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1,
    parameter int COL_AT = COLS > 1 ? $clog2(COLS) : 1
) (
    input  logic                      clk,
    input  logic                      reset,
    input  logic                      saturate,
    input  logic                      fixed_point,
    input  logic                      store_write,
    input  logic [        COL_AT-1:0] store_col,
    input  logic [       TILE_AT-1:0] store_at,
    input  logic [         STORE-1:0] store_in,
    // From the OFIFO, with the place of the word.
    input  logic                      valid,
    input  logic                      needed,
    input  logic                      first,
    input  logic                      last,
    input  logic [       TILE_AT-1:0] oc_tile,
    input  logic [       PSUM_AT-1:0] onij,
    input  logic [COLS*PSUM_BITS-1:0] psum,
    // The psum memory.
    output logic                      read,
    output logic [       PSUM_AT-1:0] read_at,
    input  logic [COLS*PSUM_BITS-1:0] held,
    output logic                      write,
    output logic [       PSUM_AT-1:0] write_at,
    output logic [COLS*PSUM_BITS-1:0] sum,
    // Outputs.
    output logic                      out_valid,
    output logic [COLS*PSUM_BITS-1:0] out_acc,
    output logic [COLS*PSUM_BITS-1:0] out_relu,
    output logic [COLS*CODE_BITS-1:0] out_code
);
  assign read = valid && needed;
  assign read_at = onij;

  logic add, fresh, final_add, final_total;
  logic [TILE_AT-1:0] tile;
  logic [COLS*PSUM_BITS-1:0] word;
  assign write = add;
  always_ff @(posedge clk) begin
    fresh <= first;
    tile <= oc_tile;
    write_at <= onij;
    word <= psum;
    if (reset) begin
      add <= 1'b0;
      final_add <= 1'b0;
      final_total <= 1'b0;
      out_valid <= 1'b0;
    end else begin
      add <= valid && needed;
      final_add <= valid && needed && last;
      final_total <= final_add;
      out_valid <= final_total;
    end
  end

  for (genvar c = 0; c < COLS; c++) begin : col
    sfp_lane #(
        .PSUM_BITS(PSUM_BITS),
        .CODE_BITS(CODE_BITS),
        .OC_TILES(OC_TILES)
    ) lane (
        .clk(clk),
        .saturate(saturate),
        .fixed_point(fixed_point),
        .store_write(store_write && store_col == COL_AT'(c)),
        .store_at(store_at),
        .store_in(store_in),
        .add(add),
        .fresh(fresh),
        .oc_tile(tile),
        .psum(word[c*PSUM_BITS+:PSUM_BITS]),
        .held(held[c*PSUM_BITS+:PSUM_BITS]),
        .sum(sum[c*PSUM_BITS+:PSUM_BITS]),
        .acc(out_acc[c*PSUM_BITS+:PSUM_BITS]),
        .relu(out_relu[c*PSUM_BITS+:PSUM_BITS]),
        .code(out_code[c*CODE_BITS+:CODE_BITS])
    );
  end
endmodule
