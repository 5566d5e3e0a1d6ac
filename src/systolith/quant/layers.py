"""The layers that multiply codes: codes first in eval, fake quantization in training."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.quant.exact import accumulator_bound, exact_conv2d, exact_linear
from systolith.quant.quantizers import ActQuantizer, FrozenWeight, PixelCodes, WeightQuantizer, is_po2
from systolith.quant.small_maps import train_conv2d


class QuantLayer(nn.Module):
    """What `QuantConv2d` and `QuantLinear` share. Use those."""

    weight: Any  # nn.Parameter, or None once frozen
    bias: Any  # nn.Parameter or None
    act_quant: ActQuantizer | PixelCodes
    weight_quant: WeightQuantizer | FrozenWeight
    settings: dict[str, Any]  # the keyword arguments that make another like it
    _frozen_bound: int | None = None
    frozen_bias: Tensor | None = None

    def _quantize(self, settings: dict[str, Any]) -> None:
        """Make the quantizers; `settings` are the layer's keyword arguments."""
        self.settings = settings
        pixels, po2 = settings["pixels"], is_po2(settings["scale"])
        acts = ActQuantizer(settings["act_bits"], settings["signed"], po2=po2, rounding=settings["rounding"])
        self.act_quant = acts if pixels is None else PixelCodes(pixels)
        start, per_channel = self.weight.detach(), settings["per_channel"]
        weights = WeightQuantizer(settings["weight_bits"], start, per_channel, po2=po2, normalize=settings["normalize"])
        self.weight_quant = weights

    def weight_codes(self) -> Tensor:
        """Whole fp32 numbers (O, ...): the weight codes that eval multiplies with."""
        if isinstance(self.weight_quant, FrozenWeight):
            return self.weight_quant.codes.float()
        return self.weight_quant.codes(self.weight)

    def coded_weight(self) -> Tensor:
        """fp32 (O, ...): the weight codes times their scale, without a gradient."""
        codes, scale = self.weight_codes().detach(), self.weight_quant.scale().detach()
        return codes * scale.reshape(-1, *[1] * (codes.ndim - 1))

    def scale(self) -> Tensor:
        """`s = fp32(s_a*s_w)`, shape (1,) or (O,)."""
        return self.act_quant.scale().to(self.weight_quant.scale().device) * self.weight_quant.scale()

    def bias_codes(self) -> Tensor | None:
        """`rint(bias/s)` as whole numbers (O,), or None; of a frozen layer what it was given."""
        if self.frozen_bias is not None:
            return self.frozen_bias
        return None if self.bias is None else (self.bias / self.scale()).round()

    def rounded_bias(self) -> Tensor | None:
        """What training adds: the value of the rounded bias, with the gradient of the float one (straight through)."""
        rounded = self.bias_codes()
        return None if rounded is None else self.bias + (rounded * self.scale() - self.bias).detach()

    def accumulate(self, act: Tensor) -> Tensor:
        """Activation codes to accumulators, whole numbers in fp32 or float64, integer bias included."""
        raise NotImplementedError

    def dequantize(self, acc: Tensor) -> Tensor:
        """`y = fp32(acc*s)`."""
        scale = self.scale().reshape(-1, *[1] * (acc.ndim - 2))
        return (acc * scale.to(acc.dtype)).float()

    def _bound(self, codes: Tensor) -> int:
        """The largest magnitude that a sum of products can reach; frozen codes have theirs once and for all."""
        if self._frozen_bound is not None:
            return self._frozen_bound
        return accumulator_bound(codes, self.act_quant.format.lo, self.act_quant.format.hi)

    def freeze(self, codes: Tensor, scale: Tensor, bits: int | None = None, bias: Tensor | None = None) -> None:
        """Replace the float weight by integer codes (int8) and their fp32 scale; from then on eval only.

        Args:
            bits: of the codes, where they are not those of the layer's own quantizer.
            bias: integers (O,) in the place of those that the float bias rounds to.
        """
        self._frozen_bound = self._bound(codes)
        self.weight_quant = FrozenWeight(bits or self.weight_quant.bits, codes, scale)
        self.weight = None
        if bias is not None:
            self.frozen_bias = bias.double()
            self.bias = None
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        if mode and isinstance(self.weight_quant, FrozenWeight):
            raise BadInput(
                "this model holds frozen integer codes and is for evaluation; to train on, start from the "
                "float checkpoint of its run (DIR/last.pt or DIR/best.pt of `systolith train ... --out DIR`)"
            )
        return super().train(mode)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """Convolution of activation codes with weight codes; batch norm follows, or nothing.

    Args:
        padding: (vertical, horizontal), or of each side: top, bottom, left, right.
        groups: the channels fall into so many groups, each a convolution of its own; as many as channels: depthwise.
        bias: add an integer bias `rint(bias/s)`, as `QuantLinear` does.
        weight_bits, act_bits: 2 to 8.
        per_channel: one weight scale per output channel.
        pixels: the input is uint8 pictures: code = pixel - `pixels` (0 or 128).
        signed: of the activation codes: the input can be negative (no ReLU before it).
        scale: "learned", or "po2": both steps are powers of two, so that without a batch norm behind it a shift makes
            the next layer's codes.
        rounding: of the activations' ties: "even" (half to even) or "up" (half up).
        normalize: by the weights' own mean and deviation; without, codes times scale are near the weights themselves.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        weight_bits: int = 4,
        act_bits: int = 4,
        per_channel: bool = False,
        pixels: int | None = None,
        signed: bool = False,
        scale: str = "learned",
        rounding: str = "even",
        normalize: bool = True,
    ) -> None:
        four = isinstance(padding, tuple) and len(padding) == 4
        around: Any = 0 if four else padding
        super().__init__(in_channels, out_channels, kernel_size, stride, around, dilation, groups, bias)
        if four:
            self.padding = padding  # type: ignore[assignment]
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if bias:
            nn.init.zeros_(self.bias)
        self._quantize(
            {
                **{"weight_bits": weight_bits, "act_bits": act_bits, "per_channel": per_channel, "pixels": pixels},
                **{"signed": signed, "scale": scale, "rounding": rounding, "normalize": normalize},
            }
        )

    def accumulate(self, act: Tensor) -> Tensor:
        codes, bias = self.weight_codes(), self.bias_codes()
        bound = self._bound(codes) + (0 if bias is None else int(bias.abs().max()))
        padding: Any = self.padding
        acc = exact_conv2d(act, codes, self.stride, padding, self.dilation, bound, self.groups)
        return acc if bias is None else acc + bias.to(acc.dtype).reshape(-1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) real values (or uint8 pixels) to (N, O, OH, OW) real values, fp32 in eval."""
        if not self.training:
            return self.dequantize(self.accumulate(self.act_quant.codes(x)))
        weight = self.weight_quant(self.weight)
        y = train_conv2d(self.act_quant(x), weight, self.stride, self.padding, self.dilation, self.groups)
        bias = self.rounded_bias()
        return y if bias is None else y + bias.reshape(-1, 1, 1)


class QuantLinear(QuantLayer, nn.Linear):
    """Matrix product of codes plus an integer bias `rint(bias/s)`.

    Args:
        bias: without, nothing is added (a batch norm follows).
        weight_bits, act_bits: 2 to 8.
        per_channel, pixels, signed, scale, rounding, normalize: as `QuantConv2d` has them; the
            logits of a classifier are of one scale, so it is per tensor.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_bits: int = 8,
        act_bits: int = 8,
        per_channel: bool = False,
        pixels: int | None = None,
        signed: bool = False,
        scale: str = "learned",
        rounding: str = "even",
        normalize: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        nn.init.normal_(self.weight, std=in_features**-0.5)
        if bias:
            nn.init.zeros_(self.bias)
        self._quantize(
            {
                **{"weight_bits": weight_bits, "act_bits": act_bits, "per_channel": per_channel, "pixels": pixels},
                **{"signed": signed, "scale": scale, "rounding": rounding, "normalize": normalize},
            }
        )

    def accumulate(self, act: Tensor) -> Tensor:
        codes, bias = self.weight_codes(), self.bias_codes()
        acc = exact_linear(act, codes, self._bound(codes) + (0 if bias is None else int(bias.abs().max())))
        return acc if bias is None else acc + bias.to(acc.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) real values (or uint8 pixels) to (N, O) real values, fp32 in eval."""
        if not self.training:
            return self.dequantize(self.accumulate(self.act_quant.codes(x)))
        return F.linear(self.act_quant(x), self.weight_quant(self.weight), self.rounded_bias())


class QuantIdentity(nn.Module):
    """A quantizer on its own: what leaves it are codes times a scale. Outputs that are codes come from one.

    Args:
        bits: 2 to 8.
        signed: the input can be negative.
        scale, rounding: as `QuantConv2d` has them.
    """

    def __init__(self, bits: int = 8, signed: bool = False, *, scale: str = "learned", rounding: str = "even") -> None:
        super().__init__()
        self.act_quant = ActQuantizer(bits, signed, po2=is_po2(scale), rounding=rounding)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same; fp32 in eval."""
        return self.act_quant(x) if self.training else self.act_quant.codes(x) * self.act_quant.scale()


def quant_layers(model: nn.Module) -> dict[str, QuantConv2d | QuantLinear]:
    """The quantized layers of `model` by their dotted names, in order of definition."""
    return {name: m for name, m in model.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))}


def quant_layer(model: nn.Module, name: str) -> QuantConv2d | QuantLinear:
    """The quantized layer `name`; `BadInput` if there is none, or it is of another kind."""
    modules: dict[str, Any] = dict(model.named_modules())
    if name not in modules:
        raise BadInput(f"no layer {name!r} in this model; its quantized layers are {', '.join(quant_layers(model))}")
    if not isinstance(modules[name], (QuantConv2d, QuantLinear)):
        raise BadInput(
            f"layer {name!r} is a {type(modules[name]).__name__}, which is not quantized; "
            f"the quantized layers are {', '.join(quant_layers(model))}"
        )
    return modules[name]


@torch.no_grad()
def calibrate(model: nn.Module, batch: Tensor, *, keep_norms: bool = False) -> None:
    """Set every activation clip value from the data that `batch` brings to it, front to back, in one pass.

    The pass is one of training (without dropout), so batch norms take the batch's statistics; every module is left in
    the mode in which it was found.

    Args:
        model: of our layers, or whatever `quantize` made.
        batch: what the model takes: uint8 pictures (N, C, H, W); some hundreds for post-training quantization.
        keep_norms: batch norms use the statistics that they have, and keep them.

    Examples:
        >>> import torch, systolith as sl
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
        >>> sl.calibrate(sl.quantize(net)[0], torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8))
    """
    still = (nn.modules.dropout._DropoutNd, *((nn.modules.batchnorm._BatchNorm,) if keep_norms else ()))

    def set_alpha(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        # An add has two operands and one quantizer.
        every = torch.cat([x.reshape(-1) for x in (*inputs, *named.values())])
        layer.act_quant.initialize(every)  # type: ignore[union-attr, operator]

    quantized = [m for m in model.modules() if isinstance(getattr(m, "act_quant", None), ActQuantizer)]
    hooks = [layer.register_forward_pre_hook(set_alpha, with_kwargs=True) for layer in quantized]
    modes = {module: module.training for module in model.modules()}
    try:
        model.train()
        for module in modes:
            module.training &= not isinstance(module, still)
        model(batch)
    finally:
        for module, training in modes.items():
            module.training = training
        for hook in hooks:
            hook.remove()
