"""A passing start: our core and a testbench as the user's own copy, and all that drives them."""

from __future__ import annotations

import shutil
from pathlib import Path

from systolith.rtl.simulators import RTL

STARTING = Path(__file__).parent / "starting"


def write_start(folder: Path) -> list[str]:
    """Fill an existing folder; the files' names, sorted."""
    (folder / "rtl").mkdir()
    (folder / "vectors").mkdir()
    names = sorted(path.name for path in (RTL / "core").glob("*.sv"))
    for name in names:
        shutil.copyfile(RTL / "core" / name, folder / "rtl" / name)
    for path in STARTING.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name.removesuffix(".txt"))  # no module of this package
    files = (
        (STARTING / "files.f").read_text().replace("FILES", "\n".join((*(f"rtl/{name}" for name in names), "tb.sv")))
    )
    (folder / "files.f").write_text(files)
    (folder / "vectors" / ".gitignore").write_text("*\n!.gitignore\n")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
