"""ResNet-20 for 32x32 pictures with low-bit layers (He et al., "Deep Residual Learning", CVPR 2016, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.models import parts
from systolith.models.parts import Net, NetConfig
from systolith.quant import ExactBatchNorm2d


@dataclass(frozen=True)
class ResNetConfig(NetConfig):
    """Everything that fixes the shape and the formats of the network.

    `blocks`: in each of the three stages; the network has 6*blocks + 2 layers. `width`: of 16, 32 and 64 channels.
    """

    arch: ClassVar[str] = "resnet20"
    blocks: int = 3
    width: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.blocks <= 50:
            raise BadInput(f"blocks: expected 1 to 50, found {self.blocks}")


class Block(nn.Module):
    """Two 3x3 convolutions and the residual add; a 1x1 convolution in the shortcut where the shape changes."""

    def __init__(self, config: ResNetConfig, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = parts.conv(config, in_channels, out_channels, stride=stride)
        self.bn1 = ExactBatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)  # behind both: the add's signed quantizer needs it too
        self.conv2 = parts.conv(config, out_channels, out_channels)
        self.bn2 = ExactBatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if (in_channels, 1) != (out_channels, stride):
            shortcut = parts.conv(config, in_channels, out_channels, kernel_size=1, stride=stride)
            self.downsample = nn.Sequential(shortcut, ExactBatchNorm2d(out_channels))
        self.add = parts.add(config)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H/stride, W/stride)."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(self.add(y, x if self.downsample is None else self.downsample(x)))
        return out


class ResNet20(Net):
    """ResNet-20 in the usual numbering: `conv1`, `bn1`, `layer1.0.conv1` ... `layer3.2.bn2`, `avgpool`, `fc`.

    The shortcuts of `layer2.0` and `layer3.0` are convolutions (`downsample.0`, option B of the paper). Input: uint8
    pictures (N, 3, H, W), no normalization: the first batch norm absorbs it. Output: (N, classes).
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        wide = [parts.channels(count, config.width) for count in (16, 32, 64)]
        self.conv1 = parts.conv(config, 3, wide[0], first=True)
        self.bn1 = ExactBatchNorm2d(wide[0])
        self.relu = nn.ReLU(inplace=True)
        for number, (before, out) in enumerate(zip([wide[0], *wide], wide, strict=False), 1):
            stride = 1 if number == 1 else 2
            same = [Block(config, out, out, 1) for _ in range(config.blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(Block(config, before, out, stride), *same))
        self.avgpool = parts.average_pool(config)
        self.fc = parts.classifier(config, wide[2])

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)  # type: ignore[operator]
        out: Tensor = self.fc(self.avgpool(x).flatten(1))
        return out
