"""The package as a user installs it: a new environment, the wheel, no torch; and `make run` in this checkout."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, args)], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and its own requirements only."""
    folder = tmp_path_factory.mktemp("fresh")
    built = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "dist", ROOT)
    assert built.returncode == 0, built.stderr
    venv.create(folder / "env", with_pip=True)
    (wheel,) = (folder / "dist").glob("systolith-*.whl")
    bins = folder / "env" / "bin"
    installed = run(bins / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    assert installed.returncode == 0, installed.stderr
    return bins


def test_vectors_of_your_own_integers_without_torch(fresh: Path, tmp_path: Path) -> None:
    assert run(fresh / "python", "-c", "import torch").returncode != 0
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "my.npz", act=rng.integers(0, 16, (8, 4, 4)), weight=rng.integers(-8, 8, (8, 8, 3, 3)), padding=1
    )
    args = (fresh / "systolith", "vectors", "--tensors", tmp_path / "my.npz", "--out", tmp_path / "b", "--json")
    result = run(*args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["files"] == 22
    code = f"import systolith; print([e.holds for e in systolith.verify_bundle({str(tmp_path / 'b')!r})])"
    assert run(fresh / "python", "-c", code).stdout.strip() == "[True, True, True, True]"


def test_vectors_of_the_shipped_model_without_torch_are_those_of_run(fresh: Path, tmp_path: Path) -> None:
    wrote = run(fresh / "systolith", "vectors", "--layer", "features.27", "--out", tmp_path / "a")
    assert wrote.returncode == 0, wrote.stderr
    ran = run(sys.executable, "-m", "systolith", "run", "--layer", "features.27", "--out", tmp_path / "b")
    assert ran.returncode == 0, ran.stderr
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "b").iterdir())
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False) == (names, [], [])


def test_what_needs_torch_says_so_and_the_rest_works(fresh: Path, tmp_path: Path) -> None:
    result = run(fresh / "systolith", "run", "--out", tmp_path / "b")
    assert result.returncode == 2
    assert "pip install 'systolith[torch]'" in result.stderr
    info = run(fresh / "systolith", "info", "--json")
    assert "vgg16-w4a4-s8" in json.loads(info.stdout)["models"]
    assert run(fresh / "systolith", "--version").returncode == 0


def test_make_run_leaves_the_bundle() -> None:
    shutil.rmtree(ROOT / "build" / "run", ignore_errors=True)
    result = run("make", "--no-print-directory", "-C", ROOT, "run")
    assert result.returncode == 0, result.stderr
    assert "all equal" in result.stdout.splitlines()[-1]
    for name in ("activation_tile0.txt", "out.txt", "tensors.npz", "manifest.json"):
        assert (ROOT / "build" / "run" / name).exists()
