// A processing element. Codes come from the west, a beat a clock, and go on to the east one clock later.
//
// A load beat carries weights: the first one since the last stream beat is kept and goes no further, so beat c of a pass
// ends in column c. A stream beat carries activations: the psum from the north plus their products with the weights goes
// to the south. An activation lane is one code, or 2^split narrower ones, each with a weight of its own.
//
// Double-buffered, weights come from the north and go on to the south: the first ones since the last fresh beat wait in
// the shadow, so beat r of a pass ends in row r, and the next fresh beat, the first activation of its pass, takes them.
//
// Output stationary, weights come from the north with each stream beat, and the sum stays: a fresh beat begins it, the
// last one gives it to the south, where sums from the north follow it (drain).
module mac_tile #(
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int SIMD = 1,
    parameter int DOUBLE = 0,
    parameter int STATIONARY = 0,
    parameter int WEIGHTS = SIMD * WEIGHT_BITS,
    parameter int CODE_BITS = ACT_BITS > WEIGHTS ? ACT_BITS : WEIGHTS
) (
    input  logic                 clk,
    input  logic                 reset,
    input  logic                 act_signed,
    input  logic                 saturate,
    input  logic [          1:0] split,
    input  logic                 stationary,
    input  logic                 west_load,
    input  logic                 west_stream,
    input  logic                 west_fresh,
    input  logic                 west_last,
    input  logic                 west_drain,
    input  logic [CODE_BITS-1:0] west_code,
    input  logic                 north_load,
    input  logic [  WEIGHTS-1:0] north_weight,
    input  logic [PSUM_BITS-1:0] north_psum,
    output logic                 east_load,
    output logic                 east_stream,
    output logic                 east_fresh,
    output logic                 east_last,
    output logic                 east_drain,
    output logic [CODE_BITS-1:0] east_code,
    output logic                 south_load,
    output logic [  WEIGHTS-1:0] south_weight,
    output logic [PSUM_BITS-1:0] south_psum
);
  // What holds any sum of products of a lane, one bit more than the wider of the two addends.
  localparam int PRODUCT = ACT_BITS + WEIGHT_BITS;
  localparam int SUM = (PSUM_BITS > PRODUCT ? PSUM_BITS : PRODUCT) + 1;
  localparam int SPLITS = $clog2(SIMD) + 1;

  logic [WEIGHTS-1:0] weight;
  wire [WEIGHTS-1:0] factor;
  logic loaded;

  // A lane as one code, as two, and so on.
  wire [SPLITS*PRODUCT-1:0] products;
  for (genvar s = 0; s < SPLITS; s++) begin : parts
    localparam int BITS = ACT_BITS >> s;
    logic signed [PRODUCT-1:0] added;
    always_comb begin
      added = '0;
      for (int n = 0; n < 1 << s; n++)
        added = added
            + PRODUCT'($signed({act_signed & west_code[n*BITS+BITS-1], west_code[n*BITS+:BITS]}))
            * PRODUCT'($signed(factor[n*WEIGHT_BITS+:WEIGHT_BITS]));
    end
    assign products[s*PRODUCT+:PRODUCT] = added;
  end
  wire [PRODUCT-1:0] product;
  if (SIMD > 1) begin : several
    assign product = products[split*PRODUCT+:PRODUCT];
  end else begin : one
    wire unused = &{1'b0, split};
    assign product = products;
  end

  wire [PSUM_BITS-1:0] addend;
  wire signed [SUM-1:0] sum = SUM'($signed(addend)) + SUM'($signed(product));
  wire signed [PSUM_BITS-1:0] held;
  fit #(
      .WIDE(SUM),
      .BITS(PSUM_BITS)
  ) fit_sum (
      .saturate(saturate),
      .value(sum),
      .held(held)
  );

  always_ff @(posedge clk) begin
    east_code <= west_code;
    if (reset) begin
      loaded <= 1'b0;
      east_load <= 1'b0;
      east_stream <= 1'b0;
    end else begin
      loaded <= (loaded || west_load) && !west_stream;
      east_load <= west_load && loaded;
      east_stream <= west_stream;
    end
  end

  wire [WEIGHTS-1:0] resident;
  if (DOUBLE != 0) begin : shadowed
    logic [WEIGHTS-1:0] shadow;
    logic filled;
    wire keeps = filled && !west_fresh;
    assign resident = west_fresh ? shadow : weight;
    always_ff @(posedge clk) begin
      if (north_load && !keeps) shadow <= north_weight;
      if (west_fresh) weight <= shadow;
      else if (west_load && !loaded) weight <= west_code[WEIGHTS-1:0];
      if (reset) begin
        filled <= 1'b0;
        south_load <= 1'b0;
      end else begin
        filled <= keeps || north_load;
        south_load <= north_load && keeps;
      end
    end
  end else begin : single
    wire unused = &{1'b0, north_load};
    assign resident = weight;
    assign south_load = 1'b0;
    always_ff @(posedge clk) if (west_load && !loaded) weight <= west_code[WEIGHTS-1:0];
  end

  if (DOUBLE != 0 || STATIONARY != 0) begin : further
    always_ff @(posedge clk) begin
      south_weight <= north_weight;
      east_fresh <= !reset && west_fresh;
    end
  end else begin : nearer
    wire unused = &{1'b0, west_fresh, north_weight};
    assign south_weight = '0;
    assign east_fresh = 1'b0;
  end

  if (STATIONARY != 0) begin : staying
    logic [PSUM_BITS-1:0] acc;
    assign factor = stationary ? north_weight : resident;
    assign addend = !stationary ? north_psum : west_fresh ? '0 : acc;
    always_ff @(posedge clk) begin
      east_last <= west_last;
      east_drain <= west_drain;
      if (west_stream) acc <= held;
      if (west_stream && (!stationary || west_last)) south_psum <= held;
      else if (west_drain) south_psum <= north_psum;
    end
  end else begin : passing
    wire unused = &{1'b0, stationary, west_last, west_drain};
    assign factor = resident;
    assign addend = north_psum;
    assign east_last = 1'b0;
    assign east_drain = 1'b0;
    always_ff @(posedge clk) if (west_stream) south_psum <= held;
  end
endmodule
