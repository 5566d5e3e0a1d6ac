"""An array and SFP with a hook for each thing that can be wrong, written from the definition; dumps it as text.

It shares nothing with `mistakes.py`: whole numbers in int64, one input tile and one kernel position after another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from systolith.array import ArrayResult
from systolith.network import Conv

Change = Callable[[np.ndarray], np.ndarray]


def same(values: np.ndarray) -> np.ndarray:
    return values


def made(conv: Conv, rows: int, cols: int, ic_tile: int, oc_tile: int) -> bool:
    """Whether some output channel of the one tile reads an input channel of the other."""
    whole = replace(conv, weight=np.ones_like(conv.weight)).dense
    return bool(whole[oc_tile * cols :][:cols, ic_tile * rows :][:, :rows].any())


@dataclass
class Rtl:
    """What a mistake changes; by default nothing is wrong.

    Attributes:
        act: activations (rows, nij) of a tile. weight: (cols, rows, kij) of a tile.
        register: what a register holds of a sum, after each row if `each_row`, after each pass, and in the SFP.
        addresses: (kij, onij) of the psums to add. kijs, ic_tiles: those added; None is all.
        x: "", "0" (lanes of 0 are x), "words" (words of 0 are x) or "padding".
    """

    act: Change = same
    weight: Change = same
    register: Change = same
    each_row: bool = False
    addresses: Change = same
    kijs: list[int] | None = None
    ic_tiles: list[int] | None = None
    relu: bool = True
    x: str = ""
    width: int | None = None
    stride: int | None = None

    def run(self, result: ArrayResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Psums (ic_tile, oc_tile, kij, nij, col), outputs (oc_tile, onij, col), and which nij are padding."""
        m, conv = result.mapping, result.mapping.conv
        rows, cols, (kh, kw), (top, bottom, left, right) = m.spec.rows, m.spec.cols, conv.kernel, conv.pads
        ics, ocs = -(-conv.in_channels // rows), -(-conv.out_channels // cols)
        around = (top, bottom), (left, right)
        padded = np.pad(result.act.astype(np.int64), ((0, 0), *around))
        ring = np.pad(np.zeros(result.act.shape[1:], dtype=bool), around, constant_values=True).ravel()
        wp, act = padded.shape[2], np.zeros((ics * rows, ring.size), dtype=np.int64)
        act[: conv.in_channels] = padded.reshape(conv.in_channels, -1)
        weight = np.zeros((ocs * cols, ics * rows, kh * kw), dtype=np.int64)
        weight[: conv.out_channels, : conv.in_channels] = conv.dense.reshape(conv.out_channels, conv.in_channels, -1)
        psum = np.zeros((ics, ocs, kh * kw, ring.size, cols), dtype=np.int64)
        for i in range(ics):
            lanes = self.act(act[i * rows : (i + 1) * rows])
            for o in range(ocs):
                if not made(conv, rows, cols, i, o):
                    continue
                codes = self.weight(weight[o * cols : (o + 1) * cols, i * rows : (i + 1) * rows])
                for row in range(rows):
                    psum[i, o] += codes[:, row].T[:, None] * lanes[row][:, None]
                    if self.each_row:
                        psum[i, o] = self.register(psum[i, o])
                psum[i, o] = self.register(psum[i, o])
        oh, ow = result.out.shape[1:]
        (sh, sw), (dh, dw) = conv.stride, conv.dilation
        if self.stride:
            sh = sw = self.stride
        at = np.array(
            [
                [(oi * sh + ki * dh) * (self.width or wp) + oj * sw + kj * dw for oi in range(oh) for oj in range(ow)]
                for ki in range(kh)
                for kj in range(kw)
            ]
        )
        at = self.addresses(at)
        inside = (at >= 0) & (at < ring.size)
        out = np.zeros((ocs, oh * ow, cols), dtype=np.int64)
        for kij in range(kh * kw) if self.kijs is None else self.kijs:
            for i in range(ics) if self.ic_tiles is None else self.ic_tiles:
                taken = psum[i, :, kij][:, np.where(inside[kij], at[kij], 0)] * inside[kij][None, :, None]
                out = self.register(out + taken)
        return psum, np.maximum(out, 0) if self.relu else out, ring

    def words(self, result: ArrayResult, levels: tuple[str, ...] = ("psum", "out")) -> dict[str, list[str]]:
        """Text of every word, by the file names of layout `course`; 16 bits a lane."""
        psum, out, ring = self.run(result)
        files: dict[str, list[str]] = {}
        if "psum" in levels:
            for i, o, kij in np.ndindex(*psum.shape[:3]):
                if not made(result.mapping.conv, result.mapping.spec.rows, result.mapping.spec.cols, i, o):
                    continue
                marked = ring if self.x == "padding" else np.zeros(ring.size, dtype=bool)
                files[f"psum_itile{i}_otile{o}_kij{kij}.txt"] = self._lines(psum[i, o, kij], marked)
        if "out" in levels:
            windows = result.mapping.windows()
            marked = ring[windows].any(0) if self.x == "padding" else np.zeros(out.shape[1], dtype=bool)
            for o, lanes in enumerate(out):
                files["out.txt" if len(out) == 1 else f"out_otile{o}.txt"] = self._lines(lanes, marked)
        return files

    def _lines(self, words: np.ndarray, marked: np.ndarray) -> list[str]:
        lines = []
        for lanes, x in zip(words.tolist(), marked.tolist(), strict=True):
            x = x or (self.x == "words" and not any(lanes))
            zero = "x" * 16 if self.x == "0" else "0" * 16
            lines.append("".join("x" * 16 if x else f"{v & 0xFFFF:016b}" if v else zero for v in reversed(lanes)))
        return lines

    def dump(self, result: ArrayResult, folder: Path, levels: tuple[str, ...] = ("psum", "out")) -> None:
        """Write the files, without headers."""
        folder.mkdir(parents=True)
        for name, lines in self.words(result, levels).items():
            (folder / name).write_text("".join(f"{line}\n" for line in lines))


def wrapped(bits: int) -> Change:
    return lambda p: (p + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def saturated(bits: int) -> Change:
    return lambda p: np.clip(p, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def reversed_rows(lanes: np.ndarray) -> np.ndarray:
    return lanes[::-1]


def planted(result: ArrayResult) -> dict[str, Rtl]:
    """Every common mistake that this layer can have, by the name that the verdict gives it."""
    m, conv = result.mapping, result.mapping.conv
    psum = np.abs(result.psum).max()
    bits = int(psum).bit_length() - 1  # of the largest psums; the outputs need more
    half = 1 << (m.spec.act_bits - 1)
    found = {
        "activations taken as signed": Rtl(act=lambda a: np.where(a >= half, a - 2 * half, a)),
        "weights taken as unsigned": Rtl(weight=lambda w: w % (1 << m.spec.weight_bits)),
        "order of the rows reversed in one operand": Rtl(act=reversed_rows),
        "order of the columns reversed": Rtl(weight=reversed_rows),
        "kij off by one: the weights of the kij before": Rtl(weight=lambda w: np.roll(w, 1, axis=2)),
        "kij off by one: the weights of the kij behind": Rtl(weight=lambda w: np.roll(w, -1, axis=2)),
        "kij off by one: the addresses of the kij before": Rtl(addresses=lambda a: np.roll(a, 1, axis=0)),
        "kij off by one: the addresses of the kij behind": Rtl(addresses=lambda a: np.roll(a, -1, axis=0)),
        "kij 0 missing": Rtl(kijs=list(range(1, m.kijs))),
        f"kij {m.kijs - 1} missing": Rtl(kijs=list(range(m.kijs - 1))),
        "row stride wrong: the width without its padding": Rtl(width=m.width),
        "one position late": Rtl(addresses=lambda a: a + 1),
        "no ReLU": Rtl(relu=False),
        f"psums wrapped at {bits} bits": Rtl(register=wrapped(bits)),
        f"psums wrapped at {bits + 1} bits": Rtl(register=wrapped(bits + 1)),
        f"psums saturated at {bits} bits": Rtl(register=saturated(bits)),
        f"psums saturated at {bits} bits after each row": Rtl(register=saturated(bits), each_row=True),
        "x instead of 0": Rtl(x="0"),
        "x instead of 0 in words of zeros alone": Rtl(x="words"),
        "x instead of 0 in the padding": Rtl(x="padding"),
    }
    if m.spec.rows == m.spec.cols:
        found["weights transposed"] = Rtl(weight=lambda w: w.swapaxes(0, 1))
    if m.ic_tiles > 1:
        found["ic_tile 1 missing"] = Rtl(ic_tiles=[i for i in range(m.ic_tiles) if i != 1])
    if conv.stride != (1, 1):
        found["stride taken as 1"] = Rtl(stride=1)
    return found
