"""The rooms and what they may import (design, section 2); and what must work without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rooms
import systolith

ROOT = Path(systolith.__file__).parent
TREE = Path(__file__).parents[1]
TORCH_ROOMS = ("quant", "models", "training", "frontends", "importers", "network/execute", "steps", "flows")
LIGHT = ("systolith.cli", "systolith.version", "systolith.requests")
"""What the command line may import before it knows which verb it is: the standard library and typer alone."""
FILES = rooms.files(ROOT)


def test_a_room_imports_only_what_it_may() -> None:
    assert rooms.forbidden(ROOT) == []


def test_no_file_imports_in_a_circle() -> None:
    assert rooms.circles(ROOT) == []


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("vectors/text.py", "from systolith.faults.grade import grade", "vectors may not import faults"),
        ("formats.py", "import systolith.store", "formats may not import store"),
        ("array/spec.py", "from systolith import load", "array may not import __init__"),
        ("network/graph.py", "def f():\n    from systolith.quant import layers", "network may not import quant"),
        ("attic/old.py", "from systolith.formats import BadInput", "attic may not import formats"),
    ],
)
def test_a_forbidden_arrow_is_seen(tmp_path: Path, name: str, line: str, said: str) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "systolith", ignore=shutil.ignore_patterns("assets", "__pycache__"))
    (copy / name).parent.mkdir(exist_ok=True)
    with (copy / name).open("a") as file:
        file.write(f"\n{line}\n")
    (found,) = rooms.forbidden(copy)
    assert found.startswith(f"{name}:")
    assert said in found


def test_a_circle_is_seen_inside_a_room_and_inside_a_function(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "systolith", ignore=shutil.ignore_patterns("assets", "__pycache__"))
    with (copy / "verdict/words.py").open("a") as file:
        file.write("\n\ndef late():\n    from systolith.verdict import dumps\n")
    assert rooms.forbidden(copy) == []
    found = [set(circle.split(" -> ")) for circle in rooms.circles(copy)]
    assert found
    assert all({"verdict/words.py", "verdict/dumps.py"} <= circle for circle in found)


@pytest.mark.parametrize("name", FILES)
def test_torch_stays_in_its_rooms_and_the_command_line_is_light(name: str) -> None:
    for module, line, top in rooms.imports(ROOT / name):
        base = module.split(".")[0]
        if base == "torch" and not name.startswith("cli/"):
            assert name.startswith(TORCH_ROOMS), f"{name}:{line} imports torch"
        if name.startswith("cli/") and top:
            assert base not in ("numpy", "torch", "rich", "safetensors", "PIL"), f"{name}:{line}"
            light = module.startswith(LIGHT)
            heavy = module.startswith(tuple(f"systolith.{r}" for r in (*rooms.ROOMS, *rooms.GROUND)))
            assert light or not heavy, f"{name}:{line}"


def test_every_room_is_in_the_rules() -> None:
    found = {p.name for p in ROOT.iterdir() if (p / "__init__.py").exists()}
    assert found == set(rooms.ROOMS)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, systolith; print([m for m in ('numpy', 'torch', 'typer') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_file_and_no_room_is_too_large() -> None:
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in FILES}
    everywhere = [
        p for room in ("src", "tests", "tools", "benchmarks", "examples") for p in (TREE / room).rglob("*.py")
    ]
    assert [str(p) for p in everywhere if len(p.read_text().splitlines()) > 400] == []
    for room in rooms.ROOMS:
        total = sum(count for name, count in lines.items() if rooms.room_of(name) == room)
        assert total <= (1_300 if room == "cli" else 2_500), room
