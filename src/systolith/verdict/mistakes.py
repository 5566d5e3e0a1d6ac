"""Common mistakes of a first RTL, each as the psums and outputs that it makes of the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, Mapping
from systolith.array.psums import multiply
from systolith.formats import IntFormat, least_signed_bits, wrapped
from systolith.vectors.tensors import picked

Ints = NDArray[np.integer]
_SHOWN = 64  # products of a psum that are named


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
        psum = _rows(acts, kernels, bits, mapping.simd) if saturates else _fit(_psums(acts, kernels), bits, False)
        return Mistaken(name, psum, _sums(mapping, _parts(mapping, psum, windows), bits, saturates), family=family)

    def summed(name: str, psum: Ints, family: str = "") -> Mistaken:
        return Mistaken(name, psum, _sums(mapping, _parts(mapping, psum, windows), bits, saturates), family=family)

    if weights.shape[-2] == weights.shape[-1]:
        yield made("weights transposed", tiles, weights.swapaxes(3, 4))
    act, weight = mapping.code_format, spec.weight_format
    if act.signed:
        yield made("activations taken as unsigned", tiles & ((1 << act.bits) - 1), weights)
    else:
        yield made("activations taken as signed", _fit(tiles, act.bits, False), weights)
    yield made("weights taken as unsigned", tiles, weights & ((1 << weight.bits) - 1))
    lanes = tiles.reshape(*tiles.shape[:2], -1, mapping.simd)
    axis = "steps" if mapping.stationary else "rows"
    yield made(f"order of the {axis} reversed in one operand", lanes[:, :, ::-1].reshape(tiles.shape), weights)
    if mapping.simd > 1:
        yield made("order of a lane's codes reversed in one operand", lanes[..., ::-1].reshape(tiles.shape), weights)
    if mapping.stationary:
        yield summed("order of the rows reversed as sums leave", _leaving_reversed(mapping, result.psum))
    yield made("order of the columns reversed", tiles, weights[..., ::-1, :])
    if mapping.taps > 1:
        off = "kij off by one"
        for which, by in (("before", 1), ("behind", -1)):
            rolled = np.roll(conv.weight.reshape(*conv.weight.shape[:2], -1), by, 2).reshape(conv.weight.shape)
            kernels = mapping.weight_tiles_of(rolled).astype(np.int32)
            yield made(f"{off}: the weights of the kij {which}", tiles, kernels, off)
    if mapping.passes > 1 and not mapping.stationary:
        for which, by in (("before", 1), ("behind", -1)):
            yield made(f"pass off by one: the weights of the pass {which}", tiles, _another_pass(mapping, weights, by))
    yield from _wrong_sums(result, weights, made, summed)
    plain = summed("", result.psum).out
    yield Mistaken("no ReLU", result.psum, plain, relu=False)
    yield Mistaken("ReLU where there is none", result.psum, plain, relu=True)
    exact = result.psum if spec.overflow == "error" else _psums(tiles, weights)
    yield from _narrow(mapping, exact, tiles, weights)
    if any(conv.pads):
        yield Mistaken("x instead of 0 in the padding", result.psum, plain, unknown=_in_padding(result, plain.shape))


def _leaving_reversed(mapping: Mapping, psum: Ints) -> Ints:
    """Output stationary: the words of each fold in the other order."""
    rows, count = mapping.spec.rows, mapping.onijs
    whole = np.pad(psum, ((0, 0), (0, 0), (0, 0), (0, mapping.folds * rows - count), (0, 0)))
    folds = whole.reshape(*psum.shape[:3], mapping.folds, rows, psum.shape[4])
    return folds[..., ::-1, :].reshape(whole.shape)[:, :, :, :count]


def _another_pass(mapping: Mapping, weights: Ints, by: int) -> Ints:
    """Each pass with the weights of the pass before (1) or behind (-1) it; 0 where there is none."""
    oc_tile, kij, ic_tile = mapping.order.T
    found, passes = np.zeros_like(weights), weights[ic_tile, oc_tile, kij]
    moved = np.zeros_like(passes)
    if by > 0:
        moved[by:] = passes[:-by]
    else:
        moved[:by] = passes[-by:]
    found[ic_tile, oc_tile, kij] = moved
    return found


def _in_padding(result: ArrayResult, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Bool like psums, and of `shape` like outputs: where some activation is of the padding."""
    mapping, channels = result.mapping, result.mapping.conv.in_channels
    ring = mapping.padded(np.ones_like(result.act), channels)[:1] == 0
    out = ring[0][mapping.positions()].any(0).reshape(mapping.batch, 1, *mapping.output_shape)
    if mapping.flat is None:
        psum = ring[0][:, None]
    else:
        tiles = mapping.flat.act_tiles(np.repeat(ring, channels, 0), mapping.positions())
        psum = np.asarray(tiles.any(2))[:, None, None, :, None]
    whole = np.broadcast_to(out, (mapping.batch, shape[-3], *mapping.output_shape))
    return np.broadcast_to(psum, result.psum.shape), whole.reshape(shape)


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


def _rows(tiles: Ints, weights: Ints, bits: int, simd: int) -> Ints:
    """The same, each row's (or step's) sum in a register that saturates at `bits`; a lane has `simd` codes."""
    shape = (tiles.shape[0], *weights.shape[1:3], tiles.shape[1], weights.shape[3])
    most = int(np.abs(tiles).max()) * int(np.abs(weights).max())
    psum = np.zeros(shape, dtype=np.int32 if max(most, 1 << bits) < 1 << 30 else np.int64)
    tiles, weights = tiles.astype(psum.dtype), weights.astype(psum.dtype)
    for row in range(0, tiles.shape[2], simd):
        for code in range(row, row + simd):
            psum += tiles[:, None, None, :, code, None] * weights[:, :, :, None, :, code]
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
    """int64 (oc_tiles*cols, OH, OW), of a batch (picture, ...), of `_parts`, in registers of `bits`: kij outer, ic_tile
    inner."""
    steps = parts.reshape(-1, *parts.shape[2:])
    if saturates:
        total: Ints = np.zeros(steps.shape[1:], dtype=np.int64)
        for step in steps:
            total = _fit(total + step, bits, True)
    else:
        total = _fit(steps.sum(axis=0, dtype=np.int64), bits, False)
    if mapping.batch == 1:
        return total.reshape(-1, *mapping.output_shape)
    return np.moveaxis(total.reshape(len(total), mapping.batch, *mapping.output_shape), 1, 0)


def _wrong_sums(
    result: ArrayResult, weights: Ints, made: Callable[..., Mistaken], summed: Callable[..., Mistaken]
) -> Iterator[Mistaken]:
    """Right psums, added up at wrong addresses, or not all of them; where what streams is what outputs need, right
    weights on activations of wrong addresses."""
    mapping, flat, right = result.mapping, result.mapping.flat, result.mapping.positions()
    (sh, sw), (dh, dw), off = mapping.conv.stride, mapping.conv.dilation, "kij off by one"
    ki, kj = (a[:, None] for a in np.divmod(np.arange(mapping.taps), mapping.conv.kernel[1]))
    picture, at = np.divmod(np.arange(mapping.onijs), mapping.onijs // mapping.batch)
    oi, oj = np.divmod(at, mapping.output_shape[1])

    def strided(width: int, sh: int, sw: int) -> NDArray[np.int64]:
        return picture * mapping.map_size + (oi * sh + ki * dh) * width + oj * sw + kj * dw

    def streamed(addresses: NDArray[np.int64]) -> Ints:
        """Activations of the padded maps at these addresses, 0 outside, as a flat mapping streams them."""
        assert flat is not None
        maps = mapping.padded(result.act, mapping.conv.in_channels).astype(np.int32)
        there = (addresses >= 0) & (addresses < maps.shape[1])
        return flat.act_tiles(np.pad(maps, ((0, 0), (0, 1))), np.where(there, addresses, maps.shape[1]))

    def wrongly(name: str, addresses: NDArray[np.int64], family: str = "") -> Mistaken:
        if flat is not None:
            return made(name, streamed(addresses), weights, family)
        parts = _parts(mapping, result.psum, addresses)
        out = _sums(mapping, parts, mapping.spec.psum_bits, mapping.spec.overflow == "saturate")
        return Mistaken(name, result.psum, out, family=family)

    wrong = [
        ("row stride wrong: the width without its padding", strided(mapping.width, sh, sw), ""),
        ("row stride wrong: the width of the output", strided(mapping.output_shape[1], sh, sw), ""),
        ("stride taken as 1", strided(mapping.padded_shape[1], 1, 1), ""),
        ("one position late", right + 1, ""),
        ("one position early", right - 1, ""),
    ]
    if mapping.taps > 1:
        wrong += [
            (f"{off}: the addresses of the kij before", np.roll(right, 1, axis=0), off),
            (f"{off}: the addresses of the kij behind", np.roll(right, -1, axis=0), off),
        ]
    tried = [right]
    for name, addresses, family in wrong:
        if not any(np.array_equal(addresses, other) for other in tried):
            tried.append(addresses)
            yield wrongly(name, addresses, family)
    for kij in range(mapping.taps if mapping.taps > 1 else 0):
        gone = right.copy()
        gone[kij] = -1
        yield wrongly(f"kij {kij} missing", gone)
    for ic_tile in range(mapping.ic_tiles if mapping.ic_tiles > 1 else 0):
        kept = result.psum.copy()
        kept[ic_tile] = 0
        yield replace(summed(f"ic_tile {ic_tile} missing", kept), psum=result.psum)


def _narrow(mapping: Mapping, exact: Ints, tiles: Ints, weights: Ints) -> Iterator[Mistaken]:
    """Registers of fewer bits, or that overflow otherwise, in the array and behind it."""
    spec, windows, each = mapping.spec, mapping.windows(), "step" if mapping.stationary else "row"
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
        by_row = _rows(tiles, weights, bits, mapping.simd)
        if not np.array_equal(by_row, psum):
            out = _sums(mapping, _parts(mapping, by_row, windows), bits, True)
            yield Mistaken(f"{name} after each {each}", by_row, out, family=name)


def position(mapping: Mapping, nij: int) -> str:
    """A position of a psum in words: in the padded map, or of the output that streams."""
    height, width = mapping.padded_shape if mapping.flat is None else mapping.output_shape
    picture, at = divmod(nij, height * width)
    names = ("i", "j") if mapping.flat is None else ("oi", "oj")
    where = f"nij {nij} ({names[0]} {at // width}, {names[1]} {at % width})"
    return f"{where} of picture {picture}" if mapping.batch > 1 else where


def operands(result: ArrayResult, index: tuple[int, ...]) -> str:
    """The products that make one psum: activation * weight of each row, or step, in words; of many those that count."""
    ic_tile, oc_tile, kij, nij, col = index
    mapping = result.mapping
    acts = mapping.act_tiles(result.act)[ic_tile, nij]
    weights = mapping.weight_tiles()[ic_tile, oc_tile, kij, col]
    pairs = [(int(a), int(w)) for a, w in zip(acts, weights, strict=True)]
    if len(pairs) > _SHOWN:
        pairs = [(a, w) for a, w in pairs if a * w]
    said = " + ".join(f"{a}*{w}" for a, w in pairs[:_SHOWN]).replace("+ -", "- ") or "0"
    left = pairs[_SHOWN:]
    return said + (f" + {len(left)} more that make {sum(a * w for a, w in left)}" if left else "")


def contributions(result: ArrayResult, index: tuple[int, ...]) -> str:
    """The psums that make one output, kij after kij (or tile after tile of the whole reduction), in words."""
    *picture, oc, oi, oj = index
    mapping = result.mapping
    oc_tile, col = divmod(oc, mapping.spec.cols)
    height, width = mapping.output_shape
    onij = (sum(picture) * height + oi) * width + oj
    if mapping.flat is not None:
        sums = [(int(result.psum[tile, oc_tile, 0, onij, col]), tile) for tile in mapping.ic_range(oc_tile)]
        return " + ".join(f"{value} (ic_tile {tile})" for value, tile in sums)
    windows = mapping.windows()[:, onij]
    by_kij = [int(result.psum[:, oc_tile, kij, nij, col].sum()) for kij, nij in enumerate(windows)]
    return " + ".join(f"{value} (kij {kij}, nij {int(windows[kij])})" for kij, value in enumerate(by_kij))
