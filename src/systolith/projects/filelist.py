"""File lists as simulators take them with `-f`, and names that other file systems spell otherwise."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from systolith.formats import BadInput

_COMMENT = re.compile(r"/\*.*?\*/|(?<![:\w])//[^\n]*|(?m:^\s*#[^\n]*)", re.S)


@dataclass(frozen=True)
class Named:
    """What a list names: files and folders relative to the root (or absolute), macros, and what was assumed."""

    sources: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    defines: Mapping[str, int | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def more(self, sources: Sequence[str], written: str = "") -> Named:
        """With more sources, each once; `written` is how the single one was spelled."""
        notes = self.notes
        if written and Path(written).as_posix() != sources[0]:
            notes += (f"{written} is spelled {sources[0]} here",)
        fresh = tuple(one for one in dict.fromkeys(sources) if one not in self.sources)
        return replace(self, sources=self.sources + fresh, notes=notes)


def spelled(root: Path, name: str, where: str) -> str:
    """The path, relative to the root, of a file as it is spelled on the disk: exactly, or in another case.

    Raises:
        BadInput: no such file, or several that differ in case alone.
    """
    name = name.replace("\\", "/")
    if (root / name).is_file():
        return Path(name).as_posix()
    if Path(name).is_absolute():
        raise BadInput(f"{where}: {name}: no such file")
    at = root
    for part in Path(name).parts:
        if (at / part).exists() or part == "..":
            at = at / part
            continue
        others = [p for p in at.iterdir() if p.name.lower() == part.lower()] if at.is_dir() else []
        if len(others) != 1:
            raise BadInput(f"{where}: {name}: no such file in {root}")
        at = others[0]
    if not at.is_file():
        raise BadInput(f"{where}: {name}: expected a file, found a folder")
    return at.relative_to(root).as_posix()


def read_list(root: Path, name: str, base: Path, seen: tuple[str, ...] = ()) -> Named:
    """The files, `+incdir+`, `+define+`, `-v`, `-f` and `-F` of a list, with comments.

    Names are relative to the list's own folder where they are there, else to `base`, where the list is given.

    Raises:
        BadInput: a missing file or an option of another kind, with the line's word.
    """
    if name in seen:
        raise BadInput(f"{name}: names itself by {' and '.join(seen)}")
    path = root / name
    try:
        words = shlex.split(_COMMENT.sub(" ", path.read_text()).replace("\\", "/"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as a file list ({error})") from None
    named = Named()
    rest = iter(words)
    for word in rest:
        if word in ("-f", "-F"):
            inner = read_list(root, _found(root, path, base, next(rest, ""))[0], base, (*seen, name))
            named = replace(
                named.more(inner.sources),
                include=named.include + inner.include,
                defines={**named.defines, **inner.defines},
                notes=named.notes + inner.notes,
            )
        elif word.startswith("+incdir+"):
            folders = [_folder(root, path, base, one) for one in word[len("+incdir+") :].split("+") if one]
            named = replace(named, include=(*named.include, *folders))
        elif word.startswith("+define+"):
            pairs = (one.partition("=") for one in word[len("+define+") :].split("+") if one)
            named = replace(named, defines={**named.defines, **{key: value for key, _, value in pairs}})
        elif word == "-v" or not word.startswith(("-", "+")):
            found, written = _found(root, path, base, next(rest, "") if word == "-v" else word)
            named = named.more([found])
            named = replace(named, notes=named.notes + ((f"{written} is spelled {found} here",) if written else ()))
        else:
            raise BadInput(f"{path}: {word!r}: expected files, +incdir+, +define+, -v, -f or comments")
    return named


def _found(root: Path, path: Path, base: Path, word: str) -> tuple[str, str]:
    """A file that a list names, relative to the root where it is inside, and the name if it is spelled otherwise."""
    for folder in dict.fromkeys((path.parent, base)):
        try:
            real = spelled(folder, word, str(path))
        except BadInput:
            continue
        where = (folder / real).resolve()
        inside = where.relative_to(root).as_posix() if where.is_relative_to(root) else str(where)
        return inside, "" if Path(word.replace("\\", "/")).name == Path(real).name else word
    raise BadInput(f"{path}: {word or 'a name'}: no such file in {path.parent}" + _beside(path, base))


def _beside(path: Path, base: Path) -> str:
    return "" if base == path.parent else f" or {base}"


def _folder(root: Path, path: Path, base: Path, word: str) -> str:
    for folder in dict.fromkeys((path.parent, base)):
        where = (folder / word).resolve()
        if where.is_dir():
            return where.relative_to(root).as_posix() if where.is_relative_to(root) else str(where)
    raise BadInput(f"{path}: +incdir+{word}: no such folder in {path.parent}" + _beside(path, base))
