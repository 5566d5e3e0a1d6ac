"""Where a loss that is not a number came from: replay from the last checkpoint, looking at everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from systolith.training.optim import Optimizers, fraction
from systolith.training.state import Identity, restore_checkpoint


def first_bad_parameter(model: nn.Module) -> str:
    """The first parameter that is not finite, or ""."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"parameter {name}"
    return ""


def first_bad_layer(
    model: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor], batch: Tensor, target: Tensor
) -> str:
    """What is first not finite in one forward and backward pass: a parameter, a layer's output, the loss, a gradient.

    Returns:
        A description, or "" if all is finite. Gradients are left in place.
    """
    broken = first_bad_parameter(model)
    if broken:
        return broken
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            if not found and not output.isfinite().all():
                found.append(f"the output of layer {name}")

        return hook

    layers = [(n, m) for n, m in model.named_modules() if n and not isinstance(m, nn.Sequential)]
    hooks = [m.register_forward_hook(look(n)) for n, m in layers]
    try:
        loss = loss_of(batch, target)
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return found[0]
    if not loss.isfinite():
        return "the loss itself, behind the last layer"
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"the gradient of {bad[-1]}" if bad else ""


def locate(
    checkpoint: Path,
    identity: Identity,
    model: nn.Module,
    optimizers: Optimizers,
    epochs: Iterable[Iterator[tuple[Tensor, Tensor]]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    per_epoch: int,
    world: int,
) -> str:
    """Replay from `checkpoint` until something is not finite; names epoch, step and layer.

    Args:
        epochs: the batches of each epoch from the checkpoint on.
        loss_of: eager, on `model` itself.
        per_epoch: steps in an epoch.
        world: number of processes; the replay is this process's alone, so with several it is not attempted.
    """
    if world > 1:
        return "run it in one process to have it located"
    progress = restore_checkpoint(checkpoint, identity, model, optimizers)
    recipe, step = identity.recipe, len(progress.rows) * per_epoch + progress.step
    model.train()
    for batches in epochs:
        for batch, target in batches:
            optimizers.clear()
            bad = first_bad_layer(model, loss_of, batch, target)
            if bad:
                return f"epoch {step // per_epoch + 1}, step {step % per_epoch + 1}: {bad}"
            optimizers.step(fraction(recipe, step, recipe.epochs * per_epoch))
            bad = first_bad_parameter(model)
            if bad:
                return f"epoch {step // per_epoch + 1}, step {step % per_epoch + 1}: {bad} after its update"
            step += 1
    return "the replay from the last checkpoint found nothing (a passing fault of the machine?)"
