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
    texts: dict[Path, str] = {}
    for name, marker, content in blocks:
        path = ROOT / name
        texts[path] = filled(texts.get(path, path.read_text()), marker, content)
    write(texts.items())


def write(texts: Iterable[tuple[Path, str]]) -> None:
    """Write whole files, the same way."""
    stale = []
    for path, text in texts:
        if not path.exists() or path.read_text() != text:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale and "--check" in sys.argv:
        raise SystemExit(f"out of date: {', '.join(stale)}; run `make generated`")
