"""A trained network that teaches another (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.models import build
from systolith.models.pretrained import read_checkpoint
from systolith.quant import ExactBatchNorm2d


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
        with torch.no_grad(), torch.autocast(images.device.type, dtype=torch.bfloat16):
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


def load_teacher(checkpoint: Path) -> Teacher:
    """The teacher in a run's checkpoint.

    Its batch norms become torch's own: a teacher's last bit does not matter, its speed does.
    """
    state = read_checkpoint(checkpoint)
    model = build(state["config"])
    model.load_state_dict(state["model"])
    for at, module in enumerate(model.features):
        if isinstance(module, ExactBatchNorm2d):
            plain = nn.BatchNorm2d(module.num_features, module.eps)
            plain.load_state_dict(module.state_dict())
            model.features[at] = plain
    model.requires_grad_(False)
    return Teacher(model.eval(), float(state["recipe"]["logit_scale"]))
