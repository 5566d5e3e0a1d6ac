"""What the README and docs show is what happens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from systolith.store import ASSETS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tool", ["readme", "pictures"])
def test_generated_parts_are_up_to_date(tool: str) -> None:
    result = subprocess.run([sys.executable, f"tools/{tool}.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_pictures_of_the_readme_need_no_network() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(pictures) >= 5
    for picture in pictures:
        assert not re.search(rb"(?:url\(|href=|src=|@import )[\"']?https?:", (ROOT / picture).read_bytes()), picture


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    code = re.search(r"<!-- python -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line]) <= 6  # the import and five lines
    shutil.copy(ASSETS / "cat.png", tmp_path)
    result = subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"(\d+) of \1 equal \| (\d+) of \2 equal", result.stdout.strip())
    assert (tmp_path / "build" / "mine" / "manifest.json").exists()


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_links_lead_somewhere_and_commands_exist(page: str) -> None:
    from systolith.cli.main import app

    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if link.startswith("https://"):
            continue
        assert (ROOT / page).parent.joinpath(link).exists(), link
    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for verb in re.findall(r"(?:^ +|`)systolith (\w+)", text, re.MULTILINE):
        assert verb in verbs
