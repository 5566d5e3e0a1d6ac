// The queue west of the array: whole words in, row r out r clocks after row 0.
module l0 #(
    parameter int ROWS = 8,
    parameter int CODE_BITS = 4,
    parameter int DEPTH = 4
) (
    input  logic                      clk,
    input  logic                      reset,
    input  logic                      push_load,
    input  logic                      push_stream,
    input  logic [ROWS*CODE_BITS-1:0] push_code,
    output logic                      full,
    output logic [          ROWS-1:0] west_load,
    output logic [          ROWS-1:0] west_stream,
    output logic [ROWS*CODE_BITS-1:0] west_code
);
  wire empty, load, stream;
  wire [ROWS*CODE_BITS-1:0] code;
  fifo #(
      .WIDTH(2 + ROWS * CODE_BITS),
      .DEPTH(DEPTH)
  ) queue (
      .clk(clk),
      .reset(reset),
      .push(push_load || push_stream),
      .in({push_load, push_stream, push_code}),
      .pop(!empty),
      .empty(empty),
      .full(full),
      .out({load, stream, code})
  );
  for (genvar r = 0; r < ROWS; r++) begin : row
    wire [CODE_BITS+1:0] now = {!empty && load, !empty && stream, code[r*CODE_BITS+:CODE_BITS]};
    wire [CODE_BITS+1:0] late;
    if (r == 0) begin : first
      assign late = now;
    end else begin : further
      // r beats on their way, the oldest in the highest place.
      logic [r*(CODE_BITS+2)-1:0] way;
      always_ff @(posedge clk) begin
        if (reset) way <= '0;
        else way <= (r * (CODE_BITS + 2))'({way, now});
      end
      assign late = way[(r-1)*(CODE_BITS+2)+:CODE_BITS+2];
    end
    assign {west_load[r], west_stream[r], west_code[r*CODE_BITS+:CODE_BITS]} = late;
  end
endmodule
