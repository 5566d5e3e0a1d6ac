"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from systolith.training.precision import has_bf16
from systolith.training.recipes import Recipe


class Fp32Muon(torch.optim.Muon):
    """torch's Muon, which orthogonalizes in bf16, with that in fp32: for devices without bf16 units."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; a closure is not taken."""
        assert closure is None
        for group in self.param_groups:
            assert group["nesterov"]
            assert group["adjust_lr_fn"] is None
            for matrix in group["params"]:
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                buffer = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalized(matrix.grad.lerp(buffer, group["momentum"]), group)
                rate = group["lr"] * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)


def orthogonalized(matrix: Tensor, group: dict[str, Any]) -> Tensor:
    """The Newton-Schulz iteration of Muon (Jordan et al. 2024), in the matrix's own dtype.

    Args:
        matrix: (rows, columns).
        group: Muon's options "ns_coefficients", "ns_steps" and "eps".
    """
    a, b, c = group["ns_coefficients"]
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Optimizers:
    """Muon on the convolutions and AdamW on everything else, or one SGD, stepped as one.

    Muon: Jordan et al. 2024. torch's takes matrices only: it gets a (O, I*KH*KW) view of each convolution's weight.
    Of a grouped one that would mix channels which never meet: those stay with AdamW. Of a network without convolutions
    Muon has the hidden linear layers.
    Clip values (`alpha`) and batch norms take no weight decay.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        self.weights = [m.weight for m in convs if m.groups == 1] if convs else [m.weight for m in linears[:-1]]
        chosen = {id(w) for w in self.weights}
        self.rest = [p for p in model.parameters() if id(p) not in chosen]
        self.matrices: list[nn.Parameter] = []
        self.parts: dict[str, torch.optim.Optimizer] = {}
        self.peaks = {"main": recipe.lr, "rest": recipe.lr_rest}
        decay, momentum = recipe.weight_decay, recipe.momentum
        if recipe.optimizer == "muon" and not self.weights:
            self.parts["rest"] = torch.optim.AdamW(self.rest, lr=recipe.lr_rest, betas=(0.9, 0.99), weight_decay=0.0)
        elif recipe.optimizer == "muon":
            self.matrices = [nn.Parameter(w.detach().flatten(1)) for w in self.weights]
            muon = torch.optim.Muon if has_bf16(self.weights[0].device.type) else Fp32Muon
            self.parts["main"] = muon(self.matrices, lr=recipe.lr, momentum=momentum, weight_decay=decay)
            self.parts["rest"] = torch.optim.AdamW(self.rest, lr=recipe.lr_rest, betas=(0.9, 0.99), weight_decay=0.0)
        else:
            bare = [p for p in self.rest if p.ndim < 2]
            heavy = [*self.weights, *(p for p in self.rest if p.ndim >= 2)]
            groups = [{"params": heavy, "weight_decay": decay}, {"params": bare, "weight_decay": 0.0}]
            self.parts["main"] = torch.optim.SGD(groups, lr=recipe.lr, momentum=momentum)

    def step(self, fraction: float) -> None:
        """One step at `fraction` of the peak learning rates; gradients are cleared."""
        for weight, matrix in zip(self.weights, self.matrices, strict=False):
            assert weight.grad is not None
            matrix.grad = weight.grad.reshape(matrix.shape)
        for name, optimizer in self.parts.items():
            for group in optimizer.param_groups:
                group["lr"] = self.peaks[name] * fraction
            optimizer.step()
        self.clear()

    def clear(self) -> None:
        """Drop all gradients."""
        for parameter in (*self.weights, *self.matrices, *self.rest):
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, optimizer in self.parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        for name, optimizer in self.parts.items():
            optimizer.load_state_dict(state[name])


def triangle(step: int, steps: int, warmup: float) -> float:
    """Learning-rate fraction of `step` (0-based): up to 1 over `warmup*steps`, then linearly towards 0."""
    rise = max(1.0, warmup * steps)
    return min((step + 1) / rise, (steps - step) / max(1.0, steps - rise))


def fraction(recipe: Recipe, step: int, steps: int) -> float:
    """Learning-rate fraction of `step` under the recipe's schedule."""
    return triangle(step, steps, recipe.warmup) if recipe.schedule == "triangle" else 1.0
