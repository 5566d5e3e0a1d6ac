"""Blocks of the docs that are written by what they describe, between `<!-- marker ... -->` and `<!-- end -->`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def filled(text: str, marker: str, content: str) -> str:
    """`text` with what stands in its block replaced."""
    pattern = re.compile(rf"(<!-- {marker}[^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"no marker {marker!r}")
    return pattern.sub(lambda m: f"{m[1]}{content}\n{m[2]}", text)


def rewrite(blocks: Iterable[tuple[str, str, str]]) -> None:
    """Write blocks, (page, marker, content) each; with --check say instead whether one would change, by exit code 1."""
    stale = []
    for name, marker, content in blocks:
        path = ROOT / name
        old = path.read_text()
        new = filled(old, marker, content)
        if old != new:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        raise SystemExit(f"out of date: {', '.join(stale)}; run `make docs`")
