from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from systolith.quant import QuantConv2d, fused
from systolith.quant import functional as Q

needs_compiler = pytest.mark.skipif(fused.kernels() is None, reason="needs the C++ compiler g++")
DTYPES = [torch.bfloat16, torch.float32]
LAYOUTS = ["contiguous", "channels_last", "with gaps"]


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The same numbers in another order of memory."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    return torch.cat([x, x], 3)[..., : x.shape[3]] if layout == "with gaps" else x


def gradients(y: torch.Tensor, x: torch.Tensor, alpha: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(y, (x, alpha), grad))


shapes = st.tuples(*[st.integers(1, 5)] * 2, *[st.integers(1, 9)] * 2)


@needs_compiler
@given(
    shape=shapes,
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 2),
    bits=st.integers(2, 8),
    signed=st.booleans(),
    rounding=st.sampled_from(["even", "up"]),
    alpha=st.sampled_from([1e-3, 0.7, 1.0, 3.75, 15.0]),
    seed=st.integers(0, 2**31 - 1),
)
def test_activations_have_the_bits_of_plain_operations(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    layouts: tuple[str, str],
    bits: int,
    signed: bool,
    rounding: str,
    alpha: float,
    seed: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    # Quarters bring ties, and numbers at the clip values themselves.
    quarters = (torch.randn(shape, generator=draw) * 8).round() / 4
    x = torch.where(torch.rand(shape, generator=draw) < 0.5, quarters, torch.randn(shape, generator=draw) * alpha)
    x = laid_out(x.to(dtype), layouts[0]).requires_grad_()
    clip = torch.tensor(alpha, requires_grad=True)
    grad = laid_out(torch.randn(shape, generator=draw).to(dtype), layouts[1])
    largest, low = Q.largest_act_code(bits, signed), -1.0 if signed else 0.0
    assert fused.takes(x, dtype)
    y = Q.fake_quant_act(x, clip, bits, signed, rounding)
    plain = Q._FakeQuant.apply(x, clip, largest, low, rounding)
    assert y.dtype == dtype
    assert torch.equal(y, plain)
    (d_x, d_alpha), (plain_d_x, _) = gradients(y, x, clip, grad), gradients(plain, x, clip, grad)
    assert torch.equal(d_x, plain_d_x)
    # Alpha's gradient is a sum of floats: against one in float64, of the numbers as they are.
    edge = clip.detach().to(dtype).double()
    wide = x.detach().double()
    inside = (wide <= edge) & ((wide >= -edge) if signed else (wide > 0))
    terms = (plain.detach().double() - torch.where(inside, wide, 0)) * grad.double() / alpha
    assert d_alpha.shape == ()
    assert d_alpha.item() == pytest.approx(terms.sum().item(), rel=1e-4, abs=1e-5 * terms.abs().sum().item())


@needs_compiler
@given(
    shape=shapes,
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 2),
    bits=st.integers(2, 8),
    per_channel=st.booleans(),
    normalize=st.booleans(),
    bf16=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_weights_have_the_bits_of_plain_operations(
    shape: tuple[int, ...],
    layouts: tuple[str, str],
    bits: int,
    per_channel: bool,
    normalize: bool,
    bf16: bool,
    seed: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    w = laid_out(torch.randn(shape, generator=draw) * 0.05 + 0.01, layouts[0]).requires_grad_()
    alpha = (
        torch.rand(shape[0] if per_channel else 1, generator=draw) * (2 if normalize else 0.1) + 0.01
    ).requires_grad_()
    dtype = torch.bfloat16 if bf16 else torch.float32
    grad = laid_out(torch.randn(shape, generator=draw).to(dtype), layouts[1])
    assert fused.takes(w, dtype, normalize)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        y = Q.fake_quant_weight(w, alpha, bits, per_channel, normalize)
    normal = Q.normalize_weight(w, per_channel) if normalize else w.float()
    plain = Q._FakeQuant.apply(normal, alpha.reshape(-1, 1, 1, 1), Q.largest_weight_code(bits), -1.0).to(dtype)
    assert y.dtype == dtype
    assert torch.equal(y, plain)
    (d_w, d_alpha), (plain_d_w, plain_d_alpha) = gradients(y, w, alpha, grad), gradients(plain, w, alpha, grad)
    assert torch.equal(d_w, plain_d_w)
    assert d_alpha.shape == alpha.shape
    assert torch.allclose(d_alpha, plain_d_alpha, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("groups", [1, 3, 96])
def test_moments_are_those_of_float64_rounded_once(groups: int) -> None:
    w = torch.randn(96, 7, 31, 5) * torch.rand(96, 1, 1, 1) + torch.rand(96, 1, 1, 1)
    mean, std = fused.moments(w, groups)
    rows = w.double().reshape(groups, -1)
    assert torch.equal(mean, rows.mean(1).float())
    assert torch.equal(std, rows.std(1).float())
    # Parts without spread, and of a single number.
    assert fused.moments(torch.full((4, 5), 0.3), 2)[1].tolist() == [1, 1]
    assert [t.tolist() for t in fused.moments(torch.tensor([2.0, 3.0]), 2)] == [[2, 3], [1, 1]]


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    x, w = torch.randn(3, 40_001).to(dtype).requires_grad_(), torch.randn(2, 70_000, requires_grad=True)
    alpha, alphas = torch.tensor(1.3, requires_grad=True), torch.tensor([1.1, 0.9], requires_grad=True)

    def run(threads: int) -> list[torch.Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            values = [Q.fake_quant_act(x, alpha, 4), Q.fake_quant_weight(w, alphas, 4, True)]
            slopes = [torch.linspace(-1, 2, v.numel()).reshape(v.shape).to(v.dtype) for v in values]
            return [*values, *torch.autograd.grad(values, (x, alpha, w, alphas), slopes)]
        finally:
            torch.set_num_threads(before)

    for one, three in zip(run(1), run(3), strict=True):
        assert torch.equal(one, three)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_a_number_stays_so(dtype: torch.dtype) -> None:
    x = torch.tensor([torch.nan, -torch.nan, torch.inf, -torch.inf, 1.0], dtype=dtype)
    y = Q.fake_quant_act(x, torch.tensor(3.0), 4)
    assert y.isnan().tolist() == [True, True, False, False, False]
    assert y[2:].tolist() == [3, 0, 1]
    w = torch.tensor([[torch.nan, 1.0, 2.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Q.fake_quant_weight(w, torch.ones(1), 4, False).isnan().all()


@needs_compiler
def test_an_expanded_gradient_is_taken_apart() -> None:
    x, alpha = torch.randn(4, 5, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    Q.fake_quant_act(x, alpha, 4).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[float(0 < v <= 1) for v in row] for row in x.tolist()]


def test_what_there_is_no_kernel_for_is_left_to_plain_operations() -> None:
    x = torch.ones(2, 3)
    assert not fused.takes(x.double(), torch.float64)
    assert not fused.takes(x.half(), torch.float16)
    assert not fused.takes(x.bfloat16(), torch.bfloat16, normalize=True)
    assert not fused.takes(x[:0], torch.float32)
    assert not fused.takes(x.to("meta"), torch.float32)
    assert Q.fake_quant_act(x[:0], torch.tensor(1.0), 4).shape == (0, 3)


@pytest.fixture(params=["false", "no-such-compiler --fast"])
def without_compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CXX", request.param)
    fused.kernels.cache_clear()
    yield
    fused.kernels.cache_clear()


def test_without_a_compiler_a_layer_computes_the_same(without_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = QuantConv2d(3, 4, 3).train(), torch.randn(2, 3, 8, 8)
    assert not fused.takes(x, torch.float32)
    plain = layer(x)
    plain.square().sum().backward()
    assert layer.weight.grad is not None
    weight_grad = layer.weight.grad.clone()
    monkeypatch.delenv("CXX")
    fused.kernels.cache_clear()
    layer.weight.grad = None
    again = layer(x)
    again.square().sum().backward()
    assert torch.equal(again, plain)
    assert torch.equal(layer.weight.grad, weight_grad)
