// Runs one layer on the core from files and checks every psum, output and code, and the clock of each.
//
// +folder=DIR holds, one word a line: layer.txt (the descriptor and the counts, decimal), range.txt (of each oc_tile),
// act.txt, weight.txt, store.txt (binary), and what must come out: psum.txt, out.txt, code.txt (binary), and the clock of each event, decimal, from the
// first weight beat that enters the array: psum_time.txt, out_time.txt, and load_, stream_, read_ and write_time.txt
// (beats into row 0, accesses of the psum memory). +runs=2 runs the layer again as soon as the core is free; +abort=N starts it before all this, and resets the core for a clock N clocks later. +dump=1 writes what came out to psum.log, out.log and code.log as
// time,value (+dump=2: without the psums), +waves=FILE every signal. The last line on stdout is the verdict: RESULT and then name=number pairs.
module testbench;
  parameter int ROWS = 8;
  parameter int COLS = 8;
  parameter int ACT_BITS = 4;
  parameter int WEIGHT_BITS = 4;
  parameter int PSUM_BITS = 16;
  parameter int CODE_BITS = 4;
  parameter int ACT_DEPTH = 64;
  parameter int WEIGHT_DEPTH = 128;
  parameter int PSUM_DEPTH = 64;
  parameter int OC_TILES = 1;
  parameter int L0_DEPTH = 2;
  parameter int OFIFO_DEPTH = COLS;
  localparam int LEVELS = (1 << CODE_BITS) - 1;
  localparam int STORE = LEVELS * (PSUM_BITS + 1) + 1 > 78 ? LEVELS * (PSUM_BITS + 1) + 1 : 78;
  localparam int ACT_AT = ACT_DEPTH > 1 ? $clog2(ACT_DEPTH) : 1;
  localparam int WEIGHT_AT = WEIGHT_DEPTH > 1 ? $clog2(WEIGHT_DEPTH) : 1;
  localparam int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1;
  localparam int COL_AT = COLS > 1 ? $clog2(COLS) : 1;

  logic clk = 0;
  always #5 clk = !clk;

  logic reset = 1;
  logic act_write = 0, weight_write = 0, store_write = 0, range_write = 0, start = 0;
  logic [ACT_AT-1:0] act_at;
  logic [ROWS*ACT_BITS-1:0] act_in;
  logic [WEIGHT_AT-1:0] weight_at;
  logic [ROWS*WEIGHT_BITS-1:0] weight_in;
  logic [COL_AT-1:0] store_col;
  logic [TILE_AT-1:0] store_at;
  logic [STORE-1:0] store_in;
  logic [TILE_AT-1:0] range_at;
  logic [31:0] range_in;
  logic act_signed, saturate, fixed_point, useful, drained;
  logic [15:0] oc_tiles, kernel_h, kernel_w, padded_h, padded_w;
  logic [15:0] out_h, out_w, stride_h, stride_w, dilation_h, dilation_w;
  wire busy, west_load, west_stream, psum_read, psum_write, overrun, psum_valid, out_valid;
  wire [COLS*PSUM_BITS-1:0] psum, out_acc, out_relu;
  wire [COLS*CODE_BITS-1:0] out_code;

  core #(
      .ROWS(ROWS),
      .COLS(COLS),
      .ACT_BITS(ACT_BITS),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS),
      .CODE_BITS(CODE_BITS),
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
      .act_signed(act_signed),
      .saturate(saturate),
      .fixed_point(fixed_point),
      .useful(useful),
      .drained(drained),
      .shape({oc_tiles, kernel_h, kernel_w, padded_h, padded_w,
              out_h, out_w, stride_h, stride_w, dilation_h, dilation_w}),
      .start(start),
      .busy(busy),
      .west_load(west_load),
      .west_stream(west_stream),
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

  string folder, waves;
  int dump = 0, runs = 1, abort = 0;
  // What the core does while it is reset, or in a run that is going to be, does not count.
  logic aborting = 0;
  wire counts = !reset && !aborting;
  int psum_file, out_file, code_file, psum_times, out_times, psum_log, out_log, code_log;
  int psums, outs;  // how many must come
  int codes_known;  // whether code.txt says what the codes must be
  int lead;  // clocks from start to the first weight beat
  int now = 0, base = -1;  // clocks; base is that of the first weight beat of this run
  int run = 1, based = 0, started = 0;
  // Clocks since then; the beat itself is at 0.
  wire first_beat = west_load && based != run;
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

  int file, count, ran, limit, acts, weights, stores;
  initial begin
    if (!$value$plusargs("folder=%s", folder)) folder = ".";
    if (!$value$plusargs("dump=%d", dump)) dump = 0;
    if (!$value$plusargs("runs=%d", runs)) runs = 1;
    if (!$value$plusargs("abort=%d", abort)) abort = 0;
    file = opened("layer.txt", "r");
    got = $fscanf(file, "%d %d %d %d %d", act_signed, saturate, fixed_point, useful, drained);
    got = $fscanf(file, "%d %d %d %d %d", oc_tiles, kernel_h, kernel_w, padded_h, padded_w);
    got = $fscanf(file, "%d %d %d %d %d %d", out_h, out_w, stride_h, stride_w, dilation_h, dilation_w);
    got = $fscanf(file, "%d %d %d %d %d %d %d", acts, weights, stores, psums, outs, codes_known, limit);
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
    if (dump != 0) begin
      if (dump == 1) psum_log = opened("psum.log", "w");
      out_log  = opened("out.log", "w");
      code_log = opened("code.log", "w");
    end
    if ($value$plusargs("waves=%s", waves)) begin
      $dumpfile(waves);
      $dumpvars(0, testbench);
    end
    // What the core sees changes between its clock edges: no simulator's order of events can matter.
    repeat (4) @(negedge clk);
    reset = 0;
    file = opened("range.txt", "r");
    for (int n = 0; n < int'(oc_tiles); n++) begin
      got = $fscanf(file, "%b", range_in);
      range_write = 1;
      range_at = TILE_AT'(n);
      @(negedge clk);
    end
    range_write = 0;
    $fclose(file);
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
    if (abort > 0) begin
      aborting = 1;
      start = 1;
      @(negedge clk);
      start = 0;
      repeat (abort) @(negedge clk);
      reset = 1;
      @(negedge clk);
      reset = 0;
      aborting = 0;
    end
    start = 1;
    started = now;
    @(negedge clk);
    start = 0;
    for (int more = 1; more < runs; more++) begin
      ran = 0;
      while (busy && ran < limit) begin
        @(negedge clk);
        ran = ran + 1;
      end
      got = $rewind(psum_file) + $rewind(out_file) + $rewind(psum_times) + $rewind(out_times);
      for (int e = 0; e < 4; e++) got = $rewind(event_files[e]);
      if (codes_known != 0) got = $rewind(code_file);
      run = run + 1;
      start = 1;
      started = now;
      @(negedge clk);
      start = 0;
    end
    // To the end, and as long again as anything could be on its way; or, of a core that never ends, to the limit.
    count = 0;
    ran = 0;
    while (count < ROWS + COLS + 16 && ran < limit) begin
      @(posedge clk);
      count = busy || psum_valid || out_valid ? 0 : count + 1;
      ran = ran + 1;
    end
    for (int e = 0; e < 4; e++) begin
      events_came = events_came + int'(events_seen[e*32+:32]);
      events_due = events_due + runs * events[e];
    end
    $display("RESULT psums=%0d of=%0d wrong=%0d outputs=%0d of=%0d wrong=%0d relu_wrong=%0d code_wrong=%0d events=%0d of=%0d time_wrong=%0d overruns=%0d clocks=%0d",
             psums_seen, runs * psums, psum_wrong, outs_seen, runs * outs, out_wrong, relu_wrong, code_wrong,
             events_came, events_due, time_wrong + out_time_wrong + event_time_wrong, overruns, last_psum - 1);
    if (dump != 0) begin
      if (dump == 1) $fclose(psum_log);
      $fclose(out_log);
      $fclose(code_log);
    end
    $finish;
  end

  always @(posedge clk) begin
    now <= now + 1;
    if (first_beat && counts) begin
      base  <= now;
      based <= run;
      if (now - started != lead) begin
        $display("FIRST time of start 0 expected %0d found %0d", lead, now - started);
        time_wrong <= time_wrong + 1;
      end
    end
    if (overrun && counts) overruns <= overruns + 1;
    if (psum_valid && counts) begin
      psums_seen <= psums_seen + 1;
      last_psum <= since;
      if (dump == 1) $fdisplay(psum_log, "%0d,%b", since, psum);
      if (psums_seen < runs * psums) begin
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
    if (out_valid && counts) begin
      outs_seen <= outs_seen + 1;
      if (dump != 0) begin
        $fdisplay(out_log, "%0d,%b", since, out_acc);
        $fdisplay(code_log, "%0d,%b", since, out_code);
      end
      if (outs_seen < runs * outs) begin
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

  // Beats into row 0 and accesses of the psum memory: when.
  wire [3:0] happens = {psum_write, psum_read, west_stream, west_load};
  int events[4], event_files[4];
  logic [4*32-1:0] events_seen = '0;
  int events_came = 0, events_due = 0, event_time_wrong = 0, event_got, event_time;
  always @(posedge clk)
    for (int e = 0; e < 4; e++)
      if (happens[e] && counts) begin
        events_seen[e*32+:32] <= events_seen[e*32+:32] + 1;
        if (int'(events_seen[e*32+:32]) < runs * events[e]) begin
          event_got = $fscanf(event_files[e], "%d", event_time);
          if (event_time != since) begin
            if (event_time_wrong == 0)
              $display("FIRST time of event%0d %0d expected %0d found %0d", e, events_seen[e*32+:32] % events[e], event_time, since);
            event_time_wrong <= event_time_wrong + 1;
          end
        end
      end
endmodule
