"""Draw README's pictures, docs/img/terminal.svg from real runs and docs/img/badge-*.svg from what they state.

python tools/pictures.py           # rewrite
python tools/pictures.py --check   # exit code 1 if they are out of date
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path

from rich.console import Console
from rich.text import Text

import systolith as sl
from blocks import ROOT, write
from systolith.store import load_model_file, shipped_models

IMAGES = ROOT / "docs" / "img"
COLUMNS = 112
SESSION = ("systolith run --out build/run", "systolith check build/run --against dumps")
LINE, PAUSE = 0.06, 0.6
"""Seconds until the next line is there, and before what a command prints."""


def terminal() -> str:
    """The screen of SESSION as SVG, line after line; whole at once where nothing may move."""
    console = Console(record=True, width=COLUMNS, height=100, file=io.StringIO(), color_system="truecolor")
    begins = []
    with tempfile.TemporaryDirectory() as folder:
        for number, command in enumerate(SESSION):
            if number:
                _wrong_dump(Path(folder))
                console.print()
            begins.append(console.export_text(clear=False).count("\n"))
            console.print(f"[bold green]$[/] [bold]{command}[/]", highlight=False)
            console.print(Text.from_ansi(_screen(command, folder)))
    count = console.export_text(clear=False).count("\n")
    svg = console.export_svg(title="systolith", unique_id="terminal")
    # Without the fonts that it would load: a picture in a page loads nothing.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("</style>", f"{_moving(count, begins)}\n</style>", 1)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def _screen(command: str, folder: str) -> str:
    """What a command shows in a terminal of COLUMNS, with its colours."""
    environment = {**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    words = [sys.executable, "-m", *command.split()]
    done = subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command}: exit code {done.returncode}")
    lines = re.sub(r"\x1b\[(\?25[lh]|2K)", "", done.stdout.decode()).splitlines()
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _wrong_dump(folder: Path) -> None:
    """What RTL that takes weights transposed would dump of the bundle in `folder`."""
    right, _ = sl.read_bundle(folder / "build" / "run")
    layer = right.mapping.conv
    mistaken = dataclasses.replace(layer, weight=layer.weight.transpose(1, 0, 2, 3))
    sl.write_bundle(sl.run_layer(mistaken, right.act, right.mapping.spec), folder / "dumps")


def _moving(count: int, begins: list[int]) -> str:
    """Style that shows one line after another; what does not know it shows all."""
    rules = ["@keyframes shown { from { opacity: 0 } }"]
    rules.append("@media (prefers-reduced-motion: reduce) { text { animation: none !important } }")
    for line in range(count):
        delay = line * LINE + PAUSE * sum(line > begin for begin in begins)
        rules.append(f'[clip-path="url(#terminal-line-{line})"] {{ animation: shown 1ms {delay:.2f}s backwards }}')
    return "\n".join(rules)


def badges() -> Iterator[tuple[str, str]]:
    """(name, SVG) of each badge: what it states is read where it is decided."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run = load_model_file(shipped_models()["vgg16-w4a4-s8"]).run
    facts = {
        "version": sl.__version__,
        "python": project["requires-python"].replace(">=", "≥ "),
        "license": project["license"],
        "4-bit VGG16, squeezed": f"{run['test_accuracy']:.2%} of {run['test_data']}",
    }
    for label, value in facts.items():
        yield label.split()[0], _badge(label, value)


def _badge(label: str, value: str) -> str:
    left, right = (round(6.1 * len(text)) + 14 for text in (label, value))
    boxes, texts = "", ""
    for text, x, width, fill in ((label, 0, left, "#4b5563"), (value, left, right, "#3f51b5")):
        boxes += f'<rect x="{x}" width="{width}" height="20" fill="{fill}"/>'
        texts += f'<text x="{x + width / 2:g}" y="14" textLength="{width - 14}">{escape(text)}</text>'
    said = escape(f"{label}: {value}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{said}">'
        f"<title>{said}</title>{boxes}"
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">{texts}</g>'
        "</svg>\n"
    )


if __name__ == "__main__":
    drawn = {"terminal": terminal(), **{f"badge-{name}": badge for name, badge in badges()}}
    write((IMAGES / f"{name}.svg", svg) for name, svg in drawn.items())
