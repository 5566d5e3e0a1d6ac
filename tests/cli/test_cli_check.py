"""`systolith check` of dumps that are not in the layout's own form: what was assumed is said, in text and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import call


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "bundle"
    arguments = ("--stimulus", "random", "--array", "4x4", "--channels", "4x4", "--input", "4x4", "--kernel", "3")
    assert call("vectors", *arguments, "--out", folder).returncode == 0
    return folder / "random"


def words_of(bundle: Path) -> list[str]:
    return [line for line in (bundle / "out.txt").read_text().splitlines() if not line.startswith("#")]


def test_what_was_assumed_is_shown(bundle: Path, tmp_path: Path) -> None:
    words = words_of(bundle)
    (tmp_path / "Out.txt").write_text("".join(f"{int(w, 2):016x} // {i}\n" for i, w in enumerate(words)), "utf-16")
    shown = call("check", bundle, "--against", tmp_path)
    assert shown.returncode == 0, shown.stdout
    for said in ("UTF-16 text", "hexadecimal words (the layout's are binary)", "found under a name in other upper and"):
        assert f"assumed  out.txt: {said}" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith(f"all equal: {len(words)} words")
    report = json.loads(call("check", bundle, "--against", tmp_path, "--json").stdout)
    assert report["holds"]
    assert report["counts"] == []
    assert [said.partition(": ")[0] for said in report["assumed"]] == ["out.txt"] * 3


def test_a_missing_word_is_the_answer(bundle: Path, tmp_path: Path) -> None:
    words = words_of(bundle)
    (tmp_path / "out.txt").write_text("\n".join(words[:-1]))
    shown = call("check", bundle, "--against", tmp_path)
    said = f"out.txt: {len(words) - 1} of {len(words)} words: the last is missing"
    assert shown.returncode == 1
    assert "instead" not in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith(f"NOT EQUAL: {said}")
    report = json.loads(call("check", bundle, "--against", tmp_path, "--json").stdout)
    assert (report["first"], report["counts"], report["would_be"]) == (said, [said], {})
    # A wrong word beside it is explained, and the missing one is still told.
    (tmp_path / "out.txt").write_text("\n".join(["1" * 64, *words[1:-1]]))
    shown = call("check", bundle, "--against", tmp_path)
    assert f"count    {said}" in shown.stdout
    assert "first    out.txt, line 1, lane 0" in shown.stdout
    assert "instead" in shown.stdout


def test_a_log_by_its_pattern(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "sim.log"
    path.write_text("".join(f"[{i}] ok={i % 2} q={int(w, 2):x}\n" for i, w in enumerate(words_of(bundle))))
    given = ("--level", "output", "--radix", "hex")
    assert call("check", bundle, "--against", path, *given).returncode == 2
    assert call("check", bundle, "--against", path, *given, "--pattern", r"(\d+)\] .* q=(\w+)").returncode == 0
    refused = call("check", bundle, "--against", path, *given, "--pattern", "q=(")
    assert refused.returncode == 2
    assert "not a regular expression" in refused.stderr
    assert call("check", bundle, "--against", path, "--when", "a=1").returncode == 2
