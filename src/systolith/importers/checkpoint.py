"""Checkpoints of the course notebook's networks: `checkpoint.pth`, `model_best.pth.tar`, or a bare state dict.

That quantizer, literally. Weights: minus their mean, over their unbiased deviation, over alpha, clamped to -1..1, the
magnitude times 2^(b-1)-1 rounded half to even, the sign put back. Activations: over alpha, clamped above at 1 only,
times 2^b-1, rounded. So the first layer's codes, of normalized pixels, may be negative: the format is widened to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from systolith.formats import BadInput, IntFormat
from systolith.importers.foreign import Foreign
from systolith.models.pretrained import read_tensors
from systolith.pictures import read_picture
from systolith.quant import ExactBatchNorm2d, QuantConv2d, QuantLinear
from systolith.quant.foreign import Normalize, format_of
from systolith.store import ASSETS

MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
_VGG16 = (2, 4, 7, 10, 13)
"""Convolutions behind which VGG16 pools."""


class CourseAct(nn.Module):
    """`code = rint(min(x/alpha, 1) * L)`, L = 2^bits - 1: no clamp below.

    `low` is the smallest code that the layer can see: 0 behind a ReLU.
    """

    alpha: Tensor

    def __init__(self, alpha: Tensor, bits: int, low: int = 0) -> None:
        super().__init__()
        self.register_buffer("alpha", alpha.float().reshape(()))
        self.largest, self.low, self.bits = (1 << bits) - 1, low, bits

    @property
    def format(self) -> IntFormat:
        return format_of(*self.code_range)

    @property
    def code_range(self) -> tuple[int, int]:
        """The smallest and the largest code."""
        return self.low, self.largest

    def scale(self) -> Tensor:
        """fp32 scalar alpha/L."""
        return (self.alpha.double() / self.largest).float()

    def codes(self, x: Tensor) -> Tensor:
        """Whole fp32 numbers, shape of `x`."""
        return (x.float().div(self.alpha).clamp(max=1) * self.largest).round()

    def extra_repr(self) -> str:
        return f"{self.format}, alpha={float(self.alpha):.4g}"


def course_weight_codes(weight: Tensor, alpha: Tensor, bits: int) -> Tensor:
    """Whole fp32 numbers of `weight`'s shape, -L..L with L = 2^(bits-1) - 1."""
    normal = weight.float().add(-weight.float().mean()).div(weight.float().std())
    clipped = normal.div(alpha).clamp(-1, 1)
    return (clipped.abs() * ((1 << (bits - 1)) - 1)).round() * clipped.sign()


class CourseNet(nn.Module):
    """Normalized pixels through `features`, flattened, into `classifier`: VGG16 of the notebook."""

    def __init__(self, normalize: nn.Module, features: nn.Sequential, classifier: nn.Module) -> None:
        super().__init__()
        self.normalize, self.features, self.classifier = normalize, features, classifier

    def forward(self, x: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) to (N, classes)."""
        y: Tensor = self.classifier(self.features(self.normalize(x)).flatten(1))
        return y


class CourseBlock(nn.Module):
    """The basic block, whose sum is one of floats: each convolution's integers are its own, the block's are none."""

    def __init__(self, parts: Mapping[str, nn.Module], shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = (parts[name] for name in ("conv1", "bn1", "conv2", "bn2"))
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class CourseResNet(nn.Module):
    """ResNet of the notebook: `conv1`, `bn1`, `layer1` to `layer3`, `fc`."""

    def __init__(self, normalize: nn.Module, conv1: nn.Module, bn1: nn.Module, layers: Sequence[nn.Module], fc: Any):
        super().__init__()
        self.normalize, self.conv1, self.bn1 = normalize, conv1, bn1
        self.layer1, self.layer2, self.layer3 = layers
        self.fc = fc

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(self.normalize(x))))
        y = self.layer3(self.layer2(self.layer1(y)))
        logits: Tensor = self.fc(y.mean((2, 3)))
        return logits


class _State:
    """The file's tensors by name; what is missing or of another shape is said by name."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], weight_bits: int, act_bits: int) -> None:
        self.path, self.tensors, self.weight_bits, self.act_bits = path, tensors, weight_bits, act_bits

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise BadInput(f"{self.path}: holds no {name!r}, which the layer's quantizer needs")
        tensor = self.tensors[name]
        if not tensor.isfinite().all():
            raise BadInput(f"{self.path}: {name} holds a value that is not a number")
        return tensor.detach()

    def alpha(self, name: str) -> Tensor:
        value = self[name]
        if value.numel() != 1 or float(value) <= 0:
            raise BadInput(f"{self.path}: {name}: expected one positive number, found {value.reshape(-1)[:3].tolist()}")
        return value.float().reshape(())

    def conv(
        self, name: str, stride: int = 1, padding: int | None = None, pixels: nn.Module | None = None
    ) -> QuantConv2d:
        """A convolution; `pixels` makes what the first one takes."""
        weight = self[f"{name}.weight"]
        if weight.ndim != 4:
            raise BadInput(f"{self.path}: {name}.weight: expected (O, C, KH, KW), found {tuple(weight.shape)}")
        quantizer = CourseAct(self.alpha(f"{name}.act_alpha"), self.act_bits)
        if pixels is not None:
            every = pixels(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 256, 1))
            quantizer.low = min(0, int(quantizer.codes(every).min()))
        alpha = self.alpha(f"{name}.weight_quant.wgt_alpha")
        codes = course_weight_codes(weight, alpha, self.weight_bits)
        outs, ins, height, width = weight.shape
        around = (height // 2, width // 2) if padding is None else (padding, padding)
        layer = QuantConv2d(ins, outs, (height, width), stride, around)
        layer.act_quant = quantizer  # type: ignore[assignment]
        scale = (alpha.double() / ((1 << (self.weight_bits - 1)) - 1)).float().reshape(1)
        layer.freeze(codes.to(torch.int8), scale, self.weight_bits)
        return layer

    def norm(self, name: str, channels: int) -> ExactBatchNorm2d:
        made = ExactBatchNorm2d(channels)
        for part in ("weight", "bias", "running_mean", "running_var"):
            value = self[f"{name}.{part}"]
            if tuple(value.shape) != (channels,):
                raise BadInput(f"{self.path}: {name}.{part}: expected {channels} numbers, found {tuple(value.shape)}")
            getattr(made, part).data.copy_(value)
        return made

    def linear(self, name: str, features: int) -> nn.Linear:
        weight, bias = self[f"{name}.weight"], self[f"{name}.bias"]
        if weight.ndim != 2 or weight.shape[1] != features or bias.shape != weight.shape[:1]:
            raise BadInput(f"{self.path}: {name}: expected weights (classes, {features}), found {tuple(weight.shape)}")
        made = nn.Linear(features, weight.shape[0])
        made.weight.data.copy_(weight)
        made.bias.data.copy_(bias)
        return made


def import_checkpoint(
    path: Path,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    weight_bits: int = 4,
    act_bits: int = 4,
) -> Foreign:
    """The course's VGG16 (squeezed or not) or ResNet as a torch model of frozen integer layers.

    Args:
        path: of the file; nothing in it is executed.
        mean, std: a channel, of the pictures that it was trained on; the notebook's by default.
        weight_bits, act_bits: of its quantizers; the file does not say them.

    Raises:
        BadInput: no such file, code in it, a missing or odd tensor, or a network that is neither.
    """
    if not 2 <= weight_bits <= 8 or not 1 <= act_bits <= 8:
        raise BadInput(f"expected 2 to 8 weight bits and 1 to 8 activation bits, found {weight_bits} and {act_bits}")
    state = _State(path, _tensors(path), weight_bits, act_bits)
    normalize = Normalize(tuple(mean) or MEAN, tuple(std) or STD)
    if "features.0.weight" in state.tensors:
        model, notes = _vgg(state, normalize)
    elif "conv1.weight" in state.tensors and "layer1.0.conv1.weight" in state.tensors:
        model, notes = _resnet(state, normalize)
    else:
        known = "features.0.weight of a VGG16 or layer1.0.conv1.weight of a ResNet"
        raise BadInput(f"{path}: expected {known} among its tensors, found {', '.join(list(state.tensors)[:3])}")
    first = next(m for m in model.modules() if isinstance(m, QuantConv2d))
    if first.act_quant.format != IntFormat(act_bits, False):
        notes.append(f"the first layer's codes are {first.act_quant.format}: normalized pixels may be negative")
    return Foreign("checkpoint", model.eval(), (32, 32), {}, tuple(notes))


def _tensors(path: Path) -> dict[str, Tensor]:
    state = read_tensors(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f"{path}: a torch file, but neither a state dict nor one under 'state_dict'")
    tensors = {str(name).removeprefix("module."): v for name, v in state.items() if isinstance(v, Tensor)}
    return {name: value for name, value in tensors.items() if not name.endswith("weight_q")}


def _vgg(state: _State, normalize: nn.Module) -> tuple[nn.Module, list[str]]:
    """Positions of the modules without tensors (ReLU, pool, an Identity for a batch norm) follow from the indices."""
    convs = sorted(
        int(match[1])
        for name, value in state.tensors.items()
        if (match := re.fullmatch(r"features\.(\d+)\.weight", name)) and value.ndim == 4
    )
    if len(convs) != 13:
        raise BadInput(f"{state.path}: expected the 13 convolutions of VGG16, found {len(convs)}")
    features = nn.Sequential()
    notes = []
    for number, at in enumerate(convs, start=1):
        name = f"features.{at}"
        conv = state.conv(name, pixels=normalize if number == 1 else None)
        features.append(conv)
        outs = conv.out_channels
        normed = f"features.{at + 1}.running_mean" in state.tensors
        pools = number in _VGG16
        end = convs[number] if number < len(convs) else at + 1 + normed + 1 + pools
        between = end - at - 1 - 1 - pools  # less the ReLU and the pool
        if normed and between == 1:
            features.append(state.norm(f"features.{at + 1}", outs))
        elif between == 1:
            features.append(nn.Identity())
        elif between != 0 or normed:
            raise BadInput(f"{state.path}: {name}: {end - at - 1} modules stand before the next convolution: not VGG16")
        if not normed:
            notes.append(f"{name} has no batch norm: what the array computes is what the next layer receives")
        features.append(nn.ReLU())
        if pools:
            features.append(nn.MaxPool2d(2))
        if number < len(convs) and state[f"features.{convs[number]}.weight"].shape[1] != outs:
            raise BadInput(f"{state.path}: features.{convs[number]}.weight: expected {outs} input channels")
    plain = state.linear("classifier", outs)
    classifier = QuantLinear(outs, plain.out_features)
    with torch.no_grad():
        classifier.weight.copy_(plain.weight)
        classifier.bias.copy_(plain.bias)
        classifier.weight_quant.initialize(plain.weight)  # type: ignore[operator]
        classifier.act_quant.initialize(features.eval()(normalize(_pictures())).flatten(1))  # type: ignore[operator]
    notes.append("the classifier, of floats in the file, has 8-bit weights and activations: logits are near the file's")
    return CourseNet(normalize, features, classifier), notes


def _pictures() -> Tensor:
    """What the classifier's clip value is set on: the shipped picture, and it mirrored, turned and darkened."""
    picture = torch.from_numpy(read_picture(ASSETS / "cat.png")[0])[None]
    turned = [picture, picture.flip(3), picture.flip(2), 255 - picture, picture // 2]
    return torch.cat(turned)


def _resnet(state: _State, normalize: nn.Module) -> tuple[nn.Module, list[str]]:
    conv1 = state.conv("conv1", pixels=normalize)
    channels, layers = conv1.out_channels, []
    for stage in (1, 2, 3):
        blocks = nn.Sequential()
        while f"layer{stage}.{len(blocks)}.conv1.weight" in state.tensors:
            name = f"layer{stage}.{len(blocks)}"
            stride = 2 if stage > 1 and not len(blocks) else 1
            outs = int(state[f"{name}.conv1.weight"].shape[0])
            shortcut: nn.Module = nn.Identity()
            if f"{name}.downsample.0.weight" in state.tensors:
                shortcut = nn.Sequential(
                    state.conv(f"{name}.downsample.0", stride, 0), state.norm(f"{name}.downsample.1", outs)
                )
            elif (channels, stride) != (outs, 1):
                raise BadInput(f"{state.path}: {name}: holds no 'downsample.0.weight' for its stride of {stride}")
            parts = {
                "conv1": state.conv(f"{name}.conv1", stride),
                "bn1": state.norm(f"{name}.bn1", outs),
                "conv2": state.conv(f"{name}.conv2"),
                "bn2": state.norm(f"{name}.bn2", outs),
            }
            blocks.append(CourseBlock(parts, shortcut))
            channels = outs
        if not len(blocks):
            raise BadInput(f"{state.path}: holds no 'layer{stage}.0.conv1.weight'")
        layers.append(blocks)
    head = "fc" if "fc.weight" in state.tensors else "linear"
    model = CourseResNet(normalize, conv1, state.norm("bn1", conv1.out_channels), layers, state.linear(head, channels))
    return model, ["its blocks add floats: every convolution has its integers, the network as a whole has none"]
