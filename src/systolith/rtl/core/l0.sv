// A queue at an edge of the array: whole words in, lane n out n clocks after lane 0. Flags say what a word is for; all of
// them are 0 in a clock without one.
module l0 #(
    parameter int LANES = 8,
    parameter int CODE_BITS = 4,
    parameter int FLAGS = 1,
    parameter int DEPTH = 4
) (
    input  logic                       clk,
    input  logic                       reset,
    input  logic                       push,
    input  logic [          FLAGS-1:0] push_flags,
    input  logic [LANES*CODE_BITS-1:0] push_code,
    output logic                       overrun,
    output logic [    LANES*FLAGS-1:0] flags,
    output logic [LANES*CODE_BITS-1:0] code
);
  localparam int LANE = FLAGS + CODE_BITS;
  wire empty, full;
  wire [FLAGS-1:0] head_flags;
  wire [LANES*CODE_BITS-1:0] head_code;
  assign overrun = full && push;
  fifo #(
      .WIDTH(FLAGS + LANES * CODE_BITS),
      .DEPTH(DEPTH)
  ) queue (
      .clk(clk),
      .reset(reset),
      .push(push),
      .in({push_flags, push_code}),
      .pop(!empty),
      .empty(empty),
      .full(full),
      .out({head_flags, head_code})
  );
  for (genvar n = 0; n < LANES; n++) begin : lane
    wire [LANE-1:0] now = {empty ? FLAGS'(0) : head_flags, head_code[n*CODE_BITS+:CODE_BITS]};
    wire [LANE-1:0] late;
    if (n == 0) begin : first
      assign late = now;
    end else begin : further
      // n beats on their way, the oldest in the highest place.
      logic [n*LANE-1:0] way;
      always_ff @(posedge clk) begin
        if (reset) way <= '0;
        else way <= (n * LANE)'({way, now});
      end
      assign late = way[(n-1)*LANE+:LANE];
    end
    assign {flags[n*FLAGS+:FLAGS], code[n*CODE_BITS+:CODE_BITS]} = late;
  end
endmodule
