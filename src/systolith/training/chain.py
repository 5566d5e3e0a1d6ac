"""A recipe with what it stands on: a run to start from, a teacher; trained first, resumable as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.models import Vgg16, build, config_of, load, squeeze
from systolith.quant import quant_layers
from systolith.training.data import LabelledPictures
from systolith.training.distill import load_teacher
from systolith.training.loop import Report, quiet, require_startable, train
from systolith.training.recipes import MODULE, RECIPES, Recipe
from systolith.training.state import complete, fingerprints, identify


def starting_weights(path: Path, recipe: Recipe) -> dict[str, Tensor]:
    """The state dict that a run of `recipe` starts from: the network in `path`, squeezed as the recipe's is.

    Args:
        path: a checkpoint, or a model file (its weights are then codes times scale).
    """
    source, _ = load(str(path))
    if source.config.arch != recipe.arch:
        raise BadInput(f"{path}: holds a network of kind {source.config.arch}; {recipe.name} trains a {recipe.arch}")
    model = build(config_of(source))
    model.load_state_dict(source.state_dict(), strict=False)
    own = quant_layers(model)
    for name, frozen in quant_layers(source).items():
        if frozen.weight is None:
            # The quantizer divides by the deviation: it is free, and the one that layers start with fits the rate.
            coded = frozen.coded_weight()
            own[name].weight.data.copy_(coded * (own[name].weight.std() / coded.std().clamp(min=1e-12)))
            own[name].weight_quant.initialize(own[name].weight)  # type: ignore[operator]
    if recipe.weight_bits == 32 and quant_layers(source):
        # Without the quantizer nothing divides: the logits are smaller by the deviation, and the bias with them.
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        last.bias.data.mul_(last.weight.std())
    if isinstance(model, Vgg16) and recipe.squeeze_layer and model.config.squeeze_layer is None:
        squeeze(model, recipe.squeeze_layer, recipe.squeeze_channels)
    return model.state_dict()


def train_chain(
    recipe: Recipe,
    data: LabelledPictures,
    out: Path,
    stages: Path,
    *,
    resume: bool = False,
    report: Report = quiet,
    **options: Any,
) -> dict[str, Any]:
    """Train `recipe`, and first, in `stages/NAME`, the recipes that its `init_from` and `teacher` name.

    A stage that is complete is used as it is; an interrupted one is resumed. Stages can be shared between runs on the
    same pictures, seed and holdout; others are refused.

    Args:
        options: of `loop.train`.

    Returns:
        The metadata of the last run.
    """
    from accelerate import PartialState

    holdout = int(options.get("holdout", 1000))
    if recipe.arch == MODULE and recipe.init_from:
        raise BadInput("init_from: a network of your own starts from the weights that it has")
    names = list(dict.fromkeys(n for n in (recipe.init_from, recipe.teacher) if n))
    if resume and names and not (out / "last.pt").exists():
        resume = False  # it was interrupted while a stage ran: the stages go on, this run begins
    require_startable(recipe, data, out, holdout, resume)
    paths: dict[str, Path] = {}
    for name in names:
        if name not in RECIPES:
            if not Path(name).is_file():
                raise BadInput(
                    f"{name!r}: expected a recipe ({', '.join(RECIPES)}), the checkpoint of a run or a model file"
                )
            paths[name] = Path(name)
            continue
        if RECIPES[name].name == recipe.name:
            raise BadInput(f"recipe {recipe.name}: it cannot start from or be taught by itself")
        # The same seed holds out the same pictures: a teacher must not have seen them either.
        stage, folder = replace(RECIPES[name], seed=recipe.seed), stages / name
        paths[name] = folder / "best.pt"
        done = complete(folder / "last.pt", identify(stage, data, holdout))
        started = (folder / "last.pt").exists()
        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()  # all look before one writes
        if done:
            report({"event": "note", "text": f"{name}: done already, in {folder}"})
            continue
        report({"event": "note", "text": f"{name} first, in {folder}"})
        train_chain(stage, data, folder, stages, resume=started, report=report, **{**options, "model": None})
    init = starting_weights(paths[recipe.init_from], recipe) if recipe.init_from and not resume else None
    teacher = load_teacher(paths[recipe.teacher]) if recipe.teacher else None
    used = {key: paths[name] for key in ("init_from", "teacher") if (name := getattr(recipe, key))}
    options["stands_on"] = fingerprints(used)
    return train(recipe, data, out, resume=resume, teacher=teacher, init=init, report=report, **options)
