"""Networks of our layers, float ones turned into them, loading of trained models. Imports `quant`, the ground floor."""

from systolith.models.mlp import Mlp, MlpConfig
from systolith.models.mobilenet import MobileNet, MobileNetConfig
from systolith.models.parts import Net, NetConfig
from systolith.models.pretrained import ARCHS, build, config_of, load, load_pretrained, save_model, to_model_file
from systolith.models.quantize import QuantizeReport, quantize
from systolith.models.resnet import ResNet20, ResNetConfig
from systolith.models.vgg import Vgg16, VggConfig, squeeze

__all__ = [
    "ARCHS",
    "Mlp",
    "MlpConfig",
    "MobileNet",
    "MobileNetConfig",
    "Net",
    "NetConfig",
    "QuantizeReport",
    "ResNet20",
    "ResNetConfig",
    "Vgg16",
    "VggConfig",
    "build",
    "config_of",
    "load",
    "load_pretrained",
    "quantize",
    "save_model",
    "squeeze",
    "to_model_file",
]
