from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from systolith.formats import BadInput, IntFormat
from systolith.quant import (
    ActQuantizer,
    ClampedReLU,
    ExactBatchNorm2d,
    PixelCodes,
    QuantConv2d,
    QuantLinear,
    calibrate,
    quant_layer,
    quant_layers,
)


def naive_conv(act: torch.Tensor, codes: torch.Tensor, layer: QuantConv2d) -> np.ndarray:
    """Six nested loops of Python integers."""
    (ph, pw), (sh, sw), (dh, dw) = layer.padding, layer.stride, layer.dilation  # type: ignore[misc]
    a, w = act.long().numpy(), codes.long().numpy()
    n, c, h, width = a.shape
    o, _, kh, kw = w.shape
    oh = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1  # type: ignore[operator]
    ow = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1  # type: ignore[operator]
    out = np.zeros((n, o, oh, ow), dtype=np.int64)
    for at in np.ndindex(*out.shape):
        b, oc, oi, oj = at
        total = 0
        for ic in range(c):
            for ki in range(kh):
                for kj in range(kw):
                    i, j = oi * sh + ki * dh - ph, oj * sw + kj * dw - pw  # type: ignore[operator]
                    if 0 <= i < h and 0 <= j < width:
                        total += int(a[b, ic, i, j]) * int(w[oc, ic, ki, kj])
        out[at] = total
    return out


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_eval_is_codes_first(bits: int, per_channel: bool) -> None:
    torch.manual_seed(bits)
    layer = QuantConv2d(
        3, 5, (3, 2), (2, 1), (1, 2), (1, 2), weight_bits=bits, act_bits=bits, per_channel=per_channel
    ).eval()
    x = torch.rand(2, 3, 6, 5) * 5
    act, codes = layer.act_quant.codes(x), layer.weight_codes()
    acc = naive_conv(act, codes, layer)
    assert (layer.accumulate(act).long().numpy() == acc).all()
    s_a = np.float32(np.float64(layer.act_quant.alpha.item()) / (2**bits - 1))  # type: ignore[union-attr,operator]
    alpha = layer.weight_quant.alpha.detach().double().numpy()  # type: ignore[union-attr,operator]
    s_w = (alpha / (2 ** (bits - 1) - 1)).astype(np.float32)
    scale = (s_a * s_w).reshape(-1, 1, 1)
    assert scale.dtype == np.float32
    assert (layer(x).detach().numpy() == acc.astype(np.float32) * scale).all()


def test_eval_ignores_autocast_and_batches() -> None:
    torch.manual_seed(0)
    layer = QuantConv2d(16, 16, 3, padding=1).eval()
    x = torch.rand(20, 16, 8, 8) * 4
    whole = layer(x)
    assert torch.equal(torch.cat([layer(x[i : i + 1]) for i in range(20)]), whole)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), whole)
    assert torch.equal(layer(x.to(memory_format=torch.channels_last)), whole)


def test_training_and_eval_agree_up_to_fp32_rounding() -> None:
    torch.manual_seed(0)
    layer, x = QuantConv2d(8, 8, 3, padding=1), torch.rand(2, 8, 6, 6) * 3
    assert torch.allclose(layer.train()(x), layer.eval()(x), atol=1e-3)


@pytest.mark.parametrize(("offset", "fmt"), [(0, IntFormat(8, False)), (128, IntFormat(8, True))])
def test_pixels_are_codes(offset: int, fmt: IntFormat) -> None:
    layer = QuantConv2d(3, 4, 3, padding=1, pixels=offset).eval()
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3)[: 3 * 64].reshape(1, 3, 8, 8)
    assert layer.act_quant.format == fmt
    act = layer.act_quant.codes(pixels)
    assert torch.equal(act.long(), pixels.long() - offset)
    assert (layer.accumulate(act).long().numpy() == naive_conv(act, layer.weight_codes(), layer)).all()
    with pytest.raises(BadInput, match="pixel offset is 0"):
        PixelCodes(7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_unsigned_quantizer_makes_the_relu_before_it_redundant(dtype: torch.dtype, compiled: bool) -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 3, 8, 8).mul(4).round().div(2).to(dtype)  # many exact zeros, and ties in the pools' windows
    up = torch.randn(2, 3, 4, 4).to(dtype)
    results = []
    for relu in (nn.ReLU(), ClampedReLU()):
        net = nn.Sequential(relu, nn.MaxPool2d(2), ActQuantizer(3)).train()
        x = values.clone().requires_grad_()
        y = (torch.compile(net, backend="aot_eager") if compiled else net)(x)
        y.backward(up)
        results.append((y.detach(), x.grad, net[2].alpha.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert (results[0][1] != 0).any()
    assert (values == 0).any()
    assert torch.equal(ClampedReLU().eval()(values), values.relu())


def test_linear_adds_an_integer_bias() -> None:
    torch.manual_seed(0)
    layer = QuantLinear(6, 3)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.3, -0.7, 100.0]))
    x = torch.rand(4, 6) * 4
    layer.eval()
    act, codes = layer.act_quant.codes(x).long(), layer.weight_codes().long()
    bias = torch.round(layer.bias / layer.scale()).long()
    acc = torch.tensor([[sum(int(a) * int(w) for a, w in zip(row, col, strict=True)) for col in codes] for row in act])
    assert torch.equal(layer.accumulate(layer.act_quant.codes(x)).long(), acc + bias)
    assert torch.equal(layer(x), (acc + bias).float() * layer.scale())
    # In training the rounded bias is added too, and its gradient is the float bias's.
    layer.train()
    layer(x).sum().backward()
    assert layer.bias.grad.tolist() == [4.0, 4.0, 4.0]
    assert torch.allclose(layer(x), layer.eval()(x), atol=1e-4)


def test_frozen_layers_hold_codes_and_are_for_eval() -> None:
    torch.manual_seed(0)
    layer, x = QuantConv2d(3, 4, 3), torch.rand(1, 3, 5, 5)
    before = layer.eval()(x)
    codes, scale = layer.weight_codes().to(torch.int8), layer.weight_quant.scale().detach()  # type: ignore[operator]
    layer.freeze(codes, scale)
    assert torch.equal(layer(x), before)
    assert torch.equal(layer.weight_codes().to(torch.int8), codes)
    assert layer.eval() is layer
    with pytest.raises(BadInput, match=r"frozen integer codes.*start from the float checkpoint"):
        layer.train()
    with pytest.raises(BadInput, match="frozen"):
        nn.Sequential(layer).train()


def test_repr_says_what_matters() -> None:
    text = repr(QuantConv2d(3, 4, 3, weight_bits=2, act_bits=3, per_channel=True))
    for part in ("uint3, alpha=", "int2, per channel, alpha=", "kernel_size=(3, 3)"):
        assert part in text
    assert "uint8, pixel" in repr(QuantConv2d(3, 4, 3, pixels=0))
    assert "int8, pixel - 128" in repr(QuantConv2d(3, 4, 3, pixels=128))


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_are_2_to_8(bits: int) -> None:
    with pytest.raises(BadInput, match=f"2 to 8 bits, not {bits}"):
        QuantConv2d(1, 1, 1, weight_bits=bits)
    with pytest.raises(BadInput, match=f"2 to 8 bits, not {bits}"):
        QuantConv2d(1, 1, 1, act_bits=bits)


def test_finding_layers() -> None:
    model = nn.Sequential(QuantConv2d(1, 1, 1), nn.ReLU(), nn.Sequential(QuantLinear(2, 2)))
    assert list(quant_layers(model)) == ["0", "2.0"]
    assert quant_layer(model, "2.0") is model[2][0]  # type: ignore[index]
    with pytest.raises(BadInput, match=r"no layer '7' in this model; its quantized layers are 0, 2\.0"):
        quant_layer(model, "7")
    with pytest.raises(BadInput, match="layer '1' is a ReLU, which is not quantized"):
        quant_layer(model, "1")


def test_calibration_goes_front_to_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(QuantConv2d(1, 2, 1), nn.ReLU(), QuantConv2d(2, 2, 1))
    x = torch.rand(8, 1, 4, 4) * 40
    calibrate(model, x)
    assert 20 < model[0].act_quant.alpha.item() <= 40  # type: ignore[union-attr]
    with torch.no_grad():
        inner = model[1](model[0](x))
    assert 0.3 * inner.max() < model[2].act_quant.alpha <= inner.max() * 1.001  # type: ignore[union-attr]


def test_calibrate_leaves_every_module_in_its_mode() -> None:
    model = nn.Sequential(QuantConv2d(3, 4, 3), ExactBatchNorm2d(4), nn.ReLU(), nn.Dropout())
    model.eval()
    model[3].train()
    calibrate(model, torch.randn(4, 3, 5, 5))
    assert [module.training for module in model] == [False, False, False, True]
    assert model[1].num_batches_tracked == 1
    model.train()
    calibrate(model, torch.randn(4, 3, 5, 5))
    assert all(module.training for module in model)
