"""Mapping and vector writing against the literal approach of notebooks.

    python -m benchmarks.mapping

Rivals:
- psums: one small `nn.Linear` built and called per (kij, ic_tile, oc_tile, nij), as the notebooks do; for the large
  layer a sample of the nij is timed and scaled up;
- vectors: every word put together character by character (`benchmarks/rivals.py`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from benchmarks.rivals import literal_text, seconds
from systolith.array import ArraySpec, Mapping
from systolith.array.psums import all_psums
from systolith.formats import IntFormat
from systolith.network import Conv
from systolith.vectors.text import encode_words


def literal_psums(mapping: Mapping, act: np.ndarray, nijs: list[int]) -> np.ndarray:
    """Psums at the positions `nijs`: a new `nn.Linear` for every one of them, in every pass."""
    rows, cols = mapping.spec.rows, mapping.spec.cols
    tiles = torch.from_numpy(mapping.act_tiles(act)).float()
    weights = torch.from_numpy(mapping.weight_tiles()).float()
    psum = torch.zeros(mapping.ic_tiles, mapping.oc_tiles, mapping.kijs, len(nijs), cols)
    for kij in range(mapping.kijs):
        for ic_tile in range(mapping.ic_tiles):
            for oc_tile in range(mapping.oc_tiles):
                for at, nij in enumerate(nijs):
                    linear = nn.Linear(rows, cols, bias=False)
                    linear.weight = nn.Parameter(weights[ic_tile, oc_tile, kij], requires_grad=False)
                    psum[ic_tile, oc_tile, kij, at] = linear(tiles[ic_tile, nij])
    return psum.round().to(torch.int32).numpy()


def bench_psums(channels: int, size: int, sample: int) -> float:
    """Print one row; returns the ratio."""
    rng = np.random.default_rng(0)
    formats = IntFormat(4, False), IntFormat(4, True)
    weight = rng.integers(-7, 8, (channels, channels, 3, 3)).astype(np.int8)
    conv = Conv("layer", weight, *formats, padding=(1, 1))
    act = rng.integers(0, 16, (channels, size, size)).astype(np.int16)
    mapping = Mapping(conv, ArraySpec(), size, size)
    nijs = np.linspace(0, mapping.nijs - 1, min(sample, mapping.nijs)).astype(int).tolist()
    ours = all_psums(mapping, act)
    literal = literal_psums(mapping, act, nijs)
    if not (ours[:, :, :, nijs] == literal).all():
        raise SystemExit("the two sides disagree: the benchmark means nothing")
    slow = seconds(lambda: literal_psums(mapping, act, nijs), 2) * mapping.nijs / len(nijs)
    fast = seconds(lambda: all_psums(mapping, act), 10)
    sampled = "" if len(nijs) == mapping.nijs else f" (from {len(nijs)} of {mapping.nijs} nij)"
    print(
        f"psums {channels:3d} -> {channels:<3d} on {size}x{size}: literal {slow:9.3f} s{sampled}, "
        f"ours {fast * 1e3:8.3f} ms: {slow / fast:,.0f}x"
    )
    return slow / fast


def bench_writer(count: int) -> float:
    """Print one row; returns the ratio."""
    words = np.random.default_rng(0).integers(-3000, 3000, (count, 8)).astype(np.int32)
    fmt = IntFormat(16, True)
    ours = encode_words("words", words, fmt)
    if ours != literal_text(words, 16):
        raise SystemExit("the two sides disagree: the benchmark means nothing")
    slow, fast = seconds(lambda: literal_text(words, 16), 3), seconds(lambda: encode_words("words", words, fmt), 10)
    print(
        f"vectors, {count:,} words of 8x16 bits: by character {slow * 1e3:.1f} ms, ours {fast * 1e3:.2f} ms "
        f"({len(ours) / fast / 1e6:.0f} MB/s): {slow / fast:,.0f}x"
    )
    return slow / fast


def main() -> None:
    """Print the three rows and whether each aim is met; exit code 1 if one is not."""
    torch.set_grad_enabled(False)
    outcomes = [
        ("psums 8->8 on 4x4, at least 100x", bench_psums(8, 4, sample=36), 100),
        ("psums 64->64 on 32x32, at least 1000x", bench_psums(64, 32, sample=12), 1000),
        ("vector writer, at least 50x", bench_writer(10_000), 50),
    ]
    for name, ratio, aim in outcomes:
        print(f"{'met' if ratio >= aim else 'NOT MET'}: {name}")
    if any(ratio < aim for _, ratio, aim in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
