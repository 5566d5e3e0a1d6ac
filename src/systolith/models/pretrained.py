"""Models to and from the model file, and the names that load them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from systolith.formats import BadInput
from systolith.models.mlp import Mlp, MlpConfig
from systolith.models.mobilenet import MobileNet, MobileNetConfig
from systolith.models.parts import Net, NetConfig
from systolith.models.resnet import ResNet20, ResNetConfig
from systolith.models.vgg import Vgg16, VggConfig
from systolith.quant import WeightQuantizer, check_exact, quant_layers
from systolith.store import Codes, ModelFile, is_checkpoint, load_model_file, model_path, save_model_file

_NETS: tuple[type[Net], ...] = (Vgg16, ResNet20, MobileNet, Mlp)
_CONFIGS: tuple[type[NetConfig], ...] = (VggConfig, ResNetConfig, MobileNetConfig, MlpConfig)
ARCHS: dict[str, tuple[type[NetConfig], type[Net]]] = {c.arch: (c, n) for c, n in zip(_CONFIGS, _NETS, strict=True)}
"""The config and the network of every architecture, by the name that a config gives as its `arch`."""


def build(config: Mapping[str, Any]) -> Net:
    """The untrained network that `config` (of a model file, a checkpoint or a recipe) describes.

    Raises:
        BadInput: an unknown `arch`, or a key or value that is none of its config's.
    """
    arch = config.get("arch") if isinstance(config, Mapping) else None
    if arch == "module":
        raise BadInput(
            f"a network of your own ({config.get('class')}) is built by your code: expected its state to be taken from "
            "the file, torch.load(FILE)['model']"
        )
    if not isinstance(arch, str) or arch not in ARCHS:
        raise BadInput(f"expected the config of a network ({', '.join(ARCHS)}), found {str(config)[:200]}")
    kind, net = ARCHS[arch]
    known = {f.name: str(f.type) for f in fields(kind)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    del values["arch"]
    if not all(name in known and _of_type(value, known[name]) for name, value in values.items()):
        raise BadInput(f"expected the config of a {arch} ({', '.join(known)}), found {str(config)[:200]}")
    return net(kind(**values))  # type: ignore[arg-type]


def _of_type(value: Any, kind: str) -> bool:
    """Whether a config's value is of its field's type, as the class spells it."""
    if isinstance(value, tuple):
        return kind == "tuple[int, ...]" and all(type(item) is int for item in value)
    names = kind.split(" | ")
    return type(value).__name__.removesuffix("Type") in names or (type(value) is int and "float" in names)


def config_of(model: nn.Module) -> dict[str, Any]:
    """The plain JSON values from which `build` makes the same architecture; of a module that is not ours its class."""
    if not isinstance(model, Net):
        return {"arch": "module", "class": type(model).__name__}
    values = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(model.config).items()}
    return {"arch": model.config.arch, **values}


def _derived(model: nn.Module) -> set[str]:
    """Names in the state dict that the model file holds as codes and scales, or not at all."""
    names = {n for n in model.state_dict() if n.endswith("num_batches_tracked")}
    for name in quant_layers(model):
        names |= {f"{name}.weight", f"{name}.weight_quant.alpha"}
        names |= {f"{name}.weight_quant.codes", f"{name}.weight_quant.weight_scale"}
    return names


def to_model_file(model: Net, run: Mapping[str, Any]) -> ModelFile:
    """The integer codes, scales and batch norms of a trained model, with its run's metadata."""
    codes = {
        name: Codes(
            layer.weight_codes().detach().cpu().numpy().astype(np.int8),
            layer.weight_quant.format,
            layer.weight_quant.scale().detach().cpu().numpy(),
            layer.act_quant.format,
        )
        for name, layer in quant_layers(model).items()
    }
    skip = _derived(model)
    floats = {n: t.detach().cpu().numpy() for n, t in model.state_dict().items() if n not in skip}
    return ModelFile(config_of(model), codes, floats, run)


def save_model(model: Net, path: Path, run: Mapping[str, Any]) -> None:
    """Write the model file of a trained model (`to_model_file`)."""
    save_model_file(path, to_model_file(model, run))


def _from_model_file(path: Path) -> tuple[Net, Mapping[str, Any]]:
    file = load_model_file(path)
    if not file.config:
        raise BadInput(f"{path}: holds only the integers of a network; expected the trained model they were made from")
    model = build(file.config)
    layers = quant_layers(model)
    expected = {n: tuple(t.shape) for n, t in model.state_dict().items() if n not in _derived(model)}
    found = {n: a.shape for n, a in file.floats.items()}
    if found != expected or set(file.codes) != set(layers):
        odd = {n for n in {*expected, *found} if expected.get(n) != found.get(n)} or set(file.codes) ^ set(layers)
        raise BadInput(f"{path}: its tensors are not those of its own config (first difference: {min(odd)})")
    with torch.no_grad():
        for name, layer in layers.items():
            codes = file.codes[name]
            assert isinstance(layer.weight_quant, WeightQuantizer)
            assert codes.scale is not None
            if (codes.format, codes.act_format) != (layer.weight_quant.format, layer.act_quant.format):
                raise BadInput(
                    f"{path}: layer {name}: its config says {layer.weight_quant.format} weights and "
                    f"{layer.act_quant.format} activations, the layer {codes.format} and {codes.act_format}"
                )
            shapes = (layer.weight.shape, layer.weight_quant.alpha.shape)
            if (codes.values.shape, codes.scale.shape) != tuple(map(tuple, shapes)):
                raise BadInput(
                    f"{path}: layer {name} expects codes and scales of shapes {tuple(map(tuple, shapes))}, "
                    f"found {codes.values.shape, codes.scale.shape}"
                )
            layer.freeze(torch.from_numpy(codes.values), torch.from_numpy(codes.scale))
        model.load_state_dict({n: torch.from_numpy(a) for n, a in file.floats.items()}, strict=False)
    _require_finite(path, model)
    return model.eval(), file.run


def _from_checkpoint(path: Path) -> tuple[Net, Mapping[str, Any]]:
    state = read_checkpoint(path)
    model = build(state["config"])
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: its tensors are not those of its own config ({str(error).splitlines()[-1].strip()})"
        ) from None
    _require_finite(path, model)
    return model.eval(), state.get("run", {})


def _require_finite(path: Path, model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise BadInput(f"{path}: {name} holds a value that is not a number")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state of a training run (`last.pt`, `best.pt`); `BadInput` if it is missing, corrupt or foreign."""
    state = read_tensors(path)
    if not isinstance(state, dict) or not {"config", "model"} <= set(state) or not isinstance(state["model"], dict):
        raise BadInput(f"{path}: a torch file, but not a checkpoint of `systolith train`")
    return state


def read_tensors(path: Path) -> Any:
    """What a file of torch.save holds, tensors and plain values alone; nothing in it is executed.

    Raises:
        BadInput: it is missing, truncated, or holds anything else.
    """
    try:
        with warnings.catch_warnings():  # of other pickle protocols: what is wrong with the file is said below
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch.load raises whatever the bytes provoke
        raise BadInput(f"{path}: not a readable checkpoint, {_why_not(error)}") from None
    return state


def _why_not(error: Exception) -> str:
    """What is wrong with a file that torch refused: its own text tells whoever reads it to run the code inside."""
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    if wanted:
        return f"it holds code ({wanted[1]}), which was not run: expected tensors and plain values alone"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds what is neither a tensor nor a plain value, which was not loaded"
    reason = (str(error).splitlines() or [""])[0].rstrip(".")
    return f"truncated or of another kind ({reason if 0 < len(reason) <= 150 else type(error).__name__})"


def load(name: str) -> tuple[Net, Mapping[str, Any]]:
    """A model in eval and the metadata of its run, by shipped name or path."""
    check_exact()
    path = model_path(name)
    return _from_checkpoint(path) if is_checkpoint(path) else _from_model_file(path)


def load_pretrained(name: str = "vgg16-w4a4-s8") -> Net:
    """A trained model in eval: shipped name, model file, or checkpoint of a run.

    A shipped model or a model file holds frozen integer codes: it is for evaluation, and its logits equal those
    of the checkpoint it was made from, bit for bit.

    Examples:
        >>> import systolith as sl
        >>> sl.load("vgg16-w4a4-s8").config.squeeze_channels
        8
    """
    return load(name)[0]
