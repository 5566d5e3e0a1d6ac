"""`systolith layout`: show a layout, make one, and find out which one a folder is in. Needs no torch."""

from __future__ import annotations

import sys
from typing import Any

import typer

from systolith.cli.command import Grouped, Shown, verb
from systolith.requests.verbs import LayoutCheckRequest, LayoutNewRequest, LayoutShowRequest

app = typer.Typer(help="File formats of testbenches: show, new, check.", no_args_is_help=True, rich_markup_mode=None)

_UNSAID = ("out", "like", "force", "progress")


@verb(LayoutShowRequest)
def show(**given: Any) -> Shown:
    from systolith.flows.layout import layout_show
    from systolith.report.layout import show_text

    return layout_show(**given), show_text


@verb(LayoutNewRequest)
def new(**given: Any) -> Shown:
    from systolith.flows.layout import layout_new
    from systolith.report.layout import new_text

    if not any(value for name, value in given.items() if name not in _UNSAID) and sys.stdin.isatty():
        given |= {
            "transposed": typer.confirm("Weights: one line per input channel (transposed)?", default=False),
            "kij_major": typer.confirm("One file for all kij?", default=False),
            "unpadded": typer.confirm("Activations without padding?", default=False),
            "windowed": typer.confirm("Psums only where an output needs them?", default=False),
            "no_relu": typer.confirm("Outputs before ReLU?", default=False),
            "header": typer.prompt("Header lines (none, tokens, or how many free lines)", default="tokens"),
            "radix": typer.prompt("Radix (bin, hex, dec)", default="bin"),
        }
    return layout_new(**given), new_text


@verb(LayoutCheckRequest)
def check(**given: Any) -> Shown:
    from systolith.flows.layout import layout_check
    from systolith.report.layout import check_text

    return layout_check(**given), check_text


for command in (show, new, check):
    app.command(command.__name__, cls=Grouped)(command)
