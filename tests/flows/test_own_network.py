"""In Python `lower`, `verify` and `evaluate` take a network of one's own as they take a name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import systolith as sl
from cli.calling import call, one_object
from systolith.quant import ExactBatchNorm2d, QuantConv2d, QuantLinear
from systolith.store import ASSETS


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = QuantConv2d(3, 4, 3, padding=1, pixels=0), ExactBatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(4), nn.Flatten()
    model = nn.Sequential(*layers, QuantLinear(256, 10))
    sl.calibrate(model, torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8))
    return model.eval()


def test_a_network_of_ones_own_becomes_a_file_that_every_command_takes(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "mine.safetensors"
    lowered = sl.lower(model, out=path)
    assert (lowered.holds, lowered.model) == (True, "Sequential")
    checked = sl.verify(model, network=path, limit=3)
    assert checked.holds
    assert checked.codes == 3 * (4 * 32 * 32 + 4 * 8 * 8) - 3 * 4 * 8 * 8  # codes are made before the pool
    for split in ("train", "test"):
        (tmp_path / "pictures" / split / "cat").mkdir(parents=True)
        shutil.copy(ASSETS / "cat.png", tmp_path / "pictures" / split / "cat")
    answers = [sl.evaluate(one, data=str(tmp_path / "pictures")).confusion.tolist() for one in (model, str(path))]
    assert answers[0] == answers[1]
    out = tmp_path / "vectors"
    assert one_object(call("vectors", path, "--layer", "0", "--act-bits", 8, "--out", out, "--json"))["holds"]
    assert one_object(call("cosim", path, "--layer", "all", "--sim", "icarus", "--json"))["holds"]


def test_a_network_in_training_is_refused() -> None:
    with pytest.raises(sl.BadInput, match="in training; only a model in eval is lowered"):
        sl.lower(network().train())
