"""`view`: open a page that a command wrote."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.verbs import ViewRequest

SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class ViewReport(Report):
    """A page.

    Attributes:
        page: its file.
        others: pages that lie beside it, older.
        opened: a browser was asked to show it; else there is no display.
    """

    verb: ClassVar[str] = "view"
    page: Path
    others: tuple[Path, ...]
    opened: bool


@flow(ViewRequest)
def view(request: ViewRequest) -> ViewReport:
    """Open a page that `--html` wrote, in a folder the newest; say where it is.

    Returns:
        The page, and whether a browser was asked to show it.

    Raises:
        BadInput: no page there.

    Examples:
        >>> import systolith as sl
        >>> sl.write_page(sl.simulate(layer="features.27"), "build/simulate.html")
        >>> sl.view("build/simulate.html").page.name
        'simulate.html'
    """
    path = Path(request.path)
    if path.is_dir():
        there = [one for one in path.iterdir() if one.suffix in SUFFIXES and one.is_file()]
        pages = sorted(there, key=lambda one: (-one.stat().st_mtime_ns, one.name))
        if not pages:
            raise BadInput(f"{path}: expected a page, found no .html in it; --html FILE of a command writes one")
    elif path.suffix in SUFFIXES and path.is_file():
        pages = [path]
    else:
        raise BadInput(f"{path}: expected a folder or an .html file that --html wrote")
    opened = _has_display() and _open(pages[0])
    said = "opened" if opened else "no display to open it on"
    return ViewReport(
        holds=True,
        verdict=f"{pages[0].resolve()} ({said})",
        page=pages[0],
        others=tuple(pages[1:]),
        opened=opened,
    )


def _has_display() -> bool:
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _open(page: Path) -> bool:
    import webbrowser

    return webbrowser.open(page.resolve().as_uri())
