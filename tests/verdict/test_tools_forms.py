"""Dumps as tools write them: each form of right words is all equal, says what was assumed, and shows a wrong word."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from systolith.flows.check import CheckReport, check
from systolith.flows.vectors import vectors

Words = list[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms") / "bundle"
    vectors(stimulus="random", channels="8x8", size="4x4", out=folder)
    return folder / "random"


def hexadecimal(word: str) -> str:
    return f"{int(word, 2):0{len(word) // 4}x}"


FORMS: dict[str, Callable[[Words], bytes]] = {
    "its own": lambda words: "\n".join(words).encode(),
    "byte order mark": lambda words: b"\xef\xbb\xbf" + "\n".join(words).encode(),
    "UTF-16": lambda words: "\n".join(words).encode("utf-16"),
    "Windows": lambda words: "\r\n".join(words).encode(),
    "comments": lambda words: "\n".join(f"{w} // word {n}" for n, w in enumerate(words)).encode(),
    "$writememh": lambda words: "\n".join(["// 0x00000000", *map(hexadecimal, words)]).encode(),
    "@address before all": lambda words: "\n".join(["@00000000", *words]).encode(),
    "@address before each": lambda words: "\n".join(f"@{n:x} {w}" for n, w in enumerate(words)).encode(),
    "@addresses backwards": lambda words: "\n".join(
        f"@{n:x} {w}" for n, w in reversed(list(enumerate(words)))
    ).encode(),
}


def checked(bundle: Path, folder: Path, content: bytes, name: str = "out.txt") -> CheckReport:
    folder.mkdir()
    (folder / name).write_bytes(content)
    return check(bundle, folder)


def golden(bundle: Path) -> Words:
    return (bundle / "out.txt").read_text().splitlines()[3:]


@pytest.mark.parametrize("form", FORMS)
def test_right_words_in_any_form_are_all_equal(form: str, bundle: Path, tmp_path: Path) -> None:
    report = checked(bundle, tmp_path / "d", FORMS[form](golden(bundle)))
    assert report.holds, report.verdict
    assert report.words == 16


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_word_in_any_form_is_found_where_it_is(form: str, bundle: Path, tmp_path: Path) -> None:
    words = golden(bundle)
    words[5] = words[5][:-1] + ("1" if words[5][-1] == "0" else "0")
    report = checked(bundle, tmp_path / "d", FORMS[form](words))
    assert not report.holds
    assert report.levels["output"].different == 1
    assert "at (1, 1)" in report.first
    assert "lane 0" in report.first


def test_a_name_in_another_case_is_taken(bundle: Path, tmp_path: Path) -> None:
    report = checked(bundle, tmp_path / "d", "\n".join(golden(bundle)).encode(), "Out.txt")
    assert report.holds
    assert any("other upper and lower case" in text for text in report.assumed), report.assumed


@pytest.mark.parametrize("line", ["{t} ns: {w}", "{t} {w}", "{t},{w}"])
def test_logs_of_every_kind(line: str, bundle: Path, tmp_path: Path) -> None:
    text = "\n".join(line.format(t=10 * n + 35, w=w) for n, w in enumerate(golden(bundle)))
    (tmp_path / "out.log").write_text(text + "\n")
    assert check(bundle, tmp_path / "out.log").holds


def test_a_pattern_takes_any_line(bundle: Path, tmp_path: Path) -> None:
    text = "\n".join(f"[{n}] the <{w}> word" for n, w in enumerate(golden(bundle)))
    (tmp_path / "out.log").write_text(text + "\n")
    assert check(bundle, tmp_path / "out.log", pattern=r"<(?P<value>[01]+)>").holds


@pytest.mark.parametrize(("kept", "said"), [(15, "15 of 16 words"), (0, "empty")])
def test_missing_words_are_called_missing(kept: int, said: str, bundle: Path, tmp_path: Path) -> None:
    report = checked(bundle, tmp_path / "d", "".join(f"{w}\n" for w in golden(bundle)[:kept]).encode())
    assert not report.holds
    assert said in report.verdict or said in report.first


def test_a_whole_folder_in_hexadecimal(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    shutil.copytree(bundle, folder)
    for path in folder.glob("psum*.txt"):
        path.write_text("".join(f"{hexadecimal(w)}\n" for w in path.read_text().splitlines()[3:]))
    assert check(bundle, folder).holds
    assert check(bundle, folder, radix="hex", level="psum").holds
