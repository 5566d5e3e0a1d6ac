"""Networks of Brevitas' layers, and the codes that its own quantizers make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.export import export_qonnx
from torch import Tensor, nn


class Net(nn.Module):
    """Layers by name and a forward: what it returns is what the model answers."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.written = forward

    def forward(self, x: Tensor) -> Any:
        return self.written(self, x)


def identity(bits: int = 8, **options: Any) -> nn.Module:
    return qnn.QuantIdentity(bit_width=bits, return_quant_tensor=True, **options)


def relu(bits: int = 4) -> nn.Module:
    return qnn.QuantReLU(bit_width=bits, return_quant_tensor=True)


def conv(ins: int, outs: int, kernel: int = 3, bits: int = 4, **options: Any) -> nn.Module:
    options = {"padding": kernel // 2, "bias": False, **options}
    return qnn.QuantConv2d(ins, outs, kernel, weight_bit_width=bits, **options)


def linear(ins: int, outs: int, bits: int = 8) -> nn.Module:
    return qnn.QuantLinear(ins, outs, bias=True, weight_bit_width=bits)


def plain(bits: int, channels: bool = False) -> Net:
    """Two convolutions, pooling, a linear layer."""
    options: dict[str, Any] = {}
    if channels:
        from brevitas.quant import Int8WeightPerChannelFloat

        options["weight_quant"] = Int8WeightPerChannelFloat
    return Net(
        lambda m, x: m.fc(m.pool(m.r2(m.b2(m.c2(m.r1(m.b1(m.c1(m.q(x)))))))).flatten(1)),
        q=identity(),
        c1=conv(3, 8, bits=bits, **options),
        b1=nn.BatchNorm2d(8),
        r1=relu(bits),
        c2=conv(8, 8, bits=bits, stride=2, **options),
        b2=nn.BatchNorm2d(8),
        r2=relu(bits),
        pool=nn.MaxPool2d(2),
        fc=linear(128, 10),
    )


def mixed() -> Net:
    """8, 2, 3 and 4 bits, a bias, no batch norm."""
    return Net(
        lambda m, x: m.fc(m.r3(m.c3(m.r2(m.c2(m.r1(m.c1(m.q(x))))))).flatten(1)),
        q=identity(),
        c1=conv(3, 8, bits=8, bias=True, stride=2),
        r1=relu(2),
        c2=conv(8, 8, bits=3, bias=True),
        r2=relu(5),
        c3=conv(8, 4, kernel=1, bits=2, bias=True),
        r3=relu(4),
        fc=linear(256, 10, 4),
    )


def residual() -> Net:
    """A residual add by one quantizer, and a shortcut of stride 2."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.r(m.b(m.c(m.q(x))))
        y = m.sum(m.b2(m.c2(m.r1(m.b1(m.c1(x))))))
        x = m.r2(y + m.sum(m.bd(m.d(x))))
        out: Tensor = m.fc(m.pool(x).flatten(1))
        return out

    norms = {name: nn.BatchNorm2d(8) for name in ("b", "b1", "b2", "bd")}
    return Net(
        forward,
        q=identity(),
        c=conv(3, 8),
        c1=conv(8, 8, stride=2),
        c2=conv(8, 8),
        d=conv(8, 8, kernel=1, stride=2),
        r=relu(),
        r1=relu(),
        r2=relu(),
        sum=identity(4),
        pool=nn.MaxPool2d(2),
        fc=linear(128, 10),
        **norms,
    )


def depthwise() -> Net:
    """Depthwise and pointwise convolutions, stride 2."""
    layers: dict[str, nn.Module] = {"q": identity(), "c": conv(3, 8, stride=2), "b": nn.BatchNorm2d(8), "r": relu()}
    for number in range(2):
        layers |= {
            f"d{number}": conv(8, 8, groups=8, stride=1 + number),
            f"bd{number}": nn.BatchNorm2d(8),
            f"rd{number}": relu(),
            f"p{number}": conv(8, 8, kernel=1),
            f"bp{number}": nn.BatchNorm2d(8),
            f"rp{number}": relu(),
        }
    order = list(layers)

    def forward(m: Any, x: Tensor) -> Tensor:
        for name in order:
            x = getattr(m, name)(x)
        out: Tensor = m.fc(x.flatten(1))
        return out

    return Net(forward, **layers, fc=linear(128, 10))


NETS: dict[str, Callable[[], Net]] = {
    "4 bits": lambda: plain(4),
    "2 bits": lambda: plain(2),
    "a scale a channel": lambda: plain(4, channels=True),
    "mixed bits": mixed,
    "residual": residual,
    "depthwise": depthwise,
}


def settled(name: str, size: int = 16) -> Net:
    """In eval, with batch norms and scales that have seen pictures."""
    torch.manual_seed(0)
    model = NETS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    model.train()
    for _ in range(30):
        model(torch.rand(32, 3, size, size))
    return model.eval()


def exported(model: nn.Module, path: Path, size: int = 16) -> Path:
    export_qonnx(model, torch.rand(1, 3, size, size), export_path=str(path))
    return path


@torch.no_grad()
def codes_of(model: nn.Module, pixels: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The codes of every activation quantizer in the order of the calls, and the answer."""
    seen: list[np.ndarray] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append((output.value / output.scale).round().numpy().astype(np.int64))

    hooks = [
        m.register_forward_hook(look) for m in model.modules() if isinstance(m, (qnn.QuantIdentity, qnn.QuantReLU))
    ]
    answer = model(torch.from_numpy(pixels).float() / 255)
    for hook in hooks:
        hook.remove()
    return seen, (answer.value if hasattr(answer, "value") else answer).numpy()
