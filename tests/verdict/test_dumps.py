"""Dumps as logs and waveforms: the same verdict whatever the channel; what is no dump is one sentence."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_rtl import Rtl, planted

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.vectors import find_layout
from systolith.vectors.layout import Layout
from systolith.verdict.judge import Verdict, judge
from systolith.verdict.words import How

COURSE = find_layout("course")
AT: dict[str, str | None] = {"valid": None, "clock": None}
WAVE = How(level="output", signal="top.dut.out", valid="top.dut.out_valid", clock="top.clk")
needs_icarus = pytest.mark.skipif(not shutil.which("iverilog"), reason="needs the simulator iverilog")


@pytest.fixture(scope="module")
def result() -> ArrayResult:
    """Two output tiles of two columns, 2x2 kernel."""
    rng = np.random.default_rng(5)
    conv = Conv("layer", rng.integers(-8, 8, (3, 2, 2, 2)), UINT4, INT4, padding=(1, 1))
    return run_layer(conv, rng.integers(0, 16, (2, 3, 2)), ArraySpec(2, 2))


def words(result: ArrayResult, level: str = "out", rtl: Rtl | None = None) -> list[str]:
    return [line for lines in (rtl or Rtl()).words(result, (level,)).values() for line in lines]


def log(path: Path, lines: list[str], heading: str = "time,value\n") -> Path:
    path.write_text(heading + "".join(f"{10 * at + 5},{line}\n" for at, line in enumerate(lines)))
    return path


def check(result: ArrayResult, path: Path, how: How | None = None, layout: Layout = COURSE) -> Verdict:
    return judge(result, layout, path, how)


# --- logs ---


@pytest.mark.parametrize("heading", ["", "time,value\n", "# psums\n\n// of layer\ntime, value\n", "# 1,2\n"])
def test_a_log_of_each_level_by_name_by_count_or_by_option(result: ArrayResult, tmp_path: Path, heading: str) -> None:
    for level, name in (("psum", "psum"), ("out", "output")):
        lines = words(result, level)
        for file, how in ((f"{level}s.csv", None), ("dump.log", None), ("out.txt", How(level=name))):
            verdict = check(result, log(tmp_path / file, lines, heading), how)
            assert verdict.holds
            assert [(lv.name, lv.words) for lv in verdict.levels] == [(name, len(lines))]


def test_a_folder_of_logs(result: ArrayResult, tmp_path: Path) -> None:
    log(tmp_path / "psum.csv", words(result, "psum"))
    log(tmp_path / "output.csv", words(result))
    verdict = check(result, tmp_path)
    assert verdict.holds
    assert [lv.name for lv in verdict.levels] == ["psum", "output"]
    log(tmp_path / "psum_too.csv", words(result, "psum"))
    with pytest.raises(BadInput, match=r"expected one log of level psum, found psum\.csv, psum_too\.csv"):
        check(result, tmp_path)
    # The layout's own files may be logs too, each with its times.
    for name, lines in Rtl().words(result).items():
        log(tmp_path / name, lines)
    assert check(result, tmp_path).holds


def test_values_in_every_radix(result: ArrayResult, tmp_path: Path) -> None:
    lines = words(result, "out", Rtl(relu=False))
    hexes, numbers = [f"{int(w, 2):08x}" for w in lines], [int(w, 2) for w in lines]
    shown = {
        "bin": [*lines[:-1], f"32'b{lines[-1]}"],
        "hex": [hexes[0], "0x" + hexes[1], "32'h" + hexes[2].upper(), f"{numbers[3]:x}", *hexes[4:]],
        "dec": [*map(str, numbers[:-1]), str(numbers[-1] - (1 << 32) if numbers[-1] >> 31 else numbers[-1])],
    }
    for radix, values in shown.items():
        verdict = check(result, log(tmp_path / "out.csv", values), How(radix=radix))
        assert verdict.suspects == ("no ReLU",), radix
    assert check(result, log(tmp_path / "out.csv", ["0x" + value for value in hexes])).suspects == ("no ReLU",)
    hexed = replace(COURSE, files=tuple(replace(spec, radix="hex") for spec in COURSE.files))
    assert check(result, log(tmp_path / "out.csv", hexes), layout=hexed).suspects == ("no ReLU",)


def test_the_first_wrong_word_of_a_log_has_its_line_and_time(result: ArrayResult, tmp_path: Path) -> None:
    lines = words(result)
    count = len(lines) // 2  # words of the first output tile
    lines[count + 1] = f"{(int(lines[count + 1], 2) ^ 1):032b}"
    first = check(result, log(tmp_path / "out.csv", lines)).first
    assert first.startswith(
        f"out.csv, line {count + 3} (time {10 * (count + 1) + 5}), word 2 of out_otile1.txt, lane 0: layer layer, "
        "output channel 2 at (0, 1)"
    )


@pytest.mark.parametrize("bad", ["x" * 32, "z", "0x1z", "", "1x01"])
def test_x_z_and_nothing_in_a_log_are_differences(result: ArrayResult, tmp_path: Path, bad: str) -> None:
    lines = words(result)
    lines[3] = bad
    verdict = check(result, log(tmp_path / "out.csv", lines))
    assert [lv.different for lv in verdict.levels] == [1]
    assert "out.csv, line 5 (time 35), word 4 of out_otile0.txt" in verdict.first
    assert verdict.first.endswith(f"found {bad!r}" if bad else "found no word")


def test_words_missing_or_too_many_in_a_log_are_differences(result: ArrayResult, tmp_path: Path) -> None:
    lines = words(result)
    verdict = check(result, log(tmp_path / "out.csv", lines[:-2]))
    assert [lv.different for lv in verdict.levels] == [2]
    assert verdict.first == f"out.csv: {len(lines) - 2} of {len(lines)} words: the last 2 are missing"
    assert verdict.counts == (verdict.first,)
    assert verdict.alternatives == ()
    verdict = check(result, log(tmp_path / "out.csv", [*lines, lines[0]]))
    assert [lv.different for lv in verdict.levels] == [1]
    assert verdict.first == f"out.csv: {len(lines) + 1} of {len(lines)} words: the last is surplus"
    assert not check(result, log(tmp_path / "out.csv", [])).holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5,0\n4,0\n", r"line 2: time 4 is before time 5 of the line above"),
        ("5,0\nlater,0\n", r"line 2: expected time,value with a number for the time, found 'later,0'"),
        ("5,0\n6 0\n", r"line 2: expected time,value"),
        ("5,3f\n", r"line 1: expected a binary value \(--radix says another\), found '3f'"),
        ("5,0b2\n", r"line 1: expected a binary value"),
        ("5," + "1" * 33 + "\n", r"line 1: found more bits than the 32 of a word"),
        ("5,32'd4294967296\n", r"line 1: 4294967296 does not fit the 32 bits of a word"),
        ("5,8'd-x\n", r"line 1: expected a decimal value"),
        ("0101\n", r"expected a log of lines time,value"),
        ("", r"expected a log of lines time,value"),
    ],
)
def test_what_is_no_log_is_a_sentence(result: ArrayResult, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "out.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        check(result, tmp_path / "out.csv")


def test_levels_that_are_not_there(result: ArrayResult, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="level 'sfp': layout course has psum, output"):
        check(result, tmp_path, How(level="sfp"))
    psums = replace(COURSE, files=tuple(spec for spec in COURSE.files if spec.tensor == "psum"))
    with pytest.raises(BadInput, match="layout course has no outputs: --level says what was dumped"):
        check(result, log(tmp_path / "dump.csv", ["0"]), layout=psums)


def test_outputs_before_and_after_relu_are_two_levels(result: ArrayResult, tmp_path: Path) -> None:
    before = next(spec for spec in COURSE.files if spec.tensor == "out")
    both = replace(COURSE, files=(*COURSE.files, replace(before, name="sfp_{otile}.txt", single=None, relu=False)))
    log(tmp_path / "out.csv", words(result))
    log(tmp_path / "sfp.csv", words(result, "out", Rtl(relu=False)))
    verdict = check(result, tmp_path, layout=both)
    assert verdict.holds
    assert [lv.name for lv in verdict.levels] == ["SFP before ReLU", "output after ReLU"]
    log(tmp_path / "sfp.csv", words(result))
    assert check(result, tmp_path, layout=both).suspects == ("ReLU where there is none",)


# --- where no mistake gives every word ---


def test_the_closest_mistake_is_named_with_its_share(result: ArrayResult, tmp_path: Path) -> None:
    mistaken = words(result, "psum", planted(result)["activations taken as signed"])
    mistaken[-1] = "x" * 32
    verdict = check(result, log(tmp_path / "psum.csv", mistaken))
    assert verdict.suspects == ()
    assert [(a.name, a.words) for a in verdict.closest] == [("activations taken as signed", len(mistaken) - 1)]
    assert verdict.first.rsplit("found ", 1)[1] == verdict.closest[0].value != verdict.expected
    # One wrong word among right ones is nobody's mistake.
    right = words(result, "psum")
    right[7] = mistaken[7] if mistaken[7] != right[7] else "0" * 31 + "1"
    assert check(result, log(tmp_path / "psum.csv", right)).closest == ()


def test_a_damaged_line_of_a_file_is_read_around(result: ArrayResult, tmp_path: Path) -> None:
    Rtl().dump(result, tmp_path / "d")
    path = tmp_path / "d" / "out_otile1.txt"
    lines = path.read_text().splitlines()
    path.write_text("\r\n".join([lines[0], "0101", *lines[2:]]))
    verdict = check(result, tmp_path / "d")
    assert [lv.different for lv in verdict.levels] == [0, 1]
    assert verdict.first.startswith("out_otile1.txt, line 2, lane 0")
    path.write_text("1" + "\n".join(lines) + "\n")
    assert [lv.different for lv in check(result, tmp_path / "d").levels] == [0, 1]
    path.unlink()
    assert [lv.different for lv in check(result, tmp_path / "d").levels] == [0, len(lines)]


def test_hexadecimal_files_with_x(result: ArrayResult, tmp_path: Path) -> None:
    hexed = replace(COURSE, files=tuple(replace(spec, radix="hex") for spec in COURSE.files))
    lines = [f"{int(word, 2):08X}" for word in words(result)]
    half = len(lines) // 2
    (tmp_path / "out_otile0.txt").write_text("\n".join(lines[:half]) + "\n")
    (tmp_path / "out_otile1.txt").write_text("\n".join(["xxxx" + lines[half][4:], *lines[half + 1 :]]) + "\n")
    verdict = check(result, tmp_path, layout=hexed)
    assert [lv.different for lv in verdict.levels] == [1]
    assert f"found 'xxxx{lines[half][4:]}'" in verdict.first


# --- waveforms ---


def vcd(path: Path, values: list[str], width: int = 32, start: int = 0) -> Path:
    """What a simulator would write: the clock rises at 5, 15, ...; a word follows an edge, valid with it."""
    head = "$timescale 1ns $end\n$scope module top $end\n$var wire 1 c clk $end\n$scope module dut $end\n"
    head += f"$var reg {width} o out [{width - 1}:0] $end\n$var reg 1 v out_valid $end\n$var real 64 r gain $end\n"
    lines = [head + "$upscope $end\n$upscope $end\n$enddefinitions $end\n#0\n0c\nxv\nbx o\nr0.5 r"]
    time, lines = start, [*lines, f"#{start}"] if start else lines
    for value in (*values, None):
        lines.append(f"#{time + 5}\n1c" + ("\n0v" if value is None else f"\n1v\nb{value} o"))
        lines.append(f"#{time + 10}\n0c")
        time += 10
    path.write_text("\n".join([*lines, f"#{time + 5}\n1c\n"]))
    return path


def test_a_waveform_is_sampled_before_the_edge(result: ArrayResult, tmp_path: Path) -> None:
    lines = words(result)
    verdict = check(result, vcd(tmp_path / "w.vcd", lines), WAVE)
    assert verdict.holds
    assert verdict.levels[0].words == len(lines)
    lines[4] = lines[4][:-1] + "x"
    verdict = check(result, vcd(tmp_path / "w.vcd", lines), WAVE)
    assert verdict.first.startswith("top.dut.out at 55 ns, word 5 of out_otile0.txt, lane 0")
    assert verdict.first.endswith(f"found '{lines[4]}'")
    verdict = check(result, vcd(tmp_path / "w.vcd", words(result)[:-1]), WAVE)
    assert [lv.different for lv in verdict.levels] == [1]
    assert verdict.first == f"top.dut.out: {len(lines) - 1} of {len(lines)} words: the last is missing"


def test_without_a_clock_a_word_is_a_change_under_valid(result: ArrayResult, tmp_path: Path) -> None:
    lines = words(result, "psum")
    verdict = check(result, vcd(tmp_path / "w.vcd", lines), replace(WAVE, level="psum", clock=None))
    once = [a for a, b in zip(lines, [None, *lines], strict=False) if a != b]
    assert len(once) < len(lines)  # padding: zeros in succession
    assert verdict.first == (
        f"top.dut.out: {len(once)} of {len(lines)} words: of equal ones in succession only the first is there; "
        "without --clock equal words in succession count once"
    )
    # A pulse a word tells them all.
    path = tmp_path / "pulses.vcd"
    head = vcd(path, []).read_text().split("#5\n")[0]
    path.write_text(head + "".join(f"#{10 * i + 5}\nb{w} o\n1v\n#{10 * i + 9}\n0v\n" for i, w in enumerate(lines)))
    assert check(result, path, replace(WAVE, level="psum", clock=None)).holds


def test_a_waveform_without_a_valid_by_a_condition_or_at_times(result: ArrayResult, tmp_path: Path) -> None:
    lines = words(result)
    wave = replace(WAVE, valid=None)
    path = vcd(tmp_path / "w.vcd", lines)
    last = 10 * len(lines) - 5
    # A word of `vcd` changes at an edge and is sampled at the next one.
    hows = [replace(wave, when=f"top.dut.out_valid={value}") for value in ("1", "1'b1", "0x1", "= 1")]
    listed = ",".join(f"{10 * at + 9}ns" for at in range(len(lines)))
    for times in (f"5:{last}:10", f"5ns:{last + 9}ns:10 ns", f"5000ps:{last}:10000000 fs", listed):
        hows.append(replace(wave, clock=None, times=times))
    for how in hows:
        assert check(result, path, how).holds, how
    lines[4] = lines[4][:-1] + "10"[int(lines[4][-1])]
    path = vcd(tmp_path / "w.vcd", lines)
    for how in hows:
        verdict = check(result, path, how)
        assert [lv.different for lv in verdict.levels] == [1]
        assert re.match(r"top.dut.out at (55|45|49) ns, word 5 of out_otile0.txt, lane 0", verdict.first), how
    # A condition on the words' own signal, of more than one bit: the words that are one value.
    value = max(int(line, 2) for line in lines)
    verdict = check(result, path, replace(wave, when=f"top.dut.out={value}"))
    assert verdict.counts[0].startswith(f"top.dut.out: {sum(int(line, 2) == value for line in lines)} of {len(lines)} ")
    assert check(result, path, replace(wave, clock=None, times="1,2")).first.endswith("found '" + "x" * 32 + "'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signal": "top.dut.oot"}, r"no signal 'top.dut.oot'; did you mean top.dut.out"),
        ({"signal": "out"}, r"no signal 'out'; did you mean top.dut.out"),
        ({"valid": "top.dut.out"}, r"top.dut.out has 32 bits: expected one bit for --valid"),
        ({"clock": "top.dut.out"}, r"top.dut.out has 32 bits: expected one bit for --clock"),
        ({"signal": "top.clk"}, r"top.clk has 1 bits, a word of level output has 32 \(2 lanes of 16\)"),
        ({"signal": "top.dut.gain"}, r"top.dut.gain is a Real, not a vector of bits"),
        ({"valid": None}, r"a waveform needs --signal and --valid .* or --when SIGNAL=VALUE or --times"),
        ({"when": "top.clk=1"}, r"expected one of --valid, --when and --times .*, found --valid and --when"),
        ({"valid": None, "times": "5"}, r"expected one of --valid, --when and --times \(without --clock\)"),
        ({"valid": None, "when": "top.clk"}, r"--when 'top.clk': expected SIGNAL=VALUE, such as"),
        ({"valid": None, "when": "top.clock=1"}, r"no signal 'top.clock'; did you mean top.clk"),
        ({"valid": None, "when": "top.clk=2"}, r"--when top.clk=2: 2 does not fit the 1 bits of a"),
        ({"valid": None, "when": "top.clk=high"}, r"--when top.clk=high: expected a decimal value"),
        (AT | {"times": "soon"}, r"--times 'soon': expected T,T,... or FROM:TO:STEP, .*, found 'soon'"),
        (AT | {"times": "5:3:1"}, r"--times '5:3:1': expected FROM before TO"),
        (AT | {"times": "5:9"}, r"--times '5:9': expected FROM:TO:STEP"),
        (AT | {"times": "5:9:0"}, r"--times '5:9:0': expected FROM before TO"),
        (AT | {"times": "5,5"}, r"--times '5,5': expected times one after another"),
        (AT | {"times": "5ps"}, r"--times '5ps': 5ps is no multiple of the waveform's 1 ns"),
    ],
)
def test_signals_that_do_not_fit_are_a_sentence(
    result: ArrayResult, tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check(result, vcd(tmp_path / "w.vcd", words(result)), replace(WAVE, **change))  # type: ignore[arg-type]


def test_what_is_no_waveform_is_a_sentence(result: ArrayResult, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such waveform"):
        check(result, tmp_path / "none.vcd", WAVE)
    for name in ("bad.vcd", "bad.fst"):
        (tmp_path / name).write_bytes(b"hello\n\x00")
        with pytest.raises(BadInput, match="not a readable waveform"):
            check(result, tmp_path / name, WAVE)
    with pytest.raises(BadInput, match=r"are of waveforms: expected a \.vcd, \.fst or \.ghw file"):
        check(result, log(tmp_path / "out.csv", words(result)), WAVE)


MODULE = """
module dut(input clk, input go, output reg [31:0] out, output reg out_valid);
  reg [31:0] words [0:COUNT-1];
  integer n = 0;
  initial begin $readmemb("words.txt", words); out_valid = 0; end
  always @(posedge clk) begin
    out_valid <= go && n < COUNT;
    if (go && n < COUNT) begin out <= words[n]; n <= n + 1; end
  end
endmodule
module top;
  reg clk = 0, go = 0;
  wire [31:0] out;
  wire valid;
  integer log;
  dut dut(clk, go, out, valid);
  always #5 clk = ~clk;
  always @(posedge clk) if (valid) $fwrite(log, "%0t,%b\\n", $time, out);
  initial begin
    log = $fopen("out.csv", "w");
    $dumpfile("DUMP"); $dumpvars(0, top);
    // Pauses, and a go that falls at the very time of an edge.
    repeat (COUNT) begin #10 go = 1; #30 go = 0; #5; end
    $fclose(log); $finish;
  end
endmodule
"""


@needs_icarus
@pytest.mark.parametrize("mistake", ["", "activations taken as signed", "x instead of 0", "kij 3 missing"])
def test_a_simulation_gives_the_same_verdict_by_every_channel(
    result: ArrayResult, tmp_path: Path, mistake: str
) -> None:
    rtl = planted(result)[mistake] if mistake else Rtl()
    lines = words(result, "out", rtl)
    (tmp_path / "words.txt").write_text("\n".join(lines) + "\n")
    rtl.dump(result, tmp_path / "folder", ("out",))
    verdicts = [check(result, tmp_path / "folder")]
    for name, flags in (("wave.vcd", ()), ("wave.fst", ("-fst",))):
        source = MODULE.replace("COUNT", str(len(lines))).replace("DUMP", name)
        (tmp_path / "top.sv").write_text(source)
        subprocess.run(["iverilog", "-g2012", "-o", "sim", "top.sv"], cwd=tmp_path, check=True)
        subprocess.run(["vvp", "-n", "sim", *flags], cwd=tmp_path, check=True, capture_output=True)
        verdicts.append(check(result, tmp_path / name, WAVE))
    assert (tmp_path / "wave.fst").read_bytes()[:1] == b"\x00"  # FST, not a VCD of that name
    times = [int(line.split(",")[0]) for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert len(times) == len(lines)
    verdicts.append(check(result, tmp_path / "out.csv"))
    assert [v.suspects for v in verdicts] == [(mistake,) if mistake else ()] * 4
    assert [v.holds for v in verdicts] == [not mistake] * 4
    assert [v.levels for v in verdicts] == [verdicts[0].levels] * 4
    if mistake:
        explained = [re.sub(r"^.*?(?=, lane)", "", v.first) for v in verdicts]
        assert explained == [explained[0]] * 4
        # The log's time and the waveform's are of the same edge.
        (stamp,) = re.findall(r"top.dut.out at (\d+) s", verdicts[1].first)
        assert f"(time {stamp})" in verdicts[3].first
