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
    PixelCodes,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
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


def grouped() -> nn.Module:
    model = tail(lambda m, x: m.b(m.a(x)))
    model.b.groups = 2  # type: ignore[union-attr, assignment]
    return model


def same_padding() -> nn.Module:
    model = tail(lambda m, x: m.b(m.a(x)))
    model.b.padding = "same"  # type: ignore[union-attr, assignment]
    return model


def twice_registered() -> nn.Module:
    layer = conv()
    return tail(lambda m, x: m.d(m.c(m.a(x))), c=layer, d=layer)


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


AVERAGE = "an average pool of floats cannot be lowered; QuantAvgPool2d quantizes what it sums"
FLOAT_ADD = "a float add cannot be lowered; QuantAdd gives both operands one scale"
IN_PLACE = "a ReLU in place on a tensor that another layer takes too cannot be lowered"
ONLY_CONV = "pixels can only go into a convolution"
OUTPUT = "the model's output: expected it straight from a QuantLinear, whose integers are the logits"
TRAINING = "in training; only a model in eval is lowered: call eval"
MAPS = r"expected a map \(C, H, W\), found"

REFUSALS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "+": (lambda: tail(lambda m, x: m.a(x) + m.b(m.a(x))), "a: a layer that is called twice"),
    "float add": (lambda: tail(lambda m, x: (y := m.a(x)) + m.b(y)), f"^add: {FLOAT_ADD}"),
    "float add of one": (lambda: tail(lambda m, x: (y := m.a(x)) + y), f"^add: {FLOAT_ADD}"),
    "float add of a number": (lambda: tail(lambda m, x: m.a(x) + 1), f"^add: {FLOAT_ADD}"),
    "torch.add": (lambda: tail(lambda m, x: torch.add(y := m.a(x), m.b(y))), f"^add: {FLOAT_ADD}"),
    "method add": (lambda: tail(lambda m, x: (y := m.a(x)).add(m.b(y))), f"^add: {FLOAT_ADD}"),
    "method add_": (lambda: tail(lambda m, x: m.b(y := m.a(x)).add_(y)), f"^add_: {FLOAT_ADD}"),
    "product": (lambda: tail(lambda m, x: m.a(x) * 2), "^mul: mul cannot be lowered"),
    "concatenation": (lambda: tail(lambda m, x: torch.cat([y := m.a(x), m.b(y)], 1)), "^cat: cat cannot be lowered"),
    "AvgPool2d": (lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.AvgPool2d(2)), f"^pool: {AVERAGE}"),
    "adaptive": (lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.AdaptiveAvgPool2d(1)), f"^pool: {AVERAGE}"),
    "F.avg_pool2d": (lambda: tail(lambda m, x: F.avg_pool2d(m.a(x), 2)), f"^avg_pool2d: {AVERAGE}"),
    "F.adaptive": (lambda: tail(lambda m, x: F.adaptive_avg_pool2d(m.a(x), 1)), f"^adaptive_avg_pool2d: {AVERAGE}"),
    "mean": (lambda: tail(lambda m, x: m.a(x).mean((2, 3))), "^mean: mean cannot be lowered"),
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
    "F.conv2d": (lambda: tail(lambda m, x: F.conv2d(m.a(x), m.b.weight)), "^b_weight: b.weight cannot be lowered"),
    "BatchNorm2d": (
        lambda: tail(lambda m, x: m.norm(m.a(x)), norm=nn.BatchNorm2d(4)),
        "^norm: a BatchNorm2d cannot be lowered, its result changes with the machine; ExactBatchNorm2d can",
    ),
    "BatchNorm1d": (
        lambda: tail(lambda m, x: m.norm(m.a(x).flatten(1)), norm=nn.BatchNorm1d(256)),
        "^norm: a BatchNorm1d cannot be lowered",
    ),
    "batch norm behind max pool": (
        lambda: tail(lambda m, x: m.bn(m.max(m.a(x)))),
        "^bn: a batch norm behind pooling or flattening cannot be lowered",
    ),
    "batch norm behind pool, relu": (
        lambda: tail(lambda m, x: m.bn(F.relu(F.max_pool2d(m.a(x), 2)))),
        "^bn: a batch norm behind pooling or flattening cannot be lowered",
    ),
    "batch norm behind linear": (
        lambda: tail(
            lambda m, x: m.norm(m.hidden(m.a(x).flatten(1))), hidden=QuantLinear(256, 9), norm=ExactBatchNorm2d(9)
        ),
        f"^norm: {MAPS} hidden's",
    ),
    "sigmoid": (lambda: tail(lambda m, x: m.act(m.a(x)), act=nn.Sigmoid()), "^act: Sigmoid cannot be lowered"),
    "torch.sigmoid": (lambda: tail(lambda m, x: torch.sigmoid(m.a(x))), "^sigmoid: sigmoid cannot be lowered"),
    "sigmoid called relu": (lambda: tail(lambda m, x: m.relu(m.a(x)), relu=nn.Sigmoid()), "^relu: Sigmoid cannot"),
    "ReLU6 called relu": (lambda: tail(lambda m, x: m.relu(m.a(x)), relu=nn.ReLU6()), "^relu: ReLU6 cannot"),
    "Softmax called flatten": (
        lambda: tail(lambda m, x: m.flatten(m.a(x)), flatten=nn.Softmax(1)),
        "^flatten: Softmax cannot be lowered",
    ),
    "LeakyReLU": (lambda: tail(lambda m, x: m.act(m.a(x)), act=nn.LeakyReLU()), "^act: LeakyReLU cannot be lowered"),
    "clamp": (lambda: tail(lambda m, x: m.a(x).clamp(min=0)), "^clamp: clamp cannot be lowered"),
    "called twice": (lambda: tail(lambda m, x: m.b(m.b(m.a(x)))), "^b: a layer that is called twice cannot be lowered"),
    "add called twice": (
        lambda: tail(lambda m, x: m.join(y := m.a(x), m.join(y, y))),
        "^join: a layer that is called twice cannot be lowered",
    ),
    "registered twice": (twice_registered, "^c: a layer that is called twice cannot be lowered"),
    "output of a convolution": (lambda: Written(lambda m, x: m.a(x).flatten(1), a=stem()).eval(), f"^{OUTPUT}"),
    "output of an add": (
        lambda: Written(
            lambda m, x: m.join(y := m.fc(m.a(x).flatten(1)), y), a=stem(), fc=QuantLinear(256, 5), join=QuantAdd()
        ).eval(),
        f"^{OUTPUT}",
    ),
    "output behind a ReLU": (
        lambda: Written(lambda m, x: F.relu(m.fc(m.a(x).flatten(1))), a=stem(), fc=QuantLinear(256, 5)).eval(),
        f"^{OUTPUT}",
    ),
    "two outputs": (
        lambda: Written(lambda m, x: (m.fc(y := m.a(x).flatten(1)), y), a=stem(), fc=QuantLinear(256, 5)).eval(),
        f"^{OUTPUT}",
    ),
    "output of pixels": (lambda: Written(lambda m, x: x).eval(), f"^{OUTPUT}"),
    "two inputs": (lambda: TwoInputs().eval(), "^extra: a model with two inputs cannot be lowered"),
    "grouped": (grouped, "^b: string padding and grouped convolutions are not supported"),
    "plain grouped": (
        lambda: tail(lambda m, x: m.plain(m.a(x)), plain=nn.Conv2d(4, 4, 1, groups=2)),
        "^plain: a Conv2d without quantizers cannot be lowered",
    ),
    "string padding": (same_padding, "^b: string padding and grouped convolutions are not supported"),
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
    "ceil_mode": (
        lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.MaxPool2d(3, ceil_mode=True)),
        "^pool: a max pool with dilation or ceil_mode cannot be lowered",
    ),
    "dilated pool": (
        lambda: tail(lambda m, x: m.pool(m.a(x)), pool=nn.MaxPool2d(3, dilation=2)),
        "^pool: a max pool with dilation or ceil_mode cannot be lowered",
    ),
    "functional ceil_mode": (
        lambda: tail(lambda m, x: F.max_pool2d(m.a(x), 3, ceil_mode=True)),
        "^max_pool2d: a max pool with dilation or ceil_mode cannot be lowered",
    ),
    "functional dilation": (
        lambda: tail(lambda m, x: F.max_pool2d(m.a(x), 3, 1, 0, 2)),
        "^max_pool2d: a max pool with dilation or ceil_mode cannot be lowered",
    ),
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
    "view": (lambda: tail(lambda m, x: (y := m.a(x)).view(y.size(0), -1)), "^size: size cannot be lowered"),
    "batch norm of pixels": (
        lambda: tail(lambda m, x: m.a(m.norm(x)), norm=ExactBatchNorm2d(3)),
        f"^norm: {ONLY_CONV}",
    ),
    "linear layer of pixels": (lambda: tail(lambda m, x: m.fc2(x), fc2=QuantLinear(8, 5)), f"^fc2: {ONLY_CONV}"),
    "add of pixels": (lambda: tail(lambda m, x: m.join(x, x)), f"^join: {ONLY_CONV}"),
    "float pixels": (lambda: tail(lambda m, x: m.a(x.float())), f"^float_1: {ONLY_CONV}"),
    "pixels behind a layer": (
        lambda: tail(lambda m, x: m.c(m.a(x)), c=conv(pixels=0)),
        "^c: takes pixels, but stands behind a",
    ),
    "other pixel codes": (
        lambda: tail(lambda m, x: m.join(m.a(x), m.c(x)), c=stem(offset=128)),
        "^c: takes the pixels by another quantizer than the layer before it",
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


def test_grouped_convolutions_cannot_even_be_made() -> None:
    with pytest.raises(TypeError):
        QuantConv2d(4, 4, 3, groups=2)  # type: ignore[call-arg]
    assert isinstance(stem().act_quant, PixelCodes)
