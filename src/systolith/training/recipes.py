"""Recipes: what a training run is made of, each complete and overridable with `--set key=value`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from systolith.formats import BadInput
from systolith.models import ARCHS, NetConfig

MODULE = "module"


@dataclass(frozen=True)
class Recipe:
    """One training run. `arch` and the fields of its config (`models.ARCHS`) fix the network; the others are below.

    `arch` "module" is a network that is given, whose own settings count (`own.py`).

    Attributes:
        epochs, batch: the batch is the whole one, over all processes.
        optimizer: "muon" (Muon on the convolutions, AdamW on the rest) or "sgd" (one SGD with momentum for all).
        lr, lr_rest: peak rates of Muon (or SGD), and of AdamW.
        momentum, weight_decay: of Muon or SGD; clip values take no decay.
        schedule: "triangle" (up over `warmup` of all steps, then linearly to zero) or "constant".
        label_smoothing: of the cross entropy.
        cutout: side of the square that is blacked out in each training picture; 0 for none.
        cutmix: share of the training pictures that are given a square of another, and of its class as much; 0 for none.
        logit_scale: the loss sees `logits * logit_scale` (weights of unit deviation make large logits).
        init_from: start from this recipe's weights (or a checkpoint's, a model file's), squeezed as this network is.
        teacher: distil from this recipe (or checkpoint, or model file).
        distill: weight of the teacher's share of the loss, 0..1; `temperature` softens both sides of it.
        precision: "bf16" autocast, "fp32", or "auto": bf16 where the device has units for it; evaluation is always
            fp32, codes first.
        compile: torch.compile for the step: "auto" (on an accelerator, when the run is long enough to pay
            for it), "yes" or "no".
        train_limit: use only so many training pictures, drawn by the seed (0: all).
        seed: of everything random.
    """

    name: str
    arch: str = "vgg16"
    weight_bits: int = 4
    act_bits: int = 4
    first_weight_bits: int = 4
    per_channel: bool = False
    pixel_offset: int = 0
    classes: int = 10
    po2: bool = False
    rounding: str = "even"
    squeeze_layer: str = ""
    squeeze_channels: int = 8
    width: float = 1.0
    blocks: int = 3
    hidden: tuple[int, ...] = (512, 512)
    epochs: int = 40
    batch: int = 250
    optimizer: str = "muon"
    lr: float = 0.04
    lr_rest: float = 0.003
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "triangle"
    warmup: float = 0.15
    label_smoothing: float = 0.1
    cutout: int = 0
    cutmix: float = 0.0
    logit_scale: float = 1 / 32
    init_from: str = ""
    teacher: str = ""
    distill: float = 0.5
    temperature: float = 2.0
    precision: str = "auto"
    compile: str = "auto"
    train_limit: int = 0
    seed: int = 0

    def model_config(self) -> NetConfig:
        """The config of the network."""
        kind: Any = ARCHS[self.arch][0]
        values = {f.name: getattr(self, f.name) for f in fields(kind) if f.name in _DEFAULTS}
        if "squeeze_layer" in values:
            values["squeeze_layer"] = self.squeeze_layer or None
        made: NetConfig = kind(**values)
        return made

    def config(self) -> dict[str, Any]:
        """What `models.build` makes the network of."""
        return {"arch": self.arch, **asdict(self.model_config())}


_DEFAULTS = {f.name: f.default for f in fields(Recipe)}
_NETWORK = {"arch"} | {f.name for config, _ in ARCHS.values() for f in fields(config) if f.name in _DEFAULTS}
"""The settings that are about the network."""


FLOAT: dict[str, Any] = {"weight_bits": 32, "act_bits": 32, "first_weight_bits": 32, "logit_scale": 1.0}
_S8: dict[str, Any] = {"squeeze_layer": "features.27", "squeeze_channels": 8}
_S16: dict[str, Any] = {"squeeze_layer": "features.27", "squeeze_channels": 16}
# The whole network is trained once; every other one starts from it and is taught by it.
_WHOLE: dict[str, Any] = {"init_from": "vgg16-w4a4", "teacher": "vgg16-w4a4", "cutout": 8, "lr": 0.02}

_PRESETS = (
    Recipe("vgg16-w4a4-s8", **_S8, **_WHOLE, epochs=9),
    Recipe("vgg16-w4a2-s16", act_bits=2, **_S16, **_WHOLE, epochs=9),
    Recipe("vgg16-w4a4", cutout=8, epochs=20),
    Recipe("vgg16-w2a2", weight_bits=2, act_bits=2, first_weight_bits=8, **_WHOLE, epochs=20),
    Recipe("resnet20-w4a4", arch="resnet20", cutout=8, epochs=40),
    Recipe("mobilenet-w4a4", arch="mobilenet", cutout=8, epochs=40),
    Recipe("mlp-w4a4", arch="mlp", epochs=20),
    # For an accelerator: 100 epochs are minutes there, and five hours and more on two cores.
    Recipe("vgg16-float", **FLOAT, cutmix=0.5, batch=500, lr=0.05, epochs=100),
    # The course notebook's own: SGD with steps at epochs 150 and 225, which 120 epochs never reach.
    Recipe(
        "seed",
        **_S8,
        epochs=120,
        batch=128,
        optimizer="sgd",
        lr=1e-2,
        momentum=0.9,
        weight_decay=2e-4,
        schedule="constant",
        label_smoothing=0.0,
        logit_scale=1.0,
        precision="fp32",
    ),
    Recipe("smoke", **_S8, epochs=2, batch=64, train_limit=256, precision="fp32", compile="no"),
)
RECIPES = {r.name: r for r in _PRESETS}
_CHOICES = {
    "precision": ("auto", "bf16", "fp32"),
    "optimizer": ("muon", "sgd"),
    "rounding": ("even", "up"),
    "schedule": ("triangle", "constant"),
    "compile": ("auto", "yes", "no"),
}

_RANGES = (
    ("classes", 1, 1_000_000),
    ("epochs", 1, 10_000),
    ("batch", 1, 100_000),
    ("lr", 0, 1000),
    ("lr_rest", 0, 1000),
    ("weight_decay", 0, 1000),
    ("logit_scale", 1e-6, 1000),
    ("temperature", 1e-3, 1000),
    ("label_smoothing", 0, 1),
    ("warmup", 0, 1),
    ("momentum", 0, 1),
    ("distill", 0, 1),
    ("cutout", 0, 1000),
    ("cutmix", 0, 1),
    ("train_limit", 0, 10**9),
    ("seed", 0, 2**31),
)


def _parse(key: str, text: str, kind: Any) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind == "tuple[int, ...]":
            return tuple(int(part) for part in text.split(","))
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        wanted = "whole numbers with commas between" if kind.startswith("tuple") else kind
        raise BadInput(f"--set {key}: expected {wanted}, found {text!r}") from None


def recipe(name: str, overrides: Sequence[str] = (), bits: int | None = None) -> Recipe:
    """The recipe `name` with `key=value` overrides.

    Args:
        bits: 32 gives the recipe's float twin: the same network and schedule without quantizers.

    Raises:
        BadInput: names an unknown recipe, key or a bad value.
    """
    if name not in RECIPES:
        raise BadInput(f"no recipe {name!r}: expected one of {', '.join(RECIPES)}")
    made = RECIPES[name]
    if bits is not None:
        if bits != 32:
            raise BadInput(f"--bits {bits}: expected 32 (the float twin); other widths are --set weight_bits, act_bits")
        made = replace(made, **FLOAT)
    return changed(made, overrides)


def changed(made: Recipe, overrides: Sequence[str]) -> Recipe:
    """`made` with `key=value` overrides; `BadInput` names an unknown key, a bad value, or another network's setting."""
    kinds = {f.name: f.type for f in fields(Recipe) if f.name != "name"}
    before, changes = made, {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or key not in kinds:
            raise BadInput(f"--set {item}: expected key=value with a key of {', '.join(kinds)}")
        changes[key] = _parse(key, text, kinds[key])
    made = replace(made, **changes)
    about = [key for key in changes if key in _NETWORK]
    if before.arch == MODULE and about:
        raise BadInput(f"--set {about[0]}: the network is given, expected settings of its training alone")
    if before.arch != MODULE and made.arch not in ARCHS:
        raise BadInput(f"--set arch: expected {' or '.join(ARCHS)}, found {made.arch!r}")
    for key, choices in _CHOICES.items():
        if getattr(made, key) not in choices:
            why = " (fp16 overflows)" if key == "precision" else ""
            raise BadInput(f"--set {key}: expected {' or '.join(choices)}, found {getattr(made, key)!r}{why}")
    for key, low, high in _RANGES:
        if not low <= getattr(made, key) <= high:
            raise BadInput(f"--set {key}: expected {low} to {high}, found {getattr(made, key)}")
    own = {"arch"} | {f.name for f in fields(ARCHS[made.arch][0])} if made.arch != MODULE else _NETWORK
    for key in _NETWORK - own:
        if getattr(made, key) != _DEFAULTS[key]:
            raise BadInput(f"--set {key}: no setting of a network of kind {made.arch}, expected it left out")
    return made
