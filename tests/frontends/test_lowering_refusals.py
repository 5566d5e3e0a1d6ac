"""What cannot be lowered is refused by the name of the module, with the reason."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_lowering import SIZE, Written, conv, stem
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.frontends.lowering import lower
from systolith.quant import (
    ExactBatchNorm2d,
    QuantAdd,
    QuantAvgPool2d,
    QuantLinear,
)


def tail(body: Callable[..., Any], **layers: nn.Module) -> nn.Module:
    """A model of the usual layers and `layers`, that classifies `body(layers, x)`."""
    made: dict[str, nn.Module] = {
        "a": stem(),
        "b": conv(),
        "bn": ExactBatchNorm2d(4),
        "join": QuantAdd(),
        "drop": nn.Dropout(),
        "flat": nn.Flatten(),
        "in_place": nn.ReLU(inplace=True),
        "max": nn.MaxPool2d(2),
        "fc": QuantLinear(256, 5),
    }
    model = Written(lambda m, x: m.fc(body(m, x).flatten(1)), **{**made, **layers})
    return model.eval()


def falling() -> nn.Module:
    norm = ExactBatchNorm2d(4)
    with torch.no_grad():
        norm.weight[2] = -1.0
    return norm


def shifted() -> nn.Module:
    norm = ExactBatchNorm2d(4)
    nn.init.ones_(norm.bias)
    return norm


def same_padding() -> nn.Module:
    model = tail(lambda m, x: m.b(m.a(x)))
    model.b.padding = "same"  # type: ignore[union-attr, assignment]
    return model


def partly_in_training() -> nn.Module:
    model = tail(lambda m, x: m.bn(m.a(x)))
    model.bn.train()  # type: ignore[union-attr, operator]
    return model


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = stem(), QuantLinear(256, 5)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        out: Tensor = self.fc(self.a(x).flatten(1))
        return out


def branches(m: Any, x: Tensor) -> Any:
    return m.a(x) if x.sum() > 0 else m.b(m.a(x))


def asserting(m: Any, x: Any) -> Any:
    if type(x) is not Tensor:
        raise ValueError
    return m.a(x)


def in_place(way: Callable[..., Any], before: Callable[..., Any] = lambda m, y: y) -> nn.Module:
    """One tensor through a ReLU in place, and as it was before it."""

    def body(m: Any, x: Tensor) -> Any:
        y = m.bn(m.a(x))
        return m.join(way(m, before(m, y)).flatten(1), y.flatten(1))

    return tail(body)


AVERAGE = "an average of floats cannot be lowered; QuantAvgPool2d quantizes what it sums"
FLOAT_ADD = "a float add cannot be lowered; QuantAdd gives both operands one scale"
IN_PLACE = "a ReLU in place on a tensor that another layer takes too cannot be lowered"
OUTPUT = "the model's output: expected it straight from a layer, whose integers are the answer, or from a quantizer"
TRAINING = "in training; only a model in eval is lowered: call eval"
MAPS = r"expected a map \(C, H, W\), found"

REFUSALS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "+": (lambda: tail(lambda m, x: m.a(x) + m.b(m.a(x))), f"^add: {FLOAT_ADD}"),
    "float add": (lambda: tail(lambda m, x: (y := m.a(x)) + m.b(y)), f"^add: {FLOAT_ADD}"),
    "float add of one": (lambda: tail(lambda m, x: (y := m.a(x)) + y), f"^add: {FLOAT_ADD}"),
    "torch.add": (lambda: tail(lambda m, x: torch.add(y := m.a(x), m.b(y))), f"^add: {FLOAT_ADD}"),
    "method add": (lambda: tail(lambda m, x: (y := m.a(x)).add(m.b(y))), f"^add: {FLOAT_ADD}"),
    "method add_": (lambda: tail(lambda m, x: m.b(y := m.a(x)).add_(y)), f"^add_: {FLOAT_ADD}"),
    "AvgPool2d": (lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.AvgPool2d(2)), f"^pool: {AVERAGE}"),
    "adaptive": (lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.AdaptiveAvgPool2d(1)), f"^pool: {AVERAGE}"),
    "F.avg_pool2d": (lambda: tail(lambda m, x: F.avg_pool2d(m.a(x), 2)), f"^avg_pool2d: {AVERAGE}"),
    "F.adaptive": (lambda: tail(lambda m, x: F.adaptive_avg_pool2d(m.a(x), 1)), f"^adaptive_avg_pool2d: {AVERAGE}"),
    "mean": (lambda: tail(lambda m, x: m.a(x).mean((2, 3))), f"^mean: {AVERAGE}"),
    "Conv2d": (
        lambda: tail(lambda m, x: m.plain(m.a(x)), plain=nn.Conv2d(4, 4, 1)),
        "^plain: a Conv2d without quantizers cannot be lowered; QuantConv2d and QuantLinear can",
    ),
    "Conv2d on pixels": (
        lambda: tail(lambda m, x: m.plain(x), plain=nn.Conv2d(3, 4, 1)),
        "^plain: a Conv2d without quantizers cannot be lowered",
    ),
    "Linear": (
        lambda: tail(lambda m, x: m.plain(m.a(x).flatten(1)), plain=nn.Linear(256, 256)),
        "^plain: a Linear without quantizers cannot be lowered",
    ),
    "F.conv2d": (lambda: tail(lambda m, x: F.conv2d(m.a(x), m.b.weight)), "^conv2d: conv2d cannot be lowered"),
    "BatchNorm2d": (
        lambda: tail(lambda m, x: m.norm(m.a(x)), norm=nn.BatchNorm2d(4)),
        "^norm: a BatchNorm2d cannot be lowered, its result changes with the machine; ExactBatchNorm2d can",
    ),
    "BatchNorm1d": (
        lambda: tail(lambda m, x: m.norm(m.a(x).flatten(1)), norm=nn.BatchNorm1d(256)),
        "^norm: a BatchNorm1d cannot be lowered",
    ),
    "batch norm behind max pool": (
        lambda: tail(lambda m, x: m.norm(m.max(m.a(x))), norm=falling()),
        "^norm: a batch norm of negative gain behind pooling cannot be lowered",
    ),
    "sigmoid": (lambda: tail(lambda m, x: m.act(m.a(x)), act=nn.Sigmoid()), "^act: Sigmoid cannot be lowered"),
    "torch.sigmoid": (lambda: tail(lambda m, x: torch.sigmoid(m.a(x))), "^sigmoid: sigmoid cannot be lowered"),
    "sigmoid called relu": (lambda: tail(lambda m, x: m.relu(m.a(x)), relu=nn.Sigmoid()), "^relu: Sigmoid cannot"),
    "Softmax called flatten": (
        lambda: tail(lambda m, x: m.flatten(m.a(x)), flatten=nn.Softmax(1)),
        "^flatten: Softmax cannot be lowered",
    ),
    "output behind a ReLU": (
        lambda: Written(lambda m, x: F.relu(m.fc(m.a(x).flatten(1))), a=stem(), fc=QuantLinear(256, 5)).eval(),
        f"^{OUTPUT}",
    ),
    "output of pixels": (lambda: Written(lambda m, x: x).eval(), f"^{OUTPUT}"),
    "two inputs": (lambda: TwoInputs().eval(), "^extra: a model with two inputs cannot be lowered"),
    "plain grouped": (
        lambda: tail(lambda m, x: m.plain(m.a(x)), plain=nn.Conv2d(4, 4, 1, groups=2)),
        "^plain: a Conv2d without quantizers cannot be lowered",
    ),
    "string padding": (same_padding, "^b: expected a padding of numbers, found 'same'"),
    "nn.ReLU in place": (lambda: in_place(lambda m, y: m.in_place(y)), f"^in_place: {IN_PLACE}"),
    "F.relu in place": (lambda: in_place(lambda m, y: F.relu(y, True)), f"^relu: {IN_PLACE}"),
    "F.relu_": (lambda: in_place(lambda m, y: F.relu_(y)), f"^relu_: {IN_PLACE}"),
    "torch.relu_": (lambda: in_place(lambda m, y: torch.relu_(y)), f"^relu_: {IN_PLACE}"),
    "method relu_": (lambda: in_place(lambda m, y: y.relu_()), f"^relu_: {IN_PLACE}"),
    "in place behind dropout": (
        lambda: in_place(lambda m, y: m.in_place(y), lambda m, y: m.drop(y)),
        f"^in_place: {IN_PLACE}",
    ),
    "in place behind flattening": (
        lambda: in_place(lambda m, y: F.relu_(y), lambda m, y: m.flat(y)),
        f"^relu_: {IN_PLACE}",
    ),
    "training": (lambda: tail(lambda m, x: m.a(x)).train(), f"^the model: {TRAINING}"),
    "partly in training": (partly_in_training, f"^bn: {TRAINING}"),
    "depends on data": (lambda: tail(branches), r"^the model cannot be traced \(TraceError: "),
    "an error without a message": (lambda: tail(asserting), r"^the model cannot be traced \(ValueError\)$"),
    "flatten all": (
        lambda: Written(lambda m, x: m.fc(m.a(x).flatten()), a=stem(), fc=QuantLinear(256, 5)).eval(),
        "^flatten: only flattening of all but the batch is lowered, found start 0, end -1",
    ),
    "flatten the map": (
        lambda: Written(lambda m, x: m.fc(torch.flatten(m.a(x), 2)), a=stem(), fc=QuantLinear(64, 5)).eval(),
        "^flatten: only flattening of all but the batch is lowered, found start 2, end -1",
    ),
    "torch.flatten of a part": (
        lambda: tail(lambda m, x: torch.flatten(m.a(x), 1, 2)),
        "^flatten: only flattening of all but the batch is lowered, found start 1, end 2",
    ),
    "method flatten of a part": (
        lambda: tail(lambda m, x: m.a(x).flatten(1, end_dim=2)),
        "^flatten: only flattening of all but the batch is lowered, found start 1, end 2",
    ),
    "nn.Flatten of a part": (
        lambda: tail(lambda m, x: m.part(m.a(x)), part=nn.Flatten(1, 2)),
        "^part: only flattening of all but the batch is lowered, found start 1, end 2",
    ),
    "linear layer of pixels": (
        lambda: tail(lambda m, x: m.fc2(x), fc2=QuantLinear(8, 5)),
        "^fc2: expected 8 channels to take, found shape",
    ),
    "pixels behind a layer": (
        lambda: tail(lambda m, x: m.c(m.a(x)), c=conv(pixels=0)),
        "^c: takes pixels, but stands behind a",
    ),
    "other pixel codes": (
        lambda: tail(lambda m, x: m.join(m.a(x), m.c(x)), c=stem(offset=128)),
        "^c: takes the pixels by another quantizer than the layer before it",
    ),
    "PReLU that falls": (
        lambda: tail(lambda m, x: m.act(m.a(x)), act=nn.PReLU(init=-0.5)),
        "^act: a slope of -0.5 below 0 makes it fall and rise",
    ),
    "LeakyReLU that falls": (
        lambda: tail(lambda m, x: F.leaky_relu(m.a(x), -0.1)),
        "^leaky_relu: a slope of -0.1 below 0",
    ),
    "PReLU behind flattening": (
        lambda: tail(lambda m, x: m.act(m.a(x).flatten(1)), act=nn.PReLU(256)),
        "^act: a PReLU behind flattening cannot be lowered",
    ),
    "a factor below 0": (lambda: tail(lambda m, x: m.a(x) * -2), "^mul: a factor of -2 cannot be lowered"),
    "clamp by a tensor": (lambda: tail(lambda m, x: m.a(x).clamp(max=m.b(m.a(x)))), "^clamp: clamp cannot be lowered"),
    "softmax inside": (lambda: tail(lambda m, x: F.softmax(m.a(x), 1)), "^softmax: softmax cannot be lowered"),
    "concatenation of rows": (
        lambda: tail(lambda m, x: torch.cat([y := m.a(x), m.b(y)], 2)),
        "^cat: only channels of one map are concatenated, found dim 2",
    ),
    "concatenation of maps of two sizes": (
        lambda: tail(lambda m, x: torch.cat([y := m.a(x), m.max(y)], 1)),
        "^cat: only channels of one map are concatenated, found dim 1",
    ),
    "bilinear": (
        lambda: tail(lambda m, x: F.interpolate(m.a(x), scale_factor=2, mode="bilinear")),
        "^interpolate: only nearest upsampling by whole factors is lowered, found bilinear",
    ),
    "upsampling by a fraction": (
        lambda: tail(lambda m, x: m.up(m.a(x)), up=nn.Upsample(scale_factor=1.5)),
        "^up: only nearest upsampling by whole factors is lowered",
    ),
    "padding before a pool": (
        lambda: tail(lambda m, x: m.max(F.pad(m.a(x), (1, 1, 1, 1)))),
        "^max: stands behind padding, which only goes into a convolution",
    ),
    "padding before an add": (
        lambda: tail(lambda m, x: m.join(y := F.pad(m.a(x), (1, 1, 1, 1)), y)),
        "^join: stands behind padding, which only goes into a convolution",
    ),
    "padding by ones": (
        lambda: tail(lambda m, x: m.b(F.pad(m.a(x), (1, 1, 1, 1), value=1.0))),
        "^pad: only zeros around the maps are lowered",
    ),
    "a batch norm of the padding": (
        lambda: tail(lambda m, x: m.b(m.shifted(F.pad(m.a(x), (1, 1, 1, 1)))), shifted=shifted()),
        "^shifted: makes something else of the zeros of the padding before it",
    ),
    "reshaping to something else": (
        lambda: tail(lambda m, x: m.a(x).view(-1, 128)),
        r"^view: only a reshaping to \(batch, 256\) is lowered, found",
    ),
    "unused layer": (
        lambda: tail(lambda m, x: (y := m.a(x), m.b(y))[0]),
        "^b: nothing takes what it produces",
    ),
    "average of a vector": (
        lambda: tail(lambda m, x: m.pool(m.a(x).flatten(1)), pool=QuantAvgPool2d()),
        f"^pool: {MAPS} shape \\(256,\\)",
    ),
    "average larger than the map": (
        lambda: tail(lambda m, x: m.pool(m.a(x)), pool=QuantAvgPool2d(9)),
        r"^pool: a window of \(9, 9\) does not fit the map \(8, 8\)",
    ),
    "add of other shapes": (
        lambda: tail(lambda m, x: m.join(y := m.a(x), m.max(y))),
        "^join: expected operands of one shape and format",
    ),
    "add of one": (lambda: tail(lambda m, x: m.join(m.a(x), 1.0)), "^join: an add of two tensors is lowered, not of 1"),
    "linear layer of a map": (
        lambda: Written(lambda m, x: m.fc(m.a(x)), a=stem(), fc=QuantLinear(8, 5)).eval(),
        "^fc: expected 8 channels to take, found shape",
    ),
    "pictures of another size": (
        lambda: Written(lambda m, x: m.fc(m.a(x).flatten(1)), a=stem(), fc=QuantLinear(1024, 5)).eval(),
        r"^fc: expected 1024 channels to take, found shape \(256,\)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_module_and_the_reason(case: str) -> None:
    make, match = REFUSALS[case]
    with pytest.raises(BadInput, match=match):
        lower(make(), SIZE)


def test_a_refused_model_is_left_as_it_was() -> None:
    model = partly_in_training()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(BadInput):
        lower(model, SIZE)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
