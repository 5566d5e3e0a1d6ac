"""Reports on a terminal or in a pipe: results on stdout, progress and notes on stderr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from systolith.flows.flow import Report
from systolith.report.parts import Part, Rows, Table


def show(report: Report, text: Callable[[Any], Sequence[Part]], as_json: bool) -> None:
    """Print a report's JSON, one object, or its text."""
    if as_json:
        print(report.to_json())
        return
    for part in text(report):
        if isinstance(part, str):
            print(part)
        elif isinstance(part, Table):
            _print_table(part)
        else:
            _print_rows(part)


class Bar:
    """The progress callback of a command: a bar on stderr (none where that is no terminal), a line for a sentence."""

    def __init__(self, speaker: str = "systolith: ") -> None:
        self.console = Console(stderr=True, highlight=False, markup=False)
        self.speaker = speaker
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Bar:
        self.bar.start()
        self.task = self.bar.add_task("", total=None, visible=False)
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        if total:
            self.bar.update(self.task, description=what, completed=done, total=total, visible=True)
        else:
            self.console.print(f"{self.speaker}{what}", soft_wrap=True)


def _print_table(table: Table) -> None:
    made = RichTable(box=None, pad_edge=False)
    for heading in table.headings:
        made.add_column(heading, justify="right" if heading in table.right else "left", overflow="fold")
    for row in table.rows:
        made.add_row(*row)
    Console(highlight=False, markup=False, width=None if Console().is_terminal else 160).print(made)


def _print_rows(part: Rows) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # A file or a pipe has no width: one line a row.
        width = max((len(label) for label, _ in part.rows), default=0)
        for label, text in part.rows:
            print(f"{label:<{width}}  {text}")
        return
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in part.rows:
        grid.add_row(label, text)
    console.print(grid)
