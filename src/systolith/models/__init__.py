"""VGG16, its squeeze, and loading of trained models. Imports `quant` and the ground floor."""

from systolith.models.pretrained import build, config_of, load, load_pretrained, save_model, to_model_file
from systolith.models.vgg import Vgg16, VggConfig, squeeze

__all__ = [
    "Vgg16",
    "VggConfig",
    "build",
    "config_of",
    "load",
    "load_pretrained",
    "save_model",
    "squeeze",
    "to_model_file",
]
