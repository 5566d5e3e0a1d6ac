"""A network of the user's own: what it is asked before it is trained, and the recipe by which it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.quant import ActQuantizer, quant_layers
from systolith.training.recipes import MODULE, Recipe, changed


def own_recipe(model: nn.Module, images: Tensor, overrides: Sequence[str] = ()) -> Recipe:
    """The defaults with `key=value` overrides, for `model`, which is asked how many classes it tells apart.

    Args:
        model: pictures in, (N, classes) out.
        images: uint8 (2, 3, H, W), of the pictures that it will see.

    Raises:
        BadInput: a model that does not answer so, or an override that cannot be.
    """
    name = type(model).__name__
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            answer = model.eval()(images)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BadInput(f"{name}: does not take uint8 pictures {tuple(images.shape)} ({str(error)[:150]})") from None
    finally:
        for module, mode in training.items():
            module.training = mode
    shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != len(images):
        raise BadInput(f"{name}: expected an answer of shape ({len(images)}, classes), found {shape}")
    # Weights of unit deviation make large logits.
    scale = 1 / 32 if any(layer.weight_quant.normalize for layer in list(quant_layers(model).values())[-1:]) else 1.0
    return changed(Recipe(name, arch=MODULE, classes=answer.shape[1], logit_scale=scale), overrides)


def is_calibrated(model: nn.Module) -> bool:
    """Whether every activation quantizer has a clip value of its own: not the one that it is made with."""
    made = ActQuantizer(8).alpha.item()
    return all(m.alpha.item() != made for m in model.modules() if isinstance(m, ActQuantizer))
