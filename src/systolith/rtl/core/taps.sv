// Where a row is in the reduction: which of its maps, which column and which row of the kernel. One step a pass.
//
// The three are digits of one number, each counted in addresses: `slot` in whole maps (of all pictures), `kj` in columns
// and `ki` in rows of the padded map. A step adds a number of the same digits; a digit that reaches its limit is
// reduced and carries a unit into the next one. Beyond the kernel's last row there is nothing left.
module taps #(
    parameter int AT = 8
) (
    input  logic          clk,
    input  logic          begins,      // anew: a layer, an oc_tile
    input  logic          step,
    input  logic [AT-1:0] slot_start,
    input  logic [AT-1:0] kj_start,
    input  logic [AT-1:0] ki_start,
    input  logic [AT-1:0] slot_limit,
    input  logic [AT-1:0] slot_step,
    input  logic [AT-1:0] kj_limit,
    input  logic [AT-1:0] kj_step,
    input  logic [AT-1:0] kj_unit,
    input  logic [AT-1:0] ki_limit,
    input  logic [AT-1:0] ki_step,
    input  logic [AT-1:0] ki_unit,
    output logic [AT-1:0] slot,
    output logic [AT-1:0] tap,         // kj and ki together
    output logic          live,      // the kernel
    output logic          ends         // the next step leaves it
);
  logic [AT-1:0] kj, ki;
  assign tap = kj + ki;
  assign live = ki < ki_limit;

  wire [AT-1:0] slot_sum = slot + slot_step;
  wire slot_over = slot_sum >= slot_limit;
  wire [AT-1:0] kj_sum = kj + kj_step + (slot_over ? kj_unit : '0);
  wire kj_over = kj_sum >= kj_limit;
  wire [AT-1:0] ki_sum = ki + ki_step + (kj_over ? ki_unit : '0);
  assign ends = ki_sum >= ki_limit;

  always_ff @(posedge clk) begin
    if (begins) begin
      slot <= slot_start;
      kj <= kj_start;
      ki <= ki_start;
    end else if (step) begin
      slot <= slot_over ? slot_sum - slot_limit : slot_sum;
      kj <= kj_over ? kj_sum - kj_limit : kj_sum;
      ki <= ki_sum;
    end
  end
endmodule
