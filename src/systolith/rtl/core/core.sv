// A core: memories, corelet, and the control that runs a whole layer from its descriptor.
//
// A pass takes COLS beats of weights from the west, a beat of nothing, and a beat for each position (see walk); the next
// pass follows at once, or (drained) when the last psum of this one has left the array. Double-buffered, weights take
// ROWS beats from the north, of the first pass before its positions, of each further one beside the positions of the one
// before it. Output stationary, a pass is a fold: each row has a position of its own, and a beat is a step of the
// reduction, a word from the west and one from the north. Words are read from the memories in one clock, queued in the
// next, and enter the array in the one after that.
module core #(
    parameter int ROWS = 8,
    parameter int COLS = 8,
    parameter int ACT_BITS = 4,
    parameter int WEIGHT_BITS = 4,
    parameter int PSUM_BITS = 16,
    parameter int CODE_BITS = 4,
    parameter int SIMD = 1,        // most codes of an activation lane: 1, 2, 4 or 8
    parameter int DOUBLE = 0,      // whether weights can be double-buffered
    parameter int STATIONARY = 0,  // whether outputs can be stationary, which takes PACKED
    parameter int PACKED = 0,      // whether each row has an address of its own
    parameter int ACT_DEPTH = 64,
    parameter int WEIGHT_DEPTH = 128,
    parameter int PSUM_DEPTH = 64,
    parameter int OC_TILES = 1,
    parameter int L0_DEPTH = 2,
    parameter int OFIFO_DEPTH = COLS,
    parameter int LEVELS = (1 << CODE_BITS) - 1,
    parameter int STORE = LEVELS * (PSUM_BITS + 1) + 1 > 78 ? LEVELS * (PSUM_BITS + 1) + 1 : 78,
    parameter int WEIGHTS = SIMD * WEIGHT_BITS,
    parameter int WEIGHT_LANES = (DOUBLE != 0 || STATIONARY != 0) && COLS > ROWS ? COLS : ROWS,
    parameter int ACT_AT = ACT_DEPTH > 1 ? $clog2(ACT_DEPTH) : 1,
    parameter int WEIGHT_AT = WEIGHT_DEPTH > 1 ? $clog2(WEIGHT_DEPTH) : 1,
    parameter int PSUM_AT = PSUM_DEPTH > 1 ? $clog2(PSUM_DEPTH) : 1,
    parameter int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1,
    parameter int ROW_AT = ROWS > 1 ? $clog2(ROWS) : 1,
    parameter int COL_AT = COLS > 1 ? $clog2(COLS) : 1,
    parameter int WALK32 = 1 + 4 * 16 + 11 * 32
) (
    input  logic                                clk,
    input  logic                                reset,
    // What the host writes before it starts the layer.
    input  logic                                act_write,
    input  logic [                  ACT_AT-1:0] act_at,
    input  logic [           ROWS*ACT_BITS-1:0] act_in,
    input  logic                                weight_write,
    input  logic [               WEIGHT_AT-1:0] weight_at,
    input  logic [    WEIGHT_LANES*WEIGHTS-1:0] weight_in,
    input  logic                                store_write,
    input  logic [                  COL_AT-1:0] store_col,
    input  logic [                 TILE_AT-1:0] store_at,
    input  logic [                   STORE-1:0] store_in,
    input  logic                                range_write,
    input  logic [                 TILE_AT-1:0] range_at,      // oc_tile
    input  logic [                        63:0] range_in,      // where its maps begin and, in the upper half, their size
    input  logic                                row_write,     // where a row begins: slot, kj, ki (PACKED)
    input  logic [                  ROW_AT-1:0] row_at,
    input  logic [                        95:0] row_in,
    // The descriptor; it stays while the layer runs.
    input  logic                                act_signed,
    input  logic                                saturate,
    input  logic                                fixed_point,
    input  logic                                drained,
    input  logic                                shadowed,
    input  logic                                stationary,
    input  logic [                         1:0] split,         // an activation lane is 2^split codes
    input  logic [                  WALK32-1:0] read_walk,     // what is read, as walk.sv takes it apart,
    input  logic [                  WALK32-1:0] place_walk,    // and where psums go
    input  logic                                start,
    // Whether a memory can give a word in this clock, or (psum) take one that is streamed now: 1 where it always can.
    input  logic                                act_give,
    input  logic                                weight_give,
    input  logic                                psum_give,
    output logic                                busy,          // until the last output has come
    // What happens, for those who watch.
    output logic                                load,          // a weight beat enters the array, at row 0 or column 0
    output logic                                stream,        // an activation beat enters row 0
    output logic                                act_ask,       // a word is wanted,
    output logic                                act_first,     // the first of its pass,
    output logic                                act_take,      // and read
    output logic                                weight_ask,
    output logic                                weight_first,
    output logic                                weight_take,
    output logic                                psum_read,     // of the psum memory
    output logic                                psum_write,
    output logic                                overrun,       // a queue was full: a fault of the parameters
    // What comes out.
    output logic                                psum_valid,
    output logic [          COLS*PSUM_BITS-1:0] psum,
    output logic                                out_valid,
    output logic [          COLS*PSUM_BITS-1:0] out_acc,
    output logic [          COLS*PSUM_BITS-1:0] out_relu,
    output logic [          COLS*CODE_BITS-1:0] out_code
);
  localparam int LANE_BITS = ACT_BITS > WEIGHTS ? ACT_BITS : WEIGHTS;
  localparam int DRAIN = ROWS + COLS - 2;
  localparam int LEAST = ROWS > 2 ? ROWS : 2;  // clocks from a pass to the next: a sum is read again two clocks later
  localparam int MOST = ROWS + COLS;  // of the counts: nothing waits longer
  localparam int COUNT = $clog2(MOST + 1);
  localparam int AT = $clog2(ACT_DEPTH + ROWS) + 2;  // of addresses and what they are compared with
  localparam logic [2:0] IDLE = 0, LOAD = 1, GAP = 2, STREAM = 3, WAIT = 4;
  wire doubled = DOUBLE != 0 && shadowed;
  wire staying = STATIONARY != 0 && stationary;
  wire beside = doubled || staying;  // weights come beside activations

  // Control: what is read from the memories in this clock.
  logic [2:0] state;
  logic [COUNT-1:0] count;   // of clocks: since this pass's first position, or of waiting
  logic [COUNT-1:0] filled;  // weights read of the pass that is loaded
  logic begun;               // this pass's first position is read
  logic [WEIGHT_AT-1:0] weight_next;
  wire pass_end, last_pass, layer_last, layer_end;
  // From the start until the last word has gone through the special function processor, three clocks behind the OFIFO.
  wire last_word;
  logic flying;
  logic [2:0] behind;
  assign busy = flying;
  always_ff @(posedge clk) begin
    behind <= reset ? '0 : {behind[1:0], psum_valid && last_word};
    if (reset) flying <= 1'b0;
    else if (start && !busy) flying <= 1'b1;
    else if (behind[2]) flying <= 1'b0;
  end

  // A position, or a step, is read when every memory that has to do with it can.
  assign act_ask = state == STREAM;
  assign act_first = !begun;
  assign act_take = act_ask && act_give && (staying ? weight_give : psum_give);
  // Weights of the next pass come from this one's first position on; those of a fold with its steps.
  wire early = doubled && filled != COUNT'(ROWS) && (act_ask && (begun || act_take) && !layer_last || state == WAIT);
  assign weight_ask = state == LOAD || early || staying && act_ask;
  assign weight_first = staying ? !begun : filled == 0;
  assign weight_take = staying ? act_take : weight_ask && weight_give;

  wire [COUNT-1:0] came = filled + COUNT'(weight_take);
  wire loaded = state == LOAD && came == COUNT'(doubled ? ROWS : COLS);
  wire over = act_take && pass_end;
  wire ready = (staying || came == COUNT'(ROWS)) && (begun ? count : '0) >= COUNT'(LEAST - 1);
  wire turns = beside ? (over || state == WAIT) && ready : over;
  always_ff @(posedge clk) begin
    if (reset) state <= IDLE;
    else
      case (state)
        IDLE: if (start && !busy) state <= staying ? STREAM : LOAD;
        LOAD: if (loaded) state <= doubled ? STREAM : GAP;
        GAP: state <= STREAM;
        STREAM:
        if (over) begin
          if (layer_last) state <= IDLE;
          else if (beside) state <= ready ? STREAM : WAIT;
          else state <= drained && DRAIN > 0 ? WAIT : LOAD;
        end
        WAIT:
        if (beside ? ready : count == COUNT'(DRAIN - 1)) state <= beside ? STREAM : LOAD;
        default: state <= IDLE;
      endcase
    if (state == IDLE || turns || over && layer_last) begun <= 1'b0;
    else if (act_take) begun <= 1'b1;
    if (beside ? !begun : state != WAIT) count <= COUNT'(beside);
    else if (count != COUNT'(MOST)) count <= count + 1'b1;
    filled <= state == IDLE || loaded || turns ? '0 : came;
  end

  logic [WEIGHT_AT-1:0] weight_begin;
  wire again = staying && pass_end && !last_pass;
  always_ff @(posedge clk) begin
    if (state == IDLE) begin
      weight_next <= '0;
      weight_begin <= '0;
    end else if (weight_take) begin
      weight_next <= again ? weight_begin : weight_next + 1'b1;
      if (pass_end && last_pass) weight_begin <= weight_next + 1'b1;
    end
  end

  // The maps of each oc_tile; both walks look them up.
  logic [63:0] ranges[OC_TILES];
  wire [15:0] tile_in, tile_out;
  wire [63:0] range_reading = ranges[TILE_AT'(tile_in)];
  wire [63:0] range_placing = ranges[TILE_AT'(tile_out)];
  always_ff @(posedge clk) if (range_write) ranges[range_at] <= range_in;

  // The addresses of a descriptor, as wide as they are here.
  localparam int WALK = 1 + 4 * 16 + 11 * AT;
  wire [WALK-1:0] reads, places;
  for (genvar n = 0; n < 11; n++) begin : address
    assign reads[n*AT+:AT] = AT'(read_walk[n*32+:32]);
    assign places[n*AT+:AT] = AT'(place_walk[n*32+:32]);
  end
  assign reads[WALK-1:11*AT] = read_walk[WALK32-1:11*32];
  assign places[WALK-1:11*AT] = place_walk[WALK32-1:11*32];

  wire [PSUM_AT-1:0] unused_onij;
  wire unused_needed, unused_first;
  wire [AT-1:0] slot, tap, at;
  walk #(
      .AT(AT),
      .PSUM_AT(PSUM_AT)
  ) reading (
      .clk(clk),
      .restart(state == IDLE),
      .step(act_take),
      .layer(reads),
      .slot_limit(AT'(range_reading[63:32])),
      .oc_tile(tile_in),
      .slot(slot),
      .tap(tap),
      .at(at),
      .onij(unused_onij),
      .needed(unused_needed),
      .first(unused_first),
      .last(last_pass),
      .pass_end(pass_end),
      .layer_last(layer_last),
      .layer_end(layer_end)
  );

  // What every row reads, or each its own; a row beyond the reduction's end reads nothing.
  localparam int BANKS = PACKED != 0 ? ROWS : 1;
  localparam int BANK = ROWS * ACT_BITS / BANKS;
  wire [ROWS*ACT_BITS-1:0] act_word;
  wire [AT-1:0] common = AT'(range_reading[31:0]) + at;
  for (genvar b = 0; b < BANKS; b++) begin : bank
    wire [AT-1:0] row_slot, row_tap;
    wire live;
    if (b == 0 && STATIONARY == 0) begin : top
      assign row_slot = slot;
      assign row_tap = tap;
      assign live = 1'b1;
    end else begin : further
      logic [3*AT-1:0] begins;
      wire [AT-1:0] place;
      wire unused_ends;
      assign row_tap = reads[WALK-1] ? place : '0;
      always_ff @(posedge clk)
        if (row_write && row_at == ROW_AT'(b)) begins <= {AT'(row_in[64+:32]), AT'(row_in[32+:32]), AT'(row_in[0+:32])};
      taps #(
          .AT(AT)
      ) digits (
          .clk(clk),
          .begins(state == IDLE || over && last_pass),
          .step(over),
          .slot_start(begins[2*AT+:AT]),
          .kj_start(begins[AT+:AT]),
          .ki_start(begins[0+:AT]),
          .slot_limit(AT'(range_reading[63:32])),
          .slot_step(reads[6*AT+:AT]),
          .kj_limit(reads[5*AT+:AT]),
          .kj_step(reads[4*AT+:AT]),
          .kj_unit(reads[3*AT+:AT]),
          .ki_limit(reads[2*AT+:AT]),
          .ki_step(reads[1*AT+:AT]),
          .ki_unit(reads[0*AT+:AT]),
          .slot(row_slot),
          .tap(place),
          .live(live),
          .ends(unused_ends)
      );
    end
    wire [BANK-1:0] given;
    logic taken;
    memory #(
        .WIDTH(BANK),
        .DEPTH(ACT_DEPTH)
    ) acts (
        .clk(clk),
        .write(act_write),
        .write_at(act_at),
        .in(act_in[b*BANK+:BANK]),
        .read(act_take && live),
        .read_at(ACT_AT'(common + row_slot + row_tap)),
        .out(given)
    );
    always_ff @(posedge clk) taken <= live;
    assign act_word[b*BANK+:BANK] = taken ? given : '0;
  end

  wire [WEIGHT_LANES*WEIGHTS-1:0] weight_word;
  memory #(
      .WIDTH(WEIGHT_LANES * WEIGHTS),
      .DEPTH(WEIGHT_DEPTH)
  ) weights (
      .clk(clk),
      .write(weight_write),
      .write_at(weight_at),
      .in(weight_in),
      .read(weight_take),
      .read_at(weight_next),
      .out(weight_word)
  );

  logic push_load, push_stream, push_fresh, push_last, push_north;
  always_ff @(posedge clk) begin
    push_load <= !reset && weight_take && !beside;
    push_north <= !reset && weight_take && beside;
    push_stream <= !reset && act_take;
    push_fresh <= beside && act_take && !begun;
    push_last <= pass_end;
  end
  wire [ROWS*LANE_BITS-1:0] push_code;
  for (genvar r = 0; r < ROWS; r++) begin : row
    assign push_code[r*LANE_BITS+:LANE_BITS] = push_load
        ? LANE_BITS'(weight_word[r*WEIGHTS+:WEIGHTS])
        : LANE_BITS'(act_word[r*ACT_BITS+:ACT_BITS]);
  end

  // Psums come out in the order in which positions went in.
  wire needed, first, last;
  wire [PSUM_AT-1:0] onij;
  wire [AT-1:0] unused_slot, unused_tap, unused_at;
  wire unused_pass, unused_layer;
  // Upper bits, what the other walk needs, and what a core with PACKED does, or the others do not.
  wire unused = &{1'b0, tile_in, tile_out, layer_end, range_placing[31:0], row_write, row_at, row_in, slot, tap};
  walk #(
      .AT(AT),
      .PSUM_AT(PSUM_AT)
  ) placing (
      .clk(clk),
      .restart(start && !busy),
      .step(psum_valid),
      .layer(places),
      .slot_limit(AT'(range_placing[63:32])),
      .oc_tile(tile_out),
      .slot(unused_slot),
      .tap(unused_tap),
      .at(unused_at),
      .onij(onij),
      .needed(needed),
      .first(first),
      .last(last),
      .pass_end(unused_pass),
      .layer_last(unused_layer),
      .layer_end(last_word)
  );

  wire read, write;
  assign psum_read = read && !staying;
  assign psum_write = write && !staying;
  wire [PSUM_AT-1:0] read_at, write_at;
  wire [COLS*PSUM_BITS-1:0] held, sum;
  memory #(
      .WIDTH(COLS * PSUM_BITS),
      .DEPTH(PSUM_DEPTH)
  ) psums (
      .clk(clk),
      .write(psum_write),
      .write_at(write_at),
      .in(sum),
      .read(psum_read),
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
      .SIMD(SIMD),
      .DOUBLE(DOUBLE),
      .STATIONARY(STATIONARY),
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
      .split(split),
      .stationary(staying),
      .store_write(store_write),
      .store_col(store_col),
      .store_at(store_at),
      .store_in(store_in),
      .push_load(push_load),
      .push_stream(push_stream),
      .push_fresh(push_fresh),
      .push_last(push_last),
      .push_code(push_code),
      .push_north(push_north),
      .push_weights(doubled),
      .push_weight((COLS * WEIGHTS)'(weight_word)),
      .overrun(overrun),
      .load(load),
      .stream(stream),
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
