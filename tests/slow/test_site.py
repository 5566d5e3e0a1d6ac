"""The docs site builds without a warning, and every public name is in its reference."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import systolith

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_the_site_builds_and_describes_every_public_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    notebooks = sorted((ROOT / "docs" / "tutorial").glob("*.py"))
    assert len(notebooks) == 6
    for notebook in notebooks:
        shown = (tmp_path / "site" / "tutorial" / notebook.stem / "index.html").read_text()
        cells_and_outputs = re.findall(r"^```\w+$", notebook.with_suffix(".md").read_text(), re.MULTILINE)
        assert shown.count("<pre") >= len(cells_and_outputs) > 12
        assert (tmp_path / "site" / "tutorial" / notebook.name).exists()
    page = (tmp_path / "site" / "reference" / "index.html").read_text()
    for name in systolith.__all__:
        assert f"<code>systolith.{name}</code>" in page, name
    # Signatures of verbs are made when they are imported, from their requests.
    assert "<code>against</code>" in page
    for link in re.findall(r'(?:src|href)="(https?://[^"]+)"', page):
        assert not link.endswith((".js", ".css", ".woff2")), link
