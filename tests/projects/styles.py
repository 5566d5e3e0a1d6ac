"""Testbenches as people write them, each with its file format: a toy core behind every one of them.

The core is one dot product; a testbench loads activations and weights from files into words of its own order, brings
them to the core, and compares what comes out with the golden files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projects.benches import CHECK, CORE, COURSE_BODY, FRAME, LOAD, READ_PLAIN, SEED_BODY, TILED_BODY

VERDICT = 'if (wrong == 0) $display("PASS"); else $display("FAIL: %0d words", wrong);'


@dataclass(frozen=True)
class Style:
    """A testbench.

    Attributes:
        body: what its `initial` block does; `declared` stands before that.
        layout: its files as a layout has them.
        vectors: what else stands under [vectors].
        parameters: of tb.
        passes, fails: what it says.
        reads: what a reader of the source finds of each kind of file: name, header, bits, words.
        rtl, verdict, run_in, extra: of core.toml, where it is not as usual.
    """

    body: str
    layout: list[dict[str, Any]]
    vectors: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    declared: str = ""
    verdict: str = VERDICT
    passes: str = "^PASS"
    fails: str = "FAIL"
    run_in: str = "."
    dump: dict[str, str] | None = None
    plusargs: tuple[str, ...] = ()
    folder: str = "."
    places: dict[str, str] = field(default_factory=dict)


def _file(tensor: str, name: str, lines: str, lanes: str, **more: Any) -> dict[str, Any]:
    return {"tensor": tensor, "name": name, "lines": lines.split(), "lanes": lanes.split(), **more}


TOKENS = {"act": ["time", "row"], "weight": ["col", "row"], "psum": ["time", "col"], "out": ["time", "col"]}


def _plain(header: dict[str, Any] | None = None, **names: str) -> list[dict[str, Any]]:
    """The four kinds of files: act, weight a kij, psum a kij, out after ReLU."""
    given = {"act": "act.txt", "weight": "weight{kij}.txt", "psum": "psum{kij}.txt", "out": "out.txt"} | names
    lines = {"act": "nij", "weight": "col", "psum": "nij", "out": "onij"}
    lanes = {"act": "row", "weight": "row", "psum": "col", "out": "col"}
    more = [
        (t, {} if header is None else {k: v[t] if isinstance(v, dict) else v for k, v in header.items()}) for t in given
    ]
    return [
        _file(t, given[t], lines[t], lanes[t], **extra, **({"relu": True} if t == "out" else {})) for t, extra in more
    ]


STYLES: dict[str, Style] = {
    "course": Style(
        COURSE_BODY,
        _plain(
            {"tokens": TOKENS},
            act="activation_tile{itile}.txt",
            weight="weight_itile{itile}_otile{otile}_kij{kij}.txt",
            psum="psum_itile{itile}_otile{otile}_kij{kij}.txt",
        ),
    ),
    "seed": Style(
        SEED_BODY,
        [
            _file("act", "activation.txt", "nij", "row", tokens=TOKENS["act"]),
            _file("weight", "weight_{kij}.txt", "row", "col", tokens=TOKENS["weight"]),
            _file("psum", "psum.txt", "kij nij", "col", tokens=TOKENS["psum"]),
            _file("out", "output.txt", "onij", "col", tokens=TOKENS["out"], relu=True),
        ],
    ),
    "no header": Style(READ_PLAIN + CHECK, _plain()),
    "readmemb, unpadded": Style(
        """
    $readmemb("image.mem", map);
    for (n = 0; n < NIJ; n = n + 1) act[n] = 0;
    for (n = 0; n < ONIJ; n = n + 1) act[(n/W + 1)*P + n%W + 1] = map[n];
    $readmemb("weights.mem", all);
    for (n = 0; n < 9*C; n = n + 1) wgt[n] = all[n];
"""
        + CHECK,
        [
            _file("act", "image.mem", "ij", "row"),
            _file("weight", "weights.mem", "kij col", "row"),
            *_plain()[2:],
        ],
        declared="  reg [R*4-1:0] map [0:ONIJ-1];\n  reg [R*4-1:0] all [0:9*C-1];",
    ),
    "readmemh with addresses": Style(
        LOAD.replace("mem@", "memh").replace(".@", ".hex")
        + """
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "psum%0d.hex", k);
      $readmemh(name, golden);
      for (n = 0; n < NIJ; n = n + 1) begin
        word = golden[n];
        psum_of(0, 0, k, n);
        compare;
      end
    end
    $readmemh("out.hex", outs);
    for (n = 0; n < ONIJ; n = n + 1) begin
      word = outs[n];
      out_of(0, n, 1);
      compare;
    end
""",
        _plain(
            {"radix": "hex", "container": "readmem"},
            act="act.hex",
            weight="weight{kij}.hex",
            psum="psum{kij}.hex",
            out="out.hex",
        ),
        declared="  reg [R*4-1:0] wfile [0:C-1];\n  reg [C*16-1:0] golden [0:NIJ-1];\n"
        "  reg [C*16-1:0] outs [0:ONIJ-1];",
    ),
    "hexadecimal words": Style(READ_PLAIN.replace("%b", "%h") + CHECK.replace("%b", "%h"), _plain({"radix": "hex"})),
    "decimal lanes": Style(
        READ_PLAIN
        + """
    fd = $fopen("out.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      for (c = C - 1; c >= 0; c = c - 1) begin
        got = $fscanf(fd, "%d", sum);
        word[c*16 +: 16] = sum;
      end
      out_of(0, n, 0);
      compare;
    end
""",
        [*_plain()[:2], _file("out", "out.txt", "onij", "col", radix="dec")],
    ),
    "lines and lanes reversed": Style(
        """
    fd = $fopen("act.txt", "r");
    for (n = NIJ - 1; n >= 0; n = n - 1) begin got = $fscanf(fd, "%b", ww); act[n] = ww; end
    $fclose(fd);
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "weight%0d.txt", k);
      fd = $fopen(name, "r");
      for (c = C - 1; c >= 0; c = c - 1) begin
        got = $fscanf(fd, "%b", ww);
        for (i = 0; i < R; i = i + 1) wgt[k*C + c][i*4 +: 4] = ww[(R - 1 - i)*4 +: 4];
      end
      $fclose(fd);
    end
"""
        + CHECK,
        [
            _file("act", "act.txt", "-nij", "row"),
            _file("weight", "weight{kij}.txt", "-col", "-row"),
            *_plain()[2:],
        ],
    ),
    "free header lines": Style(
        (READ_PLAIN + CHECK).replace('"r");', '"r");\n      got = $fgets(skip, fd); got = $fgets(skip, fd);'),
        _plain({"header": ["// made by Systolith", "// one word a line"]}),
        verdict='if (wrong == 0) $display("All words match!"); else $display("mismatch: %0d", wrong);',
        passes="All words match",
        fails="mismatch",
    ),
    "two tiles counted from one": Style(
        TILED_BODY,
        [
            _file("act", "act_{itile+1}.txt", "nij", "row"),
            _file("weight", "weight_{itile+1}_{otile+1}_{kij+1}.txt", "col", "row"),
            _file("psum", "psum_{itile+1}_{otile+1}_{kij+1}.txt", "nij", "col"),
        ],
        vectors={"channels": "8x8"},
        parameters={"IT": 2, "OT": 2},
        folder="data",
    ),
    "a wide word for two tiles": Style(
        """
    fd = $fopen("act.txt", "r");
    for (n = 0; n < NIJ; n = n + 1) begin
      got = $fscanf(fd, "%32b", wide);
      act[n] = wide[15:0];
      act[NIJ + n] = wide[31:16];
    end
    $fclose(fd);
    fd = $fopen("weight.txt", "r");
    for (k = 0; k < 9; k = k + 1)
      for (c = 0; c < C; c = c + 1) begin
        got = $fscanf(fd, "%32b", wide);
        wgt[k*2*C + c] = wide[15:0];
        wgt[(k*2 + 1)*C + c] = wide[31:16];
      end
    $fclose(fd);
    fd = $fopen("out.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%64b", word);
      out_of(0, n, 1);
      compare;
    end
""",
        [
            _file("act", "act.txt", "nij", "itile row"),
            _file("weight", "weight.txt", "kij col", "itile row"),
            _file("out", "out.txt", "onij", "col", relu=True),
        ],
        vectors={"channels": "8x4"},
        parameters={"IT": 2},
        declared="  reg [31:0] wide;",
    ),
    "psums of outputs alone, before ReLU": Style(
        READ_PLAIN
        + """
    for (k = 0; k < 9; k = k + 1) begin
      $sformat(name, "psum%0d.txt", k);
      fd = $fopen(name, "r");
      for (n = 0; n < ONIJ; n = n + 1) begin
        got = $fscanf(fd, "%b", word);
        psum_of(0, 0, k, (n/W + k/3)*P + n%W + k%3);
        compare;
      end
      $fclose(fd);
    end
    fd = $fopen("out.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%b", word);
      out_of(0, n, 0);
      compare;
    end
""",
        [
            *_plain()[:2],
            _file("psum", "psum{kij}.txt", "onij", "col"),
            _file("out", "out.txt", "onij", "col"),
        ],
    ),
    "accumulation addresses": Style(
        READ_PLAIN
        + """
    // Every psum into a memory, and from there by the addresses of the file.
    for (k = 0; k < 9; k = k + 1)
      for (n = 0; n < NIJ; n = n + 1) begin
        psum_of(0, 0, k, n);
        mem[k*NIJ + n] = made;
      end
    fd = $fopen("acc_address.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      accs[n] = 0;
      for (k = 0; k < 9; k = k + 1) begin
        got = $fscanf(fd, "%11b", address);
        for (c = 0; c < C; c = c + 1)
          accs[n][c*16 +: 16] = accs[n][c*16 +: 16] + mem[address - 7][c*16 +: 16];
      end
    end
    $fclose(fd);
    fd = $fopen("out.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%b", word);
      made = accs[n];
      compare;
    end
""",
        [
            *_plain()[:2],
            _file("address", "acc_address.txt", "onij kij", "", bits=11, offset=7),
            _file("out", "out.txt", "onij", "col"),
        ],
        declared="  reg [C*16-1:0] mem [0:9*NIJ-1];\n  reg [C*16-1:0] accs [0:ONIJ-1];\n  reg [10:0] address;",
    ),
    "output stationary": Style(
        """
    // A PE owns an output position and a channel; step after step the channels' kernel positions.
    for (n = 0; n < 3*R; n = n + 1) for (c = 0; c < C; c = c + 1) acc[n*C + c] = 0;
    fd = $fopen("act_os.txt", "r");
    for (n = 0; n < 3*4*9; n = n + 1) got = $fscanf(fd, "%b", steps[n]);
    $fclose(fd);
    fd = $fopen("weight_os.txt", "r");
    for (n = 0; n < 4*9; n = n + 1) got = $fscanf(fd, "%b", wsteps[n]);
    $fclose(fd);
    for (o = 0; o < 3; o = o + 1)
      for (n = 0; n < 36; n = n + 1)
        for (i = 0; i < R; i = i + 1)
          for (c = 0; c < C; c = c + 1) begin
            a = {12'd0, steps[o*36 + n][i*4 +: 4]};
            b = {12'd0, wsteps[n][c*4 +: 4]};
            #1 acc[(o*R + i)*C + c] = acc[(o*R + i)*C + c] + p;
          end
    fd = $fopen("out.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%b", word);
      for (c = 0; c < C; c = c + 1) made[c*16 +: 16] = acc[n*C + c][15] ? 16'd0 : acc[n*C + c][15:0];
      compare;
    end
""",
        [
            _file("act_os", "act_os.txt", "fold ic kij", "pixel"),
            _file("weight_os", "weight_os.txt", "ic kij", "col"),
            _file("out", "out.txt", "onij", "col", relu=True),
        ],
        declared="  reg [R*4-1:0] steps [0:3*36-1];\n  reg [C*4-1:0] wsteps [0:35];\n  integer acc [0:3*R*C-1];",
    ),
    "a dump for check": Style(
        READ_PLAIN
        + """
    fd = $fopen("dump/out.txt", "w");
    for (n = 0; n < ONIJ; n = n + 1) begin
      out_of(0, n, 1);
      $fdisplay(fd, "%b", made);
    end
    $fclose(fd);
""",
        [*_plain()[:2], _plain()[3]],
        verdict='$display("written");',
        passes="",
        fails="",
        dump={"folder": "dump"},
    ),
    "a folder by plusarg": Style(
        READ_PLAIN.replace('$fopen("act.txt"', '$fopen({dir, "/act.txt"}').replace(
            '"weight%0d.txt", k)', '"%0s/weight%0d.txt", dir, k)'
        )
        + """
    fd = $fopen("golden/out.txt", "r");
    for (n = 0; n < ONIJ; n = n + 1) begin
      got = $fscanf(fd, "%b", word);
      out_of(0, n, 1);
      compare;
    end
""",
        [*_plain()[:2], _plain()[3]],
        declared='  reg [8*32:1] dir;\n  initial if (!$value$plusargs("dir=%s", dir)) dir = "none";',
        plusargs=("+dir=in put",),
        folder="sim/in put",
        places={"out.txt": "sim/golden"},
        run_in="sim",
    ),
}


def write(style: Style, folder: Path, layout: list[dict[str, Any]] | None = None, **changed: Any) -> Path:
    """The project of a style in `folder`, which has a blank in its name if it pleases; its core.toml.

    Args:
        layout: other files than the testbench reads.
        changed: `core`, `body`, `sources`, `top` and such, instead of the usual.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rtl").mkdir()
    (folder / "rtl" / "dot.v").write_text(changed.get("core", CORE))
    bench = FRAME.replace("DECLARED", style.declared).replace("VERDICT", changed.get("verdict", style.verdict))
    (folder / "tb.v").write_text(bench.replace("BODY", changed.get("body", style.body)))
    if style.dump:
        (folder / "dump").mkdir()
    if style.run_in != ".":
        (folder / style.run_in).mkdir()
    lines = ["[rtl]", f"sources = {list(changed.get('sources', ('rtl/dot.v', 'tb.v')))!r}"]
    lines += [f"top = {changed.get('top', 'tb')!r}", *changed.get("rtl", ())]
    if style.parameters:
        lines += ["[rtl.parameters]", *(f"{name} = {value}" for name, value in style.parameters.items())]
    lines += ["[simulator]", f"name = {changed.get('simulator', 'icarus')!r}", f"run_in = {style.run_in!r}"]
    lines += [f"time_limit = {changed.get('time_limit', 60)}", f"plusargs = {list(style.plusargs)!r}", "[vectors]"]
    shape = {"array": "4x4", "channels": "4x4", "input": "3x3", "stimulus": "random", **style.vectors}
    lines += [f"folder = {style.folder!r}", *(f"{key} = {value!r}" for key, value in shape.items())]
    lines += ["[vectors.places]", *(f"{key!r} = {value!r}" for key, value in style.places.items())]
    for entry in layout or style.layout:
        lines += ["[[vectors.layout.files]]"]
        lines += [f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in entry.items()]
    lines += ["[verdict]"]
    lines += [f"{key} = {value!r}" for key, value in (("pass", style.passes), ("fail", style.fails)) if value]
    if style.dump:
        lines += ["[verdict.dump]", *(f"{key} = {value!r}" for key, value in style.dump.items())]
    (folder / "core.toml").write_text("\n".join(lines) + "\n")
    return folder / "core.toml"
