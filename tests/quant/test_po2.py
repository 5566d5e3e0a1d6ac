"""Steps that are powers of two, ties rounded up, weights that are not normalized."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.quant import (
    ActQuantizer,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
    WeightQuantizer,
    calibrate,
)
from systolith.quant import functional as Q

ALPHAS = st.floats(2**-9, 1e4, width=32)


@given(ALPHAS, st.sampled_from([1, 3, 7, 15, 127, 255]))
def test_the_step_is_the_power_of_two_nearest_in_its_logarithm(alpha: float, largest: int) -> None:
    free = torch.tensor(alpha, requires_grad=True)
    clip = Q.power_of_two(free, largest)
    step = Fraction(clip.item()) / largest
    mantissa, exponent = math.frexp(float(step))
    assert mantissa == 0.5
    assert step == Fraction(2) ** (exponent - 1)
    assert Fraction(1, 2) <= (Fraction(alpha) / largest / step) ** 2 <= 2
    clip.backward()
    assert free.grad is not None
    assert free.grad.item() == pytest.approx(clip.item() / alpha, rel=1e-6)


def test_every_step_between_two_powers_goes_to_one_of_them() -> None:
    """Around sqrt(2), where the nearest one changes."""
    near = np.float32(2**0.5)
    alphas = torch.from_numpy(np.array([np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(2))]))
    assert [Q.power_of_two(a, 1).item() for a in alphas] == [2.0 if float(a) ** 2 > 2 else 1.0 for a in alphas]


def around_ties(largest: int) -> Tensor:
    ties = np.arange(-largest - 1, largest + 2).astype(np.float32) + np.float32(0.5)
    beside = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    return torch.from_numpy(np.concatenate([ties, *beside, np.float32([0, -0.0, 1e-40, -1e-40])]))


@pytest.mark.parametrize("largest", [1, 15, 255])
def test_half_up_is_exact_at_every_tie_and_beside_it(largest: int) -> None:
    x = around_ties(largest)
    assert Q.half_up(x).tolist() == [math.floor(Fraction(v) + Fraction(1, 2)) for v in x.tolist()]
    # In fp32 the sum that the name suggests is not: 0.49999997 + 0.5 is 1.
    assert (x + 0.5).floor().tolist() != Q.half_up(x).tolist()


@pytest.mark.parametrize("rounding", ["even", "up"])
@pytest.mark.parametrize("signed", [False, True])
def test_codes_of_a_quantizer_are_its_rounding_of_the_exact_quotient(rounding: str, signed: bool) -> None:
    quantizer = ActQuantizer(4, signed, po2=True, rounding=rounding)
    quantizer.initialize(torch.randn(500) if signed else torch.rand(500))
    step, (low, high) = Fraction(quantizer.scale().item()), quantizer.code_range
    assert step.numerator == 1 or step.denominator == 1
    x = around_ties(high) * float(step)
    exact = [Fraction(v) / step for v in x.tolist()]
    nearest = [math.floor(v + Fraction(1, 2)) if rounding == "up" else round(v) for v in exact]
    assert quantizer.codes(x).tolist() == [min(max(code, low), high) for code in nearest]
    assert torch.equal(quantizer.train()(x), quantizer.codes(x) * quantizer.scale())  # no rounding in between


def layers(**how: Any) -> list[tuple[Any, tuple[int, ...]]]:
    return [
        (QuantConv2d(3, 4, 3, **how), (2, 3, 6, 6)),
        (QuantConv2d(4, 4, 3, groups=4, per_channel=True, signed=True, bias=True, **how), (2, 4, 6, 6)),
        (QuantLinear(12, 5, **how), (8, 12)),
        (QuantAdd(**how), (2, 3, 4, 4)),
        (QuantAvgPool2d(2, signed=True, **how), (2, 3, 4, 4)),
        (QuantIdentity(4, signed=True, **how), (2, 3, 4, 4)),
    ]


@pytest.mark.parametrize("rounding", ["even", "up"])
def test_every_layer_has_powers_of_two_and_what_training_computes(rounding: str) -> None:
    torch.manual_seed(0)
    for layer, shape in layers(scale="po2", rounding=rounding):
        inputs = [torch.randn(shape) for _ in range(2 if isinstance(layer, QuantAdd) else 1)]
        layer.act_quant.initialize(torch.cat([x.flatten() for x in inputs]))
        steps = [layer.act_quant.scale()]
        if hasattr(layer, "weight_quant"):
            steps += [layer.weight_quant.scale(), layer.scale()]
        for step in torch.cat([s.flatten() for s in steps]).tolist():
            assert math.frexp(step)[0] == 0.5
        # Sums of products of powers of two and small integers have no rounding in fp32: bit for bit the same.
        trained, evaluated = layer.train()(*inputs), layer.eval()(*inputs)
        assert torch.equal(trained, evaluated), type(layer).__name__
        trained.square().sum().backward()
        assert layer.act_quant.alpha.grad is not None
        assert layer.act_quant.alpha.grad.isfinite()


@pytest.mark.parametrize("rounding", ["even", "up"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_between_two_layers_a_shift_makes_the_codes(rounding: str, bits: int) -> None:
    torch.manual_seed(bits)
    how: dict[str, Any] = {"scale": "po2", "rounding": rounding}
    one = QuantConv2d(3, 6, 3, padding=1, pixels=0, **how)
    two = QuantConv2d(6, 4, 3, act_bits=bits, **how)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    calibrate(nn.Sequential(one, nn.ReLU(), two), pixels)
    one.eval(), two.eval()
    acc = one.accumulate(one.act_quant.codes(pixels)).detach().to(torch.int64).numpy()
    shift = round(math.log2(two.act_quant.scale().item() / one.scale().item()))
    assert shift > 0
    codes = two.act_quant.codes(torch.relu(one(pixels))).detach().numpy()
    half, whole = 1 << (shift - 1), 1 << shift
    if rounding == "up":
        by_shift = (acc + half) >> shift
    else:
        floor, rest = acc >> shift, acc % whole
        by_shift = floor + ((rest > half) | ((rest == half) & (floor % 2 == 1)))
    assert np.array_equal(np.clip(by_shift, 0, 2**bits - 1), codes)
    assert (acc % whole == half).any() or bits == 8  # there are ties to be told apart


def test_weights_that_are_not_normalized_are_their_codes_times_the_scale_up_to_half_a_step() -> None:
    torch.manual_seed(0)
    weight = 0.03 + 0.05 * torch.randn(6, 4, 3, 3)
    for po2 in (False, True):
        for per_channel in (False, True):
            quantizer = WeightQuantizer(8, weight, per_channel, po2=po2, normalize=False)
            scale = quantizer.scale().reshape(-1, 1, 1, 1)
            inside = weight.abs() <= quantizer.clip().reshape(-1, 1, 1, 1)
            off = (quantizer.codes(weight) * scale - weight).abs() / scale
            assert inside.float().mean() > 0.98
            assert off[inside].max() <= 0.5001
            assert torch.allclose(quantizer.train()(weight), quantizer.codes(weight) * scale, atol=1e-6)


def test_what_a_layer_cannot_be_told() -> None:
    with pytest.raises(BadInput, match="scale: expected learned or po2, found 'shift'"):
        QuantAdd(scale="shift")
    with pytest.raises(BadInput, match="rounding: expected even or up, found 'down'"):
        QuantConv2d(1, 1, 1, rounding="down")


def test_a_layer_says_how_its_steps_are() -> None:
    said = repr(QuantConv2d(1, 1, 1, scale="po2", rounding="up", normalize=False))
    assert "uint4, po2, half up, alpha=" in said
    assert "int4, per tensor, po2, not normalized, alpha=" in said
