"""`systolith project`: propose a core.toml, check one, write a passing start. Needs no torch."""

from __future__ import annotations

from typing import Any

import typer

from systolith.cli.command import Grouped, Shown, verb
from systolith.requests.verbs import ProjectCheckRequest, ProjectNewRequest, ProjectStartRequest

app = typer.Typer(
    help="Your own RTL and testbench, as a core.toml: new, check, start.", no_args_is_help=True, rich_markup_mode=None
)


@verb(ProjectNewRequest)
def new(**given: Any) -> Shown:
    from systolith.hardware.project import project_new
    from systolith.report.project import new_text

    return project_new(**given), new_text


@verb(ProjectCheckRequest)
def check(**given: Any) -> Shown:
    from systolith.hardware.project import project_check
    from systolith.report.project import check_text

    return project_check(**given), check_text


@verb(ProjectStartRequest)
def start(**given: Any) -> Shown:
    from systolith.hardware.project import project_start
    from systolith.report.project import start_text

    return project_start(**given), start_text


for command in (new, check, start):
    app.command(command.__name__, cls=Grouped)(command)
