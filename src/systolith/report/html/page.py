"""A report as a page: one file with its styles and scripts in it, which asks for nothing from anywhere."""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systolith.flows.flow import Report
from systolith.formats import BadInput
from systolith.report.html.figures import Chain, Designs, Figure
from systolith.report.html.of_reports import figures_of
from systolith.report.parts import Part, Table
from systolith.store import atomic_file
from systolith.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
MOST_ROWS = 2000
"""Of a table; what is beyond is counted."""


def page(report: Report, text: Sequence[Part]) -> str:
    """The page of a report, as HTML.

    Args:
        report: of any verb.
        text: what its text is made of (`report.parts`).
    """
    figures = list(figures_of(report))
    if any(isinstance(one, Designs) for one in figures):
        text = [part for part in text if not isinstance(part, Table)]
    chain = next((one for one in figures if isinstance(one, Chain)), None)
    sections = [_named(part) for part in (*_joined(text), *(one for one in figures if one is not chain))]
    template = _environment().get_template("page.html.j2")
    return template.render(
        report=report,
        version=__version__,
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
        chain=chain,
        sections=sections,
        most_rows=MOST_ROWS,
    )


def require_page(path: Path) -> None:
    """Raise `BadInput` where no page can be called so."""
    if path.suffix not in (".html", ".htm"):
        raise BadInput(f"--html {path}: expected a name that ends in .html")


def write_page(report: Report, path: Path | str, text: Sequence[Part] | None = None) -> None:
    """Write the page of a report, one HTML file that needs nothing beside it, whole or not at all.

    Args:
        report: of any verb.
        path: ends in .html.
        text: what the report's text is made of, if it is not the verb's own.

    Raises:
        BadInput: the file cannot be called so, or not be written.

    Examples:
        >>> import systolith as sl
        >>> sl.write_page(sl.simulate(layer="features.27"), "build/simulate.html")
    """
    require_page(Path(path))
    if text is None:
        name = {"import": "import_model"}.get(report.verb, report.verb)
        text = importlib.import_module(f"systolith.report.{name}").text(report)
    with atomic_file(Path(path)) as temporary:
        temporary.write_text(page(report, text), encoding="utf-8")


def _named(part: Part | Figure) -> tuple[str, Part | Figure]:
    return ("Text" if isinstance(part, str) else type(part).__name__), part


def _joined(text: Sequence[Part]) -> list[Part]:
    """Lines that stand together as one text."""
    found: list[Part] = []
    for is_line, group in groupby(text, lambda part: isinstance(part, str)):
        parts = list(group)
        found += ["\n".join(map(str, parts)).strip("\n")] if is_line else parts
    return [part for part in found if part]


def _number(text: str) -> str:
    """What a cell is sorted by where it is a number, else ""."""
    match = re.fullmatch(r"(-?[\d,]*\.?\d+)\s*(%|s|kB|MB)?", text.strip())
    return match[1].replace(",", "") if match else ""


def _embedded(value: Any) -> str:
    """JSON that can stand inside a script element, whatever the names in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"number": _number, "embedded": lambda value: Markup(_embedded(value)), "raw": Markup}
    made.globals["is_right"] = lambda table, heading: isinstance(table, Table) and heading in table.right
    return made
