"""The array and the SFP as one would draw them: PEs, registers and adders in loops of Python integers."""

from __future__ import annotations

from functools import cache

import numpy as np
from naive_streams import Codes, Streams

from systolith.array import ArrayResult
from systolith.faults.faults import KEPT, Fault, make_faults

WIDTH = 24  # of an adder without overflow


def bits(value: int, width: int) -> list[int]:
    """Two's complement, the lowest bit first."""
    return [value >> n & 1 for n in range(width)]


def number(pattern: list[int], signed: bool = True) -> int:
    value = sum(bit << n for n, bit in enumerate(pattern))
    return value - (1 << len(pattern)) if signed and pattern[-1] else value


def stuck(value: int, bit: int, at: int, width: int, signed: bool = True) -> int:
    pattern = bits(value, width)
    pattern[bit] = at
    return number(pattern, signed)


def ripple(a: int, b: int, dropped: int = -1) -> int:
    """A ripple-carry adder; the carry out of one bit is lost."""
    if dropped < 0:
        return a + b
    carry, found = 0, []
    for n, (x, y) in enumerate(zip(bits(a, WIDTH), bits(b, WIDTH), strict=True)):
        total = x + y + carry
        found.append(total & 1)
        carry = 0 if n == dropped else total >> 1
    return number(found)


class Hardware(Streams):
    """The array with a fault; `psum[o][c]` is (ic_tile, kij, nij), `out` and `after` are (onij,)."""

    def __init__(self, result: ArrayResult, fault: Fault | None) -> None:
        super().__init__(result, fault)
        self.right = right_hardware(result) if fault else self
        self.psums: dict[tuple[int, int], list] = {}
        self.weights: dict[tuple[int, int, int], Codes] = {}
        passes = [(o, kij, t) for o, of in enumerate(self.taken) for kij in range(self.m.kijs) for t in range(len(of))]
        self.passes = {one: n for n, one in enumerate(passes)}
        self.in_order = passes

    # Registers.

    def register(self, value: int, wrong: bool = False) -> int:
        width, overflow = self.spec.psum_bits, self.spec.overflow
        lo, hi = -(1 << (width - 1)), (1 << (width - 1)) - 1
        if wrong and self.how == "one bit narrower":
            width, lo, hi = width - 1, lo // 2, hi // 2
        elif wrong and self.how in ("wraps", "saturates"):
            overflow = {"wraps": "wrap", "saturates": "saturate"}[self.how]
        elif wrong and self.how == "saturates below its largest":
            hi -= 1
        elif wrong and self.how == "saturates above its smallest":
            lo += 1
        if lo <= value <= hi:
            return value
        if overflow == "saturate":
            return max(lo, min(hi, value))
        return number(bits(value, width))

    def here(self, kind: str, **place: int) -> bool:
        return self.kind == kind and all(self.at[axis] == value for axis, value in place.items())

    def stuck(self, value: int, width: int, signed: bool = True) -> int:
        return stuck(value, self.at["bit"], self.at["stuck at"], width, signed)

    # One PE.

    def stuck_lane(self, codes: Codes, width: int, signed: bool = True) -> Codes:
        """The codes of a lane with one of its bits stuck."""
        pattern = [bit for code in codes for bit in bits(code, width)]
        pattern[self.at["bit"]] = self.at["stuck at"]
        return tuple(number(pattern[n : n + width], signed) for n in range(0, len(pattern), width))

    def product(self, act: Codes, weight: Codes, row: int, col: int) -> int:
        width, signed = self.spec.act_bits // self.simd, self.conv.act_format.signed
        wide, place = self.spec.act_bits + self.spec.weight_bits, {"row": row, "col": col}
        if self.kind == "activation bit" and row == self.at["row"] and col >= self.at["col"]:
            act = self.stuck_lane(act, width, signed)
        if self.here("activation's sign", **place):
            act = tuple(number(bits(code, width), not signed) for code in act)
        if self.here("weight bit", **place):
            weight = self.stuck_lane(weight, self.spec.weight_bits)
        if self.here("weight taken as unsigned", **place):
            weight = tuple(number(bits(code, self.spec.weight_bits), signed=False) for code in weight)
        product = 0
        for n, (a, w) in enumerate(zip(act, weight, strict=True)):
            if not self.here("code of a lane missing", **place, code=n):
                product += a * w
        if self.here("product bit", **place):
            product = self.stuck(product, wide)
        if self.here("product", **place):
            product = {
                "without sign extension": number(bits(product, wide), signed=False),
                "one bit narrower": number(bits(product, wide - 1)),
                "negated": -product,
                "missing": 0,
            }[self.how]
        return product

    def adder(self, above: int, product: int, row: int, col: int) -> int:
        place = {"row": row, "col": col}
        if self.here("psum from above missing", **place):
            above = 0
        lost = self.at["out of bit"] if self.here("carry of the adder dropped", **place) else -1
        return self.register(ripple(above, product, lost), self.here("psum register", **place))

    # Weight stationary.

    def psum(self, o: int, c: int) -> list:
        if (o, c) not in self.psums:
            if self.m.stationary:
                self.stationary(c)
            else:
                kinds = range(len(self.taken[o])), range(self.m.kijs), range(self.m.nijs)
                self.psums[o, c] = [[[self.one(o, c, t, k, n) for n in kinds[2]] for k in kinds[1]] for t in kinds[0]]
        return self.psums[o, c]

    def loaded(self, at: int, row: int, c: int) -> Codes:
        """The weights of a PE in the `at`-th pass, which have passed the rows above it."""
        if at < 0:
            return (0,) * self.simd
        if (at, row, c) not in self.weights:
            o, kij, tile = self.in_order[at]
            codes = self.weight(tile, o, kij, c, row)
            for above in range(row):
                if self.here("weight passing south bit", row=above, col=c):
                    codes = self.stuck_lane(codes, self.spec.weight_bits)
            self.weights[at, row, c] = codes
        return self.weights[at, row, c]

    def resident(self, o: int, c: int, tile: int, kij: int, nij: int, row: int) -> Codes:
        """The weights of a PE when a position streams."""
        at = self.passes[o, kij, tile]
        if self.here("shadow weight", row=row, col=c):
            first = nij == (0 if self.flat else self.place(0, kij, ""))
            if self.how == "not taken" or (first and self.how == "not in the first position"):
                return self.loaded(at - 1, row, c)
            if self.how == "of the pass behind" and at + 1 < len(self.passes):
                return self.loaded(at + 1, row, c)
        return self.loaded(at, row, c)

    def one(self, o: int, c: int, tile: int, kij: int, nij: int) -> int:
        right = self.right
        if self.here("skew of a column", col=c):
            nij += {"one position early": 1, "one position late": -1}[self.how]
            return right.psum(o, c)[tile][kij][nij] if 0 <= nij < self.m.nijs else 0
        other = self.other_column(c)
        if other is not None:
            return right.psum(o, other)[tile][kij][nij]
        start = 0
        if self.here("stale psum", col=c):
            if self.how == "added from the position before":
                start = right.psum(o, c)[tile][kij][nij - 1] if nij else 0
            else:
                at = self.passes[o, kij, tile]
                if at:
                    before = self.in_order[at - 1]
                    start = right.psum(before[0], c)[before[2]][before[1]][nij]
                if self.how == "of the pass before instead":
                    return start
        for row in range(self.spec.rows):
            act, weight = self.act(tile, o, nij, row), self.resident(o, c, tile, kij, nij, row)
            start = self.adder(start, self.product(act, weight, row, c), row, c)
            if self.here("psum bit", row=row, col=c):
                start = self.stuck(start, self.spec.psum_bits)
        return start

    def other_column(self, c: int) -> int | None:
        """The one whose psums leave in place of a column's."""
        if self.how == "psums" and self.kind == "neighbouring columns swapped":
            return {self.at["col"]: c + 1, self.at["col"] + 1: c - 1}.get(c)
        return self.spec.cols - 1 - c if self.how == "psums" and self.kind == "order of lanes reversed" else None

    # Output stationary.

    def stationary(self, c: int) -> None:
        """All psums of a column: fold after fold, step after step, row after row; then the sums leave."""
        rows, steps = self.spec.rows, self.lanes_a_tap * self.m.taps
        source = self.other_column(c)
        acc, drain, words = [0] * rows, [0] * rows, []
        for o in range(self.m.oc_tiles):
            for fold in range(self.m.folds):
                for step in range(steps):
                    weight = self.weight_of(o, c if source is None else source, step)
                    for row in range(rows):
                        begin = acc[row]
                        if self.here(KEPT, row=row, col=c):
                            begin = self.stuck(begin, self.spec.psum_bits)
                        wrong = self.how if self.here("sum in the processing element", row=row, col=c) else ""
                        if (step == 0 and wrong != "not begun anew") or wrong == "not kept":
                            begin = 0
                        product = self.product(self.code_of(o, fold, row, step), weight, row, c)
                        acc[row] = self.adder(begin, product, row, c)
                        if step == steps - 1:
                            drain[row] = begin if wrong == "without the last step" else acc[row]
                        if self.here("weight passing south bit", row=row, col=c):
                            weight = self.stuck_lane(weight, self.spec.weight_bits)
                for _ in range(rows):
                    drain = [self.through(word, row, c) for row, word in enumerate(drain)]
                    words.append(drain[-1])
                    drain = [0, *drain[:-1]]
        apart = 0
        if self.here("drain", col=c):
            apart = {"one word early": 1, "one word late": -1, "of the fold before": -rows}[self.how]
        a_tile = self.m.folds * rows
        for o in range(self.m.oc_tiles):
            places = [o * a_tile + onij + apart for onij in range(self.m.onijs)]
            self.psums[o, c] = [[[words[at] if 0 <= at < len(words) else 0 for at in places]]]

    def through(self, word: int, row: int, c: int) -> int:
        """A word in the register by which it leaves."""
        return self.stuck(word, self.spec.psum_bits) if self.here("drain register bit", row=row, col=c) else word

    # The SFP.

    def address(self, onij: int, kij: int) -> int:
        """In the memory of an input tile's psums."""
        if self.flat:
            return onij
        base = self.m.kijs - 1 - kij if self.kind == "psum address" and self.how == "kij reversed" else kij
        address = base * self.m.nijs + self.place(onij, kij, "psum address")
        return self.stuck_address(address) if self.kind == "psum address bit" else address

    def sums(self, o: int, c: int) -> list[int]:
        m, how = self.m, self.how
        memory = [[value for kij in tile for value in kij] for tile in self.psum(o, c)]
        passes = [(kij, tile) for kij in range(m.kijs) for tile in range(len(self.taken[o]))]
        if self.kind == "order of passes":
            passes.sort(key=lambda one: (one[1], one[0]))
        for axis, index in (("kij", 0), ("ic_tile", 1)):
            if self.kind == f"pass of {axis}":
                times = {"missing": 0, "added twice": 2}[how]
                named = [(kij, self.number(tile, o)) for kij, tile in passes]
                counts = [times if name[index] == self.at[axis] else 1 for name in named]
                passes = [p for p, count in zip(passes, counts, strict=True) for _ in range(count)]
        found = []
        for onij in range(m.onijs):
            acc = 0
            if self.here("stale sum", col=c):
                before = self.right.sums(o, c)[onij - 1] if onij else 0
                acc = before if how == "of the position before" else self.right.sums(o - 1, c)[onij] if o else 0
            for kij, tile in passes:
                address = self.address(onij, kij)
                psum = memory[tile][address] if 0 <= address < len(memory[tile]) else 0
                lost = self.at["out of bit"] if self.here("carry of the sum dropped", col=c) else -1
                acc = self.register(ripple(acc, psum, lost), self.here("sum register", col=c))
                if self.here("sum bit", col=c):
                    acc = self.stuck(acc, self.spec.psum_bits)
                if how == "of partial sums" and self.here("ReLU", col=c):
                    acc = max(acc, 0)
            found.append(acc)
        return found

    def outputs(self, o: int, c: int) -> tuple[list[int], list[int]]:
        source = c
        if self.how == "sums" and self.kind == "neighbouring columns swapped":
            source = {self.at["col"]: c + 1, self.at["col"] + 1: c - 1}.get(c, c)
        elif self.how == "sums" and self.kind == "order of lanes reversed":
            source = self.spec.cols - 1 - c
        out = self.sums(o, source)
        if self.kind == "output address bit":
            written = [0] * len(out)
            for onij, value in enumerate(out):
                address = self.stuck_address(onij)
                if address < len(out):
                    written[address] = value
            out = written
        after = [max(value, 0) for value in out]
        if self.here("ReLU", col=c):
            after = [
                {
                    "absent": v,
                    "always 0": 0,
                    "magnitude": abs(v),
                    "above 0 instead of from 0": v if v > 0 else 0,
                    "from 2": v if v >= 2 else 0,
                    "from -1": v if v >= -1 else 0,
                    "of partial sums": max(v, 0),
                }[str(self.how)]
                for v in out
            ]
        return out, after


@cache
def right_hardware(result: ArrayResult) -> Hardware:
    return Hardware(result, None)


def some(result: ArrayResult, kind: str, most: int, double: bool = False) -> list[Fault]:
    """Faults of a kind: every value of every axis that says how, places and bits at random."""
    faults = [fault for fault in make_faults(result.mapping, double=double) if fault.kind == kind]
    rng = np.random.default_rng(len(kind))
    by_how: dict[object, list[Fault]] = {}
    for fault in (faults[n] for n in rng.permutation(len(faults))):
        by_how.setdefault(dict(fault.at).get("how", dict(fault.at).get("stuck at")), []).append(fault)
    return [fault for alike in by_how.values() for fault in alike[: max(1, most // len(by_how))]]
