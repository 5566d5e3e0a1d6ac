// The queues south of the array: column c's psums come c clocks late, words leave whole.
module ofifo #(
    parameter int COLS = 8,
    parameter int PSUM_BITS = 16,
    parameter int DEPTH = 8
) (
    input  logic                      clk,
    input  logic                      reset,
    input  logic [          COLS-1:0] south_valid,
    input  logic [COLS*PSUM_BITS-1:0] south_psum,
    output logic                      overrun,
    output logic                      valid,
    output logic [COLS*PSUM_BITS-1:0] psum
);
  wire [COLS-1:0] empty, full;
  // A full queue that is popped takes a word all the same.
  assign overrun = !valid && (full & south_valid) != '0;
  assign valid = empty == '0;
  for (genvar c = 0; c < COLS; c++) begin : col
    fifo #(
        .WIDTH(PSUM_BITS),
        .DEPTH(DEPTH)
    ) psums (
        .clk(clk),
        .reset(reset),
        .push(south_valid[c]),
        .in(south_psum[c*PSUM_BITS+:PSUM_BITS]),
        .pop(valid),
        .empty(empty[c]),
        .full(full[c]),
        .out(psum[c*PSUM_BITS+:PSUM_BITS])
    );
  end
endmodule
