"""Random networks of every node that there is: groups, four sides of padding, concatenation, upsampling and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frontends.random_models import RandomNet
from systolith.quant import ExactBatchNorm1d, QuantConv2d, QuantIdentity, QuantLinear

MOST = 24
"""Positions along an axis of a map, so that upsampling does not run away."""


class AnyNet(RandomNet):
    """As `RandomNet`, of all nodes; some answer with maps or codes, some with several of them."""

    def __init__(self, seed: int, pixels: np.ndarray) -> None:
        self.answers: list[int] = []
        super().__init__(seed, pixels)

    def makers(self) -> tuple[Callable[[], None], ...]:
        return (*super().makers(), self.grouped, self.join, self.enlarge, self.pad, self.again, self.code)

    def forward(self, x: Tensor) -> Any:
        results = {0: x}
        for at, (operation, taken) in enumerate(self.program, 1):
            if operation is not None:
                results[at] = operation(*(results[i] for i in taken))
        return tuple(results[i] for i in self.answers) if self.answers else results[at]

    def grouped(self) -> None:
        at = self.pick("map", "pooled")
        channels = self.results[at].shape[1]
        groups = int(self.rng.choice([g for g in (1, 2, 3, 4, 6, 8) if channels % g == 0]))
        sides = tuple(self.rng.integers(0, 3, 4).tolist())
        kernel = self.pair(1, 3)
        if not self.fits(at, (kernel[0] - sides[0] - sides[1], kernel[1] - sides[2] - sides[3])):
            kernel = (1, 1)
        outs = groups * int(self.rng.integers(1, 3))
        layer = QuantConv2d(
            *(channels, outs, kernel, self.pair(1, 2), sides, 1, groups),
            bias=bool(self.rng.integers(2)),
            weight_bits=self.bits(),
            act_bits=self.bits(),
            per_channel=bool(self.rng.integers(2)),
            signed=bool(self.rng.integers(2)),
        )
        if layer.bias is not None:
            layer.bias.copy_(0.1 * torch.randn(outs))
        self.put(layer, at, kind="map")

    def join(self) -> None:
        at = self.pick("map", "pooled")
        size = self.results[at].shape[2:]
        others = [i for i, x in enumerate(self.results) if x.shape[2:] == size and self.kinds[i] in ("map", "pooled")]
        taken = [at, *self.rng.choice(others, int(self.rng.integers(1, 3))).tolist()]
        if sum(self.results[i].shape[1] for i in taken) <= MOST:
            self.put(lambda *x: torch.cat(x, 1), *taken, kind="pooled")

    def enlarge(self) -> None:
        at, factor = self.pick("map", "pooled"), self.pair(1, 2)
        if max(side * f for side, f in zip(self.results[at].shape[2:], factor, strict=True)) <= MOST:
            ways = nn.Upsample(scale_factor=factor), lambda x: F.interpolate(x, scale_factor=factor)
            self.put(ways[int(self.rng.integers(2))], at, kind="pooled")

    def pad(self) -> None:
        """Zeros, and the convolution that takes them."""
        at = self.pick("map", "pooled")
        sides = tuple(self.rng.integers(0, 2, 4).tolist())
        self.put(nn.ZeroPad2d(sides), at, kind="padded")
        layer = QuantConv2d(self.results[-1].shape[1], 3, 1, padding=int(self.rng.integers(2)), act_bits=self.bits())
        self.put(layer, len(self.results) - 1, kind="map")

    def again(self) -> None:
        """A layer once more, by the clip value that it has."""
        known = [m for m in self.layers.values() if isinstance(m, QuantConv2d) and m.in_channels == m.out_channels]
        fit = [(m, i) for m in known for i, x in enumerate(self.results) if self.takes(m, i, x)]
        if fit:
            layer, at = fit[int(self.rng.integers(len(fit)))]
            self.program.append((layer, (at,)))
            self.results.append(layer(self.results[at]))
            self.kinds.append("map")

    def takes(self, layer: QuantConv2d, at: int, x: Tensor) -> bool:
        return self.kinds[at] in ("map", "pooled") and x.shape[1] == layer.in_channels and min(x.shape[2:]) >= 3

    def code(self) -> None:
        self.put(QuantIdentity(self.bits(), bool(self.rng.integers(2))), self.pick("map", "pooled"), kind="pooled")

    def rectify(self, at: int | None = None) -> None:
        at = self.pick("map", "pooled") if at is None else at
        slopes = nn.PReLU(self.results[at].shape[1] if self.results[at].ndim == 4 else 1)
        slopes.weight.copy_(torch.rand_like(slopes.weight))
        low, high = sorted(self.rng.normal(size=2).tolist())
        ways: tuple[Callable[..., Tensor], ...] = (
            *(nn.ReLU6(), nn.Hardtanh(low, high + 0.1), nn.LeakyReLU(float(self.rng.random())), slopes),
            *(lambda x: x.clamp(low, high), lambda x: F.leaky_relu(x, 0.2), lambda x: x * 0.7 - 0.1),
            *(F.relu6, torch.relu),
        )
        self.put(ways[int(self.rng.integers(len(ways)))], at)

    def classify(self) -> None:
        if self.rng.random() < 0.3:
            maps = [i for i, kind in enumerate(self.kinds) if kind == "map" and self.is_layer(i)]
            last = int(self.rng.choice(maps))
            self.put(QuantIdentity(4, True), self.pick("map", "pooled"), kind="pooled")
            self.answers = [last, len(self.results) - 1]
            return
        super().classify()

    def is_layer(self, at: int) -> bool:
        return isinstance(self.program[at - 1][0], QuantConv2d)

    def linear(self, out: int, weight_bits: int, act_bits: int) -> None:
        layer = QuantLinear(
            *(self.results[-1].shape[1], out, bool(self.rng.integers(2))),
            weight_bits=weight_bits,
            act_bits=act_bits,
            signed=bool(self.rng.integers(2)),
        )
        if layer.bias is not None:
            layer.bias.copy_(torch.randn(out))
        self.put(layer, len(self.results) - 1)
        if out != 5:
            norm: Any = ExactBatchNorm1d(out)
            norm.running_mean.copy_(self.results[-1].mean(0))
            norm.weight.copy_(torch.randn(out))
            self.put(norm, len(self.results) - 1)
