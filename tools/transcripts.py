"""Replay what the docs show: every command of a page's transcripts, and what it prints, in a folder of its own.

python tools/transcripts.py            # run all, and write what they print
python tools/transcripts.py --check    # exit code 1 where they print something else

In a page, `<!-- transcript: FILES -->` begins a block of commands, each behind `$ `; FILES are examples, made first.
`<!-- file: NAME -->` begins one whose code is written to NAME.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blocks import ROOT

PAGES = (
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("bring*.md"))),
    "docs/explore.md",
    "docs/loop.md",
    "docs/mutate.md",
    "docs/synth.md",
)
TRANSCRIPT = re.compile(r"<!-- transcript:([^>]*)-->\n```\w+\n(.*?)```\n<!-- end -->", re.DOTALL)
CODE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n<!-- end -->", re.DOTALL)
VARIES = re.compile(
    r"\(/\S+\)|\d+\.\d\d$|\d+\.\d{3,}|\d[\d.]* s\b| \d+\.\d$|icarus [\d.]+|[\d,]+ images/s", re.MULTILINE
)
"""What a machine, or a day, makes of numbers that are no integers of the network."""


def _tests(module: str) -> Any:
    """A module of the tests, which know how others write their files."""
    sys.path.append(str(ROOT / "tests"))
    return importlib.import_module(module)


def _brevitas(path: Path) -> None:
    nets = _tests("importers.brevitas_nets")
    nets.exported(nets.settled("4 bits"), path)


def _course(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import torch

        course = _tests("importers.course")
        torch.manual_seed(0)
        pixels = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
        made = course.ResNet20() if name == "resnet" else course.Vgg(squeezed="removed")
        torch.save({"epoch": 3, "state_dict": course.settled(made, pixels).state_dict()}, path)

    return make


EXAMPLES: dict[str, Callable[[Path], None]] = {
    "brevitas.onnx": _brevitas,
    "qdq.onnx": lambda path: _tests("importers.qdq_files").save_qdq(path),
    "ties.onnx": lambda path: _tests("importers.qdq_files").save_ties(path),
    "model_best.pth.tar": _course("vgg"),
    "resnet.pth.tar": _course("resnet"),
}


def replayed(page: str) -> str:
    """A page with its transcripts as they are now; a block stays where nothing but what varies is another."""
    text = (ROOT / page).read_text()
    with tempfile.TemporaryDirectory() as folder:
        for name, code in CODE.findall(text):
            (Path(folder) / name).write_text(code)

        def replay(found: re.Match[str]) -> str:
            for name in found[1].split():
                _make(name, folder)
            commands = re.findall(r"^\$ (.*(?:\\\n.*)*)", found[2], re.MULTILINE)
            shown = "\n\n".join(f"$ {command}\n{_output(command, folder)}".rstrip() for command in commands)
            new = f"<!-- transcript:{found[1]}-->\n```text\n{shown}\n```\n<!-- end -->"
            return found[0] if VARIES.sub("#", new) == VARIES.sub("#", found[0]) else new

        return TRANSCRIPT.sub(replay, text)


def _make(name: str, folder: str) -> None:
    """An example, by a process of its own: what makes it talks much."""
    command = [sys.executable, __file__, "--make", name]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        raise SystemExit(f"{name}: {made.stderr[-2000:]}")


def _output(command: str, folder: str) -> str:
    """What a command prints, an inequality, too; of one that is refused, why."""
    python = shlex.quote(sys.executable)
    shell = f'python() {{ {python} "$@"; }}; systolith() {{ {python} -m systolith "$@"; }}; set -o pipefail; {command}'
    done = subprocess.run(["bash", "-c", shell], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 2) or (done.returncode == 1 and not done.stdout):
        raise SystemExit(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    said = done.stdout if done.returncode != 2 else done.stderr.splitlines()[-1]
    return "\n".join(line.rstrip() for line in said.rstrip().splitlines())


def main() -> None:
    """As the arguments say."""
    if "--make" in sys.argv:
        name = sys.argv[-1]
        EXAMPLES[name](Path(name))
        return
    for page in PAGES:
        old, new = (ROOT / page).read_text(), replayed(page)
        if new != old and "--check" in sys.argv:
            raise SystemExit(f"out of date: {page}; run `make generated`")
        (ROOT / page).write_text(new)


if __name__ == "__main__":
    main()
