"""What every lane takes in every schedule, straight from the definitions, and with the faults that take something else.

Integers and loops, a lane is a tuple of codes; slow on purpose.
"""

from __future__ import annotations

from dataclasses import replace

from naive import is_made, weight_at

from systolith.array import ArrayResult
from systolith.faults.faults import Fault

Codes = tuple[int, ...]


class Taps:
    """A row's digits, as `taps.sv` steps them."""

    def __init__(self, first: int, step: int, limits: tuple[int, int, int]) -> None:
        self.limits = limits
        self.at, self.step = self.digits(first), self.digits(step)

    def digits(self, number: int) -> list[int]:
        low, middle, _ = self.limits
        return [number % low, number // low % middle, number // low // middle]

    def next(self, lost: int = -1) -> None:
        carry = 0
        for n in range(2):
            total = self.at[n] + self.step[n] + carry
            carry = 0
            if total >= self.limits[n]:
                total, carry = total - self.limits[n], int(n != lost)
            self.at[n] = total
        self.at[2] += self.step[2] + carry


class Streams:
    """Codes and weights as they enter.

    A tile counts those that an output tile takes. `reads[o]` are the first input channel that an output tile reads and
    the one behind the last.
    """

    def __init__(self, result: ArrayResult, fault: Fault | None) -> None:
        self.m, self.fault = result.mapping, fault
        self.kind = fault.kind if fault else ""
        self.at = dict(fault.at) if fault else {}
        self.how = self.at.get("how", "")
        self.spec, self.conv, self.simd = self.m.spec, self.m.conv, self.m.simd
        conv, spec, ins = self.conv, self.spec, self.conv.in_channels
        act = result.act if result.act.ndim == 4 else result.act[None]
        top, left, (hp, wp) = conv.pads[0], conv.pads[2], self.m.padded_shape
        self.maps = [[0] * (len(act) * hp * wp) for _ in range(ins)]
        for (picture, ic, i, j), code in zip(
            (
                (p, c, i, j)
                for p, one in enumerate(act)
                for c, chan in enumerate(one)
                for i in range(chan.shape[0])
                for j in range(chan.shape[1])
            ),
            act.reshape(-1).tolist(),
            strict=True,
        ):
            self.maps[ic][(picture * hp + i + top) * wp + j + left] = code
        self.reads = []
        of, to = conv.out_channels // conv.groups, ins // conv.groups
        for o in range(self.m.oc_tiles):
            last = min(conv.out_channels, (o + 1) * spec.cols) - 1
            self.reads.append((o * spec.cols // of * to, (last // of + 1) * to))
        self.width = max(end - begin for begin, end in self.reads)
        self.lanes_a_tap = -(-self.width // self.simd)
        self.flat = self.m.packed or self.m.stationary
        if self.flat:
            tiles = 1 if self.m.stationary else -(-self.lanes_a_tap * self.m.taps // spec.rows)
            self.taken = [list(range(tiles)) for _ in self.reads]
        else:
            wide = replace(spec, rows=spec.rows * self.simd)
            self.taken = [
                [t for t in range(self.m.ic_tiles) if is_made(conv, wide, o, t)] for o in range(self.m.oc_tiles)
            ]

    def number(self, tile: int, o: int) -> int:
        """Of a tile among all."""
        bands = sorted({begin for begin, _ in self.reads})
        first = bands.index(self.reads[o][0]) * len(self.taken[o]) if self.flat else 0
        return first + self.taken[o][tile]

    # Where a lane is in the reduction: (channel, kernel position) of each of its codes, or None.

    def lane(self, o: int, group: int, kij: int) -> list[tuple[int, int] | None]:
        codes = range(group * self.simd, (group + 1) * self.simd)
        begin = self.reads[o][0]
        return [(begin + n, kij) if n < self.width and begin + n < self.conv.in_channels else None for n in codes]

    def where(self, tile: int, o: int, kij: int, row: int) -> list[tuple[int, int] | None]:
        """Of a row in a pass."""
        if not self.m.packed:
            codes = range((self.taken[o][tile] * self.spec.rows + row) * self.simd, self.conv.in_channels)
            found: list = [(ic, kij) for ic in codes[: self.simd]]
            return found + [None] * (self.simd - len(found))
        kij, group = divmod(tile * self.spec.rows + row, self.lanes_a_tap)
        return self.lane(o, group, kij) if kij < self.m.taps else [None] * self.simd

    def walked(self, tile: int, o: int, row: int) -> list[tuple[int, int] | None]:
        """The same packed, as the row's own address has it."""
        apart, none = self.m.apart, [None] * self.simd
        slots, (kh, kw) = self.lanes_a_tap // apart, self.conv.kernel
        if self.kind == "carry of a row" and self.at["row"] == row:
            digits = Taps(row // apart, self.spec.rows // apart, (slots, kw, kh))
            for _ in range(tile):
                digits.next(0 if str(self.how).startswith("from channels") else 1)
            slot, kj, ki = digits.at
            return self.lane(o, slot * apart + row % apart, ki * kw + kj) if ki < kh else none
        kij, group = divmod(tile * self.spec.rows + row, self.lanes_a_tap)
        slot = group // apart
        if self.kind == "place of a row" and self.at["row"] == row:
            what, where = str(self.how).rsplit(" ", 1)
            step = {"before": -1, "behind": 1}[where]
            if what == "kernel position":
                kij += step
            elif 0 <= slot + step < slots:
                slot += step
            else:
                kij, slot = kij + step, 0 if step > 0 else slots - 1
        return self.lane(o, slot * apart + row % apart, kij) if 0 <= kij < self.m.taps else none

    # Addresses.

    def stuck_address(self, address: int) -> int:
        return address & ~(1 << self.at["bit"]) | self.at["stuck at"] << self.at["bit"]

    def place(self, onij: int, kij: int, kind: str) -> int:
        """Of an output's activations or psums under a kernel position; `kind` of fault makes it wrong."""
        conv, (oh, ow), width = self.conv, self.m.output_shape, self.m.padded_shape[1]
        picture, oi, oj = onij // (oh * ow), onij // ow % oh, onij % ow
        (sh, sw), (dh, dw), (ki, kj) = conv.stride, conv.dilation, divmod(kij, conv.kernel[1])
        how = self.how if self.kind == kind else ""
        if how == "stride ignored":
            sh = sw = 1
        if how == "dilation ignored":
            dh = dw = 1
        if how == "width without padding":
            width = self.m.width
        if how == "ki and kj swapped":
            ki, kj = kj, ki
        if how == "i and j swapped":
            oi, oj = oj, oi
        address = picture * self.m.map_size + (oi * sh + ki * dh) * width + oj * sw + kj * dw
        return address + {"one position early": 1, "one position late": -1}.get(how, 0)

    def pixel(self, at: tuple[int, int] | None, onij: int) -> int:
        """What an output position takes of a channel under a kernel position."""
        if at is None:
            return 0
        address = self.place(onij, at[1], "activation address")
        if self.kind == "activation address bit":
            address = self.stuck_address(address)
        return self.read(at[0], address)

    def read(self, ic: int, address: int) -> int:
        return self.maps[ic][address] if 0 <= address < len(self.maps[ic]) else 0

    # Weight stationary.

    def swapped(self, codes: list[int], what: str, row: int) -> Codes:
        if self.kind == "neighbouring codes of a lane swapped" and (self.at["row"], self.how) == (row, what):
            n = self.at["code"]
            codes[n], codes[n + 1] = codes[n + 1], codes[n]
        return tuple(codes)

    def act(self, tile: int, o: int, nij: int, row: int) -> Codes:
        """Of a row at the position that streams at `nij`."""
        here = row
        if self.kind == "skew of a row" and self.at["row"] == row:
            nij += {"one position early": 1, "one position late": -1}[self.how]
        if self.kind == "tile before" and self.how == "activations of ic_tile":
            tile = (tile - 1) % len(self.taken[o])
        if self.kind == "neighbouring rows swapped" and self.how == "activations":
            row = {self.at["row"]: row + 1, self.at["row"] + 1: row - 1}.get(row, row)
        if self.kind == "order of lanes reversed" and self.how == "activations":
            row = self.spec.rows - 1 - row
        if not 0 <= nij < self.m.nijs:
            return (0,) * self.simd
        if self.m.packed:
            return self.swapped([self.pixel(at, nij) for at in self.walked(tile, o, row)], "activations", here)
        if self.kind == "activation address bit":
            nij = self.stuck_address(nij)
        elif self.kind == "activation address" and self.how == "width without padding":
            i, j = divmod(nij, self.m.padded_shape[1])
            nij = i * self.m.width + j
        elif self.kind == "activation address":
            nij += {"one position early": 1, "one position late": -1}[self.how]
        codes = [self.read(at[0], nij) if at else 0 for at in self.where(tile, o, 0, row)]
        return self.swapped(codes, "activations", here)

    def weight(self, tile: int, o: int, kij: int, col: int, row: int) -> Codes:
        """Of a PE in a pass."""
        here = row
        if self.kind == "weight address bit":
            kij = self.stuck_address(kij)
            if kij >= self.m.kijs:
                return (0,) * self.simd
        if self.kind == "weights of another kij":
            kij = (kij + (-1 if self.how == "the one before" else 1)) % self.m.kijs
        if self.kind == "tile before" and self.how == "weights of ic_tile":
            tile -= 1
        if self.kind == "weights of the oc_tile before":
            o = (o - 1) % self.m.oc_tiles
        if self.kind == "neighbouring rows swapped" and self.how == "weights":
            row = {self.at["row"]: row + 1, self.at["row"] + 1: row - 1}.get(row, row)
        if self.kind == "order of lanes reversed" and self.how == "rows for columns in the weights":
            row, col = col, row
        if self.kind == "weight load":
            step = 1 if str(self.how).endswith("early") else -1
            row, col = (row + step, col) if "row" in str(self.how) else (row, col + step)
            if not (0 <= col < self.spec.cols and 0 <= row < self.spec.rows):
                return (0,) * self.simd
        tile %= len(self.taken[o])
        return self.swapped([self.of(o, col, at) for at in self.where(tile, o, kij, row)], "weights", here)

    def of(self, o: int, col: int, at: tuple[int, int] | None) -> int:
        oc = o * self.spec.cols + col
        if at is None or oc >= self.conv.out_channels:
            return 0
        return weight_at(self.conv, oc, at[0], *divmod(at[1], self.conv.kernel[1]))

    # Output stationary.

    def owns(self, fold: int, row: int) -> int | None:
        """The position of a row in a fold."""
        rows, (oh, ow) = self.spec.rows, self.m.output_shape
        step = {"before": -1, "behind": 1}
        if self.kind == "neighbouring rows swapped":
            row = {self.at["row"]: row + 1, self.at["row"] + 1: row - 1}.get(row, row)
        if self.kind == "order of lanes reversed" and self.how == "activations":
            row = rows - 1 - row
        onij = fold * rows + rows - 1 - row
        if self.kind == "place of a row" and self.at["row"] == row:
            what, where = str(self.how).rsplit(" ", 1)
            onij += step[where] * (ow if what == "row of outputs" else 1)
        if self.kind == "carry of a row" and self.at["row"] == row:
            digits = Taps(rows - 1 - row, rows, (ow, oh, self.m.batch))
            for _ in range(fold):
                digits.next(0 if str(self.how).startswith("from columns") else 1)
            onij = digits.at[0] + ow * (digits.at[1] + oh * digits.at[2])
        return onij if 0 <= onij < self.m.onijs else None

    def step(self, o: int, step: int) -> list[tuple[int, int] | None]:
        return self.lane(o, *divmod(step, self.m.taps))

    def code_of(self, o: int, fold: int, row: int, step: int) -> Codes:
        """What a row takes in a step."""
        onij = self.owns(fold, row)
        if self.kind == "skew of a row" and self.at["row"] == row:
            step += {"one step early": 1, "one step late": -1}[self.how]
        if onij is None or not 0 <= step < self.lanes_a_tap * self.m.taps:
            return (0,) * self.simd
        return self.swapped([self.pixel(at, onij) for at in self.step(o, step)], "activations", row)

    def weight_of(self, o: int, col: int, step: int) -> Codes:
        """What enters a column from the north in a step."""
        if self.kind == "skew of a column" and self.at["col"] == col:
            step += {"one step early": 1, "one step late": -1}[self.how]
        if not 0 <= step < self.lanes_a_tap * self.m.taps:
            return (0,) * self.simd
        if self.kind == "weights of the oc_tile before":
            o = (o - 1) % self.m.oc_tiles
        return tuple(self.of(o, col, at) for at in self.step(o, step))
