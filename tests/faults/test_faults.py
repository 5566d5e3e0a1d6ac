"""Every kind of fault against hardware as one would draw it: PEs, registers and adders in loops of Python integers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import INT4, UINT4, layers
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.faults.faults import Fault, count, kinds, make_faults
from systolith.faults.faulty import columns_of, simulate
from systolith.faults.lattice import Machine
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv

WIDTH = 24  # of an adder without overflow


@cache
def layer(overflow: str, signed: bool = False, groups: int = 1) -> ArrayResult:
    """Two tiles each way on a 3x3 array, the second of each not full; stride and dilation; 7 bits overflow.

    With two groups three input tiles, of which the second output tile takes the last two.
    """
    rng = np.random.default_rng(3)
    form, ins = IntFormat(4, signed), 5 if groups == 1 else 4
    pads = (1, 1) if groups == 1 else (1, 2, 0, 1)
    conv = Conv("layer", rng.integers(-8, 8, (4, ins, 2, 2)), form, INT4, (1, 2), pads, (2, 1), groups)
    act = rng.integers(form.lo, form.hi + 1, (groups * ins, 3, 2))
    return run_layer(conv, act, ArraySpec(3, 3, psum_bits=16 if overflow == "error" else 7, overflow=overflow))


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


class Hardware:
    """The array with a fault; `psum[o][c]` is (ic_tile, kij, nij), `out` and `after` are (onij,).

    `tile` counts the input tiles that an output tile takes.
    """

    def __init__(self, result: ArrayResult, fault: Fault | None) -> None:
        self.m, self.fault = result.mapping, fault
        self.kind = fault.kind if fault else ""
        self.at = dict(fault.at) if fault else {}
        self.how = self.at.get("how", "")
        self.spec, self.conv = self.m.spec, self.m.conv
        self.acts = self.m.act_tiles(result.act).tolist()
        self.weights = self.m.weight_tiles().tolist()
        self.right = right_hardware(result) if fault else self
        self.psums: dict[tuple[int, int], list] = {}
        dense, side = replace(self.conv, weight=np.ones_like(self.conv.weight)).dense, self.spec.rows
        blocks = [
            [dense[o * side :][:side, t * side :][:, :side] for t in range(self.m.ic_tiles)]
            for o in range(self.m.oc_tiles)
        ]
        self.taken = [[t for t, block in enumerate(of) if block.any()] for of in blocks]

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

    # The array.

    def act(self, tile: int, o: int, nij: int, row: int) -> int:
        if self.kind == "activation address bit":
            nij = number([*bits(nij, 8)[: self.at["bit"]], self.at["stuck at"], *bits(nij, 8)[self.at["bit"] + 1 :]])
        elif self.kind == "activation address" and self.how == "width without padding":
            i, j = divmod(nij, self.m.padded_shape[1])
            nij = i * self.m.width + j
        elif self.kind == "activation address" or self.here("skew of a row", row=row):
            nij += {"one position early": 1, "one position late": -1}[self.how]
        if self.kind == "tile before" and self.how == "activations of ic_tile":
            tile -= 1
        if self.kind == "neighbouring rows swapped" and self.how == "activations":
            row = {self.at["row"]: row + 1, self.at["row"] + 1: row - 1}.get(row, row)
        if self.kind == "order of lanes reversed" and self.how == "activations":
            row = self.spec.rows - 1 - row
        return self.acts[self.taken[o][tile]][nij][row] if 0 <= nij < self.m.nijs else 0

    def weight(self, tile: int, o: int, kij: int, col: int, row: int) -> int:
        if self.kind == "weight address bit":
            kij = kij & ~(1 << self.at["bit"]) | self.at["stuck at"] << self.at["bit"]
            if kij >= self.m.kijs:
                return 0
        if self.kind == "weights of another kij":
            kij = (kij + (-1 if self.how == "the one before" else 1)) % self.m.kijs
        if self.kind == "tile before" and self.how == "weights of ic_tile":
            tile -= 1
        if self.kind == "weights of the oc_tile before":
            o -= 1
        if self.kind == "neighbouring rows swapped" and self.how == "weights":
            row = {self.at["row"]: row + 1, self.at["row"] + 1: row - 1}.get(row, row)
        if self.kind == "order of lanes reversed" and self.how == "rows for columns in the weights":
            row, col = col, row
        if self.kind == "weight load":
            col += 1 if self.how == "one position early" else -1
            if not 0 <= col < self.spec.cols:
                return 0
        tiles = self.taken[o]
        return self.weights[tiles[tile % len(tiles)]][o][kij][col][row]

    def pe(self, above: int, act: int, weight: int, row: int, col: int) -> int:
        form, wide = self.spec.act_format(self.conv), self.spec.act_bits + self.spec.weight_bits
        place = {"row": row, "col": col}
        if self.kind == "activation bit" and row == self.at["row"] and col >= self.at["col"]:
            act = self.stuck(act, form.bits, form.signed)
        if self.here("activation's sign", **place):
            act = number(bits(act, form.bits), not form.signed)
        if self.here("weight bit", **place):
            weight = self.stuck(weight, self.spec.weight_bits)
        if self.here("weight taken as unsigned", **place):
            weight = number(bits(weight, self.spec.weight_bits), signed=False)
        product = act * weight
        if self.here("product bit", **place):
            product = self.stuck(product, wide)
        if self.here("product", **place):
            product = {
                "without sign extension": number(bits(product, wide), signed=False),
                "one bit narrower": number(bits(product, wide - 1)),
                "negated": -product,
                "missing": 0,
            }[self.how]
        if self.here("psum from above missing", **place):
            above = 0
        lost = self.at["out of bit"] if self.here("carry of the adder dropped", **place) else -1
        total = self.register(ripple(above, product, lost), self.here("psum register", **place))
        return self.stuck(total, self.spec.psum_bits) if self.here("psum bit", **place) else total

    def psum(self, o: int, c: int) -> list:
        if (o, c) not in self.psums:
            kinds = range(len(self.taken[o])), range(self.m.kijs), range(self.m.nijs)
            self.psums[o, c] = [[[self.one(o, c, t, k, n) for n in kinds[2]] for k in kinds[1]] for t in kinds[0]]
        return self.psums[o, c]

    def one(self, o: int, c: int, tile: int, kij: int, nij: int) -> int:
        right = self.right
        if self.here("skew of a column", col=c):
            nij += {"one position early": 1, "one position late": -1}[self.how]
            return right.psum(o, c)[tile][kij][nij] if 0 <= nij < self.m.nijs else 0
        if self.how == "psums" and self.kind == "neighbouring columns swapped":
            return right.psum(o, {self.at["col"]: c + 1, self.at["col"] + 1: c - 1}.get(c, c))[tile][kij][nij]
        if self.how == "psums" and self.kind == "order of lanes reversed":
            return right.psum(o, self.spec.cols - 1 - c)[tile][kij][nij]
        start = 0
        if self.here("stale psum", col=c):
            if self.how == "added from the position before":
                start = right.psum(o, c)[tile][kij][nij - 1] if nij else 0
            else:
                passes = [
                    (a, b, t)
                    for a in range(self.m.oc_tiles)
                    for b in range(self.m.kijs)
                    for t in range(len(self.taken[a]))
                ]
                at = passes.index((o, kij, tile))
                if at:
                    before = passes[at - 1]
                    start = right.psum(before[0], c)[before[2]][before[1]][nij]
                if self.how == "of the pass before instead":
                    return start
        for row in range(self.spec.rows):
            start = self.pe(start, self.act(tile, o, nij, row), self.weight(tile, o, kij, c, row), row, c)
        return start

    # The SFP.

    def addresses(self, kij: int, oi: int, oj: int) -> int:
        conv, width = self.conv, self.m.padded_shape[1]
        (sh, sw), (dh, dw), (ki, kj), base = conv.stride, conv.dilation, divmod(kij, conv.kernel[1]), kij
        if self.kind == "psum address":
            if self.how == "kij reversed":
                base = self.m.kijs - 1 - kij
            if self.how == "stride ignored":
                sh = sw = 1
            if self.how == "dilation ignored":
                dh = dw = 1
            if self.how == "width without padding":
                width = self.m.width
            if self.how == "ki and kj swapped":
                ki, kj = kj, ki
            if self.how == "i and j swapped":
                oi, oj = oj, oi
        address = base * self.m.nijs + (oi * sh + ki * dh) * width + oj * sw + kj * dw
        if self.kind == "psum address":
            address += {"one position early": 1, "one position late": -1}.get(self.how, 0)
        if self.kind == "psum address bit":
            address = address & ~(1 << self.at["bit"]) | self.at["stuck at"] << self.at["bit"]
        return address

    def sums(self, o: int, c: int) -> list[int]:
        m, how = self.m, self.how
        memory = [[value for kij in tile for value in kij] for tile in self.psum(o, c)]
        passes = [(kij, tile) for kij in range(m.kijs) for tile in range(len(self.taken[o]))]
        if self.kind == "order of passes":
            passes.sort(key=lambda one: (one[1], one[0]))
        for axis, index in (("kij", 0), ("ic_tile", 1)):
            if self.kind == f"pass of {axis}":
                times = {"missing": 0, "added twice": 2}[how]
                named = [(kij, self.taken[o][tile]) for kij, tile in passes]
                counts = [times if name[index] == self.at[axis] else 1 for name in named]
                passes = [p for p, count in zip(passes, counts, strict=True) for _ in range(count)]
        found = []
        for onij in range(m.onijs):
            acc = 0
            if self.here("stale sum", col=c):
                before = self.right.sums(o, c)[onij - 1] if onij else 0
                acc = before if how == "of the position before" else self.right.sums(o - 1, c)[onij] if o else 0
            for kij, tile in passes:
                address = self.addresses(kij, *divmod(onij, m.output_shape[1]))
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
                address = onij & ~(1 << self.at["bit"]) | self.at["stuck at"] << self.at["bit"]
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


ALL = sorted({kind for overflow in ("error", "saturate") for kind in kinds(layer(overflow).mapping)})


def some(result: ArrayResult, kind: str, most: int) -> list[Fault]:
    """Faults of a kind: every value of every axis that says how, places and bits at random."""
    faults = [fault for fault in make_faults(result.mapping) if fault.kind == kind]
    rng = np.random.default_rng(len(kind))
    by_how: dict[object, list[Fault]] = {}
    for fault in (faults[n] for n in rng.permutation(len(faults))):
        by_how.setdefault(dict(fault.at).get("how", dict(fault.at).get("stuck at")), []).append(fault)
    return [fault for alike in by_how.values() for fault in alike[: max(1, most // len(by_how))]]


@pytest.mark.parametrize(
    ("overflow", "groups"), [("error", 1), ("wrap", 1), ("saturate", 1), ("wrap", 2), ("saturate", 2)]
)
@pytest.mark.parametrize("kind", ALL)
def test_a_fault_does_what_the_hardware_would(kind: str, overflow: str, groups: int) -> None:
    result = layer(overflow, kind in ("activation's sign", "activation bit") and overflow == "wrap", groups)
    machine = Machine(result)
    for fault in some(result, kind, 4):
        hardware = Hardware(result, fault)
        touched = columns_of(fault, result.mapping)
        for o in range(result.mapping.oc_tiles):
            for c in range(result.mapping.spec.cols):
                out, after = hardware.outputs(o, c)
                if c in touched:
                    found = simulate(machine, fault, o, c)
                    assert found.psum.tolist() == hardware.psum(o, c), (str(fault), o, c)
                    assert found.out.tolist() == out, (str(fault), o, c)
                    assert found.after.tolist() == after, (str(fault), o, c)
                else:
                    assert hardware.psum(o, c) == machine.psum(o, c).tolist(), str(fault)
                    assert out == machine.out[o, c].tolist(), str(fault)


@given(layers(), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.sampled_from(["wrap", "saturate", "error"]))
@settings(max_examples=40)
def test_without_a_fault_all_is_golden(drawn: tuple[Conv, np.ndarray], size: tuple[int, int], overflow: str) -> None:
    spec = ArraySpec(*size, psum_bits=20 if overflow == "error" else 8, overflow=overflow)
    machine = Machine(run_layer(*drawn, spec))
    none = Fault("none", (("col", 0),))
    for o in range(machine.mapping.oc_tiles):
        for c in range(spec.cols):
            right = machine.psum(o, c)
            assert (machine.column(machine.acts(o), machine.weights(o)[:, :, c]) == right).all()
            for row, entering in enumerate(machine.registers(o, c)[0]):
                assert (machine.down(o, c, row, entering) == right).all()
            found = simulate(machine, none, o, c)
            assert (found.psum == right).all()
            assert (found.out == machine.out[o, c]).all()
            assert (found.after == np.maximum(machine.out[o, c], 0)).all()


def test_the_list_is_whole_or_drawn_with_some_of_every_kind() -> None:
    mapping = layer("error").mapping
    by_kind = kinds(mapping)
    faults = make_faults(mapping)
    assert len(faults) == len(set(faults)) == sum(map(count, by_kind.values()))
    assert {f.kind for f in faults} == set(by_kind)
    assert sum(f.kind == "psum bit" for f in faults) == 9 * 16 * 2
    assert sum(f.kind == "weight bit" for f in faults) == 9 * 4 * 2
    assert "ReLU" not in {f.kind for f in make_faults(mapping, relu=False)}
    drawn = make_faults(mapping, most=100, seed=1)
    assert len(drawn) == len(set(drawn)) <= 100
    assert {f.kind for f in drawn} == set(by_kind)
    assert set(drawn) < set(faults)
    assert drawn == make_faults(mapping, most=100, seed=1) != make_faults(mapping, most=100, seed=2)
    assert make_faults(mapping, most=len(faults), seed=5) == faults
    with pytest.raises(BadInput, match=f"5 faults: expected at least {len(by_kind)}, one of each kind"):
        make_faults(mapping, most=5)
    with pytest.raises(BadInput, match="seed -1: expected 0 or more"):
        make_faults(mapping, seed=-1)


def test_only_faults_that_this_layer_has() -> None:
    point = Conv("point", np.ones((1, 1, 1, 1), dtype=int), UINT4, INT4)
    found = kinds(run_layer(point, np.ones((1, 1, 1), dtype=int), ArraySpec(1, 1)).mapping)
    for kind in ("neighbouring rows swapped", "order of lanes reversed", "pass of ic_tile", "weight address bit"):
        assert kind not in found
    padded = replace(point, padding=(0, 1))
    more = kinds(run_layer(padded, np.ones((1, 1, 1), dtype=int), ArraySpec(1, 1)).mapping)
    assert "width without padding" in more["psum address"]["how"]
    assert "width without padding" not in found["psum address"]["how"]


def test_a_fault_in_words() -> None:
    fault = next(f for f in make_faults(layer("error").mapping) if f.kind == "weight bit")
    assert str(fault) == "weight bit: row 0, col 0, bit 0, stuck at 0"
    assert str(Fault("ReLU", (("col", 3), ("how", "absent")))) == "ReLU: col 3, absent"
