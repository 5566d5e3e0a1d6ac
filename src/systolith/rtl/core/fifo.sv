// A first-in first-out queue. What is pushed in a clock can be popped in the next one.
module fifo #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 4
) (
    input  logic             clk,
    input  logic             reset,
    input  logic             push,
    input  logic [WIDTH-1:0] in,
    input  logic             pop,
    output logic             empty,
    output logic             full,
    output logic [WIDTH-1:0] out
);
  localparam int AT = DEPTH > 1 ? $clog2(DEPTH) : 1;
  localparam int COUNT = $clog2(DEPTH + 1);
  logic [WIDTH-1:0] words[DEPTH];
  logic [AT-1:0] head, tail;
  logic [COUNT-1:0] count;

  assign empty = count == 0;
  assign full = count == COUNT'(DEPTH);
  assign out = words[head];

  always_ff @(posedge clk) begin
    if (push) words[tail] <= in;
    if (reset) begin
      head <= '0;
      tail <= '0;
      count <= '0;
    end else begin
      if (push) tail <= tail == AT'(DEPTH - 1) ? '0 : tail + 1'b1;
      if (pop) head <= head == AT'(DEPTH - 1) ? '0 : head + 1'b1;
      count <= count + COUNT'(push) - COUNT'(pop);
    end
  end
endmodule
