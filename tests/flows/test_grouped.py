"""A network with depthwise and grouped layers, biases and padding of four sides, from its file through every verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import systolith as sl
from cli.calling import call, one_object, refuse
from conftest import INT4, Find
from network.nets import Builder
from systolith.flows.info import info
from systolith.flows.vectors import vectors
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.network.file import save_network
from systolith.network.graph import Flatten

# Weights, groups, padding, stride of each convolution, on maps of 8x8.
LAYERS = [
    ((16, 3, 3, 3), 1, (1, 1), (4, 4)),
    ((16, 1, 3, 3), 16, (1, 1), (1, 1)),
    ((16, 1, 3, 3), 16, (0, 1, 0, 1), (2, 2)),
    ((12, 4, 2, 2), 4, (1, 0, 0, 2), (1, 1)),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    b, rng = Builder(1), np.random.default_rng(1)
    source = b.pixels(3, (32, 32))
    for number, (shape, groups, padding, stride) in enumerate(LAYERS):
        bias = rng.integers(-200, 200, shape[0]) if number % 2 else None
        formats = b.values[source].format, INT4
        conv = Conv(f"conv{number}", rng.integers(-7, 8, shape), *formats, stride, padding, (1, 1), groups, bias)
        source = b.requantize(f"conv{number}>next", b.put(conv, source), IntFormat(4, False))
    network = b.network(b.linear("linear", b.put(Flatten("flat"), source), 10))
    path = tmp_path_factory.mktemp("grouped") / "model.safetensors"
    save_network(path, network, {"data": "none"})
    return path


def test_info_counts_passes_and_multiplications_that_are_made(model: Path) -> None:
    found = {layer.name: layer for layer in info(str(model)).layers or ()}
    assert (found["conv1"].in_channels, found["conv1"].groups) == (16, 16)
    # 2 x 2 tiles, of which the diagonal is made: 2 * 9 passes; 16*9 weights on 18*64 multipliers: an eighth.
    one = found["conv1"]
    assert (one.ic_tiles, one.oc_tiles, one.tiles, one.passes, one.utilisation) == (2, 2, 2, 18, 1 / 8)
    # 12 output channels on 8 columns in groups of 3 -> from 4: channels 0-7 read 0-11, channels 8-11 read 8-15.
    one = found["conv3"]
    assert (one.tiles, one.passes, one.utilisation) == (3, 12, 12 * 4 * 4 / (12 * 64))
    one = found["conv0"]
    assert (one.groups, one.tiles, one.passes) == (1, 2, 18)
    assert one.utilisation == 16 * 3 * 9 / (18 * 64)
    text = call("info", model).stdout
    row = next(line for line in text.splitlines() if line.lstrip().startswith("conv1"))
    assert "2 of 2 x 2" in row
    assert "12.5%" in row


def test_the_machine_steps_what_is_predicted(model: Path) -> None:
    report = sl.simulate(str(model), layer="all")
    assert report.holds
    assert {one["name"]: one["passes"] for one in report.layers}["conv1"] == 18
    assert report.layers[1]["clocks"] == 18 * (1 + 8 + 64) + 14 == 1328
    assert report.layers[1]["utilisation"] == 16 * 9 * 64 / (64 * 1328)


@pytest.mark.parametrize("name", ["icarus", "verilator"])
@pytest.mark.parametrize("requantize", ["thresholds", "fixed"])
def test_a_whole_inference_on_the_core(
    model: Path, name: str, requantize: str, simulator: Find, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(models))
    if requantize == "fixed":
        # Of the random thresholds hardly a channel has an affine form; which is said by name.
        refuse(call("cosim", model, "--sim", name, "--layer", "all", "--requantize", "fixed"), "conv0>next")
        return
    report = sl.cosim(str(model), layer="all", sim=name)
    assert report.holds, report.why
    assert report.clocks == report.predicted
    assert report.number == report.network_class
    assert [one.network for one in report.layers if one.network is None or one.network["different"]] == []


def test_vectors_of_every_layer_hold_the_passes_that_are_made(model: Path, tmp_path: Path) -> None:
    assert vectors(str(model), layer="all", out=tmp_path / "all").holds
    for number, (shape, groups, padding, _) in enumerate(LAYERS):
        bundle = tmp_path / "all" / f"conv{number}"
        assert all(one.holds for one in sl.verify_bundle(bundle))
        manifest = json.loads((bundle / "manifest.json").read_text())
        assert manifest["layer"]["groups"] == groups
        assert manifest["layer"]["padding"] == list(padding)
        names = sorted(path.name for path in bundle.glob("weight_*.txt"))
        assert len(names) == len(list(bundle.glob("psum_*.txt"))) == manifest["array"]["passes"]
        with np.load(bundle / "tensors.npz") as tensors:
            assert (tensors["groups"].shape, int(tensors["groups"])) == ((), groups)
            assert tensors["weight"].shape == shape
            assert tensors["padding"].tolist() == list(padding)
        assert sl.check(bundle, bundle).holds
    tiles = [f"weight_itile{tile}_otile{tile}_kij{kij}.txt" for tile in (0, 1) for kij in range(9)]
    assert sorted(path.name for path in (tmp_path / "all" / "conv1").glob("weight_*.txt")) == tiles


def test_a_shape_is_described_by_options(tmp_path: Path) -> None:
    shape = ("--channels", "8x8", "--groups", 8, "--input", "5x4", "--padding", "0x1x2x0", "--array", "4x4")
    made = tmp_path / "made"
    facts = one_object(call("vectors", "--stimulus", "corner", *shape, "--out", made, "--json"))
    assert len(facts["cases"]) > 15
    assert [one["name"] for one in facts["left_out"] if one["name"] == "cancel"] == ["cancel"]
    for bundle in sorted(made.iterdir()):
        assert all(one.holds for one in sl.verify_bundle(bundle))
    plain = tmp_path / "plain"
    call("convert", made / "walk-0", "--to", "course", "--out", plain)
    (plain / "manifest.json").unlink()
    back = one_object(
        call("convert", plain, "--from", "course", *shape, "--to", "course", "--out", tmp_path / "c", "--json")
    )
    assert back["holds"]
    for path in plain.glob("*.txt"):
        assert path.read_bytes() == (tmp_path / "c" / path.name).read_bytes()
    assert one_object(call("layout", "check", plain, *shape, "--layout", "course", "--json"))["holds"]
    assert one_object(call("grade", made, "--json"))["holds"]
    stimulus = ("vectors", "--stimulus", "random", "--out", tmp_path / "no", "--input", "4x4")
    refuse(call(*stimulus, "--channels", "8x6", "--groups", 4), "4 groups: expected a number that divides the channels")
    refuse(call(*stimulus, "--channels", "8x8", "--padding", "1x2x3"), "--padding '1x2x3': expected a number, AxB or")
    refuse(call(*stimulus, "--channels", "8x8", "--padding", "1x2x3x-1"), "found")


def test_tensors_of_your_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = {"act": rng.integers(0, 16, (6, 5, 4)), "weight": rng.integers(-7, 8, (9, 2, 3, 2))}
    np.savez(tmp_path / "my.npz", **given, groups=3, padding=[1, 0, 2, 1])
    call("vectors", "--tensors", tmp_path / "my.npz", "--out", tmp_path / "b", "--array", "4x4")
    result, manifest = sl.read_bundle(tmp_path / "b")
    assert (result.mapping.conv.groups, result.mapping.conv.pads) == (3, (1, 0, 2, 1))
    assert result.check().holds
    assert result.check_psums().holds
    # Channels 0-3 read 0-3, channels 4-7 read 2-5, channel 8 reads 4, 5: of the two input tiles 1, 2 and 1.
    assert manifest["array"]["passes"] == 6 * (1 + 2 + 1)
    np.savez(tmp_path / "bad.npz", **given, groups=[3, 3])
    refuse(call("vectors", "--tensors", tmp_path / "bad.npz", "--out", tmp_path / "c"), "groups: expected an integer")
    np.savez(tmp_path / "bad.npz", **given, padding=[1, 2, 3])
    refuse(call("vectors", "--tensors", tmp_path / "bad.npz", "--out", tmp_path / "c"), "one, two or four integers")
