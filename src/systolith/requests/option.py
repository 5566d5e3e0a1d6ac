"""An option of a verb: the annotation of a request's field, and how to read those of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol, get_type_hints


class Progress(Protocol):
    """Told how far a flow is: `what` is being done, `done` of `total`; without a total it is a sentence to show."""

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None: ...


def quiet(what: str, done: int = 0, total: int = 0) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Option:
    """How a field is given, and what it is for.

    Attributes:
        help: one sentence or two, for the command line and the reference.
        group: the heading in `--help` under which it stands; "" for "Options".
        flag: on the command line; "" is made of the field's name.
        position: an argument without a flag, "only", or "too" for one that has the flag as well.
        metavar: the argument's name in the usage line.
        least, most: of a number.
        off: the flag that switches it off, for one that is on unless said.
    """

    help: str
    group: str = ""
    flag: str = ""
    position: str = ""
    metavar: str = ""
    least: float | None = None
    most: float | None = None
    off: str = ""


def options_of(request: Any) -> dict[str, tuple[Any, Option, Any]]:
    """The fields of a request that a command line can give: type, `Option` and default (MISSING: required), by name."""
    hints = get_type_hints(request, include_extras=True)
    found = {}
    for each in fields(request):
        for extra in getattr(hints[each.name], "__metadata__", ()):
            if isinstance(extra, Option):
                found[each.name] = (hints[each.name].__origin__, extra, each.default)
    return found


def described(request: Callable[..., Any]) -> str:
    """The fields of a request, a line each, for a docstring's arguments."""
    lines = [f"    {name}: {option.help}" for name, (_, option, _) in options_of(request).items()]
    return "\n".join([*lines, "    progress: Called with what is being done, how much of it is done, and of how much."])
