"""The rooms and what they may import (design, section 2); and what must work without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import systolith

ROOT = Path(systolith.__file__).parent
GROUND = ("formats", "equality", "pictures", "store")
# A room and the rooms it names; it may use whatever those may use.
ROOMS = {
    "quant": (),
    "models": ("quant",),
    "training": ("models",),
    "network": (),
    "frontends": ("network", "quant"),
    "array": ("network",),
    "vectors": ("array",),
    "rtl": ("vectors",),
    "report": ("rtl",),
}
TORCH_ROOMS = ("quant", "models", "training", "frontends", "network/execute.py")


def allowed(room: str) -> set[str]:
    if room in GROUND:
        return set(GROUND[: GROUND.index(room)])
    found = {room, *GROUND}
    for other in ROOMS[room]:
        found |= allowed(other)
    return found


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """(module, line, at module level) of every import, except those for type checkers only."""
    tree = ast.parse(path.read_text())
    found = []

    def walk(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: a relative import"
                names = (
                    [f"{child.module}.{a.name}" for a in child.names] if child.module == "systolith" else [child.module]
                )
                found.extend((str(name), child.lineno, top) for name in names)
            walk(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    walk(tree, True)
    return found


FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_a_room_imports_only_what_it_may(name: str) -> None:
    room = name.split("/")[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    may = set(ROOMS) | set(GROUND) | {"cli"} if room == "cli" else allowed(room)
    for module, line, _ in imports(ROOT / name):
        parts = module.split(".")
        if parts[0] == "systolith" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in may, f"{name}:{line} imports {module}"


@pytest.mark.parametrize("name", FILES)
def test_torch_stays_in_its_rooms_and_the_command_line_is_light(name: str) -> None:
    for module, line, top in imports(ROOT / name):
        base = module.split(".")[0]
        if base == "torch" and not name.startswith("cli/"):
            assert name.startswith(TORCH_ROOMS), f"{name}:{line} imports torch"
        if name.startswith("cli/") and top:
            assert base not in ("numpy", "torch", "rich", "safetensors", "PIL"), f"{name}:{line}"
            assert not module.startswith(tuple(f"systolith.{r}" for r in (*ROOMS, *GROUND))), f"{name}:{line}"


def test_every_room_is_in_the_rules() -> None:
    found = {p.name for p in ROOT.iterdir() if (p / "__init__.py").exists()}
    assert found <= {*ROOMS, "cli"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, systolith; print([m for m in ('numpy', 'torch', 'typer') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_are_there() -> None:
    for name in systolith.__all__:
        assert getattr(systolith, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = systolith.nonsense
