"""A trained network that teaches another (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.models import load
from systolith.quant import ExactBatchNorm1d, ExactBatchNorm2d, QuantConv2d, QuantLinear, train_conv2d


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network in eval, and what its logits are multiplied by before the softmax."""

    network: Any
    logit_scale: float

    def loss(self, images: Tensor, logits: Tensor, temperature: float) -> Tensor:
        """KL divergence from the teacher's softened classes to the student's, times temperature squared.

        Args:
            images: uint8 (N, 3, H, W).
            logits: the student's, already scaled (N, classes).
        """
        with torch.no_grad():
            taught = self.network(images).float() * self.logit_scale
        student = F.log_softmax(logits / temperature, dim=1)
        target = F.log_softmax(taught / temperature, dim=1)
        return F.kl_div(student, target, log_target=True, reduction="batchmean") * temperature**2

    def to(self, device: torch.device) -> Teacher:
        """The same, on a device."""
        return replace(self, network=self.network.to(device))

    def compiled(self) -> Teacher:
        """The same, through torch.compile."""
        return replace(self, network=torch.compile(self.network))


class _Fast(nn.Module):
    """A quantized layer as training runs it, with its weights worked out once: a teacher is not asked for exactness."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: QuantConv2d | QuantLinear) -> None:
        super().__init__()
        self.act_quant = layer.act_quant
        self.geometry: Any = None
        if isinstance(layer, QuantConv2d):
            self.geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
        self.register_buffer("weight", layer.coded_weight())
        self.register_buffer("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act_quant(x)
        if self.geometry is None:
            return F.linear(x, self.weight, self.bias)
        y = train_conv2d(x, self.weight, *self.geometry)
        return y if self.bias is None else y + self.bias.reshape(-1, 1, 1)


def load_teacher(path: Path) -> Teacher:
    """The teacher in a run's checkpoint, or in a model file.

    Its batch norms become torch's own and its quantized layers fake ones: a teacher's last bit does not matter, its
    speed does.
    """
    model, run = load(str(path))
    if "logit_scale" not in run.get("recipe", {}):
        raise BadInput(f"{path}: a teacher needs the recipe of its run, and this file does not hold it")
    for name, module in list(model.named_modules()):
        if isinstance(module, (ExactBatchNorm1d, ExactBatchNorm2d)):
            kind = nn.BatchNorm1d if isinstance(module, ExactBatchNorm1d) else nn.BatchNorm2d
            plain = kind(module.num_features, module.eps)
            plain.load_state_dict(module.state_dict())
            model.set_submodule(name, plain)
        elif isinstance(module, (QuantConv2d, QuantLinear)):
            model.set_submodule(name, _Fast(module))
    model.requires_grad_(False)
    return Teacher(model.eval(), float(run["recipe"]["logit_scale"]))
