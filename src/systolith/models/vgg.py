"""VGG16 for 32x32 pictures with low-bit layers, and the squeeze that fits one layer on a small array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.models import parts
from systolith.models.parts import FloatConv2d, Net, NetConfig
from systolith.quant import ExactBatchNorm2d, QuantConv2d

# Simonyan & Zisserman, "Very Deep Convolutional Networks", ICLR 2015, table 1, configuration D.
_PLAN: tuple[int | str, ...] = (
    *(64, 64, "M", 128, 128, "M", 256, 256, 256, "M"),
    *(512, 512, 512, "M", 512, 512, 512, "M"),
)


@dataclass(frozen=True)
class VggConfig(NetConfig):
    """Everything that fixes the shape and the formats of the network.

    `squeeze_layer` is None for the plain network. `width`: of 64 to 512 channels.
    """

    arch: ClassVar[str] = "vgg16"
    squeeze_layer: str | None = None
    squeeze_channels: int = 8
    width: float = 1.0


class Vgg16(Net):
    """VGG16 in the torchvision numbering (`features.0` ... `features.43`, `classifier`).

    Input: uint8 pictures (N, 3, 32, 32), no normalization: the first batch norm absorbs it. Output: (N, classes).
    """

    def __init__(self, config: VggConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        before = 3
        for item in _PLAN:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
                continue
            out = parts.channels(item, config.width)
            layers += [parts.conv(config, before, out, first=not layers), ExactBatchNorm2d(out), parts.relu(config)]
            before = out
        self.features = nn.Sequential(*layers)
        self.classifier = parts.classifier(config, before)
        if config.squeeze_layer is not None:
            self.config = replace(config, squeeze_layer=None)
            squeeze(self, config.squeeze_layer, config.squeeze_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def _narrowed(conv: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    """A copy with fewer channels that keeps the leading weights, at the variance that a layer of the new fan-in starts
    with."""
    geometry: Any = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, False)
    if isinstance(conv, QuantConv2d):
        new: nn.Conv2d = QuantConv2d(in_channels, out_channels, *geometry, **conv.settings)
    else:
        new = FloatConv2d(in_channels, out_channels, *geometry)
    with torch.no_grad():
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
