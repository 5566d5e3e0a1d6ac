"""VGG16 for 32x32 pictures with low-bit layers, and the squeeze that fits one layer on a small array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.quant import ClampedReLU, ExactBatchNorm2d, QuantConv2d, QuantLinear, train_conv2d

# Simonyan & Zisserman, "Very Deep Convolutional Networks", ICLR 2015, table 1, configuration D.
_PLAN: tuple[int | str, ...] = (
    *(64, 64, "M", 128, 128, "M", 256, 256, 256, "M"),
    *(512, 512, 512, "M", 512, 512, 512, "M"),
)


@dataclass(frozen=True)
class VggConfig:
    """Everything that fixes the shape and the formats of the network.

    `first_weight_bits`: of the first convolution. `squeeze_layer` is None for the plain network. `weight_bits` 32 is
    the float twin: the same network of torch's own layers, without a quantizer.
    """

    weight_bits: int = 4
    act_bits: int = 4
    first_weight_bits: int = 4
    per_channel: bool = False
    pixel_offset: int = 0
    classes: int = 10
    squeeze_layer: str | None = None
    squeeze_channels: int = 8


class Vgg16(nn.Module):
    """VGG16 in the torchvision numbering (`features.0` ... `features.43`, `classifier`).

    Input: uint8 pictures (N, 3, 32, 32), no normalization: the first batch norm absorbs it. Output: (N, classes).
    """

    def __init__(self, config: VggConfig) -> None:
        super().__init__()
        if (config.weight_bits == 32) != (config.act_bits == 32):
            raise BadInput(f"weight_bits {config.weight_bits} and act_bits {config.act_bits}: both are 32, or neither")
        self.config = config
        is_float = config.weight_bits == 32
        layers: list[nn.Module] = []
        channels = 3
        for item in _PLAN:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [_conv(config, channels, item, first=not layers), ExactBatchNorm2d(item)]
            layers.append((nn.ReLU if is_float else ClampedReLU)(inplace=True))
            channels = item
        self.features = nn.Sequential(*layers)
        self.classifier = (nn.Linear if is_float else QuantLinear)(channels, config.classes)
        if config.squeeze_layer is not None:
            self.config = replace(config, squeeze_layer=None)
            squeeze(self, config.squeeze_layer, config.squeeze_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class FloatConv2d(nn.Conv2d):
    """A convolution without quantizers or bias that takes uint8 pictures too."""

    def forward(self, x: Tensor) -> Tensor:
        x = x if x.is_floating_point() else x.to(self.weight.dtype)
        return train_conv2d(x, self.weight, self.stride, self.padding, self.dilation)


def _conv(config: VggConfig, in_channels: int, out_channels: int, first: bool) -> nn.Conv2d:
    if config.weight_bits == 32:
        conv = FloatConv2d(in_channels, out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        return conv
    return QuantConv2d(
        in_channels,
        out_channels,
        3,
        padding=1,
        weight_bits=config.first_weight_bits if first else config.weight_bits,
        act_bits=config.act_bits,
        per_channel=config.per_channel,
        pixels=config.pixel_offset if first else None,
    )


def _narrowed(conv: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    """A copy with fewer channels that keeps the leading weights."""
    geometry = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    if isinstance(conv, QuantConv2d):
        new: nn.Conv2d = QuantConv2d(
            in_channels,
            out_channels,
            *geometry,  # type: ignore[arg-type]
            weight_bits=conv.weight_quant.bits,
            act_bits=conv.act_quant.bits,
            per_channel=conv.weight_quant.per_channel,
            pixels=getattr(conv.act_quant, "offset", None),
        )
    else:
        new = FloatConv2d(in_channels, out_channels, *geometry, bias=False)  # type: ignore[arg-type]
    with torch.no_grad():
        # Keep the variance a layer of the new fan-in would start with.
        gain = (conv.in_channels / in_channels) ** 0.5
        new.weight.copy_(conv.weight[:out_channels, :in_channels] * gain)
        if isinstance(new, QuantConv2d):
            new.weight_quant.initialize(new.weight)  # type: ignore[operator]
    return new


def squeeze(model: nn.Module, layer: str = "features.27", channels: int = 8) -> nn.Module:
    """Narrow `layer` to `channels` inputs and outputs, in place, and return `model`.

    The convolution before it (and its batch norm) gets `channels` outputs, the one behind it `channels` inputs, and
    the batch norm of `layer` is removed, so that `relu(psum)*scale` is what the next layer receives; modules
    behind it move down by one (of `features.27`: 24 feeds it, 29 follows it). Done before training.

    Raises:
        BadInput: no such layer, not an inner convolution of a `Sequential`, or no batch norm behind it.
    """
    done = model.config.squeeze_layer if isinstance(model, Vgg16) else None
    if done is not None:
        raise BadInput(f"squeeze: this model is squeezed at {done} already")
    parent, _, index_text = layer.rpartition(".")
    modules: dict[str, Any] = dict(model.named_modules())
    seq = modules.get(parent)
    if layer not in modules or not isinstance(seq, nn.Sequential):
        raise BadInput(f"squeeze: no layer {layer!r} inside a Sequential of this model")
    at = int(index_text)
    convs = [i for i, m in enumerate(seq) if isinstance(m, nn.Conv2d)]
    if at not in convs[1:-1]:
        raise BadInput(
            f"squeeze: {layer!r} must be a convolution with one before and one after it: "
            f"{', '.join(f'{parent}.{i}' for i in convs[1:-1])}"
        )
    if not isinstance(seq[at + 1], ExactBatchNorm2d):
        raise BadInput(f"squeeze: {layer!r} has no batch norm behind it")
    most = min(modules[layer].in_channels, modules[layer].out_channels)
    if not 1 <= channels <= most:
        raise BadInput(f"squeeze: expected 1 to {most} channels for {layer!r}, found {channels}")
    if any(getattr(m, "weight", None) is None for m in seq if isinstance(m, QuantConv2d)):
        raise BadInput("squeeze: this model holds frozen integer codes; squeeze before training")
    before, after = convs[convs.index(at) - 1], convs[convs.index(at) + 1]
    seq[before] = _narrowed(seq[before], seq[before].in_channels, channels)  # type: ignore[arg-type]
    seq[after] = _narrowed(seq[after], channels, seq[after].out_channels)  # type: ignore[arg-type]
    seq[at] = _narrowed(seq[at], channels, channels)  # type: ignore[arg-type]
    if isinstance(seq[before + 1], ExactBatchNorm2d):
        seq[before + 1] = ExactBatchNorm2d(channels)
    del seq[at + 1]
    if isinstance(model, Vgg16):
        model.config = replace(model.config, squeeze_layer=layer, squeeze_channels=channels)
    return model
