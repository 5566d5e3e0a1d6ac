"""Run the tutorial's notebooks, and write each as a page of the docs with what its cells show.

python tools/tutorial.py            # run all, and write docs/tutorial/*.md
python tools/tutorial.py --check    # exit code 1 where they show something else

A notebook is text, docs/tutorial/NAME.py in jupytext's percent format; it runs in an empty folder of its own. What a
cell with the tag `varies` shows is another machine's or another day's own: it is not compared.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocks import ROOT, write

NOTEBOOKS = sorted((ROOT / "docs" / "tutorial").glob("*.py"))
VARIES = re.compile(r"<!-- varies -->\n(.*?)<!-- end -->", re.DOTALL)
MOST_SECONDS = 120
"""For a cell."""


def executed(path: Path) -> Any:
    """A notebook with its cells' outputs; a cell that raises, as a false `assert` does, raises here."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    # As the command does: threads that wait do not spin, which on a machine in use costs more than it gains.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=MOST_SECONDS, kernel_name="python3")
        client.extra_arguments = ["--log-level=ERROR"]
        client.execute(cwd=folder, env=environment)
    return notebook


def page(path: Path) -> str:
    """A notebook, run, in Markdown; as the page beside it has it where nothing but what varies is another."""
    parts = [part for cell in executed(path).cells for part in _parts(cell)]
    heading, *rest = parts
    note = (
        f"*This page is a notebook, [{path.name}]({path.name}), with what its cells showed: [how to run it](index.md).*"
    )
    new = "\n\n".join([heading, note, *rest]) + "\n"
    beside = path.with_suffix(".md")
    old = beside.read_text() if beside.exists() else ""
    return old if VARIES.sub("", old) == VARIES.sub("", new) else new


def _parts(cell: Any) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield cell.source
        return
    yield f"```python\n{cell.source}\n```"
    shown = "\n\n".join(_shown(cell.outputs))
    if shown:
        varies = "varies" in cell.metadata.get("tags", [])
        yield f"<!-- varies -->\n{shown}\n<!-- end -->" if varies else shown


def _shown(outputs: list[Any]) -> Iterator[str]:
    """What a cell printed, and what its last line is worth; warnings, on stderr, are the machine's."""
    # One after another: in how many pieces what was printed came is chance.
    yield from _text("".join(output["text"] for output in outputs if output.get("name") == "stdout"))
    for output in outputs:
        data = output.get("data", {})
        if "text/html" in data:
            yield f'<div class="output">{data["text/html"]}</div>'
        else:
            yield from _text(data.get("text/plain", ""))


def _text(text: str) -> Iterator[str]:
    if text:
        yield "\n".join(["```text", *(line.rstrip() for line in text.rstrip().splitlines()), "```"])


if __name__ == "__main__":
    write((path.with_suffix(".md"), page(path)) for path in NOTEBOOKS)
