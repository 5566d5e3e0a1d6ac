"""A small MobileNet for 32x32 pictures with low-bit layers (Howard et al., "MobileNets", 2017, table 1, shortened)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from systolith.models import parts
from systolith.models.parts import Net, NetConfig
from systolith.quant import ExactBatchNorm2d

_PLAN = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
"""Channels and stride of each block."""


@dataclass(frozen=True)
class MobileNetConfig(NetConfig):
    """Everything that fixes the shape and the formats of the network. `width`: of 32 to 512 channels."""

    arch: ClassVar[str] = "mobilenet"
    width: float = 1.0


class MobileNet(Net):
    """A 3x3 convolution, seven depthwise-separable blocks (3x3 a channel, then 1x1), an average pool, a classifier.

    `features` is flat: convolution, batch norm, ReLU6, over and over. Input: uint8 pictures (N, 3, H, W), no
    normalization: the first batch norm absorbs it. Output: (N, classes).
    """

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__(config)
        before = parts.channels(32, config.width)
        layers = _normed(parts.conv(config, 3, before, first=True))
        for count, stride in _PLAN:
            out = parts.channels(count, config.width)
            layers += _normed(parts.conv(config, before, before, stride=stride, groups=before))
            layers += _normed(parts.conv(config, before, out, kernel_size=1))
            before = out
        self.features = nn.Sequential(*layers)
        self.avgpool = parts.average_pool(config)
        self.classifier = parts.classifier(config, before)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return out


def _normed(conv: nn.Conv2d) -> list[nn.Module]:
    return [conv, ExactBatchNorm2d(conv.out_channels), nn.ReLU6(inplace=True)]
