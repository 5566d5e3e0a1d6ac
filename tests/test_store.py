from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from systolith import store
from systolith.formats import BadInput, IntFormat
from systolith.store import (
    Codes,
    ModelFile,
    atomic_file,
    atomic_folder,
    load_model_file,
    save_model_file,
    shipped_models,
)


def small() -> ModelFile:
    codes = np.arange(-7, 8, dtype=np.int8).reshape(5, 3, 1, 1)
    scale = np.array([0.25], np.float32)
    return ModelFile(
        {"arch": "x"},
        {"conv": Codes(codes, IntFormat(4, True), scale, IntFormat(8, False))},
        {"norm.weight": np.ones(5, np.float32)},
        {"epochs": 3},
    )


def test_round_trip(tmp_path: Path) -> None:
    save_model_file(tmp_path / "deep" / "m.safetensors", small())
    read = load_model_file(tmp_path / "deep" / "m.safetensors")
    assert read.config == {"arch": "x"}
    assert read.run == {"epochs": 3}
    assert (read.codes["conv"].values == small().codes["conv"].values).all()
    assert read.codes["conv"].format == IntFormat(4, True)
    assert read.codes["conv"].act_format == IntFormat(8, False)
    assert (read.floats["norm.weight"] == 1).all()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["m.safetensors"]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    save_model_file(tmp_path / "m.safetensors", small())
    whole = (tmp_path / "m.safetensors").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"cut.safetensors: not a readable model file"):
            load_model_file(tmp_path / "cut.safetensors")


def test_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such model file"):
        load_model_file(tmp_path / "none.safetensors")
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="not one written by systolith"):
        load_model_file(tmp_path / "other.safetensors")
    save_file(
        {"a": np.zeros(3)}, tmp_path / "v9.safetensors", {"systolith": '{"format": "systolith-model", "version": 9}'}
    )
    with pytest.raises(BadInput, match="expected systolith-model version 1, found systolith-model version 9"):
        load_model_file(tmp_path / "v9.safetensors")


def test_shipped_models_are_at_most_8_mb_and_carry_their_run() -> None:
    assert "vgg16-w4a4-s8" in shipped_models()
    for path in shipped_models().values():
        assert path.stat().st_size <= 8e6
        run = load_model_file(path).run
        assert {"data", "epochs", "test_accuracy", "version"} <= set(run)


def test_atomic_file_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with atomic_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BadInput, match=r"a: cannot be written \(No space left on device\)"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def fill(path: Path, force: bool, error: Exception | None = None) -> None:
    with atomic_folder(path, force) as temporary:
        (temporary / "new").write_text("new")
        if error:
            raise error


def test_atomic_folder(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b", force=False)
    assert (tmp_path / "a" / "b" / "new").read_text() == "new"
    with pytest.raises(BadInput, match="exists already; --force replaces it"):
        fill(tmp_path / "a" / "b", force=False)
    (tmp_path / "a" / "b" / "old").write_text("old")
    for error, kind in ((OSError(errno.ENOSPC, "No space left"), BadInput), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(kind):
            fill(tmp_path / "a" / "b", force=True, error=error)  # type: ignore[arg-type]
        assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["new", "old"]
    fill(tmp_path / "a" / "b", force=True)
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["new"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


def test_if_the_last_move_fails_the_old_folder_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "b", force=False)
    (tmp_path / "b" / "old").write_text("old")
    real = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target == (tmp_path / "b").resolve() and ".old." not in self.name:
            raise OSError(errno.ENOSPC, "No space left")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BadInput, match="nothing was changed"):
        fill(tmp_path / "b", force=True)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["new", "old"]
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_folders_that_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for path in (".", "", "..", "/", "../../a"):
        with pytest.raises(BadInput, match="the current folder and those above it are never replaced"):
            fill(Path(path), force=True)
    for path in ("/proc/b", "x" * 300, "x" * 256 + "/b"):
        with pytest.raises(BadInput, match="cannot be"):
            fill(Path(path), force=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(BadInput, match="found a file or a link"):
        fill(tmp_path / "link", force=True)
    fill(tmp_path / "link" / "new", force=False)  # below a link is fine
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b", "new"]


@pytest.mark.parametrize(
    "header",
    [
        "[1]",
        '{"format": "systolith-model", "version": 1}',
        '{"format": "systolith-model", "version": 1, "config": [], "layers": [], "run": {}}',
        '{"format": "systolith-model", "version": 1, "config": {}, "layers": {"a": {"format": {"bits": 9}}}}',
        '{"format": "systolith-model", "version": 1, "config": {}, "layers": {"a": 7}, "run": {}}',
    ],
)
def test_damaged_headers(tmp_path: Path, header: str) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / "m.safetensors", {"systolith": header})
    with pytest.raises(BadInput, match=r"m.safetensors: "):
        load_model_file(tmp_path / "m.safetensors")


def test_the_most_negative_code_is_not_a_weight(tmp_path: Path) -> None:
    model = small()
    model.codes["conv"].values[0, 0] = -8
    save_model_file(tmp_path / "m.safetensors", model)
    with pytest.raises(BadInput, match=r"layer conv: weight codes are -7..7, found -8"):
        load_model_file(tmp_path / "m.safetensors")


def test_atomic_folder_below_or_on_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="file is a file"):
        fill(tmp_path / "file" / "out", force=True)
    with pytest.raises(BadInput, match="expected a folder or nothing there"):
        fill(tmp_path / "file", force=True)
    assert (tmp_path / "file").read_text() == "x"


KILLED = """
import os, signal, sys
from pathlib import Path
from systolith.store import atomic_file, atomic_folder
with atomic_file(Path(sys.argv[1]) / "a.txt") as file, atomic_folder(Path(sys.argv[1]) / "b", False) as folder:
    file.write_text("half")
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path: Path) -> None:
    old = tmp_path / ".systolith.old.kept"
    old.mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = set(tmp_path.glob(".systolith.*")) - {old}
    assert {path.is_dir() for path in left} == {False, True}
    other = tmp_path / next(iter(left)).name.replace(".systolith.", ".systolith.another-", 1)
    other.touch()
    # Our own, half-way, and another machine's are not orphans; what the user had is nobody's to delete.
    with atomic_file(tmp_path / "mine.txt") as mine:
        mine.write_text("whole")
        assert set(tmp_path.glob(".systolith.*")) == {mine, other, old}
        with atomic_file(tmp_path / "second.txt") as second:
            second.write_text("whole")
            assert mine.exists()
    assert (tmp_path / "mine.txt").read_text() == "whole"


def test_a_process_number_given_anew_is_another_process(tmp_path: Path) -> None:
    began = store._began(os.getpid())
    assert began > 0
    stale = tmp_path / f".systolith.{store._host()}.{os.getpid()}.{began + 1}.x"
    stale.touch()
    living = tmp_path / f".systolith.{store._host()}.{os.getppid()}.{store._began(os.getppid())}.x"
    living.touch()
    with atomic_file(tmp_path / "a") as file:
        file.touch()
    assert not stale.exists()
    assert living.exists()


def test_a_leftover_that_may_not_be_removed_is_no_reason_not_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another user's, in a folder like /tmp.
    theirs = tmp_path / f".systolith.{store._host()}.{2**22 + 1}.1.x"
    theirs.touch()
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == theirs:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with atomic_file(tmp_path / "mine.txt") as file:
        file.write_text("whole")
    assert (tmp_path / "mine.txt").read_text() == "whole"
    assert theirs.exists()
