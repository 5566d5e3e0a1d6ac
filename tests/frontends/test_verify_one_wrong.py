"""One wrong number anywhere, or another structure, is found and named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_verify
import torch
from test_verify import (
    EDGES,
    EXECUTORS,
    SIZE,
    failing,
    first_difference,
    liveliest,
    require_found,
    through_file,
    vgg_like,
    with_entry,
    with_weight,
)
from torch import nn

from frontends.random_models import noise
from systolith.equality import Equality
from systolith.formats import BadInput
from systolith.frontends.lowering import Lowered, lower
from systolith.frontends.verify import BATCH, by_plan, by_reference, compare_pictures, least_psum_bits, prove
from systolith.network import reference
from systolith.network.execute import plan
from systolith.quant import ExactBatchNorm2d, QuantConv2d, QuantLinear

model, lowered = test_verify.model, test_verify.lowered  # its fixtures


def by_hand(model: Any, conv: int, norm: int, taker: int, channel: int, acc: int) -> int:
    """The code of one accumulator by the number contract: scale, batch norm, ReLU, quantizer, in NumPy."""
    layer, bn, quantizer = model[conv], model[norm], model[taker].act_quant
    y = np.float32(np.float64(acc) * np.float64(layer.scale().item()))
    gamma, beta, mean, var = (
        np.float64(t[channel].item()) for t in (bn.weight, bn.bias, bn.running_mean, bn.running_var)
    )
    gain = np.float32(gamma / np.sqrt(var + bn.eps))
    z = np.maximum(np.float32(np.float64(y) * np.float64(gain) + (beta - mean * np.float64(gain))), np.float32(0))
    q = np.float32(15 / np.float64(quantizer.alpha.item()))
    return int(np.rint(np.clip(np.float32(z * q), 0, 15)))


@pytest.mark.parametrize(("conv", "norm", "taker", "edge"), [(0, 1, 4, "0>4"), (4, 5, 7, "4>7")])
def test_one_gain_of_the_other_sign_in_the_model(
    model: nn.Module, lowered: Lowered, conv: int, norm: int, taker: int, edge: str
) -> None:
    pixels = noise(5, *SIZE, seed=5)
    flipped: Any = copy.deepcopy(model)
    channel = liveliest(lowered.network, pixels, edge)
    with torch.no_grad():
        flipped[norm].weight[channel] *= -1
    now = lower(flipped, SIZE)
    (proof,) = failing(prove(now, lowered.network))
    assert proof.name == f"{edge} thresholds"
    acc = int(proof.first.split("accumulator ")[1].split("]")[0])
    want, got = by_hand(flipped, conv, norm, taker, channel, acc), by_hand(model, conv, norm, taker, channel, acc)
    assert want != got
    assert proof.first == f"[channel {channel}, accumulator {acc}] expected {want}, found {got}"
    # What the pictures show is the flipped model's code against the network's.
    require_found(now, now.network, lowered.network, pixels, edge, channel)
    assert not failing(prove(now, now.network))


@pytest.mark.parametrize("channel", [0, 6])
def test_one_hidden_bias(lowered: Lowered, channel: int, tmp_path: Path) -> None:
    network, pixels = lowered.network, noise(200, *SIZE, seed=6)
    bias: Any = network.layers["11"].bias  # type: ignore[union-attr]
    by = 40
    wrong = through_file(network, tmp_path, with_entry("11/bias", (channel,), by))
    first, *others = failing(prove(lowered, wrong))
    place = f"[oc {channel}] expected {bias[channel]}, found {bias[channel] + by}"
    assert first == Equality("11 bias", 7, 1, place)
    assert {other.name for other in others} <= {"11>13 thresholds"}
    before, after = (reference.run(n, pixels)["11>13"] for n in (network, wrong))
    assert (before != after).any(axis=0).tolist() == [c == channel for c in range(7)]
    require_found(lowered, network, wrong, pixels, "11>13", channel)


def test_one_bias_of_the_logits(lowered: Lowered, tmp_path: Path) -> None:
    network, pixels = lowered.network, noise(BATCH + 6, *SIZE, seed=6)
    bias: Any = network.layers["13"].bias  # type: ignore[union-attr]
    wrong = through_file(network, tmp_path, with_entry("13/bias", (3,), -1))
    assert failing(prove(lowered, wrong)) == [
        Equality("13 bias", 5, 1, f"[oc 3] expected {bias[3]}, found {bias[3] - 1}")
    ]
    for made in EXECUTORS.values():
        codes, logits, _ = compare_pictures(lowered, wrong, made(wrong), pixels).equalities()
        assert codes.holds
        assert (logits.compared, logits.different) == (5 * len(pixels), len(pixels))
        assert logits.first == f"[images 0..{BATCH - 1}] in the logits, every code before them being equal"


def test_one_entry_of_the_pixel_table_and_the_one_picture_that_has_it(lowered: Lowered, tmp_path: Path) -> None:
    network, pixels = lowered.network, noise(BATCH + 20, *SIZE, seed=7)
    pixels[pixels == 200] = 199
    shown = BATCH + 6  # in the second batch
    pixels[shown, 1, 2:6, 2:6] = 200
    wrong = through_file(network, tmp_path, with_entry("input/table", (1, 200), -150))
    place = "[channel 1, pixel 200] expected 200, found 50"
    assert failing(prove(lowered, wrong)) == [Equality("pixel table", 3 * 256, 1, place)]
    before, after = (reference.run(n, pixels)["0>4"] for n in (network, wrong))
    channel = int(np.argwhere(before != after)[0][1])
    require_found(lowered, network, wrong, pixels, "0>4", channel)
    assert first_difference(network, wrong, pixels, "0>4").startswith(f"image {shown}, layer 0>4, ")

    # Without that picture nothing shows it.
    pixels[shown] = 0
    found = compare_pictures(lowered, wrong, by_plan(plan(wrong)), pixels)
    assert all(e.holds for e in found.equalities())


def test_the_layer_that_is_named_is_the_earliest_though_a_later_one_is_wrong_too(
    lowered: Lowered, tmp_path: Path
) -> None:
    network, pixels = lowered.network, noise(6, *SIZE, seed=8)
    last = through_file(network, tmp_path, with_entry("13/bias", (0,), 5))
    channel = liveliest(network, pixels, "4>7")
    weight = network.layers["4"].weight
    index = (channel, *(int(i) for i in np.unravel_index(np.abs(weight[channel]).argmax(), (4, 3, 3))))
    both = through_file(last, tmp_path, with_weight("4", index, -int(weight[index])))
    assert [p.name for p in failing(prove(lowered, both))][:2] == ["4 weights", "13 bias"]
    require_found(lowered, network, both, pixels, "4>7", channel)


def test_a_fault_of_the_executor_shows_as_one(lowered: Lowered) -> None:
    pixels, network = noise(4, *SIZE, seed=9), lowered.network
    right = by_reference(network)

    def faulty(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits, codes = right(batch)
        codes["4>7"][2, 5, 1, 3] += 1
        return logits, codes

    found = compare_pictures(lowered, network, faulty, pixels)
    assert found.codes == {
        name: (len(pixels) * int(np.prod(network.values[name].shape)), int(name == "4>7")) for name in EDGES
    }
    assert "image 2, layer 4>7, channel 5, pixel (1, 3): accumulator " in found.first
    code = int(right(torch.from_numpy(pixels))[1]["4>7"][2, 5, 1, 3])
    assert found.first.endswith(f"expected code {code}, found {code + 1}")
    assert [e.different for e in found.equalities()] == [1, 0, 0]


# Another structure


def chain(
    outs: int = 4, stride: int = 1, pool: int = 2, norm: bool = True, extra: bool = False, hidden: int = 16
) -> nn.Module:
    first = QuantConv2d(3, outs, 3, stride, 1, pixels=0)
    second = [QuantConv2d(outs, outs, 3, padding=1), nn.ReLU()] if extra else []
    normed = [ExactBatchNorm2d(outs)] if norm else []
    return nn.Sequential(
        first, *normed, nn.ReLU(), *second, nn.MaxPool2d(pool), nn.Flatten(), QuantLinear(hidden, 5)
    ).eval()


@pytest.mark.parametrize(
    ("other", "size", "found"),
    [
        (
            {"outs": 5, "hidden": 80},
            SIZE,
            r"expected Conv 0 .*shape \(4, 3, 3, 3\), found Conv 0 .*shape \(5, 3, 3, 3\)",
        ),
        (
            {"stride": 2, "hidden": 16},
            SIZE,
            r"expected Conv 0 of input .*stride \(1, 1\).* found Conv 0 .*stride \(2, 2\)",
        ),
        (
            {"pool": 4, "hidden": 16},
            SIZE,
            r"expected MaxPool 3>5 .*kernel \(2, 2\).* found MaxPool 3>5 .*kernel \(4, 4\)",
        ),
        ({"extra": True}, SIZE, "expected Requantize 0>5 of 0, found Requantize 0>3 of 0"),
        ({"norm": False}, SIZE, "expected Requantize 0>5 of 0, found Requantize 0>4 of 0"),
        ({}, (9, 9), r"expected Input input size \(8, 8\).*, found Input input size \(9, 9\)"),
    ],
)
def test_a_network_of_another_structure_is_refused(other: dict[str, Any], size: tuple[int, int], found: str) -> None:
    options: dict[str, Any] = {"hidden": 64, **other}
    with pytest.raises(BadInput, match=f"the integer network is not this model's: {found}"):
        prove(lower(chain(hidden=64), SIZE), lower(chain(**options), size).network)


def test_a_network_of_more_or_fewer_layers_is_refused(lowered: Lowered) -> None:
    longer = nn.Sequential(*vgg_like()[:-1], QuantLinear(7, 7), nn.ReLU(), QuantLinear(7, 5)).eval()
    network = lower(longer, SIZE).network
    with pytest.raises(BadInput, match=r"expected Linear 13 .*shape \(5, 7\), found Linear 13 .*shape \(7, 7\)"):
        prove(lowered, network)
    longer[13] = QuantLinear(7, 5).eval()
    longer[15] = QuantLinear(5, 5).eval()
    with pytest.raises(BadInput, match="expected Argmax class of 13, found Requantize 13>15 of 13"):
        prove(lowered, lower(longer, SIZE).network)
    with pytest.raises(BadInput, match="expected Requantize 13>15 of 13, found Argmax class of 13"):
        prove(lower(longer, SIZE), lowered.network)


def test_a_network_wired_otherwise_is_refused() -> None:
    class Crossed(nn.Module):
        def __init__(self, cross: bool) -> None:
            super().__init__()
            self.a, self.b, self.c = QuantConv2d(3, 4, 1, pixels=0), QuantConv2d(4, 4, 1), QuantConv2d(4, 4, 1)
            self.pool, self.fc, self.cross = nn.MaxPool2d(8), QuantLinear(4, 5), cross

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            y = self.b(self.c(y)) if self.cross else self.c(self.b(y))
            out: torch.Tensor = self.fc(self.pool(y).flatten(1))
            return out

    straight, crossed = (lower(Crossed(cross).eval(), SIZE) for cross in (False, True))
    with pytest.raises(BadInput, match="expected Requantize a>b of a, found Requantize a>c of a"):
        prove(straight, crossed.network)


def test_the_least_psum_bits_by_hand(lowered: Lowered) -> None:
    widths = least_psum_bits(lowered.network)
    assert list(widths) == ["0", "4", "7"]
    for name, bits in widths.items():
        rows = [row.astype(np.int64).flatten() for row in lowered.network.layers[name].weight]
        most = 255 if name == "0" else 15
        hi = max(most * int(row[row > 0].sum()) for row in rows)
        lo = min(most * int(row[row < 0].sum()) for row in rows)
        assert bits == next(n for n in range(1, 40) if -(1 << (n - 1)) <= lo and hi <= (1 << (n - 1)) - 1)
