"""Recipes: what a training run is made of, each complete and overridable with `--set key=value`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from systolith.formats import BadInput
from systolith.models import VggConfig


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Model: the fields of `models.VggConfig`. Optimizers: Muon on the convolutions (`lr`), AdamW on the rest (`lr_rest`),
    both with a triangular schedule: up over `warmup` of all steps, then linearly to zero.

    Attributes:
        logit_scale: the loss sees `logits * logit_scale` (weights of unit deviation make large logits).
        compile: use torch.compile for the training step; pays from about three epochs on.
        precision: "bf16" autocast or "fp32"; evaluation is always fp32, codes first.
        train_limit: use only the first so many training pictures (0: all).
    """

    name: str
    weight_bits: int = 4
    act_bits: int = 4
    first_weight_bits: int = 4
    per_channel: bool = False
    pixel_offset: int = 0
    squeeze_layer: str = ""
    squeeze_channels: int = 8
    epochs: int = 14
    batch: int = 250
    lr: float = 0.04
    lr_rest: float = 0.003
    momentum: float = 0.9
    warmup: float = 0.15
    label_smoothing: float = 0.1
    logit_scale: float = 1 / 32
    precision: str = "bf16"
    compile: bool = False
    train_limit: int = 0
    seed: int = 0

    def model_config(self) -> VggConfig:
        shared = {f.name for f in fields(VggConfig)} & {f.name for f in fields(self)}
        values = {name: getattr(self, name) for name in shared}
        return VggConfig(**{**values, "squeeze_layer": self.squeeze_layer or None})


_PRESETS = (
    Recipe("vgg16-w4a4-s8", squeeze_layer="features.27", squeeze_channels=8, compile=True),
    Recipe("smoke", squeeze_layer="features.27", epochs=2, batch=64, train_limit=256, precision="fp32"),
)
RECIPES = {r.name: r for r in _PRESETS}


_RANGES = (
    ("epochs", 1, 10_000),
    ("batch", 1, 100_000),
    ("label_smoothing", 0, 1),
    ("warmup", 0, 1),
    ("momentum", 0, 1),
    ("train_limit", 0, 10**9),
    ("seed", 0, 2**31),
)


def _parse(key: str, text: str, kind: Any) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise BadInput(f"--set {key}: expected {kind}, found {text!r}") from None


def recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe `name` with `key=value` overrides; `BadInput` names an unknown recipe, key or a bad value."""
    if name not in RECIPES:
        raise BadInput(f"no recipe {name!r}: expected one of {', '.join(RECIPES)}")
    kinds = {f.name: f.type for f in fields(Recipe) if f.name != "name"}
    changes = {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or key not in kinds:
            raise BadInput(f"--set {item}: expected key=value with a key of {', '.join(kinds)}")
        changes[key] = _parse(key, text, kinds[key])
    made = replace(RECIPES[name], **changes)
    if made.precision not in ("bf16", "fp32"):
        raise BadInput(f"--set precision: expected bf16 or fp32, found {made.precision!r} (fp16 overflows)")
    for key, low, high in _RANGES:
        if not low <= getattr(made, key) <= high:
            raise BadInput(f"--set {key}: expected {low} to {high}, found {getattr(made, key)}")
    return made
