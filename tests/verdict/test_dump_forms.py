"""Dumps as tools write them: every form is read as the layout's own, and a wrong word is found in each of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dump_forms import (
    FORMS,
    LAYOUTS,
    Lines,
    dump,
    explained,
    flipped,
    hexed,
    lines,
    numbers,
    one_tile,
    own_words,
    styled,
)
from hypothesis import given
from hypothesis import strategies as st

from conftest import Find
from systolith.array import ArrayResult
from systolith.formats import BadInput, IntFormat
from systolith.verdict.dumps import golden_files, levels_of
from systolith.verdict.judge import judge
from systolith.verdict.lines import text_of, words_of
from systolith.verdict.values import radix_of
from systolith.verdict.words import Form, How


@pytest.fixture(scope="module")
def result() -> ArrayResult:
    """One tile, as the seed's layout wants it."""
    return one_tile()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_equal_and_a_wrong_word_is_found_in_it(
    result: ArrayResult, tmp_path: Path, form: str, layout: str
) -> None:
    described = LAYOUTS[layout]
    words = own_words(result, described)
    verdict = judge(result, described, dump(tmp_path / "right", words, FORMS[form]))
    assert verdict.holds, (verdict.first, verdict.counts, verdict.assumed)
    name = next(name for name in words if name.startswith("out"))
    for at in (0, 7, len(words[name]) - 1):
        wrong = {**words, name: flipped(words[name], at)}
        found = judge(result, described, dump(tmp_path / "wrong", wrong, FORMS[form]))
        assert [level.different for level in found.levels] == [0, 1]
        assert found.counts == ()
        own = judge(result, styled("bin"), dump(tmp_path / "own", {"out.txt": wrong[name]}), How(level="output"))
        assert explained(found) == explained(own)
        assert f"channel 1 at ({at // 4}, {at % 4})" in own.first


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("UTF-16 LE", "UTF-16 text"),
        ("UTF-8 with a mark", "UTF-8 text with a byte order mark"),
        ("plain, hex", "hexadecimal words (the layout's are binary)"),
        ("decimal lanes", "decimal words (the layout's are binary)"),
        ("an address each, bin", "words at their @addresses"),
        ("addresses from 0x100, bin", "addresses count from 100"),
    ],
)
def test_what_was_assumed_is_said_once_for_all_files(result: ArrayResult, tmp_path: Path, form: str, said: str) -> None:
    words = own_words(result, LAYOUTS["course"])
    verdict = judge(result, LAYOUTS["course"], dump(tmp_path, words, FORMS[form]))
    assert f"psum_itile0_otile0_kij0.txt and 4 more: {said}" in verdict.assumed


def test_nothing_is_assumed_of_the_layouts_own_form(result: ArrayResult, tmp_path: Path) -> None:
    for name, layout in LAYOUTS.items():
        (tmp_path / name).mkdir()
        for specs in levels_of(layout).values():
            for file in golden_files(result, layout, specs):
                (tmp_path / name / file.name).write_bytes(b"".join(file.encode()))
        verdict = judge(result, layout, tmp_path / name)
        assert verdict.holds
        assert verdict.assumed == ()
        # Nor where each word has to be read, as one of them is wrong.
        out = next((tmp_path / name).glob("out*"))
        *before, last, end = re.split(r"([0-9a-f])(?=[,;]?\n(?:END;\n)?$)", out.read_text())
        out.write_text("".join(before) + ("1" if last != "1" else "0") + end)
        at = "".join(before).count("\n")
        verdict = judge(result, layout, tmp_path / name)
        assert [level.different for level in verdict.levels] == [0, 1], (name, verdict.first)
        assert verdict.assumed == ()
        assert f"line {at + 1}, lane" in verdict.first


def test_a_name_in_other_case_is_found_and_two_are_refused(result: ArrayResult, tmp_path: Path) -> None:
    words = own_words(result, LAYOUTS["course"])
    folder = dump(tmp_path, {"Out.txt" if name == "out.txt" else name: held for name, held in words.items()})
    verdict = judge(result, LAYOUTS["course"], folder)
    assert verdict.holds
    assert verdict.assumed == ("out.txt: found under a name in other upper and lower case",)
    dump(folder, {"Out.txt": flipped(words["out.txt"], 3)})
    assert judge(result, LAYOUTS["course"], folder).first.startswith("out.txt, line 4, lane 1")
    dump(folder, {"OUT.txt": words["out.txt"]})
    with pytest.raises(BadInput, match=r"expected a file of this name, found OUT\.txt and Out\.txt"):
        judge(result, LAYOUTS["course"], folder)
    dump(folder, {"out.txt": words["out.txt"]})
    assert judge(result, LAYOUTS["course"], folder).assumed == ()


def test_a_file_of_words_alone(result: ArrayResult, tmp_path: Path) -> None:
    words = own_words(result, LAYOUTS["course"])
    folder = dump(tmp_path, words, FORMS["plain, hex"])
    for name, held in words.items():
        verdict = judge(result, LAYOUTS["course"], folder / name)
        assert verdict.holds
        assert [level.words for level in verdict.levels] == [len(held)]
    every = [word for name, held in words.items() if name.startswith("psum") for word in held]
    verdict = judge(result, LAYOUTS["course"], dump(tmp_path / "all", {"psum.mem": every}) / "psum.mem")
    assert verdict.holds
    assert [level.words for level in verdict.levels] == [len(every)]


MODULE = """
module top;
  reg [47:0] words [0:19];
  reg [47:0] out;
  integer i, log;
  initial begin
    $readmemb("words.txt", words);
    $writememb("memb/out.txt", words);
    $writememh("memh/out.txt", words);
    $timeformat(-9, 0, " ns", 9);
    log = $fopen("display/out.txt", "w");
    for (i = 0; i < 20; i = i + 1) begin
      #5 out = words[i];
      if (!i) $monitor("%t: out is %h", $time, out);
      $fdisplay(log, "%0t ns %b # word %0d", $time, out, i);
    end
    #5 $finish;
  end
endmodule
"""


def test_what_a_simulator_writes(result: ArrayResult, tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    words = own_words(result, LAYOUTS["course"])["out.txt"]
    (tmp_path / "top.sv").write_text(MODULE)
    for held, wrong in ((words, 0), (flipped(words, 13), 1)):
        dump(tmp_path, {"words.txt": held})
        for name in ("memb", "memh", "display", "monitor"):
            (tmp_path / name).mkdir(exist_ok=True)
        subprocess.run(["iverilog", "-g2012", "-o", "sim", "top.sv"], cwd=tmp_path, check=True)
        ran = subprocess.run(["vvp", "-n", "sim"], cwd=tmp_path, check=True, capture_output=True)
        (tmp_path / "monitor" / "out.txt").write_bytes(ran.stdout)
        for name in ("memb", "memh", "display", "monitor"):
            verdict = judge(result, LAYOUTS["course"], tmp_path / name)
            assert [level.different for level in verdict.levels] == [wrong], (name, verdict.first)
            assert verdict.counts == ()
            assert ("channel 1 at (3, 1)" in verdict.first) == bool(wrong)


# --- what is not certain is not assumed ---

ONE = IntFormat(16, True)


@pytest.mark.parametrize(
    ("form", "texts", "short", "radix"),
    [
        (Form("hex", 1, ONE), ["1234", "0101"], False, "hex"),  # decimal, too, would be four digits
        (Form("hex", 1, IntFormat(1, True)), ["1", "0"], False, "hex"),
        (Form("bin", 1, IntFormat(1, True)), ["1", "0"], False, "bin"),
        (Form("dec", 1, ONE), ["1234", "1010"], False, "dec"),
        (Form("bin", 1, ONE), ["1234", "5678"], False, "bin"),  # hexadecimal or decimal: neither
        (Form("bin", 1, ONE), ["1234", "0678"], False, "hex"),
        (Form("bin", 1, ONE), ["123", "56"], False, "bin"),
        (Form("bin", 1, ONE), ["123", "-56"], False, "dec"),
        (Form("bin", 1, ONE), ["123", "56789"], False, "dec"),
        (Form("bin", 1, ONE), ["0101", "1100"], True, "bin"),  # short binary ones
        (Form("bin", 1, ONE), ["0101", "1100"], False, "hex"),
        (Form("bin", 1, ONE), ["0101", "11fc"], True, "hex"),
        (Form("bin", 1, ONE), ["0" * 16, "0101", "0011"], False, "bin"),
        (Form("hex", 1, ONE), ["0" * 15 + "1"], True, "bin"),
        (Form("hex", 1, ONE), ["00ff", "0" * 16], False, "hex"),
        (Form("bin", 1, ONE), [], False, "bin"),
    ],
)
def test_the_radix_is_the_layouts_unless_words_show_another(form: Form, texts: Lines, short: bool, radix: str) -> None:
    assert radix_of(texts, form, short) == radix


def test_a_word_of_both_radixes_is_of_the_layouts(result: ArrayResult, tmp_path: Path) -> None:
    """A file of 48 hexadecimal digits for 48 bits is no word of a hexadecimal layout, however it looks."""
    words = own_words(result, LAYOUTS["course"])
    held = [hexed(word) for word in words["out.txt"]]
    # Decimal digits alone, of the length of a hexadecimal word, without a zero before them.
    dump(tmp_path, {"out.txt": [str(10**11 + at) for at in range(20)]})
    verdict = judge(result, LAYOUTS["course"], tmp_path)
    assert verdict.levels[0].different == 20
    assert "out.txt: no line is a whole word: --radix or --pattern may say how to read it" in verdict.assumed
    # One hexadecimal word among binary ones is damaged.
    dump(tmp_path, {"out.txt": [*words["out.txt"][:5], held[5], *words["out.txt"][6:]]})
    verdict = judge(result, LAYOUTS["course"], tmp_path)
    assert verdict.levels[0].different == 1
    assert verdict.first.startswith("out.txt, line 6, lane 0")
    assert verdict.first.endswith(f"found '{held[5]}'")


@pytest.mark.parametrize("layout", ["course", "readmemh"])
def test_lines_that_differ_in_more_than_time_and_value_are_refused(
    result: ArrayResult, tmp_path: Path, layout: str
) -> None:
    words = own_words(result, LAYOUTS[layout])
    name = next(name for name in words if name.startswith("out"))
    form = lines(lambda at, word: f"{10 * at + 5} out={word} valid={at % 2}")
    twice = [word for word in words[name] for _ in range(2)]
    folder = dump(tmp_path, {name: twice}, form)
    with pytest.raises(BadInput, match=r"line 1: expected lines that differ in time and value alone; --pattern says"):
        judge(result, LAYOUTS[layout], folder)
    verdict = judge(result, LAYOUTS[layout], folder, How(pattern=r"^(\d+) out=(\w+) valid=1"))
    assert verdict.holds
    assert verdict.assumed[:2] == (
        f"{name}: a log: line 2 is word {words[name][0][:40]!r} at time 15",
        f"{name}: lines without a word: 20, first line 1, {f'5 out={words[name][0]} valid=0'[:40]!r}",
    )


def test_a_damaged_word_of_a_log_is_a_difference(result: ArrayResult, tmp_path: Path) -> None:
    words = own_words(result, LAYOUTS["course"])
    shown = [f"{10 * at + 5} ns: {word}" for at, word in enumerate(words["out.txt"])]
    for bad in ("x" * 48, "z", "", "1x0"):
        (tmp_path / "out.txt").write_text("\n".join([*shown[:4], f"45 ns: {bad}", *shown[5:]]))
        verdict = judge(result, LAYOUTS["course"], tmp_path)
        assert [level.different for level in verdict.levels] == [1]
        assert verdict.counts == ()
        assert verdict.first.startswith("out.txt, line 5 (time 45 ns), lane 0")
        assert verdict.first.endswith(f"found {bad!r}" if bad else "found no word")
    (tmp_path / "out.txt").write_text("\n".join([*shown[:5], "35 ns: " + words["out.txt"][5]]))
    with pytest.raises(BadInput, match="line 6: time 35 ns is before time 45 ns of the line above"):
        judge(result, LAYOUTS["course"], tmp_path)


# --- what is said of the dump goes before what it shows ---


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_radix_of_a_folder_of_short_words(result: ArrayResult, tmp_path: Path, layout: str) -> None:
    words = own_words(result, LAYOUTS[layout])
    shown = {
        "hex": lines(lambda at, word: f"{int(word, 2):x}"),
        "bin": lines(lambda at, word: f"{int(word, 2):b}"),
        "dec": lines(lambda at, word: f"{int(word, 2)}"),
    }
    for radix, form in shown.items():
        verdict = judge(result, LAYOUTS[layout], dump(tmp_path / radix, words, form), How(radix=radix))
        assert verdict.holds, (radix, verdict.first)
        assert verdict.assumed == ()
    other = judge(result, LAYOUTS[layout], dump(tmp_path / "dec", words, FORMS["plain, hex"]), How(radix="bin"))
    assert not other.holds


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        (lambda at, word: f"[{at}] W {hexed(word)} ok=1", r"W (\w+)"),
        (
            lambda at, word: f"t={at}ns addr={at + 32:x} d=48'h{hexed(word)};",
            "t=(?P<time>.*?) a.*=(?P<address>.*) d=(?P<value>.*);",
        ),
        (lambda at, word: f"# {at} -- 0x{hexed(word)}", "-- (?P<value>.*)"),
    ],
)
def test_a_pattern_finds_the_words(
    result: ArrayResult, tmp_path: Path, form: Callable[[int, str], str], pattern: str
) -> None:
    words = own_words(result, LAYOUTS["course"])
    verdict = judge(result, LAYOUTS["course"], dump(tmp_path, words, lines(form)), How(pattern=pattern))
    assert verdict.holds, verdict.first
    words["out.txt"] = flipped(words["out.txt"], 9)
    verdict = judge(result, LAYOUTS["course"], dump(tmp_path, words, lines(form)), How(pattern=pattern))
    assert re.match(r"out\.txt, line 10( \(time 9ns\))?, lane 1: .* channel 1 at \(2, 1\)", verdict.first)


def test_a_pattern_with_a_lane_a_line(result: ArrayResult, tmp_path: Path) -> None:
    words = own_words(result, LAYOUTS["course"])
    how = How(pattern=r"lane (?P<lane>\d+) = (?P<value>\S*)", radix="dec")

    def form(held: Lines) -> bytes:
        each = [zip((2, 1, 0), numbers(word), strict=True) for word in held]
        return "".join(f"{5 * at} lane {n} = {v}\n" for at, word in enumerate(each) for n, v in word).encode()

    assert judge(result, LAYOUTS["course"], dump(tmp_path, words, form), how).holds
    whole = form(words["out.txt"]).splitlines(keepends=True)
    (tmp_path / "out.txt").write_bytes(b"".join(whole[:16] + whole[17:]))  # of word 6, lane 1
    verdict = judge(result, LAYOUTS["course"], tmp_path, how)
    assert [level.different for level in verdict.levels] == [0, 1]
    assert verdict.first.startswith("out.txt, line 16, lane 1")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", r"--pattern '\(': not a regular expression"),
        ("out", r"expected a group \(\?P<value>"),
        ("(.)(.)(.)", r"expected a group \(\?P<value>"),
        ("(?P<word>.)", r"expected a group \(\?P<value>"),
        (r"(?P<time>\w+) (?P<value>\w+)", r"line 1: expected a number for the time, found 'later 0101'"),
        (r"(?P<address>\w+) (?P<value>\w+)", r"line 1: expected a number of base 16 for the address, found 'later'"),
        (r"(?P<lane>\w+) (?P<value>\w+)", r"line 1: expected a number of base 10 for the lane, found 'later'"),
        (r"(later)", r"line 1: expected a binary value"),
    ],
)
def test_a_pattern_that_is_none_is_a_sentence(result: ArrayResult, tmp_path: Path, pattern: str, said: str) -> None:
    (tmp_path / "out.txt").write_text("later 0101\n")
    with pytest.raises(BadInput, match=said):
        judge(result, LAYOUTS["course"], tmp_path, How(pattern=pattern))


@given(st.data())
def test_any_bytes_are_words_or_one_sentence(data: st.DataObject) -> None:
    """Whatever a file holds, it is read or refused; no other error leaves the reader."""
    pieces = [
        "0101",
        "00ff",
        "1" * 16,
        "@3",
        "//",
        "--",
        "#",
        ",",
        ":",
        " ",
        "\n",
        "\r\n",
        "10 ns",
        "x",
        "-5",
        "0x",
        "16'h",
    ]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=40)))
    mark = data.draw(st.sampled_from([b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]))
    form = Form(
        data.draw(st.sampled_from(["bin", "hex", "dec"])),
        *data.draw(st.sampled_from([(1, ONE), (2, IntFormat(8, True))])),
    )
    content = text_of(mark + text.encode("utf-8", "replace"))
    try:
        words = words_of(Path("out.txt"), "out.txt", content, form, How())
    except BadInput as error:
        words, said = None, str(error)
    if words is None:
        assert said.startswith("out.txt: line ")
    else:
        assert len(words.bits) == len(words.texts)
        assert all(len(bits) in (0, 16) for bits in words.bits)
