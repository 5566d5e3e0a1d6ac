from __future__ import annotations

import math

import numpy as np
import torch

from systolith.quant import ExactBatchNorm2d


def trained() -> ExactBatchNorm2d:
    gen = torch.Generator().manual_seed(0)
    norm = ExactBatchNorm2d(5)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(5, generator=gen))
        norm.bias.copy_(torch.randn(5, generator=gen))
        norm.running_mean.copy_(torch.randn(5, generator=gen))  # type: ignore[union-attr]
        norm.running_var.copy_(torch.rand(5, generator=gen) * 9)  # type: ignore[union-attr]
    return norm.eval()


def test_eval_is_the_contract_in_plain_python() -> None:
    norm = trained()
    y = torch.randn(3, 5, 4, 7) * 20
    z = norm(y)
    assert z.dtype == torch.float32
    for c in range(5):
        gamma, beta, mean, var = (
            t[c].item()
            for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)  # type: ignore[index]
        )
        gain = float(np.float32(gamma / math.sqrt(var + norm.eps)))
        offset = beta - mean * gain
        for n in range(3):
            for value, result in zip(y[n, c].flatten().tolist(), z[n, c].flatten().tolist(), strict=True):
                assert result == float(np.float32(value * gain + offset))


def test_eval_does_not_depend_on_batch_layout_or_threads() -> None:
    norm, y = trained(), torch.randn(8, 5, 9, 9) * 30
    whole = norm(y)
    assert torch.equal(torch.cat([norm(y[i : i + 1]) for i in range(8)]), whole)
    assert torch.equal(norm(y.to(memory_format=torch.channels_last)), whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert torch.equal(norm(y), whole)
    torch.set_num_threads(threads)


def test_training_is_torchs() -> None:
    ours, theirs, y = ExactBatchNorm2d(5), torch.nn.BatchNorm2d(5), torch.randn(8, 5, 3, 3)
    assert torch.equal(ours(y), theirs(y))
    assert torch.equal(ours.running_var, theirs.running_var)  # type: ignore[arg-type]
