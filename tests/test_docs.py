"""What docs/ and examples/ show is what happens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Find
from systolith.store import ASSETS
from transcripts import PAGES, replayed

ROOT = Path(__file__).parents[1]


def test_the_map_of_the_rooms_is_up_to_date() -> None:
    command = [sys.executable, "tools/architecture.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_chain_in_ten_lines_of_python(tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    page = (ROOT / "docs" / "python.md").read_text()
    code = re.search(r"<!-- python: [^>]*-->\n```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line]) <= 12
    shutil.copy(ASSETS / "cat.png", tmp_path)
    result = subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    trained, integers, files, rtl = result.stdout.splitlines()
    assert re.search(r"proved and equal: 0 of [\d,]+ codes differ, 4 images$", trained)
    assert re.search(r": (\d+) of \1 equal \| ([\d,]+) of \2 equal \| (\d+) of \3 equal$", integers)
    assert files == "psums = files: True"
    assert re.search(r"all equal: 192 words and 664 timestamps, 239 clocks \(icarus .*\)$", rtl)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("vectors_for_a_testbench.py", r"22 files in build/vectors.*\nfiles = recomputed: True"),
        ("check_a_dump.py", r"the dump as it should be: all equal: 340 words\n.*transposed"),
        ("your_own_network.py", r"trained: 1 epochs[^\n]*\nproved and equal: 0 of "),
        ("quantize_a_network.py", r"0: Conv2d -> QuantConv2d, int8 weights(.*\n)+.*in integers: \d+ nodes"),
        ("compare_arrays.py", r"4x4 +[\d,]+ clocks(.*\n)+.*16x16 +[\d,]+ clocks"),
    ],
)
def test_an_example_does_what_it_says(tmp_path: Path, script: str, said: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / script)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(said, result.stdout), result.stdout


LONG = ("docs/bring-checkpoint.md", "docs/loop.md", "docs/mutate.md", "docs/synth.md")
"""Pages whose commands take minutes."""


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] * (p in LONG)) for p in PAGES])
def test_a_transcript_shows_what_is_printed(page: str, simulator: Find) -> None:
    text = (ROOT / page).read_text()
    if "--sim icarus" in text:
        simulator("icarus")
    if "brevitas.onnx -->" in text:
        pytest.importorskip("brevitas")
    assert replayed(page) == text
