"""What reports hold, as JSON values, and what a field says of how it is to be shown there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def hidden() -> dict[str, Any]:
    """Metadata of a field that is for Python and pictures alone, not for JSON."""
    return {"json": None}


def called(name: str) -> dict[str, Any]:
    """Metadata of a field with another name in JSON."""
    return {"json": name}


def optional() -> dict[str, Any]:
    """Metadata of a field that JSON leaves out where it is None."""
    return {"optional": True}


def shown(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass by name, but for what `hidden`, `called` and `optional` say of them."""
    for field in fields(value):
        name, content = field.metadata.get("json", field.name), getattr(value, field.name)
        if name is not None and not (content is None and field.metadata.get("optional")):
            yield name, content


def values_of(value: Any) -> dict[str, Any]:
    """What is `shown` of a dataclass, as JSON values."""
    return {name: plain(content) for name, content in shown(value)}


def plain(value: Any) -> Any:
    """JSON values of dataclasses, mappings, sequences, paths, and NumPy's numbers and arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        return values_of(value)
    if isinstance(value, Mapping):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [plain(content) for content in value]
    if isinstance(value, os.PathLike):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value
