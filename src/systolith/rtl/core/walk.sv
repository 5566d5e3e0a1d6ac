// The order of a layer: for each oc_tile, kij, ic_tile (a pass) every position that is streamed. One step a clock.
//
// An oc_tile takes the ic_tiles `first_tile` to `last_tile`: all of them, or of a grouped layer those of its groups.
// Of the padded map either all positions nij are streamed, or (useful) only those that an output needs under this kij.
// Two walks run in a core: one reads activations, the other, a few clocks later, finds the place of each psum.
module walk #(
    parameter int ACT_AT  = 8,
    parameter int PSUM_AT = 8
) (
    input  logic          clk,
    input  logic          restart,
    input  logic          step,
    input  logic          useful,
    input  logic [11*16-1:0] shape,  // eleven numbers of 16 bits, see below
    input  logic [  15:0] first_tile,  // of this oc_tile
    input  logic [  15:0] last_tile,
    output logic [  15:0] oc_tile,
    output logic [ACT_AT-1:0] act_at,   // ic_tile*Np + nij
    output logic [PSUM_AT-1:0] onij,     // of the output that takes this psum, if `needed`
    output logic          needed,
    output logic          first,    // pass of its oc_tile
    output logic          last,     // pass of its oc_tile
    output logic          pass_end,
    output logic          layer_end
);
  wire [15:0] oc_tiles, kernel_h, kernel_w, padded_h, padded_w;
  wire [15:0] out_h, out_w, stride_h, stride_w, dilation_h, dilation_w;
  assign {oc_tiles, kernel_h, kernel_w, padded_h, padded_w,
          out_h, out_w, stride_h, stride_w, dilation_h, dilation_w} = shape;

  logic [15:0] past, ki, kj;  // ic_tiles past the first one
  wire [15:0] ic_tile = first_tile + past;
  logic [15:0] i, j;  // position in the padded map
  logic [15:0] oi, oj;  // the next output row and column to be met
  logic [15:0] want_i, want_j;  // where
  wire [15:0] start_j = kj * dilation_w;

  wire row_met = i == want_i && oi != out_h;
  wire col_met = j == want_j && oj != out_w;
  assign needed = row_met && col_met;
  assign act_at = ACT_AT'(32'(ic_tile) * 32'(padded_h) * 32'(padded_w) + 32'(i) * 32'(padded_w) + 32'(j));
  assign onij = PSUM_AT'(32'(oi) * 32'(out_w) + 32'(oj));

  wire row_end = useful ? oj == out_w - 1'b1 : j == padded_w - 1'b1;
  wire map_end = row_end && (useful ? oi == out_h - 1'b1 : i == padded_h - 1'b1);
  wire tile_end = ic_tile == last_tile;
  wire kj_end = kj == kernel_w - 1'b1;
  wire ki_end = ki == kernel_h - 1'b1;
  assign first = past == 0 && ki == 0 && kj == 0;
  assign last = tile_end && kj_end && ki_end;
  assign pass_end = map_end;
  assign layer_end = map_end && last && oc_tile == oc_tiles - 1'b1;

  // The pass behind this one.
  wire [15:0] next_kj = !tile_end ? kj : kj_end ? '0 : kj + 1'b1;
  wire [15:0] next_ki = !(tile_end && kj_end) ? ki : ki_end ? '0 : ki + 1'b1;
  wire [15:0] next_start_i = next_ki * dilation_h;
  wire [15:0] next_start_j = next_kj * dilation_w;

  always_ff @(posedge clk) begin
    if (restart) begin
      oc_tile <= '0;
      past <= '0;
      ki <= '0;
      kj <= '0;
      i <= '0;
      j <= '0;
      oi <= '0;
      oj <= '0;
      want_i <= '0;
      want_j <= '0;
    end else if (step) begin
      if (map_end) begin
        past <= tile_end ? '0 : past + 1'b1;
        kj <= next_kj;
        ki <= next_ki;
        if (last) oc_tile <= oc_tile + 1'b1;
        i <= useful ? next_start_i : '0;
        j <= useful ? next_start_j : '0;
        oi <= '0;
        oj <= '0;
        want_i <= next_start_i;
        want_j <= next_start_j;
      end else if (row_end) begin
        i <= useful ? i + stride_h : i + 1'b1;
        j <= useful ? start_j : '0;
        oj <= '0;
        want_j <= start_j;
        if (row_met) begin
          oi <= oi + 1'b1;
          want_i <= want_i + stride_h;
        end
      end else begin
        j <= useful ? j + stride_w : j + 1'b1;
        if (col_met) begin
          oj <= oj + 1'b1;
          want_j <= want_j + stride_w;
        end
      end
    end
  end
endmodule
