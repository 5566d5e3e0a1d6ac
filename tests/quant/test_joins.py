from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from systolith.formats import BadInput, IntFormat
from systolith.quant import QuantAdd, QuantAvgPool2d, QuantConv2d, calibrate
from systolith.quant import functional as Q

ALPHAS = (0.37, 3.0, 11.25)


def contract(x: Tensor, alpha: float, bits: int, signed: bool) -> tuple[np.ndarray, np.float32]:
    """Codes (int64) and scale of the number contract, in NumPy."""
    largest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    alpha = float(np.float32(alpha))
    q = np.float32(largest / alpha)  # divided in float64
    codes = np.rint(np.clip(x.numpy() * q, -largest if signed else 0, largest))
    return codes.astype(np.int64), np.float32(alpha / largest)


def with_alpha(layer: Any, alpha: float) -> Any:
    with torch.no_grad():
        layer.act_quant.alpha.fill_(alpha)
    return layer.eval()


def ties(bits: int, alpha: float, signed: bool) -> Tensor:
    """Numbers around every step of the quantizer: the step, the fp32 numbers beside it, and far outside."""
    largest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    steps = (np.arange(-largest - 1, largest + 2) + 0.5) * alpha / largest
    near = steps.astype(np.float32)
    every = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    return torch.from_numpy(np.concatenate([*every, np.float32([0, -0.0, 1e9, -1e9])]))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_add_sums_the_codes_of_one_quantizer(bits: int, alpha: float) -> None:
    add = with_alpha(QuantAdd(bits), alpha)
    edge = ties(bits, alpha, signed=True)
    x = torch.cat([edge, alpha * torch.randn(500)])
    y = torch.cat([edge.flip(0), alpha * torch.randn(500)])
    (a, scale), (b, _) = contract(x, alpha, bits, True), contract(y, alpha, bits, True)
    result = add(x, y).detach()
    assert result.dtype == torch.float32
    assert add.scale().dtype == torch.float32
    assert add.scale().item() == scale
    assert np.array_equal(result.numpy(), (a + b).astype(np.float32) * scale)
    assert np.array_equal(result.numpy(), add(y, x).detach().numpy())


@pytest.mark.parametrize(("bits", "largest"), [(2, 1), (4, 7), (8, 127)])
def test_an_add_reaches_twice_the_largest_code_and_no_more(bits: int, largest: int) -> None:
    add = with_alpha(QuantAdd(bits), float(largest))  # scale 1: results are the integers
    assert add.act_quant.format == IntFormat(bits, True)
    x = torch.tensor([1e9, -1e9, 1e9, largest, -largest])
    y = torch.tensor([1e9, -1e9, -1e9, largest, largest])
    assert add(x, y).tolist() == [2 * largest, -2 * largest, 0, 2 * largest, 0]


def test_codes_of_an_add_are_rounded_half_to_even() -> None:
    add = with_alpha(QuantAdd(4), 7.0)
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 6.5, -6.5])
    assert add(x, torch.zeros(8)).tolist() == [0, 2, 2, 0, -2, -2, 6, -6]
    # Each operand is rounded, not the sum: 0.4 + 0.4 is 0, 0.6 + 0.6 is 2.
    assert add(torch.tensor([0.4, 0.6]), torch.tensor([0.4, 0.6])).tolist() == [0, 2]


def naive_pool(codes: np.ndarray, window: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """Sums of windows by loops over Python integers."""
    n, c, height, width = codes.shape
    oh, ow = (height - window[0]) // stride[0] + 1, (width - window[1]) // stride[1] + 1
    out = np.zeros((n, c, oh, ow), dtype=np.int64)
    for at in np.ndindex(*out.shape):
        image, channel, oi, oj = at
        for ki, kj in itertools.product(range(window[0]), range(window[1])):
            out[at] += int(codes[image, channel, oi * stride[0] + ki, oj * stride[1] + kj])
    return out


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "window", "step"),
    [
        (None, None, (7, 6), (7, 6)),
        (2, None, (2, 2), (2, 2)),
        ((3, 2), None, (3, 2), (3, 2)),
        ((2, 3), (1, 2), (2, 3), (1, 2)),
        (3, 1, (3, 3), (1, 1)),
        (1, 2, (1, 1), (2, 2)),
    ],
)
def test_average_pooling_sums_codes(
    signed: bool, bits: int, kernel: Any, stride: Any, window: tuple[int, int], step: tuple[int, int]
) -> None:
    alpha = ALPHAS[bits % 3]
    pool = with_alpha(QuantAvgPool2d(kernel, stride, act_bits=bits, signed=signed), alpha)
    assert pool.act_quant.format == IntFormat(bits, signed)
    edge = ties(bits, alpha, signed)
    x = (2 * alpha * torch.randn(2, 3, 7, 6)).flatten()
    x[: len(edge[:200])] = edge[:200]
    x = x.reshape(2, 3, 7, 6)
    codes, s_a = contract(x, alpha, bits, signed)
    scale = np.float32(np.float64(s_a) / (window[0] * window[1]))
    result = pool(x).detach()
    assert result.dtype == torch.float32
    assert pool.scale(window).item() == scale
    assert np.array_equal(result.numpy(), naive_pool(codes, window, step).astype(np.float32) * scale)


def test_eval_depends_on_neither_batch_nor_layout_nor_autocast() -> None:
    pool, add = QuantAvgPool2d(3, 2, signed=True).eval(), QuantAdd().eval()
    x, y = (3 * torch.randn(2, 9, 5, 8, 8)).unbind()
    for layer, inputs in ((pool, (x,)), (add, (x, y))):
        whole = layer(*inputs)
        assert torch.equal(torch.cat([layer(*(t[i : i + 1] for t in inputs)) for i in range(9)]), whole)
        assert torch.equal(layer(*(t.to(memory_format=torch.channels_last) for t in inputs)), whole)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(*inputs), whole)


def test_training_is_fake_quantization() -> None:
    x, y = (3 * torch.randn(2, 2, 3, 6, 6)).unbind()
    layers = (
        (QuantAdd(4), (x, y)),
        (QuantAvgPool2d(2, act_bits=4), (x,)),
        (QuantAvgPool2d(act_bits=3, signed=True), (x,)),
    )
    for layer, inputs in layers:
        with_alpha(layer, 2.5)
        # Codes times scale, the factors in another order: up to fp32 rounding what eval gives.
        assert torch.allclose(layer.train()(*inputs), layer.eval()(*inputs), rtol=0, atol=1e-5)


def lsq(x: np.ndarray, alpha: float, largest: int, low: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of one fake-quantized number with respect to it and to alpha, by the paper."""
    inside = (x >= low * alpha) & (x <= alpha)
    codes = np.rint(np.clip(x / alpha * largest, low * largest, largest))
    return inside.astype(np.float64), np.where(inside, codes / largest - x / alpha, np.where(x > alpha, 1, low))


def test_gradients_reach_both_operands_and_alpha() -> None:
    add = QuantAdd(4).train()
    with torch.no_grad():
        add.act_quant.alpha.fill_(2.0)
    x, y = (3 * torch.randn(2, 40, dtype=torch.float64)).float().unbind()
    x.requires_grad_(), y.requires_grad_()
    weight = torch.randn(40)
    (add(x, y) * weight).sum().backward()
    wide = weight.double().numpy()
    d_alpha = 0.0
    for operand in (x, y):
        d_x, d_a = lsq(operand.detach().double().numpy(), 2.0, 7, -1)
        assert operand.grad is not None
        assert np.array_equal(operand.grad.numpy(), (d_x * wide).astype(np.float32))
        d_alpha += float((d_a * wide).sum())
        assert 0 < d_x.sum() < 40  # some inside, some outside
    assert add.act_quant.alpha.grad is not None
    assert add.act_quant.alpha.grad.item() == pytest.approx(d_alpha, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("signed", "largest", "low"), [(False, 15, 0), (True, 7, -1)])
def test_gradients_reach_the_pooled_map_and_alpha(signed: bool, largest: int, low: int) -> None:
    pool = QuantAvgPool2d((2, 3), act_bits=4, signed=signed).train()
    with torch.no_grad():
        pool.act_quant.alpha.fill_(2.0)
    x = (3 * torch.randn(2, 3, 4, 6)).requires_grad_()
    weight = torch.randn(2, 3, 2, 2)
    (pool(x) * weight).sum().backward()
    spread = weight.double().numpy().repeat(2, axis=2).repeat(3, axis=3) / 6
    d_x, d_a = lsq(x.detach().double().numpy(), 2.0, largest, low)
    assert x.grad is not None
    assert np.allclose(x.grad.numpy(), d_x * spread, rtol=1e-6, atol=0)
    assert 0 < d_x.sum() < d_x.size
    assert pool.act_quant.alpha.grad is not None
    assert pool.act_quant.alpha.grad.item() == pytest.approx(float((d_a * spread).sum()), rel=1e-4, abs=1e-4)


class Joined(nn.Module):
    """An add whose second operand is 50 times the first, and a pooling of the sum."""

    def __init__(self, by_name: bool) -> None:
        super().__init__()
        self.conv = QuantConv2d(1, 4, 1, pixels=128)
        self.add = QuantAdd()
        self.pool = QuantAvgPool2d(2, signed=True)
        self.by_name = by_name

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = self.pool(self.add(y, y=50 * y) if self.by_name else self.add(y, 50 * y))
        return out


@pytest.mark.parametrize("by_name", [False, True])
def test_calibrate_sets_the_clip_of_adds_and_poolings(by_name: bool) -> None:
    net = Joined(by_name)
    x = torch.randint(0, 256, (4, 1, 6, 6), dtype=torch.uint8)
    calibrate(net, x)
    net.train()
    with torch.no_grad():
        y = net.conv(x)
        both = torch.cat([y.flatten(), (50 * y).flatten()])
        assert net.add.act_quant.alpha == Q.best_clip(both, 127, -1.0)
        assert net.add.act_quant.alpha > 10 * y.abs().max()
        assert net.pool.act_quant.alpha == Q.best_clip(net.add(y, 50 * y), 127, -1.0)


def test_bad_arguments() -> None:
    for bits in (1, 9):
        with pytest.raises(BadInput, match=f"2 to 8 bits, not {bits}"):
            QuantAdd(bits)
        with pytest.raises(BadInput, match=f"2 to 8 bits, not {bits}"):
            QuantAvgPool2d(2, act_bits=bits)
    with pytest.raises(BadInput, match="QuantAvgPool2d: the pooling of a whole map has no stride"):
        QuantAvgPool2d(stride=2)
    for window, stride in ((0, None), ((2, 0), None), (-1, None), (2, 0), ((2, 2, 2), None)):
        with pytest.raises(BadInput, match="QuantAvgPool2d: expected a window and stride of at least 1, found"):
            QuantAvgPool2d(window, stride)  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [False, True])
def test_operands_of_an_add_have_one_shape(training: bool) -> None:
    # Broadcasting would be quiet.
    with pytest.raises(BadInput, match=r"expected operands of one shape, found \(2, 3, 4, 4\) and \(2, 1, 4, 4\)"):
        QuantAdd().train(training)(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))


def test_a_window_whose_sum_could_be_inexact_is_refused() -> None:
    # 255 * 257 * 256 = 16,776,960 fits 2^24 = 16,777,216; one more row does not.
    pool = with_alpha(QuantAvgPool2d(), 255.0)
    fits = pool(torch.full((1, 1, 257, 256), 1e9))
    assert fits.item() == np.float32(257 * 256 * 255) * np.float32(1 / (257 * 256))
    with pytest.raises(BadInput, match="a window of 258x256 is too large to be summed exactly"):
        pool(torch.zeros(1, 1, 258, 256))


def test_repr_says_what_matters() -> None:
    assert "kernel_size=the whole map" in repr(QuantAvgPool2d())
    assert "kernel_size=(3, 2), stride=(1, 1)" in repr(QuantAvgPool2d((3, 2), 1))
    assert "int8, alpha=4" in repr(QuantAdd())
