// Feeds a layer to the core from course vector files and checks every psum and output.
//
// The files are in the folder where the simulation runs: activation_tile0.txt, weight_itile0_otile0_kij0.txt and so on,
// three header words first. The last line is the verdict: TEST PASSED or TEST FAILED.
module tb;
  // Of the array and of the layer: core.toml fills them in.
  parameter int ROWS = 8;
  parameter int COLS = 8;
  parameter int ACT_BITS = 4;
  parameter int WEIGHT_BITS = 4;
  parameter int PSUM_BITS = 16;
  parameter int IC_TILES = 1;
  parameter int OC_TILES = 1;
  parameter int KERNEL_H = 3;
  parameter int KERNEL_W = 3;
  parameter int PADDED_H = 6;
  parameter int PADDED_W = 6;
  parameter int OUT_H = 4;
  parameter int OUT_W = 4;
  parameter int STRIDE_H = 1;
  parameter int STRIDE_W = 1;
  parameter int DILATION_H = 1;
  parameter int DILATION_W = 1;
  localparam int KIJS = KERNEL_H * KERNEL_W;
  localparam int NIJS = PADDED_H * PADDED_W;
  localparam int ONIJS = OUT_H * OUT_W;
  localparam int ACTS = IC_TILES * NIJS;
  localparam int WEIGHTS = OC_TILES * KIJS * IC_TILES * COLS;
  localparam int ACT_AT = ACTS > 1 ? $clog2(ACTS) : 1;
  localparam int WEIGHT_AT = WEIGHTS > 1 ? $clog2(WEIGHTS) : 1;
  localparam int TILE_AT = OC_TILES > 1 ? $clog2(OC_TILES) : 1;
  // What the core steps through, in addresses (walk.sv): positions, and the kernel. What is never stepped is 1.
  localparam int COL_STEP = OUT_W > 1 ? STRIDE_W : 1;
  localparam int ROW_STEP = PADDED_W * (OUT_H > 1 ? STRIDE_H : 1);
  localparam int KJ = KERNEL_W > 1 ? DILATION_W : 1;
  localparam int KI = PADDED_W * (KERNEL_H > 1 ? DILATION_H : 1);
  wire [4*16:0] counts = {1'b0, 16'(OC_TILES), 16'd1, 16'(OUT_H), 16'(OUT_W)};  // the whole padded map
  wire [4*32-1:0] strides = {32'(NIJS), 32'(NIJS), 32'(ROW_STEP), 32'(COL_STEP)};
  wire [7*32-1:0] kernel = {
    32'(NIJS), 32'(KERNEL_W * KJ), 32'd0, 32'(KJ), 32'(KERNEL_H * KI), 32'd0, 32'(KI)
  };
  localparam int LIMIT = 4 * OC_TILES * IC_TILES * KIJS * (NIJS + ROWS + COLS + 8) + 1000;

  logic clk = 0;
  always #5 clk = !clk;

  logic reset = 1;
  logic act_write = 0, weight_write = 0, range_write = 0, start = 0;
  logic [ACT_AT-1:0] act_at;
  logic [ROWS*ACT_BITS-1:0] act_in;
  logic [WEIGHT_AT-1:0] weight_at;
  logic [ROWS*WEIGHT_BITS-1:0] weight_in;
  logic [TILE_AT-1:0] range_at;
  wire busy, psum_valid, out_valid;
  wire [COLS*PSUM_BITS-1:0] psum, out_relu;

  core #(
      .ROWS(ROWS),
      .COLS(COLS),
      .ACT_BITS(ACT_BITS),
      .WEIGHT_BITS(WEIGHT_BITS),
      .PSUM_BITS(PSUM_BITS),
      .ACT_DEPTH(ACTS),
      .WEIGHT_DEPTH(WEIGHTS),
      .PSUM_DEPTH(ONIJS),
      .OC_TILES(OC_TILES)
  ) dut (
      .clk(clk),
      .reset(reset),
      .act_write(act_write),
      .act_at(act_at),
      .act_in(act_in),
      .weight_write(weight_write),
      .weight_at(weight_at),
      .weight_in(weight_in),
      .store_write(1'b0),
      .store_col('0),
      .store_at('0),
      .store_in('0),
      .range_write(range_write),
      .range_at(range_at),
      .range_in({32'(IC_TILES * NIJS), 32'd0}),
      .row_write(1'b0),
      .row_at('0),
      .row_in('0),
      .act_signed(1'b0),
      .saturate(1'b0),
      .fixed_point(1'b0),
      .drained(1'b0),
      .shadowed(1'b0),
      .stationary(1'b0),
      .split('0),
      .read_walk({counts, strides, kernel}),
      .place_walk({counts, strides, kernel}),
      .start(start),
      .act_give(1'b1),
      .weight_give(1'b1),
      .psum_give(1'b1),
      .busy(busy),
      .load(),
      .stream(),
      .act_ask(),
      .act_first(),
      .act_take(),
      .weight_ask(),
      .weight_first(),
      .weight_take(),
      .psum_read(),
      .psum_write(),
      .overrun(),
      .psum_valid(psum_valid),
      .psum(psum),
      .out_valid(out_valid),
      .out_acc(),
      .out_relu(out_relu),
      .out_code()
  );

  string word;
  int got;

  // A file, behind its header.
  function automatic int opened(string name);
    opened = $fopen(name, "r");
    if (opened == 0) begin
      $display("cannot open %s", name);
      $finish;
    end
    for (int n = 0; n < 3; n++) got = $fscanf(opened, "%s", word);
  endfunction

  // What must come out, in the order in which it does: oc_tile, kij, ic_tile, position.
  logic [COLS*PSUM_BITS-1:0] psums[OC_TILES*KIJS*IC_TILES*NIJS];
  logic [COLS*PSUM_BITS-1:0] outs[OC_TILES*ONIJS];
  int psums_seen = 0, outs_seen = 0, wrong = 0;

  int file, at, ran;
  initial begin
    at = 0;
    for (int o = 0; o < OC_TILES; o++)
      for (int k = 0; k < KIJS; k++)
        for (int i = 0; i < IC_TILES; i++) begin
          file = opened($sformatf("psum_itile%0d_otile%0d_kij%0d.txt", i, o, k));
          for (int n = 0; n < NIJS; n++) begin
            got = $fscanf(file, "%b", psums[at]);
            at = at + 1;
          end
          $fclose(file);
        end
    at = 0;
    for (int o = 0; o < OC_TILES; o++) begin
      file = opened(OC_TILES == 1 ? "out.txt" : $sformatf("out_otile%0d.txt", o));
      for (int n = 0; n < ONIJS; n++) begin
        got = $fscanf(file, "%b", outs[at]);
        at = at + 1;
      end
      $fclose(file);
    end
    // What the core sees changes between its clock edges: no simulator's order of events can matter.
    repeat (4) @(negedge clk);
    reset = 0;
    for (int o = 0; o < OC_TILES; o++) begin
      range_write = 1;
      range_at = TILE_AT'(o);
      @(negedge clk);
    end
    range_write = 0;
    act_at = 0;
    for (int i = 0; i < IC_TILES; i++) begin
      file = opened($sformatf("activation_tile%0d.txt", i));
      for (int n = 0; n < NIJS; n++) begin
        got = $fscanf(file, "%b", act_in);
        act_write = 1;
        @(negedge clk);
        act_at = act_at + 1;
      end
      $fclose(file);
    end
    act_write = 0;
    weight_at = 0;
    for (int o = 0; o < OC_TILES; o++)
      for (int k = 0; k < KIJS; k++)
        for (int i = 0; i < IC_TILES; i++) begin
          file = opened($sformatf("weight_itile%0d_otile%0d_kij%0d.txt", i, o, k));
          for (int c = 0; c < COLS; c++) begin
            got = $fscanf(file, "%b", weight_in);
            weight_write = 1;
            @(negedge clk);
            weight_at = weight_at + 1;
          end
          $fclose(file);
        end
    weight_write = 0;
    start = 1;
    @(negedge clk);
    start = 0;
    ran = 0;
    while (ran < LIMIT && outs_seen < OC_TILES * ONIJS) begin
      @(negedge clk);
      ran = ran + 1;
    end
    if (wrong == 0 && psums_seen == OC_TILES * KIJS * IC_TILES * NIJS && outs_seen == OC_TILES * ONIJS)
      $display("TEST PASSED: %0d psum words and %0d output words equal", psums_seen, outs_seen);
    else
      $display("TEST FAILED: %0d words wrong of %0d psum words and %0d output words", wrong, psums_seen, outs_seen);
    $finish;
  end

  always @(posedge clk) begin
    if (psum_valid && !reset) begin
      if (psum !== psums[psums_seen]) begin
        if (wrong == 0) $display("psum word %0d: expected %b, found %b", psums_seen, psums[psums_seen], psum);
        wrong = wrong + 1;
      end
      psums_seen = psums_seen + 1;
    end
    if (out_valid && !reset) begin
      if (out_relu !== outs[outs_seen]) begin
        if (wrong == 0) $display("output word %0d: expected %b, found %b", outs_seen, outs[outs_seen], out_relu);
        wrong = wrong + 1;
      end
      outs_seen = outs_seen + 1;
    end
  end
endmodule
