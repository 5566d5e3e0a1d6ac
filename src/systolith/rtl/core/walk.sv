// The order of a layer: for each oc_tile its passes, in each pass every position that is streamed. One step a clock.
//
// A position that an output needs is found by its address within a map, counted from where the kernel lies: columns,
// rows and pictures are steps of addresses. Either these alone are streamed (useful), or all addresses of the padded maps
// one after another. Two walks run in a core: one reads activations, the other, a few clocks later, finds the place of
// each psum.
module walk #(
    parameter int AT = 8,
    parameter int PSUM_AT = 8,
    parameter int WALK = 1 + 4 * 16 + 11 * AT
) (
    input  logic               clk,
    input  logic               restart,
    input  logic               step,
    input  logic [   WALK-1:0] layer,       // see below
    input  logic [     AT-1:0] slot_limit,  // of this oc_tile
    output logic [       15:0] oc_tile,
    output logic [     AT-1:0] slot,        // row 0's
    output logic [     AT-1:0] tap,         // nothing where all addresses are streamed
    output logic [     AT-1:0] at,          // the position, from there
    output logic [PSUM_AT-1:0] onij,        // of the output that takes this psum, if `needed`
    output logic               needed,
    output logic               first,       // pass of its oc_tile
    output logic               last,        // pass of its oc_tile
    output logic               pass_end,
    output logic               layer_last,  // pass of the layer
    output logic               layer_end
);
  wire [15:0] oc_tiles, pictures, out_h, out_w;
  wire [AT-1:0] whole, map_step, row_step, col_step;  // addresses
  wire [7*AT-1:0] kernel;  // as taps.sv takes it
  wire useful;
  assign {useful, oc_tiles, pictures, out_h, out_w, whole, map_step, row_step, col_step, kernel} = layer;

  wire step_pass = step && pass_end;
  wire unused_live;
  wire [AT-1:0] place;
  assign tap = useful ? place : '0;
  taps #(
      .AT(AT)
  ) top (
      .clk(clk),
      .begins(restart || step_pass && last),
      .step(step_pass),
      .slot_start(AT'(0)),
      .kj_start(AT'(0)),
      .ki_start(AT'(0)),
      .slot_limit(slot_limit),
      .slot_step(kernel[6*AT+:AT]),
      .kj_limit(kernel[5*AT+:AT]),
      .kj_step(kernel[4*AT+:AT]),
      .kj_unit(kernel[3*AT+:AT]),
      .ki_limit(kernel[2*AT+:AT]),
      .ki_step(kernel[1*AT+:AT]),
      .ki_unit(kernel[0*AT+:AT]),
      .slot(slot),
      .tap(place),
      .live(unused_live),
      .ends(last)
  );

  logic [15:0] oi, oj, picture;  // of the next output
  logic [AT-1:0] want, row_at, map_at;  // its position, those of its row's and its picture's first
  logic [AT-1:0] nij;
  logic done;  // no more output needs any
  wire row_end = oj == out_w - 1'b1;
  wire map_end = row_end && oi == out_h - 1'b1;
  wire all_end = map_end && picture == pictures - 1'b1;
  assign at = useful ? want : nij;
  assign needed = useful || nij == place + want && !done;
  assign pass_end = useful ? all_end : nij == whole - 1'b1;
  assign layer_last = last && oc_tile == oc_tiles - 1'b1;
  assign layer_end = pass_end && layer_last;

  always_ff @(posedge clk) begin
    if (restart) begin
      oc_tile <= '0;
      first <= 1'b1;
    end else if (step_pass) begin
      if (last) oc_tile <= oc_tile + 1'b1;
      first <= last;
    end
    if (restart || step_pass) begin
      oi <= '0;
      oj <= '0;
      picture <= '0;
      want <= '0;
      row_at <= '0;
      map_at <= '0;
      nij <= '0;
      onij <= '0;
      done <= 1'b0;
    end else if (step) begin
      nij <= nij + 1'b1;
      if (needed) begin
        onij <= onij + 1'b1;
        done <= all_end;
        oj <= row_end ? '0 : oj + 1'b1;
        want <= want + col_step;
        if (row_end) begin
          oi <= map_end ? '0 : oi + 1'b1;
          row_at <= row_at + row_step;
          want <= row_at + row_step;
        end
        if (map_end) begin
          picture <= picture + 1'b1;
          map_at <= map_at + map_step;
          row_at <= map_at + map_step;
          want <= map_at + map_step;
        end
      end
    end
  end
endmodule
