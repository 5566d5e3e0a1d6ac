"""Write the screen of `systolith run`, and the shipped models' facts, into README.md and docs/models.md.

python tools/readme.py           # rewrite
python tools/readme.py --check   # exit code 1 if they are out of date
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import asdict, fields

from blocks import rewrite
from systolith.store import load_model_file, shipped_models
from systolith.training.recipes import RECIPES, Recipe


def screen() -> str:
    """What `make run` prints."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "systolith", "run", "--out", "build/run"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return f"```text\n{result.stdout.rstrip()}\n```"


def models() -> str:
    """A table of the shipped models, from the metadata in their files."""
    lines = [
        "| model | accuracy | test pictures | held out | epochs (chosen) | training | size |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, path in shipped_models().items():
        run = load_model_file(path).run
        cells = (
            f"`{name}`",
            f"{run['test_accuracy']:.2%} ({run['test_correct']:,} of {run['test_total']:,})",
            run["test_data"],
            f"{run['holdout_accuracy']:.2%} of {run['holdout_pictures']:,}",
            f"{run['epochs']} ({run['chosen_epoch']})",
            f"{run['seconds'] / 60:.0f} min on {run['train_pictures']:,} pictures of {run['data']}",
            f"{path.stat().st_size / 1e6:.1f} MB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Made by:", "", *(f"    {_command(name)}" for name in shipped_models())])


def _command(name: str) -> str:
    """The command that trains a shipped model as it was trained: its recipe, and what has changed in it since."""
    then, now = load_model_file(shipped_models()[name]).run["recipe"], asdict(RECIPES[name])
    then["compile"] = {True: "yes", False: "no"}.get(then["compile"], then["compile"])
    before = {f.name: f.default for f in fields(Recipe) if f.name != "name"} | then
    changes = [f"--set {key}={before[key]}" for key in now if before[key] != now[key]]
    return " ".join(["systolith train", name, "--data DATA --out DIR", *changes])


if __name__ == "__main__":
    rewrite([("README.md", "run:", screen()), ("docs/models.md", "models:", models())])
