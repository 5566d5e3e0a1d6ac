"""Where codes of the integer network differ from the trained one's, down to the products of an accumulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.network import Conv, IntegerNetwork
from systolith.network.graph import Linear
from systolith.network.reference import run
from systolith.report.html.figures import Heatmap, buckets
from systolith.steps.common import as_conv

MOST_LAYERS, MOST_CHANNELS, MOST_COLUMNS, MOST_TOLD = 4, 40, 40, 6
"""Layers of which a map is shown (what differs behind the first mostly follows from it), its rows and columns, and
codes that are told of a cell."""


def maps(report: Any) -> Iterator[Heatmap]:
    """A map of each of the first layers that differ: a row a channel, its positions from left to right."""
    for name in list(dict.fromkeys(one.name for one in report.wrong))[:MOST_LAYERS]:
        yield _map(report, name, [one for one in report.wrong if one.name == name])


def _map(report: Any, name: str, wrong: Sequence[Any]) -> Heatmap:
    network: IntegerNetwork = report.integers
    width = (*network.values[name].shape, 1, 1)[2]
    size, cols = buckets(int(np.prod(network.values[name].shape[1:])), MOST_COLUMNS)
    taken = _taken(network, name, report.pixels[wrong[0].image])
    channels = sorted({one.place[0] for one in wrong})
    values = [[0.0] * len(cols) for _ in channels[:MOST_CHANNELS]]
    details: dict[tuple[int, int], str] = {}

    def cell(one: Any) -> tuple[int, int]:
        _, i, j = (*one.place, 0, 0)[:3]
        return channels.index(one.place[0]), (i * width + j) // size

    for at, group in groupby(sorted(wrong, key=lambda one: (cell(one), one.image)), cell):
        if at[0] < MOST_CHANNELS:
            ones = list(group)
            values[at[0]][at[1]] = float(len(ones))
            told = [_told(network, name, one, taken if one.image == wrong[0].image else None) for one in ones]
            more = [f"{len(ones) - MOST_TOLD:,} more here"] if len(ones) > MOST_TOLD else []
            details[at] = "\n\n".join([*told[:MOST_TOLD], *more])
    some = "" if len(report.wrong) == report.different else f"Of the first {len(report.wrong):,} that differ. "
    some += "" if len(channels) <= MOST_CHANNELS else f"{len(channels) - MOST_CHANNELS:,} more channels differ. "
    what = f"{some}Wrong codes of all pictures, by position in the map; choose some to see them, down to products."
    rows = [f"channel {channel}" for channel in channels[:MOST_CHANNELS]]
    return Heatmap(f"Where codes of {name} differ", rows, cols, values, what, "", "channel, position", True, details)


def _taken(network: IntegerNetwork, name: str, pixels: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """What the layer of these codes takes of one picture; None of a sum or an average, which has no products."""
    producer = network[network.producer(name)]
    if not isinstance(producer.node, Conv | Linear):
        return None
    return run(network, pixels[None], producer.name)[producer.inputs[0]][0]


def _told(network: IntegerNetwork, name: str, one: Any, taken: NDArray[np.int64] | None) -> str:
    """One code in words, of the picture that was run with the products of its accumulator, kij after kij."""
    channel, i, j = (*one.place, 0, 0)[:3]
    said = f"picture {one.image}, channel {channel}, ({i}, {j}): expected {one.expected}, found {one.found}"
    if taken is None:
        return said
    conv, act = as_conv(network.layers[network.producer(name)], taken)
    top, bottom, left, right = conv.pads
    padded, weights = np.pad(act, ((0, 0), (top, bottom), (left, right))), conv.dense[channel]
    lines, total = [], 0
    for ki, kj in np.ndindex(*conv.kernel):
        y, x = i * conv.stride[0] + ki * conv.dilation[0], j * conv.stride[1] + kj * conv.dilation[1]
        pairs = [(int(a), int(w)) for a, w in zip(padded[:, y, x], weights[:, ki, kj], strict=True) if a and w]
        total += (part := sum(a * w for a, w in pairs))
        products = " + ".join(f"{a}*{w}" for a, w in pairs[:16]) or "0"
        rest = f" + {len(pairs) - 16:,} more" if len(pairs) > 16 else ""
        lines.append(f"  kij {ki * conv.kernel[1] + kj}: {part} = {products}{rest}")
    return "\n".join([f"{said}; the products of its accumulator add up to {total}", *lines])
