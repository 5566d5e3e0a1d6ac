"""The whole integer network against PyTorch's fp32 eval of the same float network and onnxruntime, in one run.

    python -m benchmarks.executor [MODEL]

PyTorch runs the same architecture of its own layers (nn.Conv2d, nn.BatchNorm2d, random weights: the time does not
depend on them), in eval, as it is and with channels last; the faster of the two is the rival. onnxruntime runs our
export: integer operators only, every threshold compared. All use the same cores and the same pictures, one after the
other in each round; the figures are medians over the rounds.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from torch import nn

from systolith.exports.onnx import run_onnx, to_onnx
from systolith.frontends.lowering import lower
from systolith.models import Vgg16, load
from systolith.network.execute import execute, plan
from systolith.quant import QuantConv2d, QuantLinear

PICTURES, BATCH, ROUNDS, ONNX_PICTURES = 512, 32, 7, 32


def float_twin(model: Vgg16) -> nn.Module:
    """The same network of torch's own layers."""
    layers: list[nn.Module] = []
    for module in model.features:
        if isinstance(module, QuantConv2d):
            geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
            layers.append(nn.Conv2d(module.in_channels, module.out_channels, *geometry, bias=False))  # type: ignore[arg-type]
        elif isinstance(module, nn.BatchNorm2d):
            layers.append(nn.BatchNorm2d(module.num_features))
        else:
            layers.append(module)
    head = model.classifier
    assert isinstance(head, QuantLinear)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(head.in_features, head.out_features)).eval()


def main() -> None:
    """Print images/s of each and the ratio; exit code 1 if ours is the slower."""
    name = sys.argv[1] if len(sys.argv) > 1 else "vgg16-w4a4-s8"
    model = load(name)[0]
    assert isinstance(model, Vgg16), name
    network = lower(model).network
    planned, exported = plan(network), to_onnx(network)
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, 3, 32, 32), dtype=np.uint8)
    parts = torch.from_numpy(pixels).split(BATCH)
    twin = float_twin(model)
    twin_last = copy.deepcopy(twin).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    floats = [p.float() for p in parts]
    last = [p.to(memory_format=torch.channels_last) for p in floats]
    sides: dict[str, tuple[int, Callable[[], object]]] = {
        "ours, integers": (PICTURES, lambda: [execute(planned, p) for p in parts]),
        "PyTorch fp32": (PICTURES, lambda: [twin(p) for p in floats]),
        "PyTorch fp32, channels last": (PICTURES, lambda: [twin_last(p) for p in last]),
        "onnxruntime, our export": (ONNX_PICTURES, lambda: run_onnx(exported, pixels[:ONNX_PICTURES])),
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    with torch.no_grad():
        for _ in range(ROUNDS + 1):
            for side, (count, work) in sides.items():
                begin = time.perf_counter()
                work()
                rates[side].append(count / (time.perf_counter() - begin))
    print(f"{name}, batch {BATCH}, {torch.get_num_threads()} threads; kernels: {planned}")
    for side, found in rates.items():
        print(f"{side:28s} {statistics.median(found[1:]):7.0f} images/s")
    ratio = statistics.median(
        ours / max(plain, last)
        for ours, plain, last in zip(*(rates[side][1:] for side in list(sides)[:3]), strict=True)
    )
    verdict = "aim met" if ratio >= 2 else "goal met, aim not" if ratio >= 1 else "NOT MET"
    print(f"{verdict}: ours is {ratio:.2f}x as fast as PyTorch's fp32 eval (goal 1x, aim 2x)")
    if ratio < 1:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
