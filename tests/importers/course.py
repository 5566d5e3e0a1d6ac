"""The course notebook's quantized networks, written again literally: float layers of dequantized numbers.

Nothing here knows of the code under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)


def uniform(x: Tensor, levels: int) -> Tensor:
    return x.mul(levels).round().div(levels)


class WeightQuant(nn.Module):
    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.wgt_alpha = bits, nn.Parameter(torch.tensor(3.0))

    def forward(self, weight: Tensor) -> Tensor:
        normal = weight.add(-weight.mean()).div(weight.std())
        x = normal.div(self.wgt_alpha).clamp(min=-1, max=1)
        return uniform(x.abs(), 2 ** (self.bits - 1) - 1).mul(x.sign()).mul(self.wgt_alpha)


class QuantConv(nn.Conv2d):
    """`weight_q`, `act_alpha`, `weight_quant.wgt_alpha`: the names that the notebook's files have."""

    def __init__(self, ins: int, outs: int, kernel: int = 3, stride: int = 1, padding: int = 1, bits: int = 4) -> None:
        super().__init__(ins, outs, kernel, stride, padding, bias=False)
        self.bits, self.weight_quant = bits, WeightQuant(bits)
        self.act_alpha = nn.Parameter(torch.tensor(8.0))
        self.weight_q = nn.Parameter(torch.zeros(outs, ins, kernel, kernel))

    def quantized(self, x: Tensor) -> Tensor:
        """The activations, dequantized."""
        return uniform(x.div(self.act_alpha).clamp(max=1), 2**self.bits - 1).mul(self.act_alpha)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.quantized(x), self.weight_quant(self.weight), None, self.stride, self.padding)


class Vgg(nn.Module):
    """VGG16; squeezed, `features.27` has 8 channels, and its batch norm is removed or an Identity."""

    def __init__(self, width: int = 8, squeezed: str = "", bits: int = 4) -> None:
        super().__init__()
        plan = [1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M"]
        layers: list[nn.Module] = []
        ins, number = 3, 0
        for item in plan:
            if item == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            number += 1
            outs = int(item) * width
            if squeezed and number in (8, 9):
                outs = 8
            layers.append(QuantConv(ins, outs, bits=bits))
            if not squeezed or number != 9:
                layers.append(nn.BatchNorm2d(outs))
            elif squeezed == "identity":
                layers.append(nn.Identity())
            layers.append(nn.ReLU(inplace=True))
            ins = outs
        layers.append(nn.AvgPool2d(1, 1))
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(ins, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(self.features(x).flatten(1))
        return y


class Block(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int, bits: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = QuantConv(ins, outs, 3, stride, bits=bits), nn.BatchNorm2d(outs)
        self.conv2, self.bn2 = QuantConv(outs, outs, bits=bits), nn.BatchNorm2d(outs)
        self.downsample: nn.Module | None = None
        if (ins, stride) != (outs, 1):
            self.downsample = nn.Sequential(QuantConv(ins, outs, 1, stride, 0, bits=bits), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet20(nn.Module):
    def __init__(self, width: int = 4, bits: int = 4) -> None:
        super().__init__()
        self.conv1, self.bn1 = QuantConv(3, width, bits=bits), nn.BatchNorm2d(width)
        stages, ins = [], width
        for stage, outs in enumerate((width, 2 * width, 4 * width)):
            blocks = []
            for number in range(3):
                blocks.append(Block(ins, outs, 2 if stage and not number else 1, bits))
                ins = outs
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(ins, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        out: Tensor = self.fc(F.avg_pool2d(y, 8).flatten(1))
        return out


def normalized(pixels: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    return (pixels.float() / 255 - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)


@torch.no_grad()
def settled(model: nn.Module, pixels: Tensor, seed: int = 0) -> nn.Module:
    """Batch norms that have seen pictures, alphas of about what comes, in eval."""
    gen = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.copy_(0.6 + torch.rand(module.num_features, generator=gen))
            module.bias.copy_(0.3 * torch.randn(module.num_features, generator=gen))
        if isinstance(module, QuantConv):
            module.act_alpha.copy_(1.5 + 2 * torch.rand((), generator=gen))
            module.weight_quant.wgt_alpha.copy_(2 + torch.rand((), generator=gen))
    model.train()(normalized(pixels))
    return model.eval()


@torch.no_grad()
def integers(model: nn.Module, pixels: Tensor) -> dict[str, dict[str, Tensor]]:
    """By convolution: activation codes, weight codes, and what integer arithmetic makes of them, all int64."""
    found: dict[str, dict[str, Tensor]] = {}

    def look(name: str) -> Any:
        def hook(module: QuantConv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            levels = 2**module.bits - 1, 2 ** (module.bits - 1) - 1
            act = module.quantized(inputs[0]).div(module.act_alpha).mul(levels[0]).round().long()
            weight = module.weight_quant(module.weight).div(module.weight_quant.wgt_alpha).mul(levels[1]).round().long()
            acc = F.conv2d(act.double(), weight.double(), None, module.stride, module.padding).long()
            found[name] = {"act": act, "weight": weight, "acc": acc, "output": output.clone()}

        return hook

    hooks = [m.register_forward_hook(look(n)) for n, m in model.named_modules() if isinstance(m, QuantConv)]
    model(normalized(pixels))
    for hook in hooks:
        hook.remove()
    return found
