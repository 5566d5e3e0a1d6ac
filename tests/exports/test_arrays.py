"""The `.npz` of every integer: read back as the same network, or refused by a sentence."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from network.nets import Builder, random_network
from systolith.exports.arrays import (
    arrays_of,
    compare_arrays,
    description,
    load_arrays,
    read_arrays,
    save_arrays,
    without_fixed_point,
)
from systolith.formats import BadInput
from systolith.network import IntegerNetwork
from systolith.network.file import load_network
from systolith.network.reference import run
from systolith.network.requantize import FixedPoint
from systolith.store import shipped_models


def same(one: IntegerNetwork, other: IntegerNetwork) -> None:
    assert description(one) == description(other)
    ours, theirs = arrays_of(one), arrays_of(other)
    assert set(ours) == set(theirs)
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert one.outputs == other.outputs


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int, tmp_path: Path) -> None:
    network = random_network(seed)
    save_arrays(network, tmp_path / "net.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]
    assert all(e.holds for e in compare_arrays(network, tmp_path / "net.npz"))
    again = read_arrays(tmp_path / "net.npz")
    same(network, again)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, *network.values["input"].shape), dtype=np.uint8)
    every = [step.name for step in network.steps]
    expected, found = run(network, pixels, *every), run(again, pixels, *every)
    assert all((expected[name] == found[name]).all() for name in every)


def test_the_shipped_network_with_its_fixed_point_form(tmp_path: Path) -> None:
    network = load_network(shipped_models()["vgg16-w4a4-s8"])
    scales = {"features.0/weight_scale": np.array([0.25], np.float32), "features.3/act_scale": np.float32(0.5)}
    save_arrays(network, tmp_path / "net.npz", scales)
    assert all(e.holds for e in compare_arrays(network, tmp_path / "net.npz", scales))
    same(network, read_arrays(tmp_path / "net.npz"))
    assert without_fixed_point(network) == {}
    # Plain NumPy: what the file says is all that one layer's codes need.
    arrays = load_arrays(tmp_path / "net.npz")
    name, node = next(iter(network.requantizes.items()))
    t = node.thresholds
    acc = np.stack([np.linspace(lo, hi, 999).astype(np.int64) for lo, hi in zip(t.lo, t.hi, strict=True)])[None]
    by_thresholds = (
        (arrays[f"{name}/sign"].astype(int)[:, None] * acc)[..., None] >= arrays[f"{name}/thresholds"][:, None, :]
    ).sum(-1)
    m, b, s = (arrays[f"{name}/{what}"].astype(np.int64) for what in ("multiplier", "fixed_bias", "shift"))
    assert (by_thresholds + t.low == t.apply(acc)).all()
    assert (FixedPoint(m, b, s, t.values.shape[1], t.low).apply(acc) == t.apply(acc)).all()
    assert arrays["features.0/weight_scale"] == np.float32(0.25)


def test_what_has_no_fixed_point_form_is_listed(tmp_path: Path) -> None:
    network = random_network(1)
    why = without_fixed_point(network)
    arrays = arrays_of(network)
    assert why
    for name in network.requantizes:
        assert (f"{name}/multiplier" in arrays) == (name not in why)
    assert description(network)["without_fixed_point"] == why


def test_a_changed_array_is_seen(tmp_path: Path) -> None:
    network = random_network(2)
    save_arrays(network, tmp_path / "net.npz")
    found = load_arrays(tmp_path / "net.npz")
    found["e/bias"][3] += 1
    np.savez(tmp_path / "other.npz", **found)
    (wrong,) = [e for e in compare_arrays(network, tmp_path / "other.npz") if e.different]
    assert wrong.name == "e/bias"
    assert wrong.first.startswith("[3]")


def rewritten(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Callable[[Path], None]:
    """A file whose JSON or arrays were changed."""

    def write(path: Path) -> None:
        save_arrays(random_network(0), path)
        arrays = load_arrays(path)
        facts = json.loads(str(arrays.pop("network")))
        change(facts, arrays)
        np.savez(path, network=np.array(json.dumps(facts)), **arrays)

    return write


def truncated(path: Path) -> None:
    save_arrays(random_network(0), path)
    path.write_bytes(path.read_bytes()[:-900])


def flipped(path: Path) -> None:
    save_arrays(random_network(0), path)
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("e/weight.npy").header_offset
    data = bytearray(path.read_bytes())
    data[place + 90] ^= 0x40  # behind the member's own header: its content
    path.write_bytes(data)


class Evil:
    """What a pickle would do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("evil"), "done")


def pickled(path: Path) -> None:
    save_arrays(random_network(0), path)
    arrays: dict[str, Any] = dict(load_arrays(path))
    arrays["a/weight"] = np.array([Evil()], dtype=object)
    np.savez(path, **arrays)


def only_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil()))


BAD = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable .npz"),
    "text": (lambda path: path.write_text("hello"), "not a readable .npz"),
    "truncated": (truncated, "not a readable .npz"),
    "flipped": (flipped, "not a readable .npz"),
    "pickled": (pickled, "not a readable .npz"),
    "only a pickle": (only_pickle, "not a readable .npz"),
    "somebody's": (lambda path: np.savez(path, x=np.ones(3)), "no array `network`"),
    "no JSON": (lambda path: np.savez(path, network=np.array("{")), "damaged"),
    "no object": (lambda path: np.savez(path, network=np.array("[1]")), "damaged"),
    "numbers": (lambda path: np.savez(path, network=np.ones((2, 2))), "damaged"),
    "version": (rewritten(lambda facts, arrays: facts.update(version=2)), "expected systolith-arrays version 1"),
    "kind": (rewritten(lambda facts, arrays: facts["steps"][1].update(kind="Exec")), "damaged"),
    "wiring": (rewritten(lambda facts, arrays: facts["steps"][1].update(inputs=["nothing"])), "damaged"),
    "geometry": (rewritten(lambda facts, arrays: facts["steps"][1].update(stride=[0, 1])), "expected stride"),
    "floats": (rewritten(lambda facts, arrays: arrays.update({"a/weight": arrays["a/weight"] * 0.5})), "integers"),
    "missing array": (rewritten(lambda facts, arrays: arrays.pop("e/weight")), "damaged"),
    "sign": (rewritten(lambda facts, arrays: arrays.update({"a>b/sign": arrays["a>b/sign"] * 2})), "a sign of 1"),
    "range": (rewritten(lambda facts, arrays: facts["steps"][1]["weight_format"].update(bits=1)), "outside the range"),
    "bits": (rewritten(lambda facts, arrays: facts["steps"][1]["weight_format"].update(bits=1 << 70)), "format has"),
    "outputs": (rewritten(lambda facts, arrays: facts.update(outputs=["nobody"])), "expected outputs"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_sentence(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, said = BAD[case]
    make(tmp_path / "net.npz")
    with pytest.raises(BadInput) as refused:
        read_arrays(tmp_path / "net.npz")
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "net.npz"))
    assert not (tmp_path / "evil").exists()


def test_the_scale_of_no_layer(tmp_path: Path) -> None:
    network = Builder(0)
    source = network.pixels(2, (12, 12))
    built = network.network(network.conv("a", source, 3), "input")
    for name in ("b/weight_scale", "a/scale", "a"):
        with pytest.raises(BadInput, match="the scale of a layer"):
            save_arrays(built, tmp_path / "net.npz", {name: np.ones(1, np.float32)})
    assert list(tmp_path.iterdir()) == []
