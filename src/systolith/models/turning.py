"""The float layers of a network as ours: one function a kind of layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.quant import ExactBatchNorm1d, ExactBatchNorm2d, QuantConv2d, QuantLinear


def quantized_layer(
    module: nn.Conv2d | nn.Linear,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, ...],
    settings: dict[str, Any],
) -> QuantConv2d | QuantLinear:
    """`module` as ours, with this weight and bias.

    Args:
        padding: top, bottom, left, right; of a convolution.
        settings: the layer's keyword arguments.
    """
    if isinstance(module, nn.Conv2d):
        sides: Any = padding if padding[::2] != padding[1::2] else padding[::2]
        channels, geometry = (module.in_channels, module.out_channels), (module.kernel_size, module.stride, sides)
        rest: Any = (*channels, *geometry, module.dilation, module.groups, bias is not None)
        layer: QuantConv2d | QuantLinear = QuantConv2d(*rest, **settings)
    else:
        layer = QuantLinear(module.in_features, module.out_features, bias is not None, **settings)
    layer.to(weight.device)
    layer.weight.copy_(weight)
    layer.weight_quant.initialize(layer.weight)  # type: ignore[operator]
    if bias is not None:
        layer.bias.copy_(bias)
    return layer


def four_sides(place: str, module: nn.Module, more: tuple[int, ...]) -> tuple[int, ...]:
    """A convolution's padding on each side (top, bottom, left, right), `more` added; zeros for a linear layer."""
    if not isinstance(module, nn.Conv2d):
        return (0, 0, 0, 0)
    if module.padding_mode != "zeros":
        raise BadInput(f"{place}: expected padding with zeros, found padding_mode {module.padding_mode!r}")
    if module.padding == "same":
        # As torch does it: of an odd number the larger half is behind.
        whole = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in whole)
    elif isinstance(module.padding, str):
        top = bottom = left = right = 0
    else:
        top, left = module.padding
        bottom, right = top, left
    return tuple(int(a) + b for a, b in zip((top, bottom, left, right), more, strict=True))


def of_pixels(
    place: str, module: nn.Conv2d | nn.Linear, offset: int, normalization: Any
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias for codes `pixel - offset` of a layer that was trained on `(pixel/255 - mean)/std`, or on pixels.

    Raises:
        BadInput: as many means and deviations as the layer has channels are expected.
    """
    weight = module.weight.double()
    if normalization is None:
        gain, base = torch.ones(1, dtype=torch.float64), torch.full((1,), float(offset), dtype=torch.float64)
    else:
        mean, std = (torch.as_tensor(side, dtype=torch.float64).reshape(-1) for side in normalization)
        inputs = module.in_channels if isinstance(module, nn.Conv2d) else module.in_features
        whole = inputs == len(mean) if isinstance(module, nn.Conv2d) else inputs % max(1, len(mean)) == 0
        if len(mean) != len(std) or not len(mean) or not whole or not (std > 0).all():
            raise BadInput(
                f"{place}: expected a mean and a std above 0 for each of its {inputs} inputs' channels, found "
                f"{mean.tolist()} and {std.tolist()}"
            )
        # (pixel/255 - mean)/std = gain*code + base
        gain, base = 1 / (255 * std), (offset / 255 - mean) / std
    shape = _by_input(gain, module), _by_input(base, module)
    bias = (weight * shape[1]).flatten(1).sum(1)
    if module.bias is not None:
        bias = bias + module.bias.double()
    return (weight * shape[0]).float(), bias.float() if module.bias is not None or bias.any() else None


def _by_input(channel: Tensor, module: nn.Conv2d | nn.Linear) -> Tensor:
    """Numbers of the input's channels as factors of the weight."""
    channel = channel.to(module.weight.device)
    if len(channel) == 1:
        return channel
    if isinstance(module, nn.Linear):
        return channel.repeat_interleave(module.in_features // len(channel))
    own = channel.reshape(module.groups, -1).repeat_interleave(module.out_channels // module.groups, 0)
    return own[:, :, None, None]


def batch_norm(place: str, module: Any, offset: Tensor | None) -> nn.Module:
    """A batch norm as ours; `offset` was added to what it takes before, and is taken from its mean now."""
    if module.running_mean is None:
        raise BadInput(f"{place}: expected a batch norm with running statistics")
    kind = ExactBatchNorm1d if isinstance(module, nn.BatchNorm1d) else ExactBatchNorm2d
    made = kind(module.num_features, module.eps, module.momentum).to(module.running_mean.device)
    own = made.state_dict()
    made.load_state_dict({name: module.state_dict().get(name, own[name]) for name in own})
    if offset is not None:
        assert made.running_mean is not None
        made.running_mean -= offset
    return made
