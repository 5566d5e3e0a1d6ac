"""Planted mistakes, made the way an RTL makes them (loops of Python integers), and what the verdict says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.vectors import find_layout, write_bundle
from systolith.verdict.judge import judge

SIZE, KIJS = 3, 4  # a 3x3 array, a 2x2 kernel


def layer(seed: int = 0, psum_bits: int = 16) -> ArrayResult:
    rng = np.random.default_rng(seed)
    conv = Conv("layer", rng.integers(-8, 8, (SIZE, SIZE, 2, 2)), UINT4, INT4, padding=(1, 1))
    return run_layer(conv, rng.integers(0, 16, (SIZE, 4, 3)), ArraySpec(SIZE, SIZE, psum_bits=psum_bits))


class Rtl:
    """A naive array and SFP with a hook for each thing that can be wrong."""

    def __init__(self, result: ArrayResult) -> None:
        self.result, self.conv = result, result.mapping.conv
        self.act: Callable[[int], int] = lambda a: a
        self.weight: Callable[[int, int, int], int] = lambda kij, col, row: int(
            self.conv.weight[col, row, kij // 2, kij % 2]
        )
        self.row: Callable[[int], int] = lambda row: row
        self.psum: Callable[[int], int] = lambda p: p
        self.sum: Callable[[int], int] = lambda p: p
        self.kijs = list(range(KIJS))
        self.width = 3 + 2
        self.relu = True

    def psums(self) -> np.ndarray:
        padded = np.pad(self.result.act, ((0, 0), (1, 1), (1, 1))).reshape(SIZE, -1)
        out = np.zeros((KIJS, padded.shape[1], SIZE), dtype=np.int64)
        for kij, nij, col in np.ndindex(*out.shape):
            total = 0
            for row in range(SIZE):
                total += self.act(int(padded[self.row(row), nij])) * self.weight(kij, col, row)
            out[kij, nij, col] = self.psum(total)
        return out

    def outputs(self) -> np.ndarray:
        psums = self.psums()
        out = np.zeros((5 * 4, SIZE), dtype=np.int64)  # 6x5 padded, 2x2 kernel: 5x4 outputs
        for onij, col in np.ndindex(*out.shape):
            total = 0
            for kij in self.kijs:
                nij = (onij // 4 + kij // 2) * self.width + onij % 4 + kij % 2
                total = self.sum(total + int(psums[kij, nij, col]))
            out[onij, col] = max(total, 0) if self.relu else total
        return out

    def dump(self, folder: Path, levels: tuple[str, ...] = ("psum", "out")) -> None:
        folder.mkdir()

        def word(lanes: np.ndarray) -> str:
            return "".join(f"{int(v) & 0xFFFF:016b}" for v in reversed(lanes)) + "\n"

        if "psum" in levels:
            for kij, psums in enumerate(self.psums()):
                (folder / f"psum_itile0_otile0_kij{kij}.txt").write_text("".join(map(word, psums)))
        if "out" in levels:
            (folder / "out.txt").write_text("".join(map(word, self.outputs())))


def signed4(a: int) -> int:
    return a - 16 if a >= 8 else a


def wrapped(bits: int) -> Callable[[int], int]:
    return lambda p: (p + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def saturated(bits: int) -> Callable[[int], int]:
    return lambda p: max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, p))


def transposed(rtl: Rtl) -> None:
    right = rtl.weight
    rtl.weight = lambda kij, col, row: right(kij, row, col)


def kij_before(rtl: Rtl) -> None:
    right = rtl.weight
    rtl.weight = lambda kij, col, row: right((kij - 1) % KIJS, col, row)


def narrow(kind: Callable[[int], Callable[[int], int]], bits: int) -> Callable[[Rtl], None]:
    def change(rtl: Rtl) -> None:
        rtl.psum = rtl.sum = kind(bits)

    return change


def unsigned_weights(rtl: Rtl) -> None:
    right = rtl.weight
    rtl.weight = lambda kij, col, row: right(kij, col, row) % 16


def columns_reversed(rtl: Rtl) -> None:
    right = rtl.weight
    rtl.weight = lambda kij, col, row: right(kij, SIZE - 1 - col, row)


PLANTED: dict[str, Callable[[Rtl], object]] = {
    "weights transposed": transposed,
    "activations taken as signed": lambda rtl: setattr(rtl, "act", signed4),
    "weights taken as unsigned": unsigned_weights,
    "order of the rows reversed in one operand": lambda rtl: setattr(rtl, "row", lambda row: SIZE - 1 - row),
    "order of the columns reversed": columns_reversed,
    "kij off by one: the weights of the kij before": kij_before,
    "row stride wrong: the width without its padding": lambda rtl: setattr(rtl, "width", 3),
    "kij 2 missing": lambda rtl: setattr(rtl, "kijs", [0, 1, 3]),
    "no ReLU": lambda rtl: setattr(rtl, "relu", False),
    "psums wrapped at 8 bits": narrow(wrapped, 8),
    "psums saturated at 8 bits": narrow(saturated, 8),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(PLANTED))
def test_each_planted_mistake_is_named_alone(tmp_path: Path, name: str, seed: int) -> None:
    result = layer(seed)
    rtl = Rtl(result)
    PLANTED[name](rtl)
    rtl.dump(tmp_path / "d")
    verdict = judge(result, find_layout("course"), tmp_path / "d")
    assert not verdict.holds
    assert verdict.suspects == (name,)
    assert verdict.matched == (4 * 30 + 20, 4 * 30 + 20)
    assert verdict.first


def test_a_right_dump_holds_with_or_without_headers(tmp_path: Path) -> None:
    result = layer()
    Rtl(result).dump(tmp_path / "d")
    verdict = judge(result, find_layout("course"), tmp_path / "d")
    assert verdict.holds
    assert [(v.name, v.words, v.different) for v in verdict.levels] == [("psum", 120, 0), ("output", 20, 0)]
    write_bundle(result, tmp_path / "b", "course")
    assert judge(result, find_layout("course"), tmp_path / "b").holds


def test_the_first_wrong_word_is_explained(tmp_path: Path) -> None:
    result = layer()
    rtl = Rtl(result)
    rtl.dump(tmp_path / "d")
    path = tmp_path / "d" / "psum_itile0_otile0_kij1.txt"
    lines = path.read_text().splitlines()
    value = int(result.psum[0, 0, 1, 7, 2])
    lines[7] = f"{(value + 1) & 0xFFFF:016b}" + lines[7][16:]
    path.write_text("\n".join(lines) + "\n")
    verdict = judge(result, find_layout("course"), tmp_path / "d")
    assert [v.different for v in verdict.levels] == [1, 0]
    assert verdict.suspects == ()
    acts = np.pad(result.act, ((0, 0), (1, 1), (1, 1)))[:, 1, 2]  # nij 7 of a map 5 wide
    weights = result.mapping.conv.weight[2, :, 0, 1]
    products = " + ".join(f"{a}*{w}" for a, w in zip(acts, weights, strict=True))
    assert f"oc_tile 0, ic_tile 0, kij 1, nij 7 (i 1, j 2), col 2 = {products}: expected {value} (" in verdict.first
    assert f"found {value + 1} ({(value + 1) & 0xFFFF:016b})" in verdict.first


def test_x_z_missing_and_extra_words_are_differences(tmp_path: Path) -> None:
    result = layer()
    Rtl(result).dump(tmp_path / "d", ("out",))
    path = tmp_path / "d" / "out.txt"
    whole = path.read_text().splitlines()

    def with_lines(lines: list[str]) -> str:
        path.write_text("\n".join(lines) + "\n")
        verdict = judge(result, find_layout("course"), tmp_path / "d")
        assert [v.different for v in verdict.levels] == [1]
        return verdict.first

    assert "found 'x" in with_lines(["x" + whole[0][1:], *whole[1:]])
    assert "found 'z" in with_lines(["z" * 48, *whole[1:]])
    assert with_lines(whole[:-1]) == "out.txt: 19 of 20 words: the last is missing"
    assert with_lines([*whole, whole[0]]) == "out.txt: 21 of 20 words: the last is surplus"
    lanes = [[line[at : at + 16] for at in (0, 16, 32)] for line in whole]
    assert any("0" * 16 in ls for ls in lanes)
    path.write_text("\n".join("".join("x" * 16 if p == "0" * 16 else p for p in ls) for ls in lanes) + "\n")
    assert judge(result, find_layout("course"), tmp_path / "d").suspects == ("x instead of 0",)


def test_outputs_alone_are_explained_by_their_psums(tmp_path: Path) -> None:
    result = layer()
    rtl = Rtl(result)
    rtl.kijs = [0, 1, 2]
    rtl.dump(tmp_path / "d", ("out",))
    verdict = judge(result, find_layout("course"), tmp_path / "d")
    assert verdict.suspects == ("kij 3 missing",)
    assert "output channel " in verdict.first
    assert "(kij 3, nij " in verdict.first


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a folder of dumped files"):
        judge(layer(), find_layout("course"), tmp_path / "none")
    with pytest.raises(BadInput, match="holds none of the psum and output files of layout course"):
        judge(layer(), find_layout("course"), tmp_path)
