"""What the networks here share: the formats of a config, and layers that have them, or torch's own in a float twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.quant import ClampedReLU, QuantAdd, QuantAvgPool2d, QuantConv2d, QuantLinear, train_conv2d


@dataclass(frozen=True)
class NetConfig:
    """The formats of a network, as every config has them.

    `first_weight_bits`: of the first convolution. `weight_bits` 32 is the float twin: the same network of torch's own
    layers, without a quantizer. `po2`: every step is a power of two; `rounding` of activations' ties: "even" or "up".
    """

    arch: ClassVar[str]
    weight_bits: int = 4
    act_bits: int = 4
    first_weight_bits: int = 4
    per_channel: bool = False
    pixel_offset: int = 0
    classes: int = 10
    po2: bool = False
    rounding: str = "even"

    def __post_init__(self) -> None:
        if (self.weight_bits == 32) != (self.act_bits == 32):
            raise BadInput(f"weight_bits {self.weight_bits} and act_bits {self.act_bits}: both are 32, or neither")
        if self.classes < 1:
            raise BadInput(f"classes: expected 1 or more, found {self.classes}")

    @property
    def is_float(self) -> bool:
        return self.weight_bits == 32

    @property
    def steps(self) -> dict[str, Any]:
        """The arguments of every quantized layer that say how its steps are."""
        return {"scale": "po2" if self.po2 else "learned", "rounding": self.rounding}


class Net(nn.Module):
    """A network that its config describes whole: what model files and checkpoints hold, and `build` makes again."""

    config: Any

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config


class FloatConv2d(nn.Conv2d):
    """A convolution without quantizers or bias that takes uint8 pictures too."""

    def forward(self, x: Tensor) -> Tensor:
        x = x if x.is_floating_point() else x.to(self.weight.dtype)
        return train_conv2d(x, self.weight, self.stride, self.padding, self.dilation, self.groups)


class FloatLinear(nn.Linear):
    """A linear layer without quantizers that takes uint8 pictures too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.is_floating_point() else x.to(self.weight.dtype))


class FloatAdd(nn.Module):
    """What `QuantAdd` is without a quantizer."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def conv(
    config: NetConfig,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    first: bool = False,
) -> nn.Conv2d:
    """A convolution without bias that keeps the map's size (but for the stride); `first` takes pixels."""
    geometry: dict[str, Any] = {"stride": stride, "padding": kernel_size // 2, "groups": groups}
    if config.is_float:
        layer = FloatConv2d(in_channels, out_channels, kernel_size, bias=False, **geometry)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return layer
    return QuantConv2d(
        in_channels,
        out_channels,
        kernel_size,
        **geometry,
        weight_bits=config.first_weight_bits if first else config.weight_bits,
        act_bits=config.act_bits,
        per_channel=config.per_channel,
        pixels=config.pixel_offset if first else None,
        **config.steps,
    )


def hidden_linear(config: NetConfig, in_features: int, out_features: int, first: bool = False) -> nn.Linear:
    """A linear layer without bias, for a batch norm behind it; `first` takes pixels."""
    if config.is_float:
        layer = FloatLinear(in_features, out_features, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return layer
    return QuantLinear(
        in_features,
        out_features,
        bias=False,
        weight_bits=config.first_weight_bits if first else config.weight_bits,
        act_bits=config.act_bits,
        per_channel=config.per_channel,
        pixels=config.pixel_offset if first else None,
        **config.steps,
    )


def classifier(config: NetConfig, in_features: int) -> nn.Linear:
    """The last layer: 8 bits and one scale, so that its integers are the logits."""
    if config.is_float:
        return nn.Linear(in_features, config.classes)
    return QuantLinear(in_features, config.classes, **config.steps)


def relu(config: NetConfig) -> nn.Module:
    """A ReLU in front of one unsigned quantizer, with nothing but max pools between."""
    return (nn.ReLU if config.is_float else ClampedReLU)(inplace=True)


def add(config: NetConfig) -> nn.Module:
    """The residual add, 8 bits."""
    return FloatAdd() if config.is_float else QuantAdd(**config.steps)


def average_pool(config: NetConfig) -> nn.Module:
    """The mean of a whole map behind a ReLU, 8 bits: (N, C, H, W) to (N, C, 1, 1)."""
    return nn.AdaptiveAvgPool2d(1) if config.is_float else QuantAvgPool2d(**config.steps)


def channels(count: int, width: float) -> int:
    """`count` channels at `width` times the network's own; at least one."""
    if not 0 < width <= 16:
        raise BadInput(f"width: expected more than 0 and at most 16, found {width}")
    return max(1, round(count * width))
