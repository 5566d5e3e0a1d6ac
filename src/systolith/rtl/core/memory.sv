// One write port, one read port; a word read in a clock is there in the next one, as it was before that clock's write.
module memory #(
    parameter int WIDTH = 32,
    parameter int DEPTH = 64,
    parameter int AT = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input  logic             clk,
    input  logic             write,
    input  logic [   AT-1:0] write_at,
    input  logic [WIDTH-1:0] in,
    input  logic             read,
    input  logic [   AT-1:0] read_at,
    output logic [WIDTH-1:0] out
);
  logic [WIDTH-1:0] words[DEPTH];
  always_ff @(posedge clk) begin
    if (read) out <= words[read_at];
    if (write) words[write_at] <= in;
  end
endmodule
