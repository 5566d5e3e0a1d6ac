from __future__ import annotations

from typing import Any

import pytest

from systolith.formats import BadInput
from systolith.models import build
from systolith.quant import quant_layers
from systolith.training.recipes import RECIPES, recipe


def test_presets_name_their_models() -> None:
    assert set(RECIPES) >= {"vgg16-w4a4-s8", "smoke"}
    config = recipe("vgg16-w4a4-s8").model_config()
    assert (config.weight_bits, config.act_bits, config.squeeze_layer, config.squeeze_channels) == (
        4,
        4,
        "features.27",
        8,
    )


def test_overrides_have_the_type_of_the_field() -> None:
    made = recipe("smoke", ["epochs=3", "lr=0.5", "compile=yes", "squeeze_layer=", "precision=bf16"])
    assert (made.epochs, made.lr, made.compile, made.precision) == (3, 0.5, "yes", "bf16")
    assert made.model_config().squeeze_layer is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "expected key=value"),
        ("epoch=3", "with a key of arch, weight_bits"),
        ("epochs=three", "--set epochs: expected int, found 'three'"),
        ("compile=maybe", "--set compile: expected auto or yes or no, found .maybe."),
        ("per_channel=maybe", "--set per_channel: expected bool"),
        ("hidden=64,x", "--set hidden: expected whole numbers with commas between, found '64,x'"),
        ("hidden=64", "--set hidden: no setting of a network of kind vgg16, expected it left out"),
        ("arch=lenet", "--set arch: expected vgg16 or resnet20 or mobilenet or mlp, found 'lenet'"),
        ("arch=mlp", "--set squeeze_layer: no setting of a network of kind mlp"),
        ("precision=fp16", "fp16 overflows"),
        ("batch=0", "--set batch: expected 1 to 100000, found 0"),
        ("train_limit=-5", "expected 0 to"),
        ("label_smoothing=5", "expected 0 to 1, found 5"),
        ("seed=99999999999999999999", "--set seed: expected 0 to"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        recipe("smoke", [override])


@pytest.mark.parametrize("arch", ["resnet20", "mobilenet", "mlp"])
def test_each_architecture_has_its_recipe_and_its_own_settings(arch: str) -> None:
    made = recipe(f"{arch}-w4a4")
    assert build(made.config()).config == made.model_config()
    assert made.config()["arch"] == arch
    own = {"resnet20": "blocks=1", "mobilenet": "width=0.25", "mlp": "hidden=32,16"}
    changed = recipe(f"{arch}-w4a4", [own[arch]])
    build(changed.config())
    assert changed.config() != made.config()
    assert recipe(f"{arch}-w4a4", bits=32).model_config().is_float
    with pytest.raises(BadInput, match="--set squeeze_channels: no setting of a network of kind"):
        recipe(f"{arch}-w4a4", ["squeeze_channels=16"])


def test_powers_of_two_and_classes_reach_the_network() -> None:
    made = recipe("mlp-w4a4", ["po2=true", "rounding=up", "classes=3"])
    net: Any = build(made.config())
    assert all(layer.weight_quant.po2 for layer in quant_layers(net).values())
    assert net.classifier.act_quant.po2
    assert net.classifier.act_quant.rounding == "up"
    assert net.classifier.out_features == made.classes == 3
    with pytest.raises(BadInput, match="--set rounding: expected even or up, found 'down'"):
        recipe("mlp-w4a4", ["rounding=down"])


def test_unknown_recipe() -> None:
    with pytest.raises(BadInput, match="no recipe 'best': expected one of vgg16-w4a4-s8"):
        recipe("best")
