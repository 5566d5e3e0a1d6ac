"""What designs with narrow accumulators answer, against a network whose layers run on the whole array one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import systolith as sl
from systolith.array import ArraySpec, run_layer
from systolith.array.spec import widened
from systolith.formats import BadInput
from systolith.network import IntegerNetwork
from systolith.network.file import load_network
from systolith.network.graph import Conv, Linear
from systolith.network.reference import compute
from systolith.quant import ExactBatchNorm2d, QuantConv2d, QuantLinear
from systolith.timing.mapper import WAYS
from systolith.training.data import load_data

CLASSES = ("ape", "bee")
COLUMNS = ("accuracy", "same_class_share", "changed_psums_share")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.safetensors, a small network of integers, and pictures/, twelve of noise."""
    made = tmp_path_factory.mktemp("narrow")
    torch.manual_seed(3)
    body = QuantConv2d(3, 6, 3, padding=1, stride=2, pixels=0), ExactBatchNorm2d(6), nn.ReLU6()
    more = QuantConv2d(6, 4, 3), ExactBatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(7), nn.Flatten()
    model = nn.Sequential(*body, *more, QuantLinear(16, len(CLASSES)))
    sl.calibrate(model, torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8))
    sl.lower(model.eval(), out=made / "net.safetensors")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (made / "pictures" / "test" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(made / "pictures" / "test" / name / f"{number}.png")
    return made


def by_the_array(network: IntegerNetwork, pixels: np.ndarray, row: Any, layers: list[Any]) -> tuple[int, int, int]:
    """The class of a picture where every layer runs on the design's array as its schedule says; and how many
    accumulators of narrow layers change, of how many."""
    how = {layer["layer"]: layer for layer in layers}
    results: dict[str, np.ndarray] = {}
    changed = total = 0
    for step in network.steps:
        taken = [results[name] for name in step.inputs] or [pixels.astype(np.int64)]
        results[step.name] = compute(step.node, *taken)
        if step.name not in how:
            continue
        node, act, exact = step.node, taken[0][0], results[step.name][0]
        if isinstance(node, Linear):
            node, act = node.as_conv(), act.reshape(-1, 1, 1)
        assert isinstance(node, Conv)
        way = WAYS[how[step.name]["schedule"]]
        bits = how[step.name]["psum_bits"]
        spec = ArraySpec(row["rows"], row["cols"], row["act_bits"], row["weight_bits"], bits, way.dataflow)
        spec = replace(widened(node, spec), overflow=row["overflow"], simd=row["simd"])
        found = run_layer(node.product(), act.astype(np.int32), spec, way.packed).out
        if node.bias is not None:
            found = found + node.bias[:, None, None]
        if row["psum_bits_asked"] != "auto" and bits < how[step.name]["needed"]:
            changed, total = changed + int((found.reshape(exact.shape) != exact).sum()), total + exact.size
        results[step.name] = found.reshape(exact.shape)[None]
    return int(results[network.steps[-1].name][0]), changed, max(total, 1)


def test_answers_are_those_of_the_array(folder: Path, tmp_path: Path) -> None:
    network = load_network(folder / "net.safetensors")
    test = load_data(str(folder / "pictures"), "test")
    model, data = str(folder / "net.safetensors"), str(folder / "pictures")
    axes = ["psum_bits=auto,8,10,11", "overflow=wrap,saturate", "rows=3,4", "cols=2", "act_bits=8", "simd=1,2"]
    axes.append("schedule=useful,double,packed,os")
    report = sl.explore(model=model, data=data, axis=axes, out=tmp_path, jobs=1)
    needed = {row["layer"]: row["psum_bits"] for row in _layers(tmp_path, report.rows, "auto")}
    seen = set()
    for row in report.rows:
        if row["psum_bits_asked"] == "auto":
            assert (row["accuracy"], row["changed_psums_share"]) == (row["accuracy_exact"], 0)
            continue
        layers = [one for one in _all_layers(tmp_path) if one["point"] == row["point"]]
        layers = [one | {"needed": needed[one["layer"]]} for one in layers]
        found = [by_the_array(network, one[None], row, layers) for one in test.images]
        classes = np.array([one[0] for one in found])
        assert row["pictures"] == len(test.images) == 12
        assert row["accuracy"] == (classes == test.labels).mean()
        assert row["wrong_share"] == (classes != test.labels).mean()
        assert row["changed_psums_share"] == sum(one[1] for one in found) / sum(one[2] for one in found)
        seen.add(tuple(row[name] for name in COLUMNS))
    assert len(seen) > 8  # orders of adding differ


def _all_layers(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found: list[dict[str, Any]] = pyarrow.parquet.read_table(folder / "layers.parquet").to_pylist()
    return found


def _layers(folder: Path, rows: Any, asked: str) -> list[dict[str, Any]]:
    first = next(row["point"] for row in rows if row["psum_bits_asked"] == asked)
    return [row for row in _all_layers(folder) if row["point"] == first]


def test_it_is_tried_once_and_can_be_made_least(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"model": str(folder / "net.safetensors"), "data": str(folder / "pictures"), "jobs": 1}
    axes = ["psum_bits=auto,7,9", "rows=2,4,8"]
    first = sl.explore(**how, axis=axes, minimize="psum_bits,wrong_share", out=tmp_path)
    assert first.front
    # Wrapping does not depend on the array: exact, 7 and 9 bits.
    assert len(list((tmp_path / "answers").iterdir())) == 3

    def never(*args: Any, **more: Any) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr("systolith.steps.answers._outcome", never)
    again = sl.explore(**how, axis=axes, minimize="psum_bits,wrong_share", out=tmp_path)
    assert again.rows == first.rows
    some = sl.explore(**how | {"index": "0-2,7"}, axis=["psum_bits=auto"], out=tmp_path)
    assert "accuracy" not in some.rows[0]


def test_some_pictures(folder: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": str(folder / "net.safetensors"), "data": str(folder / "pictures"), "jobs": 1}
    (row,) = sl.explore(**how, index="0-2,7", axis=["psum_bits=9"], out=tmp_path).rows
    assert row["pictures"] == 4
    with pytest.raises(BadInput, match=r"--index 12: expected 0\.\.11"):
        sl.explore(**how, index="12", axis=["psum_bits=9"], out=tmp_path)


def test_what_cannot_be_made_least(folder: Path, tmp_path: Path) -> None:
    for model, data, bits in (("resnet18", "d", "9"), ("vgg16-w4a4-s8", None, "9"), ("vgg16-w4a4-s8", "d", "auto")):
        with pytest.raises(BadInput, match="--minimize wrong_share: expected networks, --data, and psum_bits with"):
            sl.explore(model=model, data=data, axis=[f"psum_bits={bits}"], minimize="wrong_share", out=tmp_path)
    model = f"resnet18,{folder / 'net.safetensors'}"
    rows = sl.explore(model=model, data=str(folder / "pictures"), axis=["psum_bits=9"], out=tmp_path, jobs=1).rows
    assert [row["accuracy"] is None for row in rows] == [True, False]
