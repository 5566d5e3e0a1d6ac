"""Every architecture through the loop: trained, resumed from a file, taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import data

from systolith.formats import BadInput
from systolith.models import build, load
from systolith.models.pretrained import read_checkpoint
from systolith.training import chain, loop
from systolith.training.distill import load_teacher
from systolith.training.recipes import recipe

SMALL = ["epochs=1", "batch=16", "train_limit=32", "precision=fp32", "compile=no"]
OWN = {
    "resnet20-w4a4": ["width=0.25", "blocks=1"],
    "mobilenet-w4a4": ["width=0.125"],
    "mlp-w4a4": ["hidden=16,8"],
}


def small(name: str, *more: str) -> Any:
    return recipe(name, [*SMALL, *OWN[name], *more])


@pytest.mark.parametrize("name", OWN)
def test_a_recipe_trains_and_its_file_stands_where_a_run_starts_and_teaches(name: str, tmp_path: Path) -> None:
    run = loop.train(small(name), data(), tmp_path / "a", test=data(20), holdout=16)
    assert run["recipe"]["arch"] == name.removesuffix("-w4a4")
    assert run["test_total"] == 20
    images = torch.from_numpy(data().images[:4])
    with torch.no_grad():
        expected = load(str(tmp_path / "a" / "best.pt"))[0](images)
        assert torch.equal(load(str(tmp_path / "a" / "model.safetensors"))[0](images), expected)
    for file in ("best.pt", "model.safetensors"):
        with torch.no_grad():
            taught = load_teacher(tmp_path / "a" / file).network(images)
        # The teacher computes at training's speed: the same up to fp32 rounding, which moves a code here and there.
        assert (taught - expected).abs().mean() < 0.05 * expected.abs().mean()
    notes: list[str] = []
    path = str(tmp_path / "a" / "model.safetensors")
    chain.train_chain(
        replace(small(name), init_from=path, teacher=path),
        data(),
        tmp_path / "b",
        tmp_path / "stages",
        report=lambda e: notes.append(e.get("text", "")),
        holdout=16,
    )
    tensors = len(read_checkpoint(tmp_path / "b" / "last.pt")["model"])
    assert f"{tensors} of {tensors} tensors from the run that this one starts from" in notes


def test_a_network_starts_from_one_of_its_kind(tmp_path: Path) -> None:
    loop.train(small("mlp-w4a4"), data(), tmp_path / "mlp", holdout=16)
    start = replace(small("resnet20-w4a4"), init_from=str(tmp_path / "mlp" / "best.pt"))
    with pytest.raises(BadInput, match=r"best\.pt: holds a network of kind mlp; resnet20-w4a4 trains a resnet20"):
        chain.train_chain(start, data(), tmp_path / "a", tmp_path / "stages", holdout=16)


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_a_step_moves_every_weight_of_a_grouped_network(optimizer: str, tmp_path: Path) -> None:
    how = small("mobilenet-w4a4", f"optimizer={optimizer}", "train_limit=16")
    loop.train(how, data(), tmp_path / "a", holdout=16)
    torch.manual_seed(how.seed)
    before, after = build(how.config()).state_dict(), read_checkpoint(tmp_path / "a" / "last.pt")["model"]
    for name, tensor in after.items():
        assert not torch.equal(tensor, before[name]), name
