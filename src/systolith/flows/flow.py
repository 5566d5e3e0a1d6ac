"""What every flow has in common: how it is called, how it tells how far it is, and what its report can do."""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, TypeVar

from systolith.requests.option import described
from systolith.steps.notebook import as_table
from systolith.steps.values import shown, values_of

SCHEMA = 1
"""Of every report's JSON: grows by one when a key changes its meaning or goes; new keys alone do not count."""

P = ParamSpec("P")
Q = TypeVar("Q")
R = TypeVar("R", bound="Report")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a flow found, as plain values.

    Attributes:
        holds: everything that was compared is equal, or there was nothing to compare.
        verdict: the same in one line, under 200 characters.
        notes: what a person should know besides, a sentence each; already told to the progress callback.
    """

    verb: ClassVar[str]
    holds: bool
    verdict: str
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The report as JSON values: its fields, but for what `hidden`, `called` and `optional` say of them."""
        return {"schema": SCHEMA, "verb": self.verb, **values_of(self)}

    def to_json(self) -> str:
        """What the command line prints with `--json`."""
        return json.dumps(self.plain(), indent=1, allow_nan=False)

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict and, small, the fields that are in the JSON."""
        fields = {name: value for name, value in shown(self) if name not in ("holds", "verdict")}
        return as_table(self.plain()["holds"], self.verdict, fields)


def flow(request: Callable[P, Q]) -> Callable[[Callable[[Q], R]], Callable[P, R]]:
    """Turn a function of a request into one that takes the request's fields as its arguments.

    What a verb can be told stands once, in `requests/`: Python's signature, the command line and the docstring's
    arguments are made of it.
    """

    def decorate(function: Callable[[Q], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(request(*args, **kwargs))

        signature = inspect.signature(request)
        call.__signature__ = signature.replace(return_annotation=_returns(function))  # type: ignore[attr-defined]
        head, returns, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\nReturns:")
        call.__doc__ = f"{head}\n\nArgs:\n{described(request)}{returns}{rest}"
        return call

    return decorate


def _returns(function: types.FunctionType | Callable[..., Any]) -> Any:
    return function.__annotations__.get("return", inspect.Signature.empty)
