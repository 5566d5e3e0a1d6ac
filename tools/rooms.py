"""The rooms of the code, who may import whom (shared by the import test and the architecture page), and who does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

GROUND = ("version", "formats", "equality", "pictures", "store", "cluster")
"""The ground floor: single files, each of which may import those before it."""

ROOMS: dict[str, tuple[str, ...]] = {
    "quant": (),
    "network": (),
    "topologies": ("network",),
    "models": ("quant",),
    "exports": ("network",),
    "frontends": ("network", "quant", "models", "exports"),
    "importers": ("frontends",),
    "array": ("network",),
    "vectors": ("array",),
    "stimulus": ("vectors",),
    "faults": ("stimulus",),
    "verdict": ("vectors",),
    "timing": ("array",),
    "designs": ("timing", "topologies"),
    "rtl": ("timing", "stimulus", "verdict"),
    "synthesis": ("rtl",),
    "mutation": ("synthesis",),
    "training": ("models",),
    "requests": (),
    "steps": ("requests", "importers", "training", "rtl", "designs"),
    "flows": ("steps", "faults"),
    "projects": ("rtl",),
    "hardware": ("flows", "projects", "mutation"),
    "report": ("hardware",),
    "cli": ("report",),
}
"""A room and the rooms it names; it may use whatever those may use, and the ground floor."""

FACES = ("__init__", "__main__")
"""The package's own files: they may import everything, and no room imports them."""


def room_of(name: str) -> str:
    """The room, or the ground floor's file, of a path below `systolith/`."""
    return name.split("/")[0].removesuffix(".py")


def allowed(room: str) -> set[str]:
    """The rooms and ground-floor files that `room` may import."""
    if room in GROUND:
        return set(GROUND[: GROUND.index(room)])
    found = {room, *GROUND}
    for other in ROOMS[room]:
        found |= allowed(other)
    return found


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, at module level) of every import, except those for type checkers only.

    `from package import name` counts as package.name.
    """

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                if child.level:
                    raise AssertionError(f"{path}:{child.lineno}: a relative import")
                yield from ((f"{child.module}.{alias.name}", child.lineno, top) for alias in child.names)
            yield from walk(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    return walk(ast.parse(path.read_text()), True)


def files(root: Path) -> list[str]:
    """Every Python file below the package's folder, as a path with slashes."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*.py"))


def imported_files(root: Path, name: str) -> list[tuple[str, int]]:
    """(file, line) of what a file of the package imports from the package, inside functions too.

    A package's `__init__.py` counts only where a name of its own is imported, not on the way to a module below it.
    """
    found = []
    for module, line, _ in imports(root / name):
        package, *parts = module.split(".")
        # The longest beginning that is a file: what follows it are names inside.
        paths = ["/".join(parts[:length]) for length in range(len(parts), -1, -1)] if package == root.name else []
        candidates = (candidate for path in paths for candidate in (f"{path}.py", f"{path}/__init__.py".lstrip("/")))
        found += [(candidate, line) for candidate in candidates if (root / candidate).is_file()][:1]
    return found


def forbidden(root: Path) -> list[str]:
    """Imports against the rules, a line each."""
    wrong = []
    for name in files(root):
        room = room_of(name)
        if room in FACES:
            continue
        may = allowed(room) if room in GROUND or room in ROOMS else set()
        for other, line in imported_files(root, name):
            if room_of(other) not in may:
                wrong.append(f"{name}:{line} imports {other}: {room} may not import {room_of(other)}")
    return wrong


def circles(root: Path) -> list[str]:
    """The first circle of imports found from each file, "a.py -> b.py -> a.py"; each circle once."""
    edges = {name: sorted({other for other, _ in imported_files(root, name)} - {name}) for name in files(root)}
    state: dict[str, int] = {}
    found: list[str] = []

    def visit(name: str, way: list[str]) -> None:
        state[name] = 1
        for other in edges[name]:
            if state.get(other) == 1:
                found.append(" -> ".join([*way[way.index(other) :], other]))
            elif other not in state:
                visit(other, [*way, other])
        state[name] = 2

    for name in edges:
        if name not in state:
            visit(name, [name])
    return found
