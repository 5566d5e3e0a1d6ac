"""The array and the SFP with one fault, a column at a time: exact integers, every position at once.

Each column is simulated by itself, because most faults touch one. An array whose overflow is "error" wraps here, as its
hardware would: no golden value overflows, a faulty one may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from systolith.array import ArrayResult, ArraySpec, Mapping
from systolith.array.sfp import fit
from systolith.faults.operands import Ints, Operands, made
from systolith.vectors.tensors import picked

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
    def operands(self) -> Operands:
        """What enters the array."""
        return Operands(self.mapping, self.result.act, self.mapping.conv.weight)

    @cached_property
    def _psum(self) -> Ints:
        return np.ascontiguousarray(self.result.psum.transpose(1, 4, 0, 2, 3), dtype=np.int64)

    def acts(self, o: int) -> Ints:
        """(ic_tile, nij, stage, code)"""
        return self.operands.acts(o)

    def weights(self, o: int) -> Ints:
        """(ic_tile, kij, col, stage, code)"""
        return self.operands.weights(o)

    def psum(self, o: int, c: int) -> Ints:
        """What is right: (ic_tile, kij, nij)"""
        return self._psum[o, c, made(self.mapping, o)]

    @cached_property
    def out(self) -> Ints:
        """What is right: (oc_tile, col, onij), lanes without a channel 0."""
        m = self.mapping
        lanes = np.zeros((m.oc_tiles * m.spec.cols, m.onijs), dtype=np.int64)
        outs = self.result.out.reshape(m.batch, m.conv.out_channels, -1).swapaxes(0, 1)
        lanes[: m.conv.out_channels] = outs.reshape(-1, m.onijs)
        return lanes.reshape(m.oc_tiles, m.spec.cols, m.onijs)

    @cached_property
    def windows(self) -> Ints:
        """Addresses (kij, onij) in a memory of kij*nij psums."""
        return self.mapping.windows() + np.arange(self.mapping.kijs)[:, None] * self.mapping.nijs

    def fit(self, values: Ints) -> Ints:
        return fit(values, self.spec, "", ())

    def products(self, o: int, c: int) -> Ints:
        """Of each stage, the codes of its lane added up: (stage, ic_tile, kij, nij)"""
        return products_of(*self.operands.entering(o, c))

    def registers(self, o: int, c: int) -> tuple[Ints, Ints]:
        """What enters each stage of the column and leaves the last, (stage + 1, ic_tile, kij, nij); and the sums of
        products without any register, the same."""
        return _registers(self, o, c)

    def down(self, o: int, c: int, stage: int, value: Ints) -> Ints:
        """The column's psums if `value` (ic_tile, kij, nij) enters a stage."""
        exact = self.registers(o, c)[1]
        if self.spec.overflow == "wrap":
            return self.fit(value + (exact[-1] - exact[stage]))
        for further in range(stage, len(exact) - 1):
            value = self.fit(value + (exact[further + 1] - exact[further]))
        return value

    def column(self, acts: Ints, weights: Ints) -> Ints:
        """Psums (ic_tile, kij, nij) of activations (ic_tile, nij, stage, code) and one column's weights (ic_tile, kij,
        stage, code)."""
        if self.spec.overflow == "wrap":
            lanes = acts.shape[2] * acts.shape[3]
            return self.fit(
                weights.reshape(*weights.shape[:2], lanes) @ acts.reshape(len(acts), -1, lanes).swapaxes(1, 2)
            )
        return self.added_up(products_of(acts, weights))

    def added_up(self, products: Ints) -> Ints:
        """Psums (ic_tile, kij, nij) of the products of every stage, (stage, ic_tile, kij, nij)."""
        if self.spec.overflow == "wrap":
            return self.fit(products.sum(0))
        psum = np.zeros_like(products[0])
        for product in products:
            psum = self.fit(psum + product)
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


def products_of(acts: Ints, weights: Ints) -> Ints:
    """The products (stage, ic_tile, kij, nij) of codes (ic_tile, nij, stage, code) and weights (ic_tile, kij, stage,
    code): those of a lane's codes are added."""
    by_stage = acts.transpose(2, 0, 3, 1), weights.transpose(2, 0, 1, 3)
    return by_stage[1] @ by_stage[0]


@lru_cache(maxsize=2)  # the faults come column by column
def _registers(m: Machine, o: int, c: int) -> tuple[Ints, Ints]:
    products = m.products(o, c)
    exact = np.concatenate([np.zeros_like(products[:1]), products.cumsum(0)])
    if m.spec.overflow == "wrap":
        return m.fit(exact), exact
    entering = np.zeros_like(exact)
    for stage, product in enumerate(products):
        entering[stage + 1] = m.fit(entering[stage] + product)
    return entering, exact
