"""One training step of the squeezed VGG16: float, ours, and Brevitas, in one run.

    pip install brevitas==0.13.4
    [CXX=false] python -m benchmarks.training [--compile]

`CXX=false`: as where there is no C++ compiler, so that quantizers are PyTorch's operations and not fused.

Brevitas: 4-bit weights and activations with its default quantizers, after its statistics phase, in the same network.
All three run the same batch, channels-last, in bf16 autocast where `systolith train` uses it (else fp32), forward and
backward without the optimizer, one after the other in each round; the figures are medians over the rounds.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.models import Vgg16, VggConfig
from systolith.quant import QuantConv2d, QuantLinear, calibrate
from systolith.quant.fused import kernels
from systolith.training.memory import keep_memory
from systolith.training.precision import has_bf16

BATCH, ROUNDS, AIM = 128, 15, 1.10
"""Pictures a step, steps of each, and how much longer ours may take than the float step."""


def brevitas_twin(model: Vgg16) -> nn.Module:
    """The same network of Brevitas layers: quantized weights and ReLUs; the pixels stay floats."""
    import brevitas.nn as qnn

    layers: list[nn.Module] = []
    for module in model.features:
        if isinstance(module, QuantConv2d):
            c = module
            layers.append(
                qnn.QuantConv2d(c.in_channels, c.out_channels, c.kernel_size, padding=1, bias=False, weight_bit_width=4)
            )
        elif isinstance(module, nn.BatchNorm2d):
            layers.append(nn.BatchNorm2d(module.num_features))
        elif isinstance(module, nn.ReLU):
            layers.append(qnn.QuantReLU(bit_width=4, collect_stats_steps=2))
        else:
            layers.append(nn.MaxPool2d(2))
    linear = model.classifier
    assert isinstance(linear, QuantLinear)
    head = qnn.QuantLinear(linear.in_features, linear.out_features, bias=True, weight_bit_width=8)
    return nn.Sequential(*layers, nn.Flatten(), head)


def step_of(
    network: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor, labels: Tensor
) -> Callable[[], None]:
    """One forward and backward pass."""

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16("cpu")):
            logits = network(images)
        F.cross_entropy(logits.float() / 32, labels).backward()
        for parameter in model.parameters():
            parameter.grad = None

    return step


def _processor() -> str:
    """Its name, and the units for bf16 that it has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    units = [name for name in ("amx_bf16", "avx512_bf16") if name in facts.get("flags", "").split()]
    return f"{facts.get('model name', platform.processor())} ({', '.join(units) or 'no bf16 units'})"


def main() -> None:
    """Print images/s of each and the ratios; exit code 1 if an aim is missed."""
    keep_memory()  # as `systolith train` does
    compiled = "--compile" in sys.argv
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))
    ours = Vgg16(VggConfig(squeeze_layer="features.27"))
    calibrate(ours, pixels)
    plain = Vgg16(VggConfig(32, 32, 32, squeeze_layer="features.27")).train()
    sides: dict[str, tuple[nn.Module, Tensor]] = {"float": (plain, pixels), "ours": (ours, pixels)}
    try:
        sides["Brevitas"] = (brevitas_twin(ours).train(), pixels.float())
    except ImportError:
        print("Brevitas is not installed (pip install brevitas==0.13.4): its row is missing")
    steps = {}
    for name, (model, images) in sides.items():
        network = torch.compile(model) if compiled and name != "Brevitas" else model
        steps[name] = step_of(network, model, images, labels)
        for _ in range(4):  # compilation, and Brevitas' statistics phase
            steps[name]()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begin)
    eager = f"eager, quantizers {'' if kernels() else 'not '}fused"
    how = f"{'compiled (Brevitas eager)' if compiled else eager}, {'bf16' if has_bf16('cpu') else 'fp32'}"
    print(f"{how}, batch {BATCH}, {torch.get_num_threads()} threads of {_processor()}")
    for name, seconds in times.items():
        print(f"{name:9s} {BATCH / statistics.median(seconds):7.1f} images/s")
    ratio = statistics.median(o / f for o, f in zip(times["ours"], times["float"], strict=True))
    missed = ratio > AIM
    print(f"{'NOT MET' if missed else 'met'}: ours costs {ratio:.2f}x the float step, at most {AIM:.2f}x")
    if "Brevitas" in times:
        ahead = statistics.median(b / o for b, o in zip(times["Brevitas"], times["ours"], strict=True))
        missed = missed or ahead <= 1
        print(f"{'met' if ahead > 1 else 'NOT MET'}: ours is {ahead:.2f}x as fast as Brevitas")
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
