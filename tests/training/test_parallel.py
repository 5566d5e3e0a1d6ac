"""Two processes over gloo against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from two_processes import IMAGES, LABELS

from systolith.models import Vgg16, VggConfig
from systolith.training.batches import batches
from systolith.training.loop import make_loss
from systolith.training.recipes import recipe

HERE = Path(__file__).parent

pytestmark = pytest.mark.slow


def two(task: str, out: Path) -> list[dict[str, torch.Tensor]]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(HERE / "two_processes.py")]
    result = subprocess.run(
        [*command, task, str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_averaged_gradients_are_those_of_one_process_with_the_same_halves(tmp_path: Path) -> None:
    ranks = two("gradients", tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of the two has: threads change the order of summation
    torch.manual_seed(0)
    model = Vgg16(VggConfig(32, 32, 32, squeeze_layer="features.27")).train()
    how = recipe("smoke", ["batch=16", "logit_scale=0.03125"])
    loss_of = make_loss(model, how, None)
    for rank in (0, 1):
        batch, target = next(batches(IMAGES, LABELS, how, 0, 0, rank, 2))
        (loss_of(batch, target) / 2).backward()
    torch.set_num_threads(threads)
    for name, parameter in model.named_parameters():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert parameter.grad is not None
        scale = parameter.grad.abs().max()
        assert (ranks[0][name] - parameter.grad).abs().max() <= 1e-5 * scale, name


def test_after_20_steps_both_ranks_hold_the_same_bits(tmp_path: Path) -> None:
    one, other = two("steps", tmp_path)
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
    # Before rank 0's are broadcast, batch-norm statistics are each rank's own: the broadcast does something.
    assert any(not torch.equal(b, other["before"][n]) for n, b in one["before"].items())


def test_the_command_under_torchrun_speaks_once(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for k, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(10):
                pixels = IMAGES[10 * k + i].permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "systolith",
    ]
    args = ["train", "smoke", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--holdout", "4"]
    result = subprocess.run(
        [*launcher, *args, "--set", "batch=8", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout)["epochs"] == 2
    assert result.stderr.count("smoke on cpu, 2 processes") == 1
    assert (tmp_path / "run" / "model.safetensors").exists()
