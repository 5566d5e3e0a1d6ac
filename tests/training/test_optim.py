from __future__ import annotations

import pytest
import torch
from torch import nn

from systolith.quant import QuantConv2d
from systolith.training import optim
from systolith.training.optim import Fp32Muon, Optimizers, fraction, triangle
from systolith.training.recipes import recipe


def test_triangle() -> None:
    # 10 steps, warm-up 20 %: up over 2 steps, then down over 8.
    expected = [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [triangle(i, 10, 0.2) for i in range(10)] == expected
    assert triangle(0, 1, 0.2) == 1.0
    assert fraction(recipe("seed"), 7, 10) == 1.0
    assert fraction(recipe("smoke", ["warmup=0.2"]), 3, 10) == 7 / 8


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(QuantConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("name", ["muon", "sgd"])
def test_a_step_moves_every_parameter_and_clears_gradients(name: str) -> None:
    model = network()
    optimizers = Optimizers(model, recipe("smoke", [f"optimizer={name}"]))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(torch.rand(2, 3, 3, 3)).square().sum().backward()
    optimizers.step(1.0)
    for n, p in model.named_parameters():
        assert not torch.equal(p, before[n]), n
        assert p.grad is None


def test_muon_turns_the_convolution_by_an_orthogonal_step() -> None:
    model = network()
    optimizers = Optimizers(model, recipe("smoke", ["lr=0.5"]))
    before = model[0].weight.detach().clone()
    model(torch.rand(2, 3, 3, 3)).square().sum().backward()
    optimizers.step(0.1)
    singular = torch.linalg.svdvals((before - model[0].weight.detach()).flatten(1))  # type: ignore[operator]
    # Newton-Schulz brings singular values to about 0.5..1.5 times the rate, 0.5*0.1 (the fourth may be small).
    assert ((singular[:3] > 0.2 * 0.05) & (singular[:3] < 1.6 * 0.05)).all()


def test_decay_spares_clip_values_and_norms() -> None:
    model = network()
    optimizers = Optimizers(model, recipe("seed", ["lr=0.1", "weight_decay=0.5", "momentum=0"]))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizers.step(1.0)
    for n, p in model.named_parameters():
        shrunk = before[n] * (1 - 0.1 * 0.5) if p.ndim >= 2 else before[n]
        assert torch.allclose(p, shrunk), n


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (7, 7)])
def test_muon_in_fp32_is_torchs_up_to_the_rounding_of_bf16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    moved = []
    for kind in (torch.optim.Muon, Fp32Muon):
        matrix = nn.Parameter(start.clone())
        optimizer = kind([matrix], lr=0.1, momentum=0.9, weight_decay=0.01)
        gen = torch.Generator().manual_seed(1)
        for _ in range(3):
            matrix.grad = torch.randn(shape, generator=gen)
            optimizer.step()
        moved.append((matrix.detach() - start, optimizer.state[matrix]["momentum_buffer"]))
    (torchs, buffer), (ours, own_buffer) = moved
    assert torch.equal(buffer, own_buffer)
    # bf16 keeps 8 bits, and five iterations add up their roundings.
    assert (torchs - ours).norm() < 0.03 * torchs.norm()
    assert not torch.equal(torchs, ours)


@pytest.mark.parametrize("units", [False, True])
def test_muon_is_torchs_where_the_device_has_bf16_units(monkeypatch: pytest.MonkeyPatch, units: bool) -> None:
    monkeypatch.setattr(optim, "has_bf16", lambda device: units)
    kind = type(Optimizers(network(), recipe("smoke")).parts["main"])
    assert kind is (torch.optim.Muon if units else Fp32Muon)
