// A core: memories, corelet, and the control that runs a whole layer from its descriptor.
//
// A pass takes COLS beats of weights, a beat of nothing, and a beat for each position (see walk); the next pass follows
// at once, or (drained) when the last psum of this one has left the array. Beats are read from the memories in one
// clock, queued in the next, and enter row 0 of the array in the one after that.
module core #(
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = 4,
    parameter int ACT_DEPTH = 64,
    parameter int WEIGHT_DEPTH = 128,
    parameter int PSUM_DEPTH = 64,
    parameter int OC_TILES = 1,
    parameter int L0_DEPTH = 2,
    parameter int OFIFO_DEPTH = COLS,
    parameter int LEVELS = (1 << CODE_BITS) - 1,
    parameter int STORE = LEVELS * (PSUM_BITS + 1) + 1 > 78 ? LEVELS * (PSUM_BITS + 1) + 1 : 78,
    parameter int ACT_AT = ACT_DEPTH > 1 ? $clog2(ACT_DEPTH) : 1,
    parameter int WEIGHT_AT = WEIGHT_DEPTH > 1 ? $clog2(WEIGHT_DEPTH) : 1,
    parameter int PSUM_AT = PSUM_DEPTH > 1 ? $clog2(PSUM_DEPTH) : 1,
    parameter int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1,
    parameter int COL_AT = COLS > 1 ? $clog2(COLS) : 1
) (
    input  logic                        clk,
    input  logic                        reset,
    // What the host writes before it starts the layer.
    input  logic                        act_write,
    input  logic [          ACT_AT-1:0] act_at,
    input  logic [   ROWS*ACT_BITS-1:0] act_in,
    input  logic                        weight_write,
    input  logic [       WEIGHT_AT-1:0] weight_at,
    input  logic [ROWS*WEIGHT_BITS-1:0] weight_in,
    input  logic                        store_write,
    input  logic [          COL_AT-1:0] store_col,
    input  logic [         TILE_AT-1:0] store_at,
    input  logic [           STORE-1:0] store_in,
    input  logic                        range_write,
    input  logic [         TILE_AT-1:0] range_at,      // oc_tile
    input  logic [                31:0] range_in,      // its first and, in the upper half, its last ic_tile
    // The descriptor; it stays while the layer runs.
    input  logic                        act_signed,
    input  logic                        saturate,
    input  logic                        fixed_point,
    input  logic                        useful,
    input  logic                        drained,
    input  logic [           11*16-1:0] shape,         // of the layer, as walk.sv takes it apart
    input  logic                        start,
    output logic                        busy,          // until the last output has come
    // What happens, for those who watch.
    output logic                        west_load,     // a weight beat enters row 0
    output logic                        west_stream,   // an activation beat does
    output logic                        psum_read,     // of the psum memory
    output logic                        psum_write,
    output logic                        overrun,       // a queue was full: a fault of the parameters
    // What comes out.
    output logic                        psum_valid,
    output logic [  COLS*PSUM_BITS-1:0] psum,
    output logic                        out_valid,
    output logic [  COLS*PSUM_BITS-1:0] out_acc,
    output logic [  COLS*PSUM_BITS-1:0] out_relu,
    output logic [  COLS*CODE_BITS-1:0] out_code
);
  localparam int LANE_BITS = ACT_BITS > WEIGHT_BITS ? ACT_BITS : WEIGHT_BITS;
  localparam int DRAIN = ROWS + COLS - 2;
  localparam logic [2:0] IDLE = 0, LOAD = 1, GAP = 2, STREAM = 3, WAIT = 4;

  // Control: what is read from the memories in this clock.
  logic [2:0] state;
  logic [15:0] count;
  logic [WEIGHT_AT-1:0] weight_next;
  wire [ACT_AT-1:0] stream_at;
  wire pass_end, layer_end;
  // From the start until the last word has gone through the special function processor, three clocks behind the OFIFO.
  wire last_word;
  logic flying;
  logic [2:0] behind;
  assign busy = flying;
  always_ff @(posedge clk) begin
    behind <= {behind[1:0], psum_valid && last_word};
    if (reset) flying <= 1'b0;
    else if (start && !busy) flying <= 1'b1;
    else if (behind[2]) flying <= 1'b0;
  end

  always_ff @(posedge clk) begin
    if (reset) state <= IDLE;
    else
      case (state)
        IDLE: if (start && !busy) state <= LOAD;
        LOAD: if (count == 16'(COLS - 1)) state <= GAP;
        GAP: state <= STREAM;
        STREAM: if (pass_end) state <= layer_end ? IDLE : drained && DRAIN > 0 ? WAIT : LOAD;
        WAIT: if (count == 16'(DRAIN - 1)) state <= LOAD;
        default: state <= IDLE;
      endcase
    if (state == IDLE) weight_next <= '0;
    else if (state == LOAD) weight_next <= weight_next + 1'b1;
    // The count of beats of this state.
    if (state == LOAD && count != 16'(COLS - 1) || state == WAIT && count != 16'(DRAIN - 1)) count <= count + 1'b1;
    else count <= '0;
  end

  // The ic_tiles of each oc_tile; both walks look them up.
  logic [31:0] ranges[OC_TILES];
  wire [15:0] tile_in, tile_out;
  wire [31:0] range_reading = ranges[TILE_AT'(tile_in)];
  wire [31:0] range_placing = ranges[TILE_AT'(tile_out)];
  always_ff @(posedge clk) if (range_write) ranges[range_at] <= range_in;

  wire [PSUM_AT-1:0] unused_onij;
  wire unused_needed, unused_first, unused_last;
  walk #(
      .ACT_AT(ACT_AT),
      .PSUM_AT(PSUM_AT)
  ) reading (
      .clk(clk),
      .restart(state == IDLE),
      .step(state == STREAM),
      .useful(useful),
      .shape(shape),
      .first_tile(range_reading[15:0]),
      .last_tile(range_reading[31:16]),
      .oc_tile(tile_in),
      .act_at(stream_at),
      .onij(unused_onij),
      .needed(unused_needed),
      .first(unused_first),
      .last(unused_last),
      .pass_end(pass_end),
      .layer_end(layer_end)
  );

  wire [ROWS*ACT_BITS-1:0] act_word;
  wire [ROWS*WEIGHT_BITS-1:0] weight_word;
  memory #(
      .WIDTH(ROWS * ACT_BITS),
      .DEPTH(ACT_DEPTH)
  ) acts (
      .clk(clk),
      .write(act_write),
      .write_at(act_at),
      .in(act_in),
      .read(state == STREAM),
      .read_at(stream_at),
      .out(act_word)
  );
  memory #(
      .WIDTH(ROWS * WEIGHT_BITS),
      .DEPTH(WEIGHT_DEPTH)
  ) weights (
      .clk(clk),
      .write(weight_write),
      .write_at(weight_at),
      .in(weight_in),
      .read(state == LOAD),
      .read_at(weight_next),
      .out(weight_word)
  );

  logic push_load, push_stream;
  always_ff @(posedge clk) begin
    push_load <= !reset && state == LOAD;
    push_stream <= !reset && state == STREAM;
  end
  wire [ROWS*LANE_BITS-1:0] push_code;
  for (genvar r = 0; r < ROWS; r++) begin : row
    assign push_code[r*LANE_BITS+:LANE_BITS] = push_load
        ? LANE_BITS'(weight_word[r*WEIGHT_BITS+:WEIGHT_BITS])
        : LANE_BITS'(act_word[r*ACT_BITS+:ACT_BITS]);
  end

  // Psums come out in the order in which positions went in.
  wire needed, first, last;
  wire [PSUM_AT-1:0] onij;
  wire [ACT_AT-1:0] unused_at;
  wire unused_pass;
  wire unused = &{1'b0, tile_in, tile_out};  // their upper bits
  walk #(
      .ACT_AT(ACT_AT),
      .PSUM_AT(PSUM_AT)
  ) placing (
      .clk(clk),
      .restart(start && !busy),
      .step(psum_valid),
      .useful(useful),
      .shape(shape),
      .first_tile(range_placing[15:0]),
      .last_tile(range_placing[31:16]),
      .oc_tile(tile_out),
      .act_at(unused_at),
      .onij(onij),
      .needed(needed),
      .first(first),
      .last(last),
      .pass_end(unused_pass),
      .layer_end(last_word)
  );

  wire read, write;
  assign psum_read = read;
  assign psum_write = write;
  wire [PSUM_AT-1:0] read_at, write_at;
  wire [COLS*PSUM_BITS-1:0] held, sum;
  memory #(
      .WIDTH(COLS * PSUM_BITS),
      .DEPTH(PSUM_DEPTH)
  ) psums (
      .clk(clk),
      .write(write),
      .write_at(write_at),
      .in(sum),
      .read(read),
      .read_at(read_at),
      .out(held)
  );
  corelet #(
      .ROWS(ROWS),
      .COLS(COLS),
      .ACT_BITS(ACT_BITS),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS),
      .CODE_BITS(CODE_BITS),
      .OC_TILES(OC_TILES),
      .PSUM_AT(PSUM_AT),
      .L0_DEPTH(L0_DEPTH),
      .OFIFO_DEPTH(OFIFO_DEPTH),
      .STORE(STORE)
  ) datapath (
      .clk(clk),
      .reset(reset),
      .act_signed(act_signed),
      .saturate(saturate),
      .fixed_point(fixed_point),
      .store_write(store_write),
      .store_col(store_col),
      .store_at(store_at),
      .store_in(store_in),
      .push_load(push_load),
      .push_stream(push_stream),
      .push_code(push_code),
      .overrun(overrun),
      .west_load(west_load),
      .west_stream(west_stream),
      .psum_valid(psum_valid),
      .psum(psum),
      .needed(needed),
      .first(first),
      .last(last),
      .oc_tile(TILE_AT'(tile_out)),
      .onij(onij),
      .read(read),
      .read_at(read_at),
      .held(held),
      .write(write),
      .write_at(write_at),
      .sum(sum),
      .out_valid(out_valid),
      .out_acc(out_acc),
      .out_relu(out_relu),
      .out_code(out_code)
  );
endmodule
