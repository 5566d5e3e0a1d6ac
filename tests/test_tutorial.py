"""The tutorial's notebooks run, what they assert is true, and the pages show what their cells show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import Find
from tutorial import NOTEBOOKS, page

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_shows_what_its_notebook_does(path: Path, simulator: Find) -> None:
    if 'sim="icarus"' in path.read_text():
        simulator("icarus")
    assert page(path) == path.with_suffix(".md").read_text()


def test_every_notebook_is_in_the_tutorial_and_on_the_site() -> None:
    index, site = (DOCS / "tutorial" / "index.md").read_text(), (DOCS.parent / "mkdocs.yml").read_text()
    for path in NOTEBOOKS:
        assert f"({path.stem}.md)" in index
        assert f": tutorial/{path.stem}.md" in site


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_states_its_facts(path: Path) -> None:
    """A cell that prints only proves nothing."""
    assert len(re.findall(r"^ *assert ", path.read_text(), re.MULTILINE)) >= 4


CELLS = """# %% [markdown]
# # A heading

# %%
number = 2
print("number", number)

# %% tags=["varies"]
import time

print(time.time_ns())
"""


def test_only_what_varies_may_be_another_number(tmp_path: Path) -> None:
    notebook, beside = tmp_path / "some.py", tmp_path / "some.md"
    notebook.write_text(CELLS)
    beside.write_text(page(notebook))
    assert "```text\nnumber 2\n```" in beside.read_text()
    assert page(notebook) == beside.read_text()
    beside.write_text(beside.read_text().replace("number 2\n", "number 3\n"))
    assert page(notebook) != beside.read_text()


def test_what_a_notebook_states_and_is_not_true_is_an_error(tmp_path: Path) -> None:
    notebook = tmp_path / "some.py"
    notebook.write_text(CELLS + '\n# %% tags=["varies"]\nassert number == 3\n')
    with pytest.raises(Exception, match="AssertionError"):
        page(notebook)
