"""Figures of layers on the array: clock by clock, where clocks go, what each processing element does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, Mapping
from systolith.report.diagram import Row, draw
from systolith.report.html.figures import Animation, Bars, Drawing, Figure, Heatmap
from systolith.timing import Schedule
from systolith.timing.account import Split, split
from systolith.timing.machine import LOAD, STREAM
from systolith.timing.trace import Trace, trace

MOST_PES, MOST_NUMBERS, MOST_CLOCKS = 16, 240_000, 96
"""Of an animation: rows and columns, numbers in the page, clocks of a layer."""

Layer = tuple[str, Mapping, NDArray[np.integer], Schedule]
"""A name, the layer on the array, its activation codes, its schedule."""


def animation(layers: Sequence[Layer]) -> Animation:
    """The first clocks of each layer, from the register-level machine."""
    spec = layers[0][1].spec
    rows, cols = min(spec.rows, MOST_PES), min(spec.cols, MOST_PES)
    clocks = min(MOST_CLOCKS, max(24, MOST_NUMBERS // (5 * rows * cols * len(layers))))
    made = [_stepped(name, trace(mapping, act, how, clocks), rows, cols) for name, mapping, act, how in layers]
    part = f" Rows and columns 0 to {MOST_PES - 1} of {spec} are shown." if max(spec.rows, spec.cols) > MOST_PES else ""
    note = (
        f"The first {clocks} clocks of each layer, clock 0 being that of the first weight beat. In a processing "
        "element: w the weight that it holds, a the activation that it multiplies by it (→ a weight on its way east), "
        f"p the psum that it gives to the row below. Every number is the register machine's.{part}"
    )
    return Animation("The array, clock by clock", note, made)


def _stepped(name: str, seen: Trace, rows: int, cols: int) -> dict[str, Any]:
    def flat(key: str) -> list[int]:
        values: list[int] = seen.registers[key][:rows, :cols].astype(np.int64).reshape(-1).tolist()
        return values

    words = {int(at): word[:cols].tolist() for at, word in zip(seen.psum, seen.psums.astype(np.int64), strict=True)}
    return {
        "name": name,
        "rows": rows,
        "cols": cols,
        "begin": seen.begin,
        "clocks": len(seen.beats),
        "beats": seen.beats.tolist(),
        "psums": words,
        **{key: flat(key) for key in ("weight", "load", "stream", "code", "psum")},
    }


def timing(layer: Layer) -> Drawing:
    """The timing diagram of a layer's first clocks."""
    name, mapping, act, schedule = layer
    seen = trace(mapping, act, schedule, 72)
    last, registers = mapping.spec.cols - 1, seen.registers
    beats = seen.beats
    code = [""] * len(beats)
    for at in range(len(beats) - 1):  # registered in the next clock
        code[at] = str(int(registers["code"][0, 0, at + 1])) if beats[at] else ""
    leaving = dict(zip(seen.psum.tolist(), seen.psums[:, 0].tolist(), strict=True))
    numbers = range(seen.begin, seen.begin + len(beats))

    def below(col: int) -> tuple[str, ...]:
        return tuple(str(int(one)) for one in registers["stream"][-1, col])

    rows = [
        Row("weight into row 0", tuple(str(int(one == LOAD)) for one in beats), True),
        Row("activation into row 0", tuple(str(int(one == STREAM)) for one in beats), True),
        Row("its code", tuple(code), False),
        Row("bottom row, col 0 adds", below(0), True),
        Row(f"bottom row, col {last} adds", below(last), True),
        Row("word leaves the OFIFO", tuple(str(int(n in leaving)) for n in numbers), True),
        Row("its lane 0", tuple(str(leaving.get(n, "")) for n in numbers), False),
    ]
    title = f"{name} on {mapping.spec}: the first {len(beats)} clocks"
    return Drawing("Timing", draw(seen.begin, rows, title, len(beats)), "Beats and words of the register machine.")


def utilisations(layers: Sequence[Layer]) -> Heatmap:
    """The share of all clocks in which each processing element adds a product of the layer's own."""
    spec = layers[0][1].spec
    used, clocks = np.zeros((spec.rows, spec.cols), np.int64), 0
    for _, mapping, _, schedule in layers:
        used += worked(mapping)
        clocks += schedule.clocks(mapping)
    rows, cols = ([f"{what} {n}" for n in range(count)] for what, count in (("row", spec.rows), ("col", spec.cols)))
    percent = (100 * used / clocks).round(1).tolist()
    what = f"Clocks with a product that counts, of {clocks:,}: neither padding channels nor loading weights."
    return Heatmap("Utilisation of each processing element", rows, cols, percent, what, "%")


def worked(mapping: Mapping) -> NDArray[np.int64]:
    """(row, col), clocks in which each processing element adds products of real activation channels and weights."""
    ones = replace(mapping, conv=replace(mapping.conv, weight=np.ones_like(mapping.conv.weight)))
    oc_tile, kij, ic_tile = mapping.order.T
    tiles = ones.weight_tiles()[ic_tile, oc_tile, kij]  # (pass, col, code)
    lanes = tiles.reshape(*tiles.shape[:2], -1, mapping.simd).any(axis=3)  # (pass, col, row or step)
    if not mapping.stationary:
        found: NDArray[np.int64] = lanes.sum(axis=0).T * mapping.onijs
        return found
    rows = mapping.spec.rows
    positions = np.bincount(rows - 1 - np.arange(mapping.onijs) % rows, minlength=rows)
    return np.outer(positions, lanes.sum(axis=(0, 2)))


def clock_bars(layers: Sequence[tuple[str, Mapping, Schedule]]) -> Bars:
    """Where the clocks of each layer go."""
    splits = [split(mapping, schedule) for _, mapping, schedule in layers]
    parts = {part.name: [getattr(one, part.name) for one in splits] for part in fields(Split)}
    kept = {name: values for name, values in parts.items() if any(values)}
    return Bars("Where the clocks go", [name for name, _, _ in layers], kept, "Clocks")


def histograms(result: ArrayResult) -> Iterator[Figure]:
    """How often each value of a layer occurs, against what its width holds."""
    mapping, spec = result.mapping, result.mapping.spec
    tensors = {
        "activations": (result.act, spec.act_format(mapping.conv)),
        "weights": (mapping.conv.weight, spec.weight_format),
        "psums": (result.psum, spec.psum_format),
    }
    for name, (values, fmt) in tensors.items():
        lo, hi = int(values.min()), int(values.max())
        size = max(1, -(-(hi - lo + 1) // 32))
        counts = np.bincount((values.reshape(-1).astype(np.int64) - lo) // size).tolist()
        labels = [str(lo + i * size) if size == 1 else f"{lo + i * size}.." for i in range(len(counts))]
        note = f"{lo} to {hi}; {fmt} holds {fmt.lo} to {fmt.hi}."
        yield Bars(f"Histogram of {name}", labels, {name: counts}, f"How many of {values.size:,}", note)
