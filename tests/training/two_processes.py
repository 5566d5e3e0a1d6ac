"""What each process of test_parallel.py runs: `torchrun --nproc-per-node 2 two_processes.py gradients|steps OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from systolith.models import Vgg16, VggConfig
from systolith.quant import calibrate
from systolith.training.batches import batches
from systolith.training.loop import accumulate, make_loss, sync_buffers
from systolith.training.optim import Optimizers
from systolith.training.recipes import recipe

IMAGES = torch.randint(0, 256, (160, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 10, (160,), generator=torch.Generator().manual_seed(1))


def main(task: str, out: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    rank, world = accelerator.process_index, accelerator.num_processes
    torch.manual_seed(0)
    bits = 32 if task == "gradients" else 4
    model = Vgg16(VggConfig(bits, bits, bits, squeeze_layer="features.27"))
    how = recipe("smoke", ["batch=16", "logit_scale=0.03125"])
    network = accelerator.prepare_model(model)
    loss_of = make_loss(network, how, None)
    model.train()
    if task == "gradients":
        batch, target = next(batches(IMAGES, LABELS, how, 0, 0, rank, world))
        accumulate(loss_of, batch, target, 1)
        torch.save({n: p.grad for n, p in model.named_parameters()}, out / f"{rank}.pt")
        return
    calibrate(model, IMAGES[:16])
    optimizers, step = Optimizers(model, how), 0
    for epoch in (0, 1):
        for batch, target in batches(IMAGES, LABELS, how, epoch, 0, rank, world):
            accumulate(loss_of, batch, target, 1)
            optimizers.step(0.5)
            step += 1
    assert step == 20, step
    before = {n: b.clone() for n, b in model.named_buffers()}
    sync_buffers(model)
    torch.save({"model": model.state_dict(), "before": before}, out / f"{rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
