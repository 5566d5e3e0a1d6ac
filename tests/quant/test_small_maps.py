from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from systolith.quant import train_conv2d
from systolith.quant.small_maps import MOST_POSITIONS, _SmallMaps


def codes(gen: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(-2, 3, shape, generator=gen).float().requires_grad_()


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 4),
    size=st.sampled_from([(1, 1), (2, 2), (4, 4), (1, 5), (3, 5), (8, 2)]),
    kernel=st.sampled_from([(3, 3), (1, 1), (5, 3), (1, 3)]),
    channels=st.tuples(st.integers(64, 80), st.integers(64, 80)),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    seed=st.integers(0, 99),
)
def test_it_is_the_convolution_and_its_gradients(
    n: int, size: tuple[int, int], kernel: tuple[int, int], channels: tuple[int, int], dtype: torch.dtype, seed: int
) -> None:
    assume(size[0] * size[1] <= MOST_POSITIONS[dtype])
    # Small whole numbers: every sum is exact in the fp32 accumulators and rounded to bf16 once, on both sides.
    gen = torch.Generator().manual_seed(seed)
    x, weight = codes(gen, n, channels[0], *size), codes(gen, channels[1], channels[0], *kernel)
    x2, weight2 = (t.detach().clone().requires_grad_() for t in (x, weight))
    padding = (kernel[0] // 2, kernel[1] // 2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        got = train_conv2d(x, weight, (1, 1), padding, (1, 1))
    assert type(got.grad_fn).__name__ == "_SmallMapsBackward"
    want = F.conv2d(x2, weight2, padding=padding)
    up = codes(gen, *want.shape).detach()
    got.backward(up.to(dtype))
    want.backward(up)
    assert torch.equal(got, want.to(dtype))
    for mine, torchs in ((x.grad, x2.grad), (weight.grad, weight2.grad)):
        assert mine is not None
        assert torchs is not None
        assert torch.equal(mine, torchs.to(dtype).float())


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ((64, 64, 3, 3), {"stride": (2, 2)}),
        ((64, 64, 3, 3), {"dilation": (2, 2)}),
        ((64, 64, 3, 3), {"padding": (0, 0)}),
        ((64, 64, 3, 3), {"padding": "same"}),
        ((64, 64, 2, 2), {}),
        ((8, 64, 3, 3), {}),
    ],
)
def test_what_is_left_to_torch(shape: tuple[int, ...], changes: dict[str, Any]) -> None:
    gen = torch.Generator().manual_seed(0)
    x, weight = codes(gen, 2, shape[1], 4, 4), codes(gen, *shape)
    at: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)} | changes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = train_conv2d(x, weight, **at)
        want = F.conv2d(x, weight, None, **at)
    assert type(got.grad_fn) is type(want.grad_fn)
    assert torch.equal(got, want)


def test_large_maps_and_other_dtypes_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    gen = torch.Generator().manual_seed(0)
    weight = codes(gen, 64, 64, 3, 3)

    def never(*_: Tensor) -> Tensor:
        raise AssertionError("taken")

    monkeypatch.setattr(_SmallMaps, "apply", never)
    at = ((1, 1), (1, 1), (1, 1))
    train_conv2d(codes(gen, 1, 64, 1, MOST_POSITIONS[torch.float32] + 1), weight, *at)
    train_conv2d(codes(gen, 1, 64, 2, 2).double(), weight.double(), *at)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train_conv2d(codes(gen, 1, 64, 1, MOST_POSITIONS[torch.bfloat16] + 1), weight, *at)
