"""The Verilog of the testbenches: a core, the frame of a testbench, and what stands in its `initial` block."""

CORE = """\
module dot #(parameter N = 4, parameter AB = 4, parameter WB = 4, parameter PB = 16) (
    input [N*AB-1:0] a, input [N*WB-1:0] b, output reg signed [PB-1:0] p);
  integer n;
  always @* begin
    p = 0;
    for (n = 0; n < N; n = n + 1)
      p = p + $signed({1'b0, a[n*AB +: AB]}) * $signed(b[n*WB +: WB]);
  end
endmodule
"""

FRAME = """\
module tb;
  parameter IT = 1;
  parameter OT = 1;
  localparam R = 4;
  localparam C = 4;
  localparam W = 3;
  localparam P = 5;
  localparam NIJ = P*P;
  localparam ONIJ = W*W;
  reg [R*4-1:0] act [0:IT*NIJ-1];         // padded
  reg [R*4-1:0] wgt [0:OT*9*IT*C-1];
  reg [R*4-1:0] a, b;
  wire signed [15:0] p;
  dot #(.N(R)) core (.a(a), .b(b), .p(p));
  integer fd, got, i, o, k, n, c, l, wrong, seen, sum;
  reg [8*64:1] name;
  reg [8*200:1] skip;
  reg [C*16-1:0] word, made;
  reg [R*4-1:0] aw, ww;

  task psum_of(input integer it, input integer ot, input integer kij, input integer nij);
    integer col;
    for (col = 0; col < C; col = col + 1) begin
      a = act[it*NIJ + nij];
      b = wgt[((ot*9 + kij)*IT + it)*C + col];
      #1 made[col*16 +: 16] = p;
    end
  endtask

  task out_of(input integer ot, input integer onij, input integer rectify);
    integer kij, it, col;
    reg [C*16-1:0] acc;
    begin
      acc = 0;
      for (kij = 0; kij < 9; kij = kij + 1)
        for (it = 0; it < IT; it = it + 1) begin
          psum_of(it, ot, kij, (onij/W + kij/3)*P + onij%W + kij%3);
          for (col = 0; col < C; col = col + 1) acc[col*16 +: 16] = acc[col*16 +: 16] + made[col*16 +: 16];
        end
      for (col = 0; col < C; col = col + 1)
        made[col*16 +: 16] = (rectify != 0 && acc[col*16 + 15]) ? 16'd0 : acc[col*16 +: 16];
    end
  endtask

  task compare;
    begin
      seen = seen + 1;
      if (word !== made) begin
        wrong = wrong + 1;
        if (wrong < 4) $display("%s %0d: expected %h, core gives %h", "word", seen, word, made);
      end
    end
  endtask
DECLARED
  initial begin
    wrong = 0;
    seen = 0;
BODY
    VERDICT
    $finish;
  end
endmodule
"""


THREE = 'got = $fscanf(fd, "%s", skip); got = $fscanf(fd, "%s", skip); got = $fscanf(fd, "%s", skip);'

COURSE_BODY = f"""
    fd = $fopen("activation_tile0.txt", "r");
    {THREE}
    for (n = 0; n < NIJ; n = n + 1) begin got = $fscanf(fd, "%16b", ww); act[n] = ww; end
    $fclose(fd);
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "weight_itile0_otile0_kij%0d.txt", k);
      fd = $fopen(name, "r");
      {THREE}
      for (c = 0; c < C; c = c + 1) begin got = $fscanf(fd, "%16b", ww); wgt[k*C + c] = ww; end
      $fclose(fd);
    end
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "psum_itile0_otile0_kij%0d.txt", k);
      fd = $fopen(name, "r");
      {THREE}
      for (n = 0; n < NIJ; n = n + 1) begin
        got = $fscanf(fd, "%64b", word);
        psum_of(0, 0, k, n);
        compare;
      end
      $fclose(fd);
    end
    fd = $fopen("out.txt", "r");
    {THREE}
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%64b", word);
      out_of(0, n, 1);
      compare;
    end
"""


SEED_BODY = f"""
    fd = $fopen("activation.txt", "r");
    {THREE}
    for (n = 0; n < NIJ; n = n + 1) begin got = $fscanf(fd, "%b", ww); act[n] = ww; end
    $fclose(fd);
    for (k = 0; k < 9; k = k + 1) begin
      case (k)
        0: name = "weight_0.txt"; 1: name = "weight_1.txt"; 2: name = "weight_2.txt";
        3: name = "weight_3.txt"; 4: name = "weight_4.txt"; 5: name = "weight_5.txt";
        6: name = "weight_6.txt"; 7: name = "weight_7.txt"; 8: name = "weight_8.txt";
      endcase
      fd = $fopen(name, "r");
      {THREE}
      for (i = 0; i < R; i = i + 1) begin   // a line an input channel
        got = $fscanf(fd, "%b", ww);
        for (c = 0; c < C; c = c + 1) wgt[k*C + c][i*4 +: 4] = ww[c*4 +: 4];
      end
      $fclose(fd);
    end
    fd = $fopen("psum.txt", "r");
    {THREE}
    for (k = 0; k < 9; k = k + 1)
      for (n = 0; n < NIJ; n = n + 1) begin
        got = $fscanf(fd, "%b", word);
        psum_of(0, 0, k, n);
        compare;
      end
    $fclose(fd);
    fd = $fopen("output.txt", "r");
    {THREE}
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%b", word);
      out_of(0, n, 1);
      compare;
    end
"""


LOAD = """
    $readmem@("act.@", act);
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "weight%0d.@", k);
      $readmem@(name, wfile);
      for (c = 0; c < C; c = c + 1) wgt[k*C + c] = wfile[c];
    end
"""


CHECK = """
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "psum%0d.txt", k);
      fd = $fopen(name, "r");
      for (n = 0; n < NIJ; n = n + 1) begin
        got = $fscanf(fd, "%b", word);
        psum_of(0, 0, k, n);
        compare;
      end
      $fclose(fd);
    end
    fd = $fopen("out.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%b", word);
      out_of(0, n, 1);
      compare;
    end
    $fclose(fd);
"""


READ_PLAIN = """
    fd = $fopen("act.txt", "r");
    for (n = 0; n < NIJ; n = n + 1) begin got = $fscanf(fd, "%b", ww); act[n] = ww; end
    $fclose(fd);
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "weight%0d.txt", k);
      fd = $fopen(name, "r");
      for (c = 0; c < C; c = c + 1) begin got = $fscanf(fd, "%b", ww); wgt[k*C + c] = ww; end
      $fclose(fd);
    end
"""


TILED_BODY = """
    for (i = 0; i < IT; i = i + 1) begin
      fd = $fopen($sformatf("data/act_%0d.txt", i + 1), "r");
      for (n = 0; n < NIJ; n = n + 1) begin got = $fscanf(fd, "%b", ww); act[i*NIJ + n] = ww; end
      $fclose(fd);
      for (o = 0; o < OT; o = o + 1)
        for (k = 0; k < 9; k = k + 1) begin
          fd = $fopen($sformatf("data/weight_%0d_%0d_%0d.txt", i + 1, o + 1, k + 1), "r");
          for (c = 0; c < C; c = c + 1) begin got = $fscanf(fd, "%b", ww); wgt[((o*9 + k)*IT + i)*C + c] = ww; end
          $fclose(fd);
          fd = $fopen($sformatf("data/psum_%0d_%0d_%0d.txt", i + 1, o + 1, k + 1), "r");
          for (n = 0; n < NIJ; n = n + 1) begin
            got = $fscanf(fd, "%b", word);
            psum_of(i, o, k, n);
            compare;
          end
          $fclose(fd);
        end
    end
"""
