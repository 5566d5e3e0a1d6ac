"""Words that are missing or too many: told as such, and where; the others are compared in their places."""

from __future__ import annotations

from pathlib import Path

import pytest
from dump_forms import (
    FORMS,
    LAYOUTS,
    Lines,
    dump,
    flipped,
    hexed,
    one_tile,
    own_words,
)
from hypothesis import given
from hypothesis import strategies as st

from systolith.array import ArrayResult
from systolith.formats import BadInput
from systolith.verdict.judge import Verdict, judge
from systolith.verdict.placing import placed


@pytest.fixture(scope="module")
def result() -> ArrayResult:
    """One tile, as the seed's layout wants it."""
    return one_tile()


@pytest.mark.parametrize("layout", ["course", "seed", "readmemh", "coe", "dec"])
@pytest.mark.parametrize("form", ["plain, bin", "// behind, hex", "time ns: value, bin", "UTF-16 LE"])
def test_missing_and_surplus_words_are_no_wrong_words(
    result: ArrayResult, tmp_path: Path, form: str, layout: str
) -> None:
    described = LAYOUTS[layout]
    words = own_words(result, described)
    name = next(name for name in words if name.startswith("out"))
    held = words[name]
    assert len(set(held)) == 20  # no word hides another

    def with_words(changed: Lines) -> Verdict:
        return judge(result, described, dump(tmp_path, {**words, name: changed}, FORMS[form]))

    for changed, said, different in (
        (held[:-1], "19 of 20 words: the last is missing", 1),
        (held[:-3], "17 of 20 words: the last 3 are missing", 3),
        (held[1:], "19 of 20 words: the first is missing", 1),
        (held[2:], "18 of 20 words: the first 2 are missing", 2),
        (held[:6] + held[7:], "19 of 20 words: word 7 is missing", 1),
        (held[:6] + held[9:], "17 of 20 words: words 7 to 9 are missing", 3),
        ([*held, held[3]], "21 of 20 words: the last is surplus", 1),
        ([held[9], *held], "21 of 20 words: the first is surplus", 1),
        ([*held[:5], held[0], held[9], *held[5:]], "22 of 20 words: words 6 to 7 are surplus", 2),
    ):
        verdict = with_words(changed)
        assert verdict.counts == (f"{name}: {said}",)
        assert verdict.first == verdict.counts[0]
        assert verdict.sentence == f"NOT EQUAL: {verdict.first}"
        assert (verdict.alternatives, verdict.suspects, verdict.expected) == ((), (), "")
        assert [level.different for level in verdict.levels] == [0, different]
    # A wrong word beside them is still found where it is.
    for changed, at, said in (
        (flipped(held, 3)[:-1], 3, "19 of 20 words: the last is missing"),
        (flipped(held, 12)[1:], 12, "19 of 20 words: the first is missing"),
        (flipped(held[:6] + held[7:], 14), 15, "19 of 20 words: word 7 is missing"),
    ):
        verdict = with_words(changed)
        assert verdict.counts == (f"{name}: {said}",)
        assert [level.different for level in verdict.levels] == [0, 2]
        assert f"channel 1 at ({at // 4}, {at % 4})" in verdict.first
        assert verdict.alternatives


def test_an_empty_and_an_absent_file(result: ArrayResult, tmp_path: Path) -> None:
    words = own_words(result, LAYOUTS["course"])
    folder = dump(tmp_path, words)
    for content, why in ((b"", "; the file is empty"), (b"\xef\xbb\xbf", "; the file is empty"), (b"// none\n\n", "")):
        (folder / "out.txt").write_bytes(content)
        verdict = judge(result, LAYOUTS["course"], folder)
        assert verdict.first == f"out.txt: 0 of 20 words: all are missing{why}"
        assert verdict.alternatives == ()
    (folder / "psum_itile0_otile0_kij2.txt").unlink()
    verdict = judge(result, LAYOUTS["course"], folder)
    assert verdict.first == "psum_itile0_otile0_kij2.txt: 0 of 30 words: all are missing; there is no such file"
    assert verdict.sentence == f"NOT EQUAL: {verdict.first} and 1 more like it"


def test_addresses_say_which_words_are_missing(result: ArrayResult, tmp_path: Path) -> None:
    words = own_words(result, LAYOUTS["readmemh"])
    held = [f"@{at:x} {hexed(word)}" for at, word in enumerate(words["out.hex"])]
    for kept, said in (
        (held[:4] + held[5:9] + held[11:], "17 of 20 words: words 5, 10, 11 are missing"),
        (held[1:], "19 of 20 words: the first is missing"),
        ([*held[:-1], "@1000 0"], "20 of 20 words: the last is missing, 1 is beyond the last"),
        ([*held, "@14 " + "0" * 12], "21 of 20 words: 1 is beyond the last"),
    ):
        (tmp_path / "out.hex").write_text("\n".join(kept))
        verdict = judge(result, LAYOUTS["readmemh"], tmp_path)
        assert verdict.counts == (f"out.hex: {said}",)
    (tmp_path / "out.hex").write_text("\n".join([*held, held[4]]))
    with pytest.raises(BadInput, match="line 21: address 4 is that of line 5 too"):
        judge(result, LAYOUTS["readmemh"], tmp_path)


def test_a_monitor_tells_of_changes_alone(result: ArrayResult, tmp_path: Path) -> None:
    words = own_words(result, LAYOUTS["course"])
    name = "psum_itile0_otile0_kij1.txt"
    once = [a for a, b in zip(words[name], ["", *words[name]], strict=False) if a != b]
    assert len(once) < len(words[name]) - 1
    verdict = judge(result, LAYOUTS["course"], dump(tmp_path, {**words, name: once}, FORMS["$monitor, bin"]))
    said = "of equal ones in succession only the first is there"
    assert verdict.counts == (f"{name}: {len(once)} of {len(words[name])} words: {said}",)
    # With a wrong word it is not known any more which are missing.
    verdict = judge(result, LAYOUTS["course"], dump(tmp_path, {**words, name: flipped(once, 2)}, FORMS["plain, bin"]))
    assert said not in verdict.counts[0]
    assert not verdict.holds


@given(st.data())
def test_right_words_with_a_gap_are_placed_right(data: st.DataObject) -> None:
    golden = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
    start = data.draw(st.integers(0, len(golden)))
    end = data.draw(st.integers(start, len(golden)))
    short = golden[:start] + golden[end:]
    there = placed(short, golden, None)
    assert (there.slots < 0).sum() == end - start
    assert sorted(s for s in there.slots.tolist() if s >= 0) == list(range(len(short)))
    assert all(short[slot] == golden[at] for at, slot in enumerate(there.slots.tolist()) if slot >= 0)
    # The other way round the words are too many.
    if short:
        there = placed(golden, short, None)
        assert there.extra == end - start
        assert [golden[slot] for slot in there.slots.tolist()] == short
    by_address = placed([*reversed(short)], golden, [*reversed(range(start)), *reversed(range(end, len(golden)))][::-1])
    assert (by_address.slots < 0).sum() == end - start
