from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from systolith.quant import exact


def test_bound_by_hand() -> None:
    codes = torch.tensor([[3.0, -2.0], [-7.0, -7.0]])
    # Activations 0..15: channel 0 in -30..45, channel 1 in -210..0.
    assert exact.accumulator_bound(codes, 0, 15) == 210
    # Activations -128..127: channel 1 reaches -7*2*-128 = 1792.
    assert exact.accumulator_bound(codes, -128, 127) == 1792


def test_fp32_up_to_its_limit_then_fp64() -> None:
    assert exact.carrier(1 << 24) == torch.float32
    assert exact.carrier((1 << 24) + 1) == torch.float64


def test_wide_layers_are_exact() -> None:
    # 8-bit codes, 2304 terms: up to 2304*255*127 = 74,615,040 > 2^24.
    gen = torch.Generator().manual_seed(0)
    act = torch.randint(200, 256, (2, 256, 6, 6), generator=gen)
    codes = torch.randint(100, 128, (4, 256, 3, 3), generator=gen)
    bound = exact.accumulator_bound(codes, 0, 255)
    assert bound > 1 << 24
    acc = exact.exact_conv2d(act.float(), codes.float(), (1, 1), (0, 0), (1, 1), bound)
    windows = F.unfold(act.double(), 3).long()
    assert torch.equal(acc.long().flatten(2), torch.einsum("ok,nkl->nol", codes.flatten(1), windows))


def test_this_machine_is_exact() -> None:
    assert exact.check_exact() == 16 * 16 * 8 * 8 + 16 * 8 * 4 * 4


@pytest.mark.parametrize("onednn", [True, False])
def test_without_onednn_no_winograd_kernel_slips_in(onednn: bool) -> None:
    exact.check_exact.cache_clear()
    with torch.backends.mkldnn.flags(enabled=onednn):
        assert exact.check_exact() > 0


def test_an_inexact_convolution_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    exact.check_exact.cache_clear()
    monkeypatch.setattr(exact, "exact_conv2d", lambda a, c, *_: F.conv2d(a, c * 1.0001, padding=1))
    with pytest.raises(RuntimeError, match="is not exact on integers"):
        exact.check_exact()
    exact.check_exact.cache_clear()
