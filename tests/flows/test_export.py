"""`systolith export`: what it writes is taken by the other commands; what differs, or cannot be, leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import systolith as sl
from cli.calling import NO_TORCH, call, one_object, refuse
from exports.lined import lined_network
from network.nets import random_network
from systolith.exports import arrays, c
from systolith.formats import BadInput
from systolith.network.file import save_network

FORMS = ("onnx", "qdq", "qonnx", "npz", "c")
NET = "vgg16-w4a4-s8"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small network that every format holds, in a model file."""
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "net.safetensors", lined_network(2), {})
    return "net.safetensors"


def left(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"net.safetensors"}


@pytest.mark.parametrize("form", FORMS)
def test_every_format(form: str, small: str, tmp_path: Path) -> None:
    report = sl.export(small, form, tmp_path / "out")
    assert report.holds
    assert report.verdict.startswith("equal: ")
    assert report.files == (str(tmp_path / "out"),)
    assert left(tmp_path) == {"out"}
    assert (tmp_path / "out").is_dir() == (form == "c")
    with pytest.raises(BadInput, match="exists already; --force"):
        sl.export(small, form, tmp_path / "out")
    assert sl.export(small, form, tmp_path / "out", force=True).holds
    assert left(tmp_path) == {"out"}


def test_a_command_shows_it(small: str, tmp_path: Path) -> None:
    shown = call("export", small, "--format", "c", "--out", "made", cwd=tmp_path)
    assert shown.returncode == 0
    assert "every step's integers from the loop" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("verdict")
    assert "holds integers only: no scales" in shown.stdout
    refuse(
        call("export", small, "--format", "vhdl", "--out", "made", cwd=tmp_path), "expected onnx, qdq, qonnx, npz, c"
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_is_read_back_differently_is_not_left(
    form: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is written is another network than what it is compared with.
    other = lined_network(2)
    row = other.layers["e"]
    row.bias[1] += 1  # type: ignore[index]
    monkeypatch.setattr("systolith.steps.exporting.find_network", lambda model, verb: (lined_network(2), {}))
    written = {
        "onnx": "exports.onnx.save_onnx",
        "qdq": "exports.qdq.to_qdq",
        "qonnx": "exports.qonnx.to_qonnx",
        "npz": "exports.arrays.save_arrays",
        "c": "exports.c.write_c",
    }[form]
    module, _, name = written.rpartition(".")
    real = getattr(__import__(f"systolith.{module}", fromlist=[name]), name)
    monkeypatch.setattr(f"systolith.{written}", lambda network, *args: real(other, *args))
    result = call("export", small, "--format", form, "--out", "made", "--json", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    value = json.loads(result.stdout)
    assert not value["holds"]
    assert value["verdict"].startswith("NOT EQUAL: e")
    assert value["files"] == []
    assert left(tmp_path) == set()


def test_a_network_that_floats_do_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "net.safetensors", random_network(0), {})
    for form in ("qdq", "qonnx"):
        result = call("export", "net.safetensors", "--format", form, "--out", "made", cwd=tmp_path)
        assert result.returncode == 2
        assert "its t" in result.stderr
    assert left(tmp_path) == set()


def test_without_a_compiler_it_says_so(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "compiler", lambda: None)
    report = sl.export(small, "c", tmp_path / "made")
    assert report.holds
    assert "no C compiler here" in report.verdict


def test_the_arrays_of_the_shipped_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = sl.export(NET, "npz", tmp_path / "net.npz")
    assert report.holds
    found = arrays.load_arrays(tmp_path / "net.npz")
    assert found["features.3/weight_scale"].dtype == np.float32
    assert found["features.0/act_scale"] == 1
    one, other = (one_object(call("info", name, "--nodes", "--json")) for name in (NET, "net.npz"))
    assert one["nodes"] == other["nodes"]
    one, other = (one_object(call("info", name, "--json")) for name in (NET, "net.npz"))
    assert one["layers"] == other["layers"]
    # Without torch: vectors and clocks of the file are those of the model.
    for name in (NET, "net.npz"):
        out = f"of_{name}"
        made = call("vectors", name, "--layer", "features.24", "--out", out, code=NO_TORCH, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    files = {p.name for p in (tmp_path / f"of_{NET}").iterdir()} - {"manifest.json"}
    for name in files:
        assert (tmp_path / f"of_{NET}" / name).read_bytes() == (tmp_path / "of_net.npz" / name).read_bytes()
    clocks = [one_object(call("simulate", n, "--layer", "features.27", "--json"))["total"] for n in (NET, "net.npz")]
    assert clocks[0] == clocks[1]
    again = sl.export("net.npz", "npz", tmp_path / "again.npz")
    assert again.notes == ("net.npz holds integers only: no scales",)
    refuse(call("verify", "net.npz"), "holds only the integers of a network")


def test_npz_without_torch(tmp_path: Path) -> None:
    made = call("export", NET, "--format", "npz", "--out", "net.npz", code=NO_TORCH, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "without torch the scales" in made.stdout


def test_evaluate_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shutil import copy

    from systolith.store import ASSETS

    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        (tmp_path / "pictures" / split / "cat").mkdir(parents=True)
        copy(ASSETS / "cat.png", tmp_path / "pictures" / split / "cat")
    sl.export(NET, "npz", tmp_path / "net.npz")
    assert sl.evaluate("net.npz", data="pictures").correct == sl.evaluate(NET, data="pictures").correct == 1


def test_files_that_are_taken_again(small: str, tmp_path: Path) -> None:
    for form in ("qdq", "qonnx", "onnx"):
        assert sl.export(small, form, tmp_path / f"{form}.onnx").holds
    for form in ("qdq", "qonnx"):
        assert sl.import_model(tmp_path / f"{form}.onnx", limit=2).holds
        assert sl.export(str(tmp_path / f"{form}.onnx"), "npz", tmp_path / f"{form}.npz").holds
    refuse(call("info", "onnx.onnx", cwd=tmp_path), "integer operators, which hold no quantizers")
    refuse(call("info", "nothing.npz", cwd=tmp_path), "no such model file")


def test_an_onnx_file_with_its_codes_watched(small: str, tmp_path: Path) -> None:
    sl.export(small, "onnx", tmp_path / "net.onnx")
    network = lined_network(2)
    outputs = [output.name for output in onnx.load(tmp_path / "net.onnx").graph.output]
    assert outputs == (["logits", "class"] if network.classifies else list(network.outputs))
