"""The commands as a user types them: in this process, or in one of their own where that is what matters."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import systolith
from cli.calling import NO_TORCH, call, one_object, refuse
from conftest import pictures
from systolith.models import vgg
from training.narrow import PLAN


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("run")
    return call("run", "--out", folder / "b", process=True), folder / "b"


def test_run_prints_one_screen_and_leaves_the_bundle(ran: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    result, folder = ran
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) < 30
    assert lines[-1].startswith("verdict")
    assert "all equal" in lines[-1]
    assert len(lines[-1]) < 200
    assert "419" in result.stdout
    assert "239" in result.stdout
    assert result.stderr == ""
    for name in ("activation_tile0.txt", "out.txt", "tensors.npz", "manifest.json"):
        assert (folder / name).exists()


def test_run_json_is_one_object_with_every_number(tmp_path: Path) -> None:
    value = one_object(call("run", "--json", "--out", tmp_path / "b", "--layout", "seed", "--psum-bits", "auto"))
    assert value["holds"] is True
    assert all(e["different"] == 0 and e["compared"] > 0 for e in value["equalities"])
    assert value["clocks"] == {"whole_map": 419, "useful": 239}
    assert value["recovered"] == {"max_difference": 0, "mean_difference": 0}
    least = value["least_psum_bits"]
    assert value["array"]["psum_bits"] == max(least["pass"], least["accumulated"])
    assert (tmp_path / "b" / "psum.txt").exists()


def test_vectors_writes_the_bundle_that_run_writes(
    ran: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    result = call("vectors", "--out", tmp_path / "b")
    assert result.returncode == 0, result.stderr
    assert {p.name: p.read_bytes() for p in ran[1].iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
    }


def test_run_on_a_data_set_another_layer_and_array(tmp_path: Path) -> None:
    (tmp_path / "test" / "ship").mkdir(parents=True)
    for i, pixels in enumerate(pictures(2)):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "test" / "ship" / f"{i}.png")
    value = one_object(
        call(
            *("run", "--json", "--data", tmp_path, "--index", 1, "--layer", "features.0", "--act-bits", 8),
            *("--array", "4x16", "--psum-bits", 20, "--out", tmp_path / "b"),
        )
    )
    assert value["holds"] is True
    assert value["picture"]["source"] == "test picture 1, labelled ship"
    assert value["array"]["passes"] == 1 * 4 * 9
    refuse(call("run", "--data", tmp_path, "--index", 2, "--out", tmp_path / "c"), "--index 2: expected 0..1")


def test_the_classifier_is_a_layer_too(tmp_path: Path) -> None:
    args = ("--layer", "classifier", "--act-bits", 8, "--weight-bits", 8, "--psum-bits", "auto")
    value = one_object(call("run", "--json", *args, "--out", tmp_path / "b"))
    assert value["holds"] is True
    assert value["layer"]["kernel"] == [1, 1]


def test_pictures_of_other_kinds_are_converted_with_a_note(tmp_path: Path) -> None:
    Image.new("LA", (64, 48), 128).save(tmp_path / "grey.png")
    result = call("run", "--image", tmp_path / "grey.png", "--out", tmp_path / "b", "--json")
    assert one_object(result)["picture"]["notes"] == [
        "converted from LA to RGB, transparent parts white",
        "resized from 64x48 to 32x32, centre square",
    ]
    assert "grey.png: converted from LA" in result.stderr


def test_bad_names_and_sizes(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "b")
    refuse(call("run", *out, "--layer", "features.99"), "no layer 'features.99'", "features.27")
    refuse(call("run", *out, "--layer", "features.1"), "is not quantized")
    refuse(call("run", *out, "--layer", "features.0"), "features.0 has 8-bit activations", "--act-bits 8")
    refuse(call("run", *out, "--model", "resnet50"), "no model 'resnet50'", "vgg16-w4a4-s8")
    refuse(call("run", *out, "--array", "0x8"), "array 0x8", "at least one row")
    refuse(call("run", *out, "--array", "-8x8"), "array -8x8", "at least one row")
    refuse(call("run", *out, "--array", "eight"), "expected ROWSxCOLS")
    refuse(call("run", *out, "--psum-bits", "many"), "expected a number or auto")
    refuse(call("run", *out, "--layout", "mine"), "no layout 'mine'")
    refuse(call("run", *out, "--layout", "seed", "--layer", "features.24"), "layout seed")
    refuse(call("run", *out, "--psum-bits", "6"), "features.27", "outside the range -32..31 of 6 signed bits")
    assert not (tmp_path / "b").exists()


def test_usage_errors_are_one_sentence_too(tmp_path: Path) -> None:
    refuse(call("vectors", "--act-bits", "abc"), "Invalid value for '--act-bits'")
    refuse(call("vectors", "--nonsense"), "No such option", "--nonsense")
    refuse(call("train", "smoke"), "Missing option '--data'")
    refuse(call("nonsense"), "No such command 'nonsense'")
    refuse(call("evaluate", "--data", tmp_path, "--limit", -5), "--limit")
    refuse(call("run", "--index", 3, "--out", tmp_path / "b"), "expected --data with it")
    error = call("vectors", "--act-bits", "abc", "--json")
    assert error.returncode == 2
    assert "--act-bits" in json.loads(error.stdout)["error"]


def test_a_fault_of_ours_is_neither_a_difference_nor_bad_input(tmp_path: Path) -> None:
    code = (
        "import systolith.vectors.stream\n"
        "def broken(*a): raise ZeroDivisionError('planted')\n"
        "systolith.vectors.stream.stream_bundle = broken\n"
        "from systolith.cli.main import main; main()"
    )
    path = write_npz(tmp_path / "my.npz")
    result = call("vectors", "--tensors", path, "--out", tmp_path / "b", "--json", code=code)
    assert result.returncode == 3
    assert "a fault of this program, ZeroDivisionError: planted" in json.loads(result.stdout)["error"]
    assert "Traceback" not in result.stderr
    shown = call("vectors", "--tensors", path, "--out", tmp_path / "b", code=code, SYSTOLITH_TRACEBACK="1")
    assert "Traceback" in shown.stderr


def test_bad_files(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "b")
    for name in ("corrupt.pt", "corrupt.safetensors", "corrupt.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n not really")
    refuse(call("run", *out, "--model", tmp_path / "corrupt.pt"), "corrupt.pt", "not a readable checkpoint")
    refuse(call("run", *out, "--model", tmp_path / "corrupt.safetensors"), "not a readable model file")
    refuse(call("run", *out, "--image", tmp_path / "corrupt.png"), "corrupt.png", "not a readable picture")
    refuse(call("run", *out, "--image", tmp_path / "none.png"), "none.png: no such picture")
    refuse(call("run", *out, "--image", "a.png", "--data", tmp_path), "expected --image or --data, found both")
    refuse(call("info", tmp_path / "corrupt.pt"), "corrupt.pt")
    refuse(call("evaluate", "--data", tmp_path / "nowhere"), "no such folder")
    error = call("evaluate", "--data", tmp_path / "nowhere", "--json")
    assert error.returncode == 2
    assert "no such folder" in json.loads(error.stdout)["error"]
    assert not (tmp_path / "b").exists()


def write_npz(path: Path, **tensors: Any) -> Path:
    rng = np.random.default_rng(0)
    given = {"act": rng.integers(0, 16, (3, 5, 4)), "weight": rng.integers(-8, 8, (10, 3, 3, 2)), **tensors}
    np.savez(path, **{k: v for k, v in given.items() if v is not None})
    return path


def test_vectors_of_your_own_integers_need_no_torch(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "my.npz", padding=np.array([1, 0]), stride=2, dilation=np.array([1, 1]))
    result = call("vectors", "--tensors", path, "--out", tmp_path / "b", code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    assert all(e.holds for e in systolith.verify_bundle(tmp_path / "b"))
    with np.load(tmp_path / "b" / "tensors.npz") as t:
        assert t["padding"].tolist() == [1, 0]
        assert t["stride"].tolist() == [2, 2]
        assert t["psum"].shape == (1, 2, 6, 7 * 4, 8)
    written = one_object(
        call(
            "vectors",
            "--tensors",
            path,
            "--out",
            tmp_path / "b",
            "--force",
            "--json",
            "--psum-bits",
            "auto",
            code=NO_TORCH,
        )
    )
    assert written["psum_bits"] < 16
    assert one_object(call("info", "--json", code=NO_TORCH))["models"]
    assert one_object(call("info", "vgg16-w4a4-s8", "--json", code=NO_TORCH))["layers"]
    refuse(call("run", "--out", tmp_path / "c", code=NO_TORCH), "needs torch", "pip install 'systolith[torch]'")


def test_bad_tensors(tmp_path: Path) -> None:
    def vectors(*args: object, **tensors: Any) -> subprocess.CompletedProcess[str]:
        path = write_npz(tmp_path / "my.npz", **tensors)
        return call("vectors", "--tensors", path, "--out", tmp_path / "b", *args)

    act = np.zeros((3, 5, 4), int)
    act[1, 2, 3] = 16
    refuse(vectors(act=act), "my activations[ic 1, i 2, j 3] is 16, outside the range 0..15 of 4 unsigned bits")
    act[1, 2, 3] = -1
    refuse(vectors(act=act), "is -1, outside")
    refuse(vectors(act=np.full((3, 5, 4), 2.9999)), "expected integers, found dtype float64")
    refuse(vectors(weight=np.full((10, 3, 3, 2), 8)), "my weight[oc 0, ic 0, ki 0, kj 0] is 8")
    refuse(vectors("--psum-bits", 5), "outside the range -16..15 of 5 signed bits")
    refuse(vectors(weight=None), "missing weight")
    refuse(vectors(act=np.zeros((4, 5, 4), int)), "expected shape (3, H, W), found (4, 5, 4)")
    refuse(vectors(act=np.zeros((5, 4), int)), "act: expected shape (C, H, W), found (5, 4)")
    refuse(vectors(stride=np.array([1, 2, 3])), "stride: expected one or two integers")
    refuse(vectors(stride=0), "expected stride and dilation of 1 to 65535")
    refuse(vectors(padding=2**62), "padding of 0 to 65535")
    refuse(vectors(padding=np.timedelta64(1)), "padding: expected one, two or four integers")
    refuse(vectors(act=np.zeros((3, 5, 4), "m8[s]")), "expected integers, found dtype timedelta64")
    refuse(vectors(act=np.zeros((3, 0, 4), int)), "found (3, 0, 4)")
    refuse(vectors("--model", "mine"), "goes without --model")
    refuse(vectors(dilation=5), "does not fit the padded map")
    (tmp_path / "text.npz").write_text("hello")
    refuse(call("vectors", "--tensors", tmp_path / "text.npz", "--out", tmp_path / "b"), "not a readable .npz")
    refuse(call("vectors", "--tensors", tmp_path / "none.npz", "--out", tmp_path / "b"), "no such file")
    assert not (tmp_path / "b").exists()


def test_output_folders(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "my.npz")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("keep")
    refuse(call("vectors", "--tensors", path, "--out", tmp_path / "b"), "exists already; --force replaces it")
    assert (tmp_path / "b" / "mine").read_text() == "keep"
    assert call("vectors", "--tensors", path, "--out", tmp_path / "b", "--force").returncode == 0
    assert not (tmp_path / "b" / "mine").exists()
    refuse(call("vectors", "--tensors", path, "--out", path / "b"), "is a file")
    refuse(call("run", "--out", path / "b"), "is a file")
    refuse(call("vectors", "--tensors", path, "--out", ".", "--force", cwd=tmp_path / "b"), "never replaced")
    refuse(call("vectors", "--tensors", path, "--out", "/proc/b"), "cannot be written")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "my.npz", act=np.ones((3, 30, 30), int))
    # A real refusal by the system in the middle of writing: no file may grow beyond 50,000 bytes.
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    limited += "from systolith.cli.main import main; main()"
    refuse(
        call("vectors", "--tensors", path, "--out", tmp_path / "b", code=limited), "cannot be written (File too large)"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["my.npz"]


def test_evaluate_counts(tmp_path: Path, random_model_file: Path) -> None:
    from systolith.models import load_pretrained
    from systolith.training.loop import predict

    import torch  # isort: skip

    images = pictures(6)
    (tmp_path / "test" / "frog").mkdir(parents=True)
    for i, pixels in enumerate(images):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "test" / "frog" / f"{i}.png")
    (tmp_path / "other" / "zebra").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "other" / "zebra" / "0.png")
    refuse(call("evaluate", "--data", tmp_path / "other"), "other has the classes zebra, vgg16-w4a4-s8 airplane")
    right = int((predict(load_pretrained(str(random_model_file)), torch.from_numpy(images)) == 6).sum())
    value = one_object(call("evaluate", random_model_file, "--data", tmp_path, "--json"))
    assert (value["correct"], value["total"], value["accuracy"]) == (right, 6, right / 6)
    assert value["per_class"] == {"frog": right / 6}
    assert sum(map(sum, value["confusion"])) == sum(value["confusion"][6]) == 6
    assert value["confusion"][6][6] == right
    text = call("evaluate", random_model_file, "--data", tmp_path, "--limit", 4)
    assert "of 4 correct" in text.stdout


@pytest.mark.parametrize("message", ["CUDA error: unspecified launch failure\nCUDA kernel", "cuDNN error: EXECUTION"])
def test_train_says_when_the_accelerator_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    from systolith.flows.train import train
    from systolith.formats import BadInput
    from systolith.training import chain, data

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(data, "load_data", lambda *_: None)
    monkeypatch.setattr(chain, "train_chain", fail)
    with pytest.raises(BadInput, match=r"the accelerator failed \((?i:cu)[^\n]*\): --resume goes on"):
        train("smoke", "DATA", tmp_path / "run")
    message = "another"
    with pytest.raises(RuntimeError, match="another"):
        train("smoke", "DATA", tmp_path / "run")


def test_train_smoke_resume_and_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "_PLAN", PLAN)
    for split in ("train", "test"):
        for i, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for k, pixels in enumerate(pictures(10, seed=i)):
                Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / split / name / f"{k}.png")
    args = ("train", "smoke", "--data", tmp_path, "--out", tmp_path / "run", "--holdout", 4, "--set", "batch=8")
    value = one_object(call(*args, "--json"))
    assert value["epochs"] == 2
    assert value["test_total"] == 20
    again = call(*args, "--resume")
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1].startswith("accuracy")
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
    twin = one_object(call(*args[:5], tmp_path / "twin", *args[6:], "--bits", 32, "--json"))
    assert twin["recipe"]["weight_bits"] == 32
    refuse(call(*args, "--bits", 7), "--bits 7: expected 32")
    refuse(call(*args), "holds a run already; --resume")
    refuse(call(*args, "--resume", "--set", "epochs=9"), "needs the same recipe; changed: epochs 2 -> 9")
    refuse(call("train", "best", "--data", tmp_path, "--out", tmp_path / "x"), "no recipe 'best'")
    run = call("run", "--model", tmp_path / "run" / "best.pt", "--out", tmp_path / "b")
    assert run.returncode == 0, run.stderr


def test_info_says_which_layers_fit() -> None:
    value = one_object(call("info", "vgg16-w4a4-s8", "--json"))
    fits = {layer["name"]: layer["fits"] for layer in value["layers"]}
    assert len(fits) == 14
    assert fits["features.27"] == "one tile"
    assert fits["features.24"] == "tiled"
    assert fits["features.0"] == "needs --act-bits 8"
    assert fits["classifier"] == "needs --act-bits 8 --weight-bits 8"
    assert next(iter(fits)) == "features.0"
    text = call("info", "vgg16-w4a4-s8").stdout
    assert "features.39" in text
    assert "vgg16-w4a4-s8" in call("info").stdout


def test_version_and_help_load_nothing_heavy() -> None:
    assert call("--version", process=True).stdout == f"systolith {systolith.__version__}\n"
    for args in (("--help",), ("vectors", "--help")):
        code = (
            f"import sys; sys.argv[1:] = {list(args)!r}\n"
            "from systolith.cli.main import main\n"
            "try: main()\n"
            "except SystemExit: print('LOADED', [m for m in ('numpy', 'torch', 'rich', 'PIL') if m in sys.modules])"
        )
        result = call(code=code)
        assert "Usage: " in result.stdout
        assert "LOADED []" in result.stdout
