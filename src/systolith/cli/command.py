"""A verb's command line, made of its request: options, groups in --help, --json, progress, the exit code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from systolith.requests.option import Option, options_of
from systolith.requests.shared import ARRAY, LAYER, MODEL, OUTPUT, PICTURE, RUNNING

if TYPE_CHECKING:
    from systolith.flows.flow import Report
    from systolith.report.parts import Part

Shown: TypeAlias = "tuple[Report, Callable[[Any], Sequence[Part]]]"
"""A report, and what makes text of it."""

HTML = Option("Also write a page to look at, one .html file.", OUTPUT, "--html")
JSON = Option("Print one JSON object instead of text.", OUTPUT, "--json")


class Grouped(TyperCommand):
    """A command whose `--help` groups its options by subject."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            argument = param.param_type_name == "argument"
            title = "Arguments" if argument else getattr(param, "rich_help_panel", None) or "Options"
            groups.setdefault(title, []).append(record)
        # A verb's own subjects first, what all have next; what belongs to no subject, --help among it, comes last.
        for title in sorted(groups, key=_place):
            with formatter.section(title):
                formatter.write_dl(groups[title])


def _place(title: str) -> int:
    order = ("Arguments", MODEL, PICTURE, LAYER, "", ARRAY, RUNNING, OUTPUT, "Options")
    return order.index(title if title in order else "")


def verb(request: type, speaker: str = "systolith: ") -> Callable[[Callable[..., Shown]], Callable[..., None]]:
    """Turn a function that calls a flow into a command with the request's options, --html and --json.

    The function takes the request's fields by name, `progress` too, and options of its own, annotated as a request's
    fields are; it returns the report and what makes text of it. `speaker` stands before each sentence on stderr.
    The exit code is 0 if the report holds, else 1.
    """

    def decorate(function: Callable[..., Shown]) -> Callable[..., None]:
        every = {
            **options_of(request),
            **_own(function),
            "html": (Path | None, HTML, None),
            "as_json": (bool, JSON, False),
        }
        both = [name for name, (_, option, _) in every.items() if option.position == "too"]

        @functools.wraps(function)
        def command(**given: Any) -> None:
            from systolith.report.screen import Bar, show

            as_json, html = given.pop("as_json"), given.pop("html")
            if html is not None:
                from systolith.report.html.page import require_page, write_page

                require_page(html)
            for name in both:
                given[name] = _one(name, given.pop(f"{name}_argument"), given[name], every[name][2])
            with Bar(speaker) as bar:
                report, text = function(**given, progress=bar)
            if html is not None:
                write_page(report, html, text(report))
            show(report, text, as_json)
            if not report.holds:
                raise typer.Exit(1)

        command.__signature__ = inspect.Signature(list(_parameters(every)))  # type: ignore[attr-defined]
        command.__annotations__ = {}
        command.__doc__ = request.__doc__
        return command

    return decorate


def _own(function: Callable[..., Shown]) -> dict[str, tuple[Any, Option, Any]]:
    """The options that a command has besides its request's."""
    named = inspect.signature(function, eval_str=True).parameters.values()
    taken = [p for p in named if p.kind == inspect.Parameter.KEYWORD_ONLY]
    return {p.name: (p.annotation.__origin__, p.annotation.__metadata__[0], p.default) for p in taken}


def _parameters(options: dict[str, tuple[Any, Option, Any]]) -> Iterator[inspect.Parameter]:
    """What typer reads: a parameter an option, arguments first."""
    for name, (kind, option, default) in options.items():
        if option.position:
            too = option.position == "too"
            argument = typer.Argument(help=option.help, metavar=option.metavar or None, **_limits(option))
            yield _parameter(f"{name}_argument" if too else name, kind, argument, default, too)
    for name, (kind, option, default) in options.items():
        if option.position != "only":
            too = option.position == "too"
            flag = option.flag or f"--{name.replace('_', '-')}"
            text = "The same as the argument." if too else option.help
            flags = f"{flag}/{option.off}" if option.off else flag
            info = typer.Option(flags, help=text, rich_help_panel=option.group or None, **_limits(option))
            yield _parameter(name, kind, info, default, too)


def _parameter(name: str, kind: Any, info: Any, default: Any, too: bool) -> inspect.Parameter:
    if too:  # given in neither place, it is known to be not given
        kind, default = kind | None, None
    default = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info], default=default)


def _limits(option: Option) -> dict[str, Any]:
    return {key: value for key, value in (("min", option.least), ("max", option.most)) if value is not None}


def _one(name: str, argument: Any, flag: Any, default: Any) -> Any:
    """What was given as an argument or by its flag; `BadInput` if both ways."""
    if argument is not None and flag is not None:
        from systolith.formats import BadInput

        raise BadInput(f"expected one {name}, found {argument} and --{name} {flag}")
    return next((value for value in (argument, flag) if value is not None), default)
