"""Common mistakes of a first RTL, each as the psums and outputs that it makes of the same inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, Mapping
from systolith.array.layer import accumulate_all
from systolith.array.sfp import fit

Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Mistaken:
    """What a mistake would leave.

    Attributes:
        name: in words.
        psum: (ic_tile, oc_tile, kij, nij, col).
        out: (O, OH, OW), before ReLU unless `relu` says otherwise.
        relu: True and False force outputs after and before ReLU; None leaves them as the layout has them.
    """

    name: str
    psum: Ints
    out: Ints
    relu: bool | None = None


def mistakes(result: ArrayResult) -> Iterator[Mistaken]:
    """Every mistake that means something on this layer and array, one after another."""
    mapping = result.mapping
    spec, conv = mapping.spec, mapping.conv
    tiles = mapping.act_tiles(result.act).astype(np.int64)  # (ic_tile, nij, row)
    weights = mapping.weight_tiles().astype(np.int64)  # (ic_tile, oc_tile, kij, col, row)

    def built(name: str, acts: Ints, kernels: Ints) -> Mistaken:
        return _mistaken(name, mapping, _psums(acts, kernels))

    if spec.rows == spec.cols:
        yield built("weights transposed", tiles, weights.swapaxes(3, 4))
    act, weight = spec.act_format(conv), spec.weight_format
    if not act.signed:
        yield built(
            "activations taken as signed",
            np.where(tiles >= 1 << (act.bits - 1), tiles - (1 << act.bits), tiles),
            weights,
        )
    else:
        yield built("activations taken as unsigned", np.where(tiles < 0, tiles + (1 << act.bits), tiles), weights)
    yield built("weights taken as unsigned", tiles, np.where(weights < 0, weights + (1 << weight.bits), weights))
    yield built("order of the rows reversed in one operand", tiles[..., ::-1], weights)
    yield built("order of the columns reversed", tiles, weights[..., ::-1, :])
    if mapping.kijs > 1:
        yield built("kij off by one: the weights of the kij before", tiles, np.roll(weights, 1, axis=2))
        yield built("kij off by one: the weights of the kij behind", tiles, np.roll(weights, -1, axis=2))
    yield from _wrong_windows(result)
    for kij in range(mapping.kijs if mapping.kijs > 1 else 0):
        kept = result.psum.copy()
        kept[:, :, kij] = 0
        yield Mistaken(f"kij {kij} missing", result.psum, accumulate_all(_exact(mapping), kept))
    yield Mistaken("no ReLU", result.psum, result.out, relu=False)
    yield Mistaken("ReLU where there is none", result.psum, result.out, relu=True)
    for bits in range(spec.psum_bits - 1, 3, -1):
        for overflow in ("wrap", "saturate"):
            narrow = replace(mapping, spec=replace(spec, psum_bits=bits, overflow=overflow))
            psum = fit(result.psum.astype(np.int64), narrow.spec, conv.name, ())
            name = f"psums {'wrapped' if overflow == 'wrap' else 'saturated'} at {bits} bits"
            yield Mistaken(name, psum, accumulate_all(narrow, psum))


def _psums(tiles: Ints, weights: Ints) -> Ints:
    """(ic_tile, oc_tile, kij, nij, col) of activations (ic_tile, nij, row) and weights (..., kij, col, row)."""
    return np.einsum("tnr,tokcr->toknc", tiles, weights, optimize=True)


def _exact(mapping: Mapping) -> Mapping:
    """The same array with accumulators that nothing overflows: what a mistake computes is not refused here."""
    return replace(mapping, spec=replace(mapping.spec, psum_bits=48, overflow="wrap"))


def _mistaken(name: str, mapping: Mapping, psum: Ints) -> Mistaken:
    """Psums and their sums in registers of the array's width."""
    spec = mapping.spec
    held = replace(mapping, spec=replace(spec, overflow="wrap" if spec.overflow == "error" else spec.overflow))
    psum = fit(psum.astype(np.int64), held.spec, mapping.conv.name, ())
    return Mistaken(name, psum, accumulate_all(held, psum))


def _wrong_windows(result: ArrayResult) -> Iterator[Mistaken]:
    """Right psums, added up at wrong addresses."""
    mapping = result.mapping
    (hp, wp), windows = mapping.padded_shape, mapping.windows()
    kernels = [divmod(kij, mapping.conv.kernel[1]) for kij in range(mapping.kijs)]
    unpadded = np.array([[ki * mapping.width + kj for ki, kj in kernels]]).T
    oi, oj = np.divmod(np.arange(mapping.onijs), mapping.output_shape[1])
    start = oi * mapping.conv.stride[0] * mapping.width + oj * mapping.conv.stride[1]
    wrong = {
        "row stride wrong: the width without its padding": unpadded + start,
        "one position late": windows + 1,
        "one position early": windows - 1,
    }
    for name, addresses in wrong.items():
        if (addresses == windows).all():
            continue
        inside = (addresses >= 0) & (addresses < hp * wp)
        out = np.zeros((mapping.oc_tiles, mapping.spec.cols, mapping.onijs), dtype=np.int64)
        for kij in range(mapping.kijs):
            at = np.where(inside[kij], addresses[kij], 0)
            found = result.psum[:, :, kij, at].sum(axis=0, dtype=np.int64) * inside[kij][None, :, None]
            out += found.transpose(0, 2, 1)
        flat = out.reshape(-1, mapping.onijs)[: mapping.conv.out_channels]
        yield Mistaken(name, result.psum, flat.reshape(-1, *mapping.output_shape))


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
