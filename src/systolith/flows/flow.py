"""What every flow has in common: how it is called, how it tells how far it is, and what its report can do."""

from __future__ import annotations

import functools
import inspect
import json
import os
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar

from systolith.requests.option import described

SCHEMA = 1
"""Of every report's JSON: grows by one when a key changes its meaning or goes; new keys alone do not count."""

P = ParamSpec("P")
Q = TypeVar("Q")
R = TypeVar("R", bound="Report")


class Count(Protocol):
    """What `numpy` numbers and arrays share."""

    def tolist(self) -> Any: ...


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
        return {"schema": SCHEMA, "verb": self.verb, **_fields(self)}

    def to_json(self) -> str:
        """What the command line prints with `--json`."""
        return json.dumps(self.plain(), indent=1, allow_nan=False)


def hidden() -> dict[str, Any]:
    """Metadata of a field that is for Python and pictures alone, not for JSON."""
    return {"json": None}


def called(name: str) -> dict[str, Any]:
    """Metadata of a field with another name in JSON."""
    return {"json": name}


def optional() -> dict[str, Any]:
    """Metadata of a field that JSON leaves out where it is None."""
    return {"optional": True}


def _fields(value: Any) -> dict[str, Any]:
    found = {}
    for field in fields(value):
        name, content = field.metadata.get("json", field.name), getattr(value, field.name)
        if name is not None and not (content is None and field.metadata.get("optional")):
            found[name] = plain(content)
    return found


def plain(value: Any) -> Any:
    """JSON values of dataclasses, mappings, sequences, paths, and NumPy's numbers and arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [plain(content) for content in value]
    if isinstance(value, os.PathLike):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def flow(request: Callable[P, Q]) -> Callable[[Callable[[Q], R]], Callable[P, R]]:
    """Turn a function of a request into one that takes the request's fields as its arguments.

    What a verb can be told stands once, in `requests.py`: Python's signature, the command line and the docstring's
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
