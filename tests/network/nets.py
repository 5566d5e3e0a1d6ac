"""Random integer networks of every kind of node, built by hand from integers: no torch, no training."""

from __future__ import annotations

import numpy as np

from systolith.formats import BadInput, IntFormat
from systolith.network import IntegerNetwork, Step
from systolith.network.graph import (
    Add,
    Argmax,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Input,
    Linear,
    MaxPool,
    Node,
    Requantize,
    Upsample,
)
from systolith.network.integer import Value, produced
from systolith.network.requantize import Thresholds


class Builder:
    """Nodes put behind one another, with random integers that fit what they take."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.steps: list[Step] = []
        self.values: dict[str, Value] = {}

    def put(self, node: Node, *inputs: str) -> str:
        self.values[node.name] = produced(node, [self.values[name] for name in inputs])
        self.steps.append(Step(node, inputs))
        return node.name

    def network(self, logits: str, *more: str) -> IntegerNetwork:
        """The network that classifies by `logits`, or (with `more`) answers with all of them."""
        if not more:
            self.put(Argmax("class"), logits)
        return IntegerNetwork(tuple(self.steps), (logits, *more) if more else ())

    def format(self) -> IntFormat:
        return IntFormat(int(self.rng.integers(2, 9)), bool(self.rng.integers(2)))

    def pixels(self, channels: int, size: tuple[int, int]) -> str:
        fmt = self.format()
        rows = 1 if self.rng.integers(2) else channels
        table = self.rng.integers(fmt.lo, fmt.hi + 1, (rows, 256)).astype(np.int16)
        return self.put(Input("input", np.repeat(table, channels // rows, axis=0), fmt, size))

    def conv(self, name: str, source: str, out_channels: int) -> str:
        """Any groups, kernel, stride, dilation and padding that the map has room for; with a bias or without."""
        value, rng = self.values[source], self.rng
        fmt = IntFormat(int(rng.integers(2, 9)), True)
        for _ in range(100):
            kernel, stride, dilation, padding = (tuple(rng.integers(a, b, 2).tolist()) for a, b in WINDOWS)
            groups = int(rng.choice([g for g in range(1, 7) if not out_channels % g and not value.shape[0] % g]))
            weight = rng.integers(-fmt.hi, fmt.hi + 1, (out_channels, value.shape[0] // groups, *kernel))
            around = padding if rng.integers(2) else tuple(rng.integers(0, 4, 4).tolist())
            bias = rng.integers(-500, 501, out_channels) if not rng.integers(3) else None
            conv = Conv(name, weight, value.format, fmt, stride, around, dilation, groups, bias)
            try:
                if min(conv.output_shape(*value.shape[1:])) >= 4:
                    return self.put(conv, source)
            except BadInput:
                continue
        raise AssertionError("no convolution fits")

    def linear(self, name: str, source: str, out: int) -> str:
        value, fmt = self.values[source], IntFormat(int(self.rng.integers(2, 9)), True)
        weight = self.rng.integers(-fmt.hi, fmt.hi + 1, (out, value.shape[0]))
        return self.put(Linear(name, weight, self.rng.integers(-1000, 1001, out), value.format, fmt), source)

    def requantize(self, name: str, source: str, fmt: IntFormat | None = None) -> str:
        """Rising and falling channels, or rising ones only; some constant, some of thresholds at one place."""
        value, rng, fmt = self.values[source], self.rng, fmt or self.format()
        count = len(value.lo)
        sign = rng.choice([-1, 1], count) if rng.integers(3) else np.ones(count)
        t = Thresholds(np.zeros((count, fmt.hi - fmt.lo), np.int64), sign.astype(np.int8), value.lo, value.hi, fmt.lo)
        for row, lo, hi in zip(t.values, *t.mirrored_range(), strict=True):
            # Mostly around 0, where accumulators are: over the whole range nearly all would give one code.
            around, reach = np.clip(0, lo, hi), (hi - lo) // 8 + 1
            middle = np.clip(rng.integers(around - reach, around + reach, len(row)), lo, hi + 1)
            whole = rng.integers(lo, hi + 2, len(row))
            ends = rng.choice([lo, hi + 1], len(row))
            row[:] = np.sort([middle, middle, whole, ends, np.full(len(row), whole[0])][rng.integers(5)])
        return self.put(Requantize(name, t, fmt), source)


WINDOWS = [(1, 4), (1, 3), (1, 3), (0, 4)]  # kernel, stride, dilation, padding


def random_network(seed: int) -> IntegerNetwork:
    """Every kind of node: fan-out to two quantizers that one Add takes, both ways of average pooling, two linears."""
    b = Builder(seed)
    rng = b.rng
    size = tuple(rng.integers(12, 17, 2).tolist())
    acc = b.conv("a", b.pixels(int(rng.integers(1, 4)), size), int(rng.integers(2, 6)))
    codes = b.requantize("a>b", acc)
    kernel = tuple(rng.integers(2, 5, 2).tolist())
    pool = MaxPool(
        "p", kernel, tuple(rng.integers(1, 3, 2).tolist()), tuple(int(rng.integers(k // 2 + 1)) for k in kernel)
    )
    codes = b.put(pool, codes)
    acc = b.put(
        Conv(
            "b",
            rng.integers(-7, 8, (3, b.values[codes].shape[0], 2, 3)),
            b.values[codes].format,
            IntFormat(4, True),
            padding=(1, 3),
        ),
        codes,
    )
    fmt = b.format()
    acc = b.put(Add("add"), b.requantize("b>add", acc, fmt), b.requantize("b>add#2", acc, fmt))
    gains = tuple(rng.integers(1, 4000, 2).tolist())
    scaled = b.put(Add("scaled", gains), b.requantize("b>scaled", "b"), b.requantize("b>scaled#2", "b"))
    fmt = b.format()
    codes = b.put(Concat("both"), b.requantize("add>both", acc, fmt), b.requantize("scaled>both", scaled, fmt))
    codes = b.put(Upsample("large", tuple(rng.integers(1, 4, 2).tolist())), codes)
    acc = b.put(
        Conv(
            "d2",
            rng.integers(-7, 8, (6, 1, 3, 2)),
            b.values[codes].format,
            IntFormat(4, True),
            padding=tuple(rng.integers(0, 3, 4).tolist()),
            groups=6,
            bias=rng.integers(-99, 100, 6),
        ),
        codes,
    )
    # Codes of codes, as where two quantizers follow one another.
    codes = b.requantize("d2>again", acc)
    codes = b.requantize("again>mean", codes)
    window = tuple(int(rng.integers(1, side)) for side in b.values[codes].shape[1:])
    acc = b.put(AvgPool("mean", window, tuple(rng.integers(1, 4, 2).tolist())), codes)
    codes = b.requantize("mean>whole", acc)
    acc = b.put(AvgPool("whole", b.values[codes].shape[1:], (1, 1)), codes)
    flat = [b.put(Flatten("flat"), b.requantize("whole>c", acc)), b.put(Flatten("wide"), codes)]
    acc = b.linear("c", flat[0], 5)
    fmt = b.format()
    acc = b.put(Add("sum"), b.requantize("c>sum", acc, fmt), b.requantize("d>sum", b.linear("d", flat[1], 5), fmt))
    logits = b.linear("e", b.requantize("sum>e", acc), 10)
    return b.network(logits) if seed % 3 else b.network(logits, "again>mean", "scaled")
