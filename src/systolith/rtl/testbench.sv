// Runs one layer on the core from files and checks every psum, output and code, and the clock of each.
//
// +folder=DIR holds, one word a line: layer.txt (the descriptor and the counts, decimal), range.txt (of each oc_tile),
// row.txt (where each row begins, of a PACKED core), act.txt, weight.txt, store.txt (binary), and what must come out: psum.txt, out.txt, code.txt (binary), and the clock of each event, decimal, from the
// first weight beat that enters the array: psum_time.txt, out_time.txt, and load_, stream_, read_ and write_time.txt
// (beats into the array, accesses of the psum memory). +layers=N runs the layers in DIR/0, DIR/1 and so on, one after another without a reset. +runs=2 runs each again as soon as the core is free; +abort=N starts it before all this, and resets the core for a clock N clocks later. +dump=1 writes what came out to psum.log, out.log and code.log as
// time,value (+dump=2: without the psums), +waves=FILE every signal. The last line on stdout is the verdict: RESULT and then name=number pairs.
module testbench;
  parameter int ROWS = 8;
  parameter int COLS = 8;
  parameter int ACT_BITS = 4;
  parameter int WEIGHT_BITS = 4;
  parameter int PSUM_BITS = 16;
  parameter int CODE_BITS = 4;
  parameter int SIMD = 1;
  parameter int DOUBLE = 0;
  parameter int STATIONARY = 0;
  parameter int PACKED = 0;
  parameter int ACT_DEPTH = 64;
  parameter int WEIGHT_DEPTH = 128;
  parameter int PSUM_DEPTH = 64;
  parameter int OC_TILES = 1;
  parameter int L0_DEPTH = 2;
  parameter int OFIFO_DEPTH = COLS;
  localparam int LEVELS = (1 << CODE_BITS) - 1;
  localparam int STORE = LEVELS * (PSUM_BITS + 1) + 1 > 78 ? LEVELS * (PSUM_BITS + 1) + 1 : 78;
  localparam int WEIGHT_LANES = (DOUBLE != 0 || STATIONARY != 0) && COLS > ROWS ? COLS : ROWS;
  localparam int ACT_AT = ACT_DEPTH > 1 ? $clog2(ACT_DEPTH) : 1;
  localparam int WEIGHT_AT = WEIGHT_DEPTH > 1 ? $clog2(WEIGHT_DEPTH) : 1;
  localparam int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1;
  localparam int ROW_AT = ROWS > 1 ? $clog2(ROWS) : 1;
  localparam int COL_AT = COLS > 1 ? $clog2(COLS) : 1;

  logic clk = 0;
  always #5 clk = !clk;

  logic reset = 1;
  logic act_write = 0, weight_write = 0, store_write = 0, range_write = 0, row_write = 0, start = 0;
  logic [ACT_AT-1:0] act_at;
  logic [ROWS*ACT_BITS-1:0] act_in;
  logic [WEIGHT_AT-1:0] weight_at;
  logic [WEIGHT_LANES*SIMD*WEIGHT_BITS-1:0] weight_in;
  logic [COL_AT-1:0] store_col;
  logic [TILE_AT-1:0] store_at;
  logic [STORE-1:0] store_in;
  logic [TILE_AT-1:0] range_at;
  logic [63:0] range_in;
  logic [ROW_AT-1:0] row_at;
  logic [95:0] row_in;
  logic act_signed, saturate, fixed_point, drained, shadowed, stationary;
  logic [1:0] split;
  // A walk's numbers, the first one in the highest place: useful, then four of 16 bits and eleven of 32.
  localparam int WALK = 1 + 4 * 16 + 11 * 32;
  logic [WALK-1:0] read_walk, place_walk;
  wire busy, load, stream, psum_read, psum_write, overrun, psum_valid, out_valid;
  wire [COLS*PSUM_BITS-1:0] psum, out_acc, out_relu;
  wire [COLS*CODE_BITS-1:0] out_code;

  // Memories that need `every` clocks for a word from when it is asked for, of the first of a pass `late` more.
  int act_every, act_late, act_waited, weight_every, weight_late, weight_waited, psum_every, psum_late, psum_waited;
  wire act_ask, act_first, act_take, weight_ask, weight_first, weight_take;
  wire act_give = act_waited + 1 >= act_every + (act_first ? act_late : 0);
  wire weight_give = weight_waited + 1 >= weight_every + (weight_first ? weight_late : 0);
  wire psum_give = psum_waited + 1 >= psum_every + (act_first ? psum_late : 0);
  always @(posedge clk) begin
    act_waited <= reset || act_take || !act_ask ? 0 : act_waited + 1;
    weight_waited <= reset || weight_take || !weight_ask ? 0 : weight_waited + 1;
    psum_waited <= reset || act_take || !act_ask ? 0 : psum_waited + 1;
  end

  core #(
      .ROWS(ROWS),
      .COLS(COLS),
      .ACT_BITS(ACT_BITS),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS),
      .CODE_BITS(CODE_BITS),
      .SIMD(SIMD),
      .DOUBLE(DOUBLE),
      .STATIONARY(STATIONARY),
      .PACKED(PACKED),
      .ACT_DEPTH(ACT_DEPTH),
      .WEIGHT_DEPTH(WEIGHT_DEPTH),
      .PSUM_DEPTH(PSUM_DEPTH),
      .OC_TILES(OC_TILES),
      .L0_DEPTH(L0_DEPTH),
      .OFIFO_DEPTH(OFIFO_DEPTH)
  ) dut (
      .clk(clk),
      .reset(reset),
      .act_write(act_write),
      .act_at(act_at),
      .act_in(act_in),
      .weight_write(weight_write),
      .weight_at(weight_at),
      .weight_in(weight_in),
      .store_write(store_write),
      .store_col(store_col),
      .store_at(store_at),
      .store_in(store_in),
      .range_write(range_write),
      .range_at(range_at),
      .range_in(range_in),
      .row_write(row_write),
      .row_at(row_at),
      .row_in(row_in),
      .act_signed(act_signed),
      .saturate(saturate),
      .fixed_point(fixed_point),
      .drained(drained),
      .shadowed(shadowed),
      .stationary(stationary),
      .split(split),
      .read_walk(read_walk),
      .place_walk(place_walk),
      .start(start),
      .act_give(act_give),
      .weight_give(weight_give),
      .psum_give(psum_give),
      .busy(busy),
      .load(load),
      .stream(stream),
      .act_ask(act_ask),
      .act_first(act_first),
      .act_take(act_take),
      .weight_ask(weight_ask),
      .weight_first(weight_first),
      .weight_take(weight_take),
      .psum_read(psum_read),
      .psum_write(psum_write),
      .overrun(overrun),
      .psum_valid(psum_valid),
      .psum(psum),
      .out_valid(out_valid),
      .out_acc(out_acc),
      .out_relu(out_relu),
      .out_code(out_code)
  );

  string root, folder, waves;
  int dump = 0, runs = 1, abort = 0;
  // What the core does while it is reset, or in a run that is going to be, does not count.
  logic aborting = 0;
  wire watching = !reset && !aborting;
  int psum_file, out_file, code_file, psum_times, out_times, psum_log, out_log, code_log;
  int psums, outs;  // how many must come in a run,
  int psums_due = 0, outs_due = 0;  // and in all so far
  int codes_known;  // whether code.txt says what the codes must be
  int lead;  // clocks from start to the first weight beat
  int now = 0, base = -1;  // clocks; base is that of the first weight beat of this run
  int run = 0, based = 0, started = 0;
  // Clocks since then; the beat itself is at 0.
  wire first_beat = load && based != run;
  wire signed [31:0] since = first_beat ? 0 : now - base;
  int psums_seen = 0, outs_seen = 0, psum_wrong = 0, out_wrong = 0, relu_wrong = 0, code_wrong = 0, time_wrong = 0;
  int overruns = 0, last_psum = 0;
  int got, expected_time;
  logic [COLS*PSUM_BITS-1:0] word;
  logic [COLS*CODE_BITS-1:0] codes;

  function automatic int opened(string name, string mode);
    opened = $fopen({folder, "/", name}, mode);
    if (opened == 0) begin
      $display("cannot open %s/%s", folder, name);
      $finish;
    end
  endfunction

  function automatic logic [COLS*PSUM_BITS-1:0] rectified(logic [COLS*PSUM_BITS-1:0] acc);
    for (int c = 0; c < COLS; c++)
      rectified[c*PSUM_BITS+:PSUM_BITS] = acc[(c+1)*PSUM_BITS-1] ? '0 : acc[c*PSUM_BITS+:PSUM_BITS];
  endfunction

  int file, number, tiles, count, ran, limit, acts, weights, stores, layers;

  // A layer's descriptor, and the files of what must come out.
  task automatic describe;
    file = opened("layer.txt", "r");
    got = $fscanf(file, "%d %d %d %d %d", act_signed, saturate, fixed_point, drained, shadowed);
    got = $fscanf(file, "%d %d %d", stationary, split, tiles);
    for (int n = 0; n < 2 * 16; n++) begin
      got = $fscanf(file, "%d", number);
      if (n == 16) read_walk = place_walk;
      if (n % 16 == 0) place_walk = {place_walk[0+:WALK-1], number[0]};
      else if (n % 16 < 5) place_walk = {place_walk[0+:WALK-16], number[15:0]};
      else place_walk = {place_walk[0+:WALK-32], number};
    end
    got = $fscanf(file, "%d %d %d %d %d %d %d", acts, weights, stores, psums, outs, codes_known, limit);
    got = $fscanf(file, "%d %d %d %d %d %d", act_every, act_late, weight_every, weight_late, psum_every, psum_late);
    got = $fscanf(file, "%d %d %d %d %d", events[0], events[1], events[2], events[3], lead);
    $fclose(file);
    psum_file  = opened("psum.txt", "r");
    out_file   = opened("out.txt", "r");
    psum_times = opened("psum_time.txt", "r");
    out_times  = opened("out_time.txt", "r");
    event_files[0] = opened("load_time.txt", "r");
    event_files[1] = opened("stream_time.txt", "r");
    event_files[2] = opened("read_time.txt", "r");
    event_files[3] = opened("write_time.txt", "r");
    if (codes_known != 0) code_file = opened("code.txt", "r");
  endtask

  task automatic forget;
    $fclose(psum_file);
    $fclose(out_file);
    $fclose(psum_times);
    $fclose(out_times);
    for (int e = 0; e < 4; e++) $fclose(event_files[e]);
    if (codes_known != 0) $fclose(code_file);
  endtask

  // What the host writes before a layer. What the core sees changes between its clock edges: no simulator's order of
  // events can matter.
  task automatic fill;
    file = opened("range.txt", "r");
    for (int n = 0; n < tiles; n++) begin
      got = $fscanf(file, "%b", range_in);
      range_write = 1;
      range_at = TILE_AT'(n);
      @(negedge clk);
    end
    range_write = 0;
    $fclose(file);
    if (PACKED != 0) begin
      file = opened("row.txt", "r");
      for (int n = 0; n < ROWS; n++) begin
        got = $fscanf(file, "%b", row_in);
        row_write = 1;
        row_at = ROW_AT'(n);
        @(negedge clk);
      end
      row_write = 0;
      $fclose(file);
    end
    file = opened("act.txt", "r");
    for (int n = 0; n < acts; n++) begin
      got = $fscanf(file, "%b", act_in);
      act_write = 1;
      act_at = ACT_AT'(n);
      @(negedge clk);
    end
    act_write = 0;
    $fclose(file);
    file = opened("weight.txt", "r");
    for (int n = 0; n < weights; n++) begin
      got = $fscanf(file, "%b", weight_in);
      weight_write = 1;
      weight_at = WEIGHT_AT'(n);
      @(negedge clk);
    end
    weight_write = 0;
    $fclose(file);
    if (stores > 0) begin
      file = opened("store.txt", "r");
      for (int n = 0; n < stores; n++) begin  // oc_tile after oc_tile, col after col
        got = $fscanf(file, "%b", store_in);
        store_write = 1;
        store_at = TILE_AT'(n / COLS);
        store_col = COL_AT'(n % COLS);
        @(negedge clk);
      end
      store_write = 0;
      $fclose(file);
    end
  endtask

  // One clock of start; a run that counts, and until the core is free.
  task automatic begin_layer;
    start = 1;
    @(negedge clk);
    start = 0;
  endtask

  task automatic run_layer;
    run = run + 1;
    started = now;
    psums_due = psums_due + psums;
    outs_due = outs_due + outs;
    for (int e = 0; e < 4; e++) events_due[e*32+:32] = events_due[e*32+:32] + events[e];
    begin_layer();
    ran = 0;
    while (busy && ran < limit) begin
      @(negedge clk);
      ran = ran + 1;
    end
  endtask

  initial begin
    if (!$value$plusargs("folder=%s", root)) root = ".";
    if (!$value$plusargs("layers=%d", layers)) layers = 0;
    if (!$value$plusargs("dump=%d", dump)) dump = 0;
    if (!$value$plusargs("runs=%d", runs)) runs = 1;
    if (!$value$plusargs("abort=%d", abort)) abort = 0;
    folder = root;
    if (dump != 0) begin
      if (dump == 1) psum_log = opened("psum.log", "w");
      out_log  = opened("out.log", "w");
      code_log = opened("code.log", "w");
    end
    if ($value$plusargs("waves=%s", waves)) begin
      $dumpfile(waves);
      $dumpvars(0, testbench);
    end
    repeat (4) @(negedge clk);
    reset = 0;
    for (int layer = 0; layer < (layers > 0 ? layers : 1); layer++) begin
      if (layers > 0) folder = $sformatf("%s/%0d", root, layer);
      describe();
      fill();
      if (abort > 0) begin
        aborting = 1;
        begin_layer();
        repeat (abort) @(negedge clk);
        reset = 1;
        @(negedge clk);
        reset = 0;
        aborting = 0;
      end
      for (int more = 0; more < runs; more++) begin
        if (more > 0) begin
          got = $rewind(psum_file) + $rewind(out_file) + $rewind(psum_times) + $rewind(out_times);
          for (int e = 0; e < 4; e++) got = $rewind(event_files[e]);
          if (codes_known != 0) got = $rewind(code_file);
        end
        run_layer();
      end
      // As long again as anything could be on its way; or, of a core that never ends, to the limit.
      if (layer + 1 >= layers) begin
        count = 0;
        ran = 0;
        while (count < ROWS + COLS + 16 && ran < limit) begin
          @(posedge clk);
          count = busy || psum_valid || out_valid ? 0 : count + 1;
          ran = ran + 1;
        end
      end else forget();
    end
    for (int e = 0; e < 4; e++) begin
      events_came = events_came + int'(events_seen[e*32+:32]);
      events_wanted = events_wanted + int'(events_due[e*32+:32]);
    end
    $display("RESULT psums=%0d of=%0d wrong=%0d outputs=%0d of=%0d wrong=%0d relu_wrong=%0d code_wrong=%0d events=%0d of=%0d time_wrong=%0d overruns=%0d clocks=%0d",
             psums_seen, psums_due, psum_wrong, outs_seen, outs_due, out_wrong, relu_wrong, code_wrong,
             events_came, events_wanted, time_wrong + out_time_wrong + event_time_wrong, overruns, last_psum - 1);
    if (dump != 0) begin
      if (dump == 1) $fclose(psum_log);
      $fclose(out_log);
      $fclose(code_log);
    end
    $finish;
  end

  always @(posedge clk) begin
    now <= now + 1;
    if (first_beat && watching) begin
      base  <= now;
      based <= run;
      if (now - started != lead) begin
        $display("FIRST time of start 0 expected %0d found %0d", lead, now - started);
        time_wrong <= time_wrong + 1;
      end
    end
    if (overrun && watching) overruns <= overruns + 1;
    if (psum_valid && watching) begin
      psums_seen <= psums_seen + 1;
      last_psum <= since;
      if (dump == 1) $fdisplay(psum_log, "%0d,%b", since, psum);
      if (psums_seen < psums_due) begin
        got = $fscanf(psum_file, "%b", word);
        if (word !== psum) begin
          if (psum_wrong == 0) $display("FIRST psum %0d clock %0d expected %b found %b", psums_seen, since, word, psum);
          psum_wrong <= psum_wrong + 1;
        end
        got = $fscanf(psum_times, "%d", expected_time);
        if (expected_time != since) begin
          if (time_wrong == 0) $display("FIRST time of psum %0d expected %0d found %0d", psums_seen, expected_time, since);
          time_wrong <= time_wrong + 1;
        end
      end
    end
  end

  int out_time_wrong = 0, out_expected_time, out_got;
  logic [COLS*PSUM_BITS-1:0] out_word;
  always @(posedge clk) begin
    if (out_valid && watching) begin
      outs_seen <= outs_seen + 1;
      if (dump != 0) begin
        $fdisplay(out_log, "%0d,%b", since, out_acc);
        $fdisplay(code_log, "%0d,%b", since, out_code);
      end
      if (outs_seen < outs_due) begin
        out_got = $fscanf(out_file, "%b", out_word);
        if (out_word !== out_acc) begin
          if (out_wrong == 0) $display("FIRST output %0d clock %0d expected %b found %b", outs_seen, since, out_word, out_acc);
          out_wrong <= out_wrong + 1;
        end
        if (rectified(out_word) !== out_relu) begin
          if (relu_wrong == 0) $display("FIRST relu %0d clock %0d expected %b found %b", outs_seen, since, rectified(out_word), out_relu);
          relu_wrong <= relu_wrong + 1;
        end
        if (codes_known != 0) begin
          out_got = $fscanf(code_file, "%b", codes);
          if (codes !== out_code) begin
            if (code_wrong == 0) $display("FIRST code %0d clock %0d expected %b found %b", outs_seen, since, codes, out_code);
            code_wrong <= code_wrong + 1;
          end
        end
        out_got = $fscanf(out_times, "%d", out_expected_time);
        if (out_expected_time != since) begin
          if (out_time_wrong == 0) $display("FIRST time of output %0d expected %0d found %0d", outs_seen, out_expected_time, since);
          out_time_wrong <= out_time_wrong + 1;
        end
      end
    end
  end

  // Beats into the array and accesses of the psum memory: when.
  wire [3:0] happens = {psum_write, psum_read, stream, load};
  int events[4], event_files[4];
  logic [4*32-1:0] events_seen = '0, events_due = '0;
  int events_came = 0, events_wanted = 0, event_time_wrong = 0, event_got, event_time;
  always @(posedge clk)
    for (int e = 0; e < 4; e++)
      if (happens[e] && watching) begin
        events_seen[e*32+:32] <= events_seen[e*32+:32] + 1;
        if (events_seen[e*32+:32] < events_due[e*32+:32]) begin
          event_got = $fscanf(event_files[e], "%d", event_time);
          if (event_time != since) begin
            if (event_time_wrong == 0)
              $display("FIRST time of event%0d %0d expected %0d found %0d", e, events_seen[e*32+:32] % events[e], event_time, since);
            event_time_wrong <= event_time_wrong + 1;
          end
        end
      end
endmodule
