"""Weight and activation quantizers and the layers built on them (torch). Imports only the ground floor."""

from systolith.quant.exact import check_exact
from systolith.quant.joins import QuantAdd, QuantAvgPool2d
from systolith.quant.layers import QuantConv2d, QuantIdentity, QuantLinear, calibrate, quant_layer, quant_layers
from systolith.quant.norm import ExactBatchNorm1d, ExactBatchNorm2d
from systolith.quant.quantizers import ActQuantizer, ClampedReLU, FrozenWeight, PixelCodes, WeightQuantizer
from systolith.quant.small_maps import train_conv2d

__all__ = [
    "ActQuantizer",
    "ClampedReLU",
    "ExactBatchNorm1d",
    "ExactBatchNorm2d",
    "FrozenWeight",
    "PixelCodes",
    "QuantAdd",
    "QuantAvgPool2d",
    "QuantConv2d",
    "QuantIdentity",
    "QuantLinear",
    "WeightQuantizer",
    "calibrate",
    "check_exact",
    "quant_layer",
    "quant_layers",
    "train_conv2d",
]
