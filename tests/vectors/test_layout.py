from __future__ import annotations

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.vectors.layout import FileSpec, header_lines, vector_files
from systolith.vectors.layout_file import find_layout


def squeezed_like(channels: int = 8, filters: int = 8, size: int = 4) -> ArrayResult:
    rng = np.random.default_rng(0)
    conv = Conv("layer", rng.integers(-7, 8, (filters, channels, 3, 3)), UINT4, INT4, padding=(1, 1))
    return run_layer(conv, rng.integers(0, 16, (channels, size, size)), ArraySpec())


def files(result: ArrayResult, layout: str) -> dict[str, np.ndarray]:
    return {f.name: f.words for f in vector_files(result, find_layout(layout))}


def test_course_files_of_the_squeezed_layer() -> None:
    result = squeezed_like()
    found = files(result, "course")
    assert set(found) == {
        "activation_tile0.txt",
        "out.txt",
        *(f"weight_itile0_otile0_kij{k}.txt" for k in range(9)),
        *(f"psum_itile0_otile0_kij{k}.txt" for k in range(9)),
    }
    padded = np.pad(result.act, ((0, 0), (1, 1), (1, 1)))
    for nij in range(36):
        assert found["activation_tile0.txt"][nij].tolist() == padded[:, nij // 6, nij % 6].tolist()
    for kij in range(9):
        for col in range(8):  # one line per output channel, lanes are input channels
            expected = result.mapping.conv.weight[col, :, kij // 3, kij % 3]
            assert (found[f"weight_itile0_otile0_kij{kij}.txt"][col] == expected).all()
        assert (found[f"psum_itile0_otile0_kij{kij}.txt"] == result.psum[0, 0, kij]).all()
    assert found["out.txt"].shape == (16, 8)
    for onij in range(16):
        assert (found["out.txt"][onij] == np.maximum(result.out[:, onij // 4, onij % 4], 0)).all()


def test_course_files_of_several_tiles() -> None:
    result = squeezed_like(12, 20)
    found = files(result, "course")
    assert len(found) == 2 + 2 * 3 * 9 * 2 + 3
    assert (found["activation_tile1.txt"][:, 4:] == 0).all()  # lanes without a channel
    assert (found["out_otile2.txt"][:, 4:] == 0).all()
    assert (found["psum_itile1_otile2_kij5.txt"] == result.psum[1, 2, 5]).all()
    expected = np.maximum(result.out[16:20], 0).reshape(4, 16).T
    assert (found["out_otile2.txt"][:, :4] == expected).all()


def test_seed_files() -> None:
    result = squeezed_like()
    found = files(result, "seed")
    assert set(found) == {"activation.txt", "psum.txt", "output.txt", *(f"weight_{k}.txt" for k in range(9))}
    assert found["activation.txt"].shape == (36, 8)
    for kij in range(9):
        for row in range(8):  # transposed: one line per input channel, lanes are output channels
            expected = result.mapping.conv.weight[:, row, kij // 3, kij % 3]
            assert (found[f"weight_{kij}.txt"][row] == expected).all()
    assert (found["psum.txt"] == result.psum[0, 0].reshape(9 * 36, 8)).all()
    assert found["output.txt"].shape == (16, 8)


def test_seed_keeps_64_positions_and_one_tile() -> None:
    found = files(squeezed_like(size=10), "seed")  # 12x12 = 144 nij, 100 onij
    assert found["activation.txt"].shape == (144, 8)
    assert found["psum.txt"].shape == (9 * 64, 8)
    assert found["output.txt"].shape == (64, 8)
    with pytest.raises(BadInput, match="layout seed: act: holds one itile, the layer has 2 of them on this array"):
        files(squeezed_like(9), "seed")


def test_headers_are_three_tokens_without_white_space() -> None:
    assert header_lines(FileSpec("act", "a", ("nij",), ("row",), tokens=("time", "row")), 3) == (
        "#time0row2[msb-lsb],time0row1[msb-lsb],time0row0[msb-lsb]#",
        "#time1row2[msb-lsb],time1row1[msb-lsb],time1row0[msb-lsb]#",
        "#................#",
    )
    assert header_lines(FileSpec("act", "a", ("nij",), ("row",)), 3) == ()
    labels = {f.name: f.header[0][:10] for f in vector_files(squeezed_like(), find_layout("course"))}
    assert labels["activation_tile0.txt"] == "#time0row7"
    assert labels["weight_itile0_otile0_kij0.txt"] == "#col0row7["
    assert labels["psum_itile0_otile0_kij0.txt"] == labels["out.txt"] == "#time0col7"


def test_unknown_layout() -> None:
    with pytest.raises(
        BadInput, match="no layout 'mine': expected one of coe, course, course-2bit, course-2bit-wide, course-os"
    ):
        find_layout("mine")
