"""Layouts as TOML files and as a manifest's plain values: reading, writing, and those in the package."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from systolith.formats import BadInput
from systolith.store import ASSETS
from systolith.vectors.layout import FileSpec, Layout


def _shipped() -> dict[str, Path]:
    """The files of the layouts in the package; each is called as its layout."""
    return {path.stem: path for path in sorted((ASSETS / "layouts").glob("*.toml"), key=lambda path: path.stem)}


def presets() -> dict[str, Layout]:
    """The layouts in the package, by name."""
    return {name: read_layout(path) for name, path in _shipped().items()}


def find_layout(name: str) -> Layout:
    """A preset by name, or the layout of a `.toml` file; `BadInput` lists the presets.

    Examples:
        >>> import systolith as sl
        >>> sl.find_layout("course").files[0].name
        'activation_tile{itile}.txt'
    """
    shipped = _shipped()
    if name in shipped:
        return read_layout(shipped[name])
    if name.endswith(".toml"):
        return read_layout(Path(name))
    raise BadInput(f"no layout {name!r}: expected one of {', '.join(shipped)}, or the path of a .toml file")


def read_layout(path: Path) -> Layout:
    """The layout in a TOML file; `BadInput` names the file, the entry and what is wrong with it."""
    return layout_from(read_toml(path, "no such layout file"), str(path))


def read_toml(path: Path, missing: str) -> dict[str, Any]:
    """The values of a TOML file; `BadInput` where it cannot be read, which says `missing` where it is not there."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise BadInput(f"{path}: {missing}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: not TOML: {error}") from None


def layout_from(entry: Any, where: str) -> Layout:
    """The layout of plain values: a TOML file's, or those that `asdict` made for a manifest."""
    if not isinstance(entry, dict):
        raise BadInput(f"{where}: expected a table")
    _known(where, entry, {"name": str, "about": str, "files": list}, {"name", "files"})
    types: dict[str, Any] = {f.name: f.type for f in fields(FileSpec)}
    kinds = {name: _TYPES[type_] for name, type_ in types.items()}
    specs = []
    for number, file in enumerate(entry["files"], 1):
        place = f"{where}: files[{number}]"
        if not isinstance(file, dict):
            raise BadInput(f"{place}: expected a table, found {type(file).__name__}")
        file = {key: value for key, value in file.items() if value is not None}
        _known(place, file, kinds, {"tensor", "name"})
        for key, value in file.items():
            if kinds[key] is list:
                if not all(isinstance(item, str) for item in value):
                    raise BadInput(f"{place}: {key}: expected strings, found {value!r}")
                file[key] = tuple(value)
        if not all(type(count) is int for count in file.get("first", {}).values()):
            raise BadInput(f"{place}: first: expected counts, found {file['first']!r}")
        try:
            specs.append(FileSpec(**file))
        except BadInput as error:
            raise BadInput(f"{place} ({file['tensor']}): {error}") from None
    return Layout(entry["name"], tuple(specs), entry.get("about", ""))


_TYPES = {
    "str": str,
    "str | None": str,
    "tuple[str, ...]": list,
    "dict[str, int]": dict,
    "bool": bool,
    "bool | None": bool,
    "int": int,
    "int | None": int,
}


def _known(where: str, entry: dict[str, Any], kinds: dict[str, type], needed: set[str]) -> None:
    for key, value in entry.items():
        if key not in kinds:
            raise BadInput(f"{where}: unknown key {key!r}; expected {', '.join(kinds)}")
        wanted = (list, tuple) if kinds[key] is list else kinds[key]
        if not isinstance(value, wanted) or (kinds[key] is int and isinstance(value, bool)):
            raise BadInput(f"{where}: {key}: expected {_WORDS[kinds[key]]}, found {value!r}")
    if missing := needed - set(entry):
        raise BadInput(f"{where}: {min(missing)} is missing")


_WORDS = {str: "text", list: "a list of text", dict: "a table", bool: "true or false", int: "a whole number"}


def to_toml(layout: Layout) -> str:
    """The layout as a TOML file; what is as by default is left out."""
    lines = [f"name = {_toml(layout.name)}"] + ([f"about = {_toml(layout.about)}"] if layout.about else [])
    for spec in layout.files:
        lines += ["", "[[files]]", *(f"{key} = {value}" for key, value in toml_lines(spec).items())]
    return "\n".join(lines) + "\n"


def toml_lines(spec: FileSpec) -> dict[str, str]:
    """A kind of file as keys and values of TOML; what is as by default is left out."""
    given = {f.name: (getattr(spec, f.name), {} if f.name == "first" else f.default) for f in fields(FileSpec)}
    return {name: _toml(value) for name, (value, default) in given.items() if value != default}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {count}" for key, count in value.items()) + " }"
    return str(value)


def to_plain(layout: Layout) -> dict[str, Any]:
    """Plain values for a manifest; `layout_from` is the inverse."""
    files = [{k: v for k, v in asdict(spec).items() if v not in (None, (), {}, False)} for spec in layout.files]
    return {"name": layout.name, "about": layout.about, "files": [{k: _plain(v) for k, v in f.items()} for f in files]}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
