"""From a trained torch model to integers: the codes of any layer, taken from the layer itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from systolith.equality import Equality, compare
from systolith.formats import BadInput
from systolith.network.graph import Conv
from systolith.network.reference import conv2d
from systolith.quant import QuantConv2d, QuantLinear, quant_layer


@dataclass(frozen=True, eq=False)
class Recovered:
    """The integers of one layer for one batch.

    Attributes:
        conv: geometry, formats and weight codes.
        act: activation codes, int16 (N, C, H, W).
        acc: accumulators by NumPy's integer arithmetic (without bias), int64 (N, O, OH, OW).
        network_acc: the accumulators that the model's own layer computed (without bias), int64, same shape.
        scale: fp32 (1,) or (O,): what an accumulator is multiplied by.
        match: `fp32(acc*scale)`, after the ReLU where one follows directly, against the float values in the model.
        max_difference, mean_difference: of the same comparison.
        logits: what the model answered, fp32 (N, classes).
    """

    conv: Conv
    act: NDArray[np.int16]
    acc: NDArray[np.int64]
    network_acc: NDArray[np.int64]
    scale: NDArray[np.float32]
    match: Equality
    max_difference: float
    mean_difference: float
    logits: NDArray[np.float32]


def _whole(values: Tensor, name: str) -> NDArray[np.int64]:
    array = values.detach().cpu().numpy()
    integers = array.astype(np.int64)
    if not (integers == array).all():
        raise RuntimeError(f"{name}: codes are not whole numbers")
    return integers


def layer_to_conv(name: str, layer: QuantConv2d | QuantLinear) -> Conv:
    """The layer as an integer `Conv` without its bias; a linear layer becomes a 1x1 kernel."""
    codes = _whole(layer.weight_codes(), f"{name} weight").astype(np.int8)
    formats = layer.act_quant.format, layer.weight_quant.format
    if isinstance(layer, QuantLinear):
        return Conv(name, codes[:, :, None, None], *formats)
    if isinstance(layer.padding, str):
        raise BadInput(f"{name}: expected a padding of numbers, found {layer.padding!r}")
    return Conv(
        name,
        codes,
        *formats,
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        groups=layer.groups,
    )


def _record(model: nn.Module, batch: Tensor, names: list[str]) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
    """Run the model; (input, output) of the modules `names`, and the model's output."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    modules, hooks = dict(model.named_modules()), []
    for name in names:

        def keep(_: nn.Module, inputs: tuple[Any, ...], output: Tensor, name: str = name) -> None:
            # Cloned: a ReLU behind may work in place.
            seen[name] = inputs[0].clone(), output.clone()

        hooks.append(modules[name].register_forward_hook(keep))
    try:
        with torch.no_grad():
            result = model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen, result


def _receiver(model: nn.Module, layer_name: str) -> str | None:
    """The quantized layer that gets `layer_name`'s output through a ReLU and nothing else, in one Sequential."""
    parent, _, index = layer_name.rpartition(".")
    modules: dict[str, Any] = dict(model.named_modules())
    siblings = modules[parent]
    if not isinstance(siblings, nn.Sequential):
        return None
    names = list(dict(siblings.named_children()))
    behind = names[names.index(index) + 1 :][:2]
    if len(behind) < 2 or not isinstance(siblings[names.index(behind[0])], nn.ReLU):
        return None
    receiver = f"{parent}.{behind[1]}" if parent else behind[1]
    return receiver if isinstance(modules[receiver], (QuantConv2d, QuantLinear)) else None


def recover(model: nn.Module, layer_name: str, batch: NDArray[np.uint8]) -> Recovered:
    """The exact integers that `layer_name` works with when `model` sees `batch`.

    Args:
        model: in eval (a training model is switched for the call and back).
        layer_name: dotted name of a quantized layer.
        batch: uint8 pictures (N, 3, H, W), or one (3, H, W).

    Raises:
        BadInput: no such layer, not quantized, or a batch of another shape.

    Examples:
        >>> import systolith as sl
        >>> found = sl.recover(sl.load("vgg16-w4a4-s8"), "features.27", sl.read_picture("cat.png")[0])
        >>> found.act.shape, found.match.holds
        ((1, 8, 4, 4), True)
    """
    layer = quant_layer(model, layer_name)
    if batch.ndim == 3:
        batch = batch[None]
    if batch.ndim != 4 or batch.dtype != np.uint8:
        raise BadInput(f"expected uint8 pictures (N, 3, H, W), found {batch.dtype} {batch.shape}")
    receiver = _receiver(model, layer_name)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        pixels = torch.from_numpy(batch).to(layer.weight_quant.scale().device)
        seen, logits = _record(model, pixels, [layer_name, receiver] if receiver else [layer_name])
        received, output = seen[layer_name]
        codes = layer.act_quant.codes(received)
        with torch.no_grad():
            network_acc = _whole(layer.accumulate(codes), f"{layer_name} accumulator")
            scale, bias = layer.scale().cpu().numpy(), layer.bias_codes()
    finally:
        for module in training:
            module.training = True
    conv = layer_to_conv(layer_name, layer)
    shape = codes.shape if codes.ndim == 4 else (*codes.shape, 1, 1)
    act = _whole(codes, f"{layer_name} activations").astype(np.int16).reshape(shape)
    acc = conv2d(conv, act)
    offset = 0 if bias is None else _whole(bias, "bias")[:, None, None]
    network_acc = network_acc.reshape(acc.shape) - offset

    # In eval `y = fp32(acc*s)`; a direct ReLU hands relu(acc)*s to the next quantized layer, unchanged.
    wide = (acc + offset).astype(np.float64) * scale.astype(np.float64).reshape(-1, 1, 1)
    recovered = wide.astype(np.float32)
    if receiver is not None:
        recovered, expected = np.maximum(recovered, 0), seen[receiver][0].cpu().numpy()
        name = f"relu(psum)*scale = what {receiver} receives"
    else:
        expected = output.cpu().numpy()
        name = "psum*scale = the layer's own output"
    recovered = recovered.reshape(expected.shape)
    difference = np.abs(recovered.astype(np.float64) - expected.astype(np.float64))
    return Recovered(
        conv,
        act,
        acc,
        network_acc,
        scale,
        compare(name, expected, recovered, ("image", "oc", "oi", "oj")),
        float(difference.max()),
        float(difference.mean()),
        logits.cpu().numpy(),
    )
