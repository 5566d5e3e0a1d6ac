from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from systolith.quant import functional as Q


def test_weight_codes_by_hand() -> None:
    # mean of (1, 3) is 2, unbiased std is sqrt(2): normalized -0.7071, 0.7071.
    # alpha 1: -0.7071*7 = -4.95 -> -5; alpha 0.5: clipped to -7; alpha 2: -2.47 -> -2.
    w = torch.tensor([[1.0], [3.0]])
    for alpha, code in ((1.0, 5), (0.5, 7), (2.0, 2)):
        assert Q.weight_codes(w, torch.tensor([alpha]), 4, False).flatten().tolist() == [-code, code]
    assert Q.weight_scale(torch.tensor([3.0]), 4).item() == np.float32(3 / 7)


@given(st.integers(2, 8), st.booleans(), st.integers(0, 10**6))
def test_weight_codes_against_numpy(bits: int, per_channel: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.normal(0.3, 2, (5, 3, 2, 2)).astype(np.float32)
    alpha = rng.uniform(0.5, 3, 5 if per_channel else 1).astype(np.float32)
    largest = 2 ** (bits - 1) - 1
    expected = np.empty_like(w)
    for o in range(5):
        part = (w[o] if per_channel else w).astype(np.float64)
        mean, std = np.float32(part.mean()), np.float32(part.std(ddof=1))
        ratio = (w[o] - mean) / std / (alpha[o] if per_channel else alpha[0])
        expected[o] = np.rint(np.clip(ratio, -1, 1) * np.float32(largest))
    got = Q.weight_codes(torch.from_numpy(w), torch.from_numpy(alpha), bits, per_channel).numpy()
    assert (got == expected).all()
    assert np.abs(got).max() <= largest


def test_normalizing_leaves_the_weights_as_they_are() -> None:
    for dtype in (torch.float32, torch.float64):
        w = torch.arange(6, dtype=dtype).reshape(3, 2, 1, 1)
        assert Q.normalize_weight(w, False).sum() == 0
        assert w.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_tensor_without_spread_has_code_zero() -> None:
    for w in (torch.full((3, 2, 1, 1), 5.0), torch.full((3, 1, 1, 1), 5.0)):
        assert Q.weight_codes(w, torch.ones(3), 4, True).abs().max() == 0


def test_act_codes_by_hand() -> None:
    # alpha 3, L 15: q = 5. 0.1*5 = 0.5 and 0.5*5 = 2.5 are ties, to even: 0 and 2.
    x = torch.tensor([-1.0, 0.0, 0.1, 0.3, 0.5, 2.9, 3.0, 99.0])
    assert Q.act_codes(x, torch.tensor(3.0), 4).tolist() == [0, 0, 0, 2, 2, 14, 15, 15]
    assert Q.act_scale(torch.tensor(3.0), 4).item() == np.float32(0.2)


@given(st.integers(2, 8), st.floats(0.0078125, 50, width=32), st.integers(0, 10**6))
def test_act_codes_against_numpy(bits: int, alpha: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, alpha, 200).astype(np.float32)
    largest = 2**bits - 1
    q = np.float32(largest / np.float64(alpha))
    expected = np.rint(np.clip(x * q, np.float32(0), np.float32(largest)))
    assert (Q.act_codes(torch.from_numpy(x), torch.tensor(alpha), bits).numpy() == expected).all()


def lsq(x: float, alpha: float, largest: int, low: float) -> tuple[float, float]:
    """(d/dx, d/dalpha) of one element: the formulas of the contract, written out."""
    if x / alpha > 1:
        return 0.0, 1.0
    if x / alpha < low:
        return 0.0, low
    return 1.0, round(x / alpha * largest) / largest - x / alpha


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_gradients_against_the_formulas(low: float) -> None:
    values = torch.linspace(-6, 6, 101, dtype=torch.float64)
    largest = 7 if low else 15
    for v in values:
        x = v.clone().requires_grad_()
        alpha = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
        y = Q._FakeQuant.apply(x, alpha, largest, low)
        y.backward()
        d_x, d_alpha = lsq(float(v), 2.5, largest, low)
        assert x.grad is not None
        assert alpha.grad is not None
        assert x.grad.item() == d_x
        assert alpha.grad.item() == pytest.approx(d_alpha, abs=1e-6)


def test_gradients_are_the_numerical_ones_where_the_function_is_smooth() -> None:
    # Between two codes the residue e = rint(r) - r is held (straight through): y = alpha/L*(r + e), r = x*L/alpha.
    largest, x0, a0, h = 15, 1.234, 3.0, 1e-6
    residue = round(x0 * largest / a0) - x0 * largest / a0

    def held(x: float, alpha: float) -> float:
        return alpha / largest * (x * largest / alpha + residue)

    x = torch.tensor(x0, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(a0, dtype=torch.float64, requires_grad=True)
    Q._FakeQuant.apply(x, alpha, largest, 0.0).backward()
    assert x.grad is not None
    assert alpha.grad is not None
    assert x.grad.item() == pytest.approx((held(x0 + h, a0) - held(x0 - h, a0)) / (2 * h), rel=1e-6)
    # fp32 inside the backward pass
    assert alpha.grad.item() == pytest.approx((held(x0, a0 + h) - held(x0, a0 - h)) / (2 * h), abs=1e-6)
    # Above the clip y = alpha: slope 1 in alpha, 0 in x.
    x = torch.tensor(9.0, requires_grad=True)
    alpha = torch.tensor(3.0, requires_grad=True)
    Q.fake_quant_act(x, alpha, 4).backward()
    assert x.grad is not None
    assert alpha.grad is not None
    assert (x.grad.item(), alpha.grad.item()) == (0.0, 1.0)


def test_gradients_at_the_clip_points_by_hand() -> None:
    # At x = alpha and at x = low*alpha the ends belong to the inside: d/dx = 1, d/dalpha = code/L - x/alpha = 0.
    x = torch.tensor([-2.0, 0.0, 2.0, 2.0000002], requires_grad=True)
    alpha = torch.tensor([2.0], requires_grad=True)
    y = Q._FakeQuant.apply(x, alpha, 7, -1.0)
    assert y.tolist() == pytest.approx([-2, 0, 2, 2])
    y.sum().backward()
    assert x.grad is not None
    assert alpha.grad is not None
    assert x.grad.tolist() == [1, 1, 1, 0]
    assert alpha.grad.item() == 1.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_what_is_inside_includes_the_ends_but_a_relus_zero(dtype: torch.dtype, low: float) -> None:
    clip = torch.tensor(2.3, dtype=dtype)
    far = torch.tensor(torch.inf, dtype=dtype)
    ends = [low * clip, clip]
    beyond = [torch.nextafter(low * clip, -far), torch.nextafter(clip, far)]
    x = torch.stack([*ends, *beyond, clip / 2, 5 * clip, -5 * clip])
    ones = torch.ones_like(x)
    expected = [1, 1, 0, 0, 1, 0, 0]
    if low == 0:
        expected[0] = 0
    assert Q._inside(x, low, clip)(ones).tolist() == expected
    # The path of other devices and of compiled code, here by one clip value for each of two channels.
    both = Q._inside(x[None].expand(2, -1), low, clip.expand(2)[:, None])
    assert both(ones[None].expand(2, -1)).tolist() == [expected, expected]


def test_weight_gradient_is_that_of_the_normalized_weight() -> None:
    w = torch.randn(4, 3, 3, 3, requires_grad=True)
    alpha = torch.tensor([1.5], requires_grad=True)
    Q.fake_quant_weight(w, alpha, 4, False).sum().backward()
    normal = Q.normalize_weight(w.detach(), False)
    std = w.detach().double().std().float()
    assert w.grad is not None
    assert torch.equal(w.grad, torch.where(normal.abs() <= 1.5, 1 / std, torch.zeros(())))
    # Per channel, alpha's gradient is summed within its own channel only.
    alphas = torch.full((4,), 1.5, requires_grad=True)
    Q.fake_quant_weight(w.detach(), alphas, 4, True)[2].sum().backward()
    assert alphas.grad is not None
    assert (alphas.grad != 0).tolist() == [False, False, True, False]


def test_fake_quantization_is_codes_times_scale() -> None:
    w, x = torch.randn(4, 3, 3, 3), torch.randn(1000) * 3
    alpha = torch.tensor([1.7])
    assert torch.allclose(
        Q.fake_quant_weight(w, alpha, 3, False), Q.weight_codes(w, alpha, 3, False) * Q.weight_scale(alpha, 3)
    )
    a = torch.tensor(2.2)
    near = Q.fake_quant_act(x, a, 4) - Q.act_codes(x, a, 4) * Q.act_scale(a, 4)
    assert near.abs().max() < 1e-6


def test_compiled_gradients_are_the_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch 2.11 compiles an operation in place inside a forward like this one's to wrong gradients, silently.
    def gradients(quantizer: Any) -> list[torch.Tensor]:
        x, alpha = torch.linspace(-1, 4, 200).requires_grad_(), torch.tensor(2.2, requires_grad=True)
        (quantizer(x * 1.5, alpha, 4) * torch.linspace(-1, 2, 200)).sum().backward()
        assert x.grad is not None
        assert alpha.grad is not None
        return [x.grad, alpha.grad]

    monkeypatch.setattr(Q.fused, "takes", lambda *_: False)  # kernels add alpha's gradient up in another order
    compiled = torch.compile(Q.fake_quant_act, backend="aot_eager")
    for eager, other in zip(gradients(Q.fake_quant_act), gradients(compiled), strict=True):
        assert torch.equal(eager, other)


def test_alpha_stays_positive_and_comes_back() -> None:
    alpha = torch.tensor(-5.0, requires_grad=True)
    assert Q.positive(alpha).item() == np.float32(1e-3)
    for upstream, passed in ((-2.0, -2.0), (2.0, 0.0)):  # a negative gradient raises alpha under descent
        alpha.grad = None
        (Q.positive(alpha) * upstream).backward()
        assert alpha.grad is not None
        assert alpha.grad.item() == passed
    # Wherever the optimizer puts it, no layer sees NaN or inverted codes.
    assert Q.act_codes(torch.tensor([-1.0, 1.0]), Q.positive(torch.tensor(-3.0)), 4).tolist() == [0, 15]


@pytest.mark.parametrize("fused", [True, False])
def test_weights_are_quantized_in_fp32_and_rounded_once_under_autocast(
    fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr(Q.fused, "takes", lambda *_: False)
    w, alpha = torch.randn(8, 8, 3, 3), torch.tensor([2.5])
    plain = Q.fake_quant_weight(w, alpha, 4, False)
    assert plain.dtype == torch.float32
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            rounded = Q.fake_quant_weight(w, alpha, 4, False)
        assert rounded.dtype == dtype
        assert torch.equal(rounded, plain.to(dtype))


def test_best_clip_is_the_best_of_its_candidates() -> None:
    x = torch.randn(5001).relu()
    best = Q.best_clip(x, 15, 0.0).item()

    def error(clip: float) -> float:
        return float(((x / clip).clamp(0, 1).mul(15).round() * (clip / 15) - x).square().mean())

    assert 1.5 < best < x.max().item()
    assert all(error(best) <= error(float(x.max()) * k / 64) * (1 + 1e-4) for k in range(1, 65))
    # What unsigned codes cut off below does not count.
    assert Q.best_clip(torch.where(x > 0, x, -100.0), 15, 0.0).item() == best
    assert math.isclose(Q.best_clip(torch.zeros(4), 15, 0.0).item(), 1e-3, rel_tol=1e-6)
