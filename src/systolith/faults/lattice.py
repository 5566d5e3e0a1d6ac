"""The array and the SFP with one fault, a column at a time: exact integers, every position at once.

Each column is simulated by itself, because most faults touch one. An array whose overflow is "error" wraps here, as its
hardware would: no golden value overflows, a faulty one may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, ArraySpec, Mapping
from systolith.array.sfp import fit
from systolith.vectors.tensors import picked

Ints = NDArray[np.int64]
Step = Callable[[Ints, Ints], Ints]


@dataclass(frozen=True)
class Column:
    """What one column leaves in one oc_tile.

    Attributes:
        psum: int64 (ic_tile of its `ic_range`, kij, nij).
        out: int64 (onij,), before ReLU.
        after: int64 (onij,), after ReLU.
    """

    psum: Ints
    out: Ints
    after: Ints


@dataclass(frozen=True, eq=False)
class Machine:
    """The array on one stimulus.

    Attributes:
        result: the layer, its integers, and what is right.
    """

    result: ArrayResult

    @property
    def mapping(self) -> Mapping:
        return self.result.mapping

    @cached_property
    def spec(self) -> ArraySpec:
        """The array; "error" wraps."""
        return held(self.mapping.spec)

    @cached_property
    def _acts(self) -> Ints:
        return self.mapping.act_tiles(self.result.act).astype(np.int64)

    @cached_property
    def _weights(self) -> Ints:
        return self.mapping.weight_tiles().astype(np.int64)

    @cached_property
    def _psum(self) -> Ints:
        return np.ascontiguousarray(self.result.psum.transpose(1, 4, 0, 2, 3), dtype=np.int64)

    def _made(self, o: int) -> slice:
        """The ic_tiles of an oc_tile's passes: `ic_tile` in what follows counts these."""
        tiles = self.mapping.ic_range(o)
        return slice(tiles.start, tiles.stop)

    def acts(self, o: int) -> Ints:
        """(ic_tile, nij, row)"""
        return self._acts[self._made(o)]

    def weights(self, o: int) -> Ints:
        """(ic_tile, kij, col, row)"""
        return self._weights[self._made(o), o]

    def psum(self, o: int, c: int) -> Ints:
        """What is right: (ic_tile, kij, nij)"""
        return self._psum[o, c, self._made(o)]

    @cached_property
    def out(self) -> Ints:
        """What is right: (oc_tile, col, onij), lanes without a channel 0."""
        m = self.mapping
        lanes = np.zeros((m.oc_tiles * m.spec.cols, m.onijs), dtype=np.int64)
        lanes[: m.conv.out_channels] = self.result.out.reshape(-1, m.onijs)
        return lanes.reshape(m.oc_tiles, m.spec.cols, m.onijs)

    @cached_property
    def windows(self) -> Ints:
        """Addresses (kij, onij) in a memory of kij*nij psums."""
        return self.mapping.windows() + np.arange(self.mapping.kijs)[:, None] * self.mapping.nijs

    def fit(self, values: Ints) -> Ints:
        return fit(values, self.spec, "", ())

    def products(self, o: int, c: int, row: int) -> Ints:
        """Of one PE: (ic_tile, kij, nij)."""
        return _outer(self.acts(o)[..., row], self.weights(o)[:, :, c, row])

    def registers(self, o: int, c: int) -> tuple[Ints, Ints]:
        """What enters each PE of the column and leaves the last, (row + 1, ic_tile, kij, nij); and the sums of products
        without any register, the same."""
        return _registers(self, o, c)

    def down(self, o: int, c: int, row: int, value: Ints) -> Ints:
        """The column's psums if `value` (ic_tile, kij, nij) enters the PE of `row`."""
        if self.spec.overflow == "wrap":
            exact = self.registers(o, c)[1]
            return self.fit(value + (exact[-1] - exact[row]))
        for below in range(row, self.spec.rows):
            value = self.fit(value + self.products(o, c, below))
        return value

    def column(self, acts: Ints, weights: Ints) -> Ints:
        """Psums (ic_tile, kij, nij) of activations (ic_tile, nij, row) and one column's weights (ic_tile, kij, row)."""
        if self.spec.overflow == "wrap":
            return self.fit(weights @ acts.swapaxes(1, 2))
        psum = np.zeros((*weights.shape[:2], acts.shape[1]), dtype=np.int64)
        for row in range(self.spec.rows):
            psum = self.fit(psum + _outer(acts[..., row], weights[..., row]))
        return psum

    def pass_before(self, o: int, c: int) -> Ints:
        """The right psums of the pass before each, in the order of the passes (oc_tile, kij, ic_tile); 0 before the
        first."""
        passes = self.psum(o, c).swapaxes(0, 1)  # (kij, ic_tile, nij)
        flat = passes.reshape(-1, passes.shape[2])
        first = self.psum(o - 1, c)[-1, -1] if o else np.zeros_like(flat[0])
        return np.vstack([first[None], flat[:-1]]).reshape(passes.shape).swapaxes(0, 1)

    def accumulate(
        self,
        psum: Ints,
        addresses: Ints | None = None,
        passes: Sequence[tuple[int, int]] | None = None,
        step: Step | None = None,
        start: Ints | int = 0,
    ) -> Ints:
        """The SFP's sums (onij,) of psums (ic_tile, kij, nij).

        Args:
            addresses: (kij, onij) in place of `windows`; 0 is read where no memory is.
            passes: (kij, ic_tile) in place of kij outer, ic_tile inner.
            step: in place of the adder and its register.
            start: what the register holds at first.
        """
        addresses = self.windows if addresses is None else addresses
        memory = psum.reshape(psum.shape[0], -1)
        read = picked(memory, addresses, 1)  # (ic_tile, kij, onij)
        if step is None and passes is None and self.spec.overflow == "wrap":
            return self.fit(read.sum((0, 1)) + start)
        if passes is None:
            passes = [(kij, tile) for kij in range(read.shape[1]) for tile in range(read.shape[0])]
        acc = np.zeros(read.shape[2], dtype=np.int64) + start
        for kij, tile in passes:
            acc = step(acc, read[tile, kij]) if step else self.fit(acc + read[tile, kij])
        return acc


def held(spec: ArraySpec) -> ArraySpec:
    """The same array; where overflow is an error in golden values, its registers wrap."""
    return replace(spec, overflow="wrap") if spec.overflow == "error" else spec


def _outer(acts: Ints, weights: Ints) -> Ints:
    """(ic_tile, nij) and (ic_tile, kij) to (ic_tile, kij, nij)."""
    return weights[:, :, None] * acts[:, None, :]


@lru_cache(maxsize=2)  # the faults come column by column
def _registers(m: Machine, o: int, c: int) -> tuple[Ints, Ints]:
    products = np.stack([m.products(o, c, row) for row in range(m.spec.rows)])
    exact = np.concatenate([np.zeros_like(products[:1]), products.cumsum(0)])
    if m.spec.overflow == "wrap":
        return m.fit(exact), exact
    entering = np.zeros_like(exact)
    for row in range(m.spec.rows):
        entering[row + 1] = m.fit(entering[row] + products[row])
    return entering, exact
