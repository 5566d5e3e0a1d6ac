"""Common mistakes of a first RTL, each as the psums and outputs that it makes of the same inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, Mapping
from systolith.array.psums import multiply
from systolith.formats import IntFormat, least_signed_bits, wrapped
from systolith.vectors.tensors import picked

Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Mistaken:
    """What a mistake would leave.

    Attributes:
        name: in words.
        psum: (ic_tile, oc_tile, kij, nij, col).
        out: (oc_tiles*cols, OH, OW), lanes without a channel included, before ReLU unless `relu` says otherwise.
        relu: True and False force outputs after and before ReLU; None leaves them as the layout has them.
        family: the mistake of which this is one form; forms that leave the same words are one answer.
        unknown: bool like `psum` and `out`, where x is left; None where nowhere.
    """

    name: str
    psum: Ints
    out: Ints
    relu: bool | None = None
    family: str = ""
    unknown: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None


def mistakes(result: ArrayResult) -> Iterator[Mistaken]:
    """Every mistake that means something on this layer and array, one after another."""
    mapping = result.mapping
    spec, conv = mapping.spec, mapping.conv
    tiles, weights = mapping.act_tiles(result.act), mapping.weight_tiles()
    # The weights and activations as their lanes hold them, wide enough for every misreading.
    tiles, weights = tiles.astype(np.int32), weights.astype(np.int32)
    saturates, bits, windows = spec.overflow == "saturate", spec.psum_bits, mapping.windows()

    def made(name: str, acts: Ints, kernels: Ints, family: str = "") -> Mistaken:
        # A mistake overflows where the right sums do not: it is wrapped there, not refused.
        psum = _rows(acts, kernels, bits) if saturates else _fit(_psums(acts, kernels), bits, False)
        return Mistaken(name, psum, _sums(mapping, _parts(mapping, psum, windows), bits, saturates), family=family)

    if spec.rows == spec.cols:
        yield made("weights transposed", tiles, weights.swapaxes(3, 4))
    act, weight = spec.act_format(conv), spec.weight_format
    if act.signed:
        yield made("activations taken as unsigned", tiles & ((1 << act.bits) - 1), weights)
    else:
        yield made("activations taken as signed", _fit(tiles, act.bits, False), weights)
    yield made("weights taken as unsigned", tiles, weights & ((1 << weight.bits) - 1))
    yield made("order of the rows reversed in one operand", tiles[..., ::-1], weights)
    yield made("order of the columns reversed", tiles, weights[..., ::-1, :])
    if mapping.kijs > 1:
        off = "kij off by one"
        yield made(f"{off}: the weights of the kij before", tiles, np.roll(weights, 1, axis=2), off)
        yield made(f"{off}: the weights of the kij behind", tiles, np.roll(weights, -1, axis=2), off)
    yield from _wrong_sums(result, bits, saturates)
    plain = _sums(mapping, _parts(mapping, result.psum, windows), bits, saturates)
    yield Mistaken("no ReLU", result.psum, plain, relu=False)
    yield Mistaken("ReLU where there is none", result.psum, plain, relu=True)
    exact = result.psum if spec.overflow == "error" else _psums(tiles, weights)
    yield from _narrow(mapping, exact, tiles, weights)
    if any(conv.padding):
        ring = mapping.act_tiles(np.ones_like(result.act))[0, :, 0] == 0
        out = np.broadcast_to(ring[windows].any(0).reshape(mapping.output_shape), plain.shape)
        psum = np.broadcast_to(ring[:, None], result.psum.shape)
        yield Mistaken("x instead of 0 in the padding", result.psum, plain, unknown=(psum, out))


def _psums(tiles: Ints, weights: Ints) -> Ints:
    """(ic_tile, oc_tile, kij, nij, col) of activations (ic_tile, nij, row) and weights (..., kij, col, row)."""
    oc_tiles, kijs, cols = weights.shape[1:4]
    most = tiles.shape[2] * int(np.abs(tiles).max()) * int(np.abs(weights).max())
    carrier = np.float32 if most < 1 << 24 else np.float64  # exact: whole numbers below 2^24, else below 2^53
    left, right = tiles.astype(carrier), weights.astype(carrier)
    shape = len(tiles), oc_tiles, kijs, tiles.shape[1], cols
    psum = np.empty(shape, dtype=np.int32 if most < 1 << 31 else np.int64)
    for oc_tile in range(oc_tiles):
        psum[:, oc_tile] = multiply(left, right[:, oc_tile])
    return psum


def _rows(tiles: Ints, weights: Ints, bits: int) -> Ints:
    """The same, each row's sum in a register that saturates at `bits`."""
    shape = (tiles.shape[0], *weights.shape[1:3], tiles.shape[1], weights.shape[3])
    most = int(np.abs(tiles).max()) * int(np.abs(weights).max())
    psum = np.zeros(shape, dtype=np.int32 if max(most, 1 << bits) < 1 << 30 else np.int64)
    tiles, weights = tiles.astype(psum.dtype), weights.astype(psum.dtype)
    for row in range(tiles.shape[2]):
        psum += tiles[:, None, None, :, row, None] * weights[:, :, :, None, :, row]
        psum = _fit(psum, bits, True)
    return psum


def _fit(values: Ints, bits: int, saturates: bool) -> Ints:
    fmt = IntFormat(bits, signed=True)
    if values.size and fmt.lo <= int(values.min()) and int(values.max()) <= fmt.hi:
        return values
    if saturates:
        return np.clip(values, fmt.lo, fmt.hi)
    return wrapped(values, fmt)


def _parts(mapping: Mapping, psum: Ints, addresses: NDArray[np.int64]) -> Ints:
    """(kij, ic_tile, oc_tiles*cols, onij): the psums at `addresses` (kij, onij); outside the map 0."""
    lanes = mapping.oc_tiles * mapping.spec.cols
    parts = np.empty((mapping.kijs, mapping.ic_tiles, lanes, mapping.onijs), dtype=psum.dtype)
    for kij in range(mapping.kijs):
        found = picked(psum[:, :, kij], addresses[kij], 2)  # (ic_tile, oc_tile, onij, col)
        parts[kij] = found.swapaxes(2, 3).reshape(parts.shape[1:])
    return parts


def _sums(mapping: Mapping, parts: Ints, bits: int, saturates: bool) -> Ints:
    """int64 (oc_tiles*cols, OH, OW) of `_parts`, in registers of `bits`: kij outer, ic_tile inner."""
    steps = parts.reshape(-1, *parts.shape[2:])
    if saturates:
        total: Ints = np.zeros(steps.shape[1:], dtype=np.int64)
        for step in steps:
            total = _fit(total + step, bits, True)
    else:
        total = _fit(steps.sum(axis=0, dtype=np.int64), bits, False)
    return total.reshape(-1, *mapping.output_shape)


def _wrong_sums(result: ArrayResult, bits: int, saturates: bool) -> Iterator[Mistaken]:
    """Right psums, added up at wrong addresses, or not all of them."""
    mapping, windows = result.mapping, result.mapping.windows()
    (sh, sw), (dh, dw), off = mapping.conv.stride, mapping.conv.dilation, "kij off by one"
    ki, kj = (a[:, None] for a in np.divmod(np.arange(mapping.kijs), mapping.conv.kernel[1]))
    oi, oj = np.divmod(np.arange(mapping.onijs), mapping.output_shape[1])

    def strided(width: int, sh: int, sw: int) -> NDArray[np.int64]:
        return (oi * sh + ki * dh) * width + oj * sw + kj * dw

    wrong = [
        ("row stride wrong: the width without its padding", strided(mapping.width, sh, sw), ""),
        ("row stride wrong: the width of the output", strided(mapping.output_shape[1], sh, sw), ""),
        ("stride taken as 1", strided(mapping.padded_shape[1], 1, 1), ""),
        ("one position late", windows + 1, ""),
        ("one position early", windows - 1, ""),
    ]
    if mapping.kijs > 1:
        wrong += [
            (f"{off}: the addresses of the kij before", np.roll(windows, 1, axis=0), off),
            (f"{off}: the addresses of the kij behind", np.roll(windows, -1, axis=0), off),
        ]
    tried = [windows]
    for name, addresses, family in wrong:
        if not any(np.array_equal(addresses, other) for other in tried):
            tried.append(addresses)
            out = _sums(mapping, _parts(mapping, result.psum, addresses), bits, saturates)
            yield Mistaken(name, result.psum, out, family=family)
    parts = _parts(mapping, result.psum, windows)
    for axis, name, count in ((0, "kij", mapping.kijs), (1, "ic_tile", mapping.ic_tiles)):
        for index in range(count if count > 1 else 0):
            kept = np.delete(parts, index, axis)
            yield Mistaken(f"{name} {index} missing", result.psum, _sums(mapping, kept, bits, saturates))


def _narrow(mapping: Mapping, exact: Ints, tiles: Ints, weights: Ints) -> Iterator[Mistaken]:
    """Registers of fewer bits, or that overflow otherwise, in the array and behind it."""
    spec, windows = mapping.spec, mapping.windows()
    parts = _parts(mapping, exact, windows)
    running = np.cumsum(parts.reshape(-1, *parts.shape[2:]), axis=0, dtype=np.int64)
    lo, hi = (min(int(a.min()) for a in (exact, running)), max(int(a.max()) for a in (exact, running)))
    held = max(least_signed_bits(lo, hi), least_signed_bits(*mapping.pass_bounds()))  # nothing overflows there
    for bits in range(min(spec.psum_bits, held), 2, -1):
        psum = _fit(exact, bits, False)
        name = f"psums wrapped at {bits} bits"
        yield Mistaken(name, psum, _sums(mapping, _parts(mapping, psum, windows), bits, False))
        name = f"psums saturated at {bits} bits"
        psum = _fit(exact, bits, True)
        yield Mistaken(name, psum, _sums(mapping, _parts(mapping, psum, windows), bits, True), family=name)
        by_row = _rows(tiles, weights, bits)
        if not np.array_equal(by_row, psum):
            out = _sums(mapping, _parts(mapping, by_row, windows), bits, True)
            yield Mistaken(f"{name} after each row", by_row, out, family=name)


def operands(result: ArrayResult, index: tuple[int, ...]) -> str:
    """The products that make one psum: activation * weight of each row, in words."""
    ic_tile, oc_tile, kij, nij, col = index
    mapping = result.mapping
    acts = mapping.act_tiles(result.act)[ic_tile, nij]
    weights = mapping.weight_tiles()[ic_tile, oc_tile, kij, col]
    products = " + ".join(f"{int(a)}*{int(w)}" for a, w in zip(acts, weights, strict=True))
    return products.replace("+ -", "- ")


def contributions(result: ArrayResult, index: tuple[int, ...]) -> str:
    """The psums that make one output, kij after kij, in words."""
    oc, oi, oj = index
    mapping = result.mapping
    oc_tile, col = divmod(oc, mapping.spec.cols)
    onij = oi * mapping.output_shape[1] + oj
    windows = mapping.windows()[:, onij]
    sums = [int(result.psum[:, oc_tile, kij, nij, col].sum()) for kij, nij in enumerate(windows)]
    return " + ".join(f"{value} (kij {kij}, nij {int(windows[kij])})" for kij, value in enumerate(sums))
