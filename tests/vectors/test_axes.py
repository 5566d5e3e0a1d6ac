"""Every axis of a layout, with the expected file written out by hand: small enough to check by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.vectors import write_bundle
from systolith.vectors.layout_file import layout_from

UINT4, INT4 = IntFormat(4, False), IntFormat(4, True)

# Two input channels of 2x2, two output channels, a 1x2 kernel, one column of padding left and right, a 2x2 array:
#   channel 0: 1 2   channel 1: 5 6      padded: 0 1 2 0   0 5 6 0
#              3 4              7 0              0 3 4 0   0 7 0 0
#   weights of output channel 0: [ 1 -1] of input 0, [2 0] of input 1;  of output channel 1: [0 3], [-2 1]
ACT = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 0]]])
WEIGHT = np.array([[[[1, -1]], [[2, 0]]], [[[0, 3]], [[-2, 1]]]])
# kij 0 at nij 0..7 (lane 0, lane 1):  1*a0 + 2*a1, 0*a0 - 2*a1
#   a0: 0 1 2 0 0 3 4 0   a1: 0 5 6 0 0 7 0 0
#   lane 0: 0 11 14 0 0 17 4 0   lane 1: 0 -10 -12 0 0 -14 0 0
# kij 1:  -1*a0 + 0*a1, 3*a0 + 1*a1
#   lane 0: 0 -1 -2 0 0 -3 -4 0   lane 1: 0 8 12 0 0 16 12 0
# outputs (2 rows of 3): nij of kij 0: 0 1 2 4 5 6, of kij 1: 1 2 3 5 6 7
#   channel 0: 0-1 11-2 14+0 0-3 17-4 4+0 = -1 9 14 -3 13 4
#   channel 1: 0+8 -10+12 -12+0 0+16 -14+12 0+0 = 8 2 -12 16 -2 0


def tiny(rows: int = 2, cols: int = 2) -> ArrayResult:
    conv = Conv("tiny", WEIGHT, UINT4, INT4, padding=(0, 1))
    return run_layer(conv, ACT, ArraySpec(rows, cols, psum_bits=6))


def written(tmp_path: Path, result: ArrayResult, **file: Any) -> dict[str, str]:
    """The files of a layout of one entry."""
    write_bundle(result, tmp_path / "b", layout_from({"name": "mine", "files": [file]}, "mine"))
    folder = tmp_path / "b"
    kept = [p for p in folder.rglob("*") if p.is_file() and p.name not in ("tensors.npz", "manifest.json")]
    return {p.relative_to(folder).as_posix(): p.read_text() for p in kept}


def column(text: str) -> str:
    """One word a line of blank-separated words; `_` between lanes is for the eye."""
    return "".join(f"{word.replace('_', '')}\n" for word in text.split())


def test_activations_padded_and_not(tmp_path: Path) -> None:
    found = written(tmp_path, tiny(), tensor="act", name="a.txt", lines=["nij"], lanes=["row"])
    padded = "0000_0000 0101_0001 0110_0010 0000_0000 0000_0000 0111_0011 0000_0100 0000_0000"
    assert found == {"a.txt": column(padded)}


def test_activations_unpadded(tmp_path: Path) -> None:
    found = written(tmp_path, tiny(), tensor="act", name="a.txt", lines=["ij"], lanes=["row"])
    assert found == {"a.txt": column("0101_0001 0110_0010 0111_0011 0000_0100")}


def test_lines_and_lanes_reversed(tmp_path: Path) -> None:
    found = written(tmp_path, tiny(), tensor="act", name="a.txt", lines=["-ij"], lanes=["-row"])
    assert found == {"a.txt": column("0100_0000 0011_0111 0010_0110 0001_0101")}


def test_weights_one_line_per_output_or_per_input_channel(tmp_path: Path) -> None:
    found = written(tmp_path, tiny(), tensor="weight", name="w{kij}.txt", lines=["col"], lanes=["row"])
    # kij 0: out 0 has 1 and 2, out 1 has 0 and -2 (1110); kij 1: out 0 has -1 (1111) and 0, out 1 has 3 and 1
    assert found == {"w0.txt": column("0010_0001 1110_0000"), "w1.txt": column("0000_1111 0001_0011")}


def test_weights_transposed(tmp_path: Path) -> None:
    found = written(tmp_path, tiny(), tensor="weight", name="w{kij}.txt", lines=["row"], lanes=["col"])
    assert found == {"w0.txt": column("0000_0001 1110_0010"), "w1.txt": column("0011_1111 0001_0000")}


def test_weights_kij_major_in_one_file_and_weight_lines_reversed(tmp_path: Path) -> None:
    found = written(tmp_path, tiny(), tensor="weight", name="w.txt", lines=["kij", "-col"], lanes=["row"])
    assert found == {"w.txt": column("1110_0000 0010_0001  0001_0011 0000_1111")}


def test_names_count_from_one_with_digits_and_folders(tmp_path: Path) -> None:
    file = {"tensor": "weight", "lines": ["row"], "lanes": ["col"]}
    found = written(tmp_path, tiny(cols=1), name="w/o{otile+1}/k{kij+1:02}.txt", **file)
    assert sorted(found) == ["w/o1/k01.txt", "w/o1/k02.txt", "w/o2/k01.txt", "w/o2/k02.txt"]
    assert found["w/o2/k01.txt"] == column("0000 1110")


def test_one_file_per_channel(tmp_path: Path) -> None:
    found = written(tmp_path, tiny(), tensor="act", name="ic{ic}.txt", lines=["ij"])
    assert found == {"ic0.txt": column("0001 0010 0011 0100"), "ic1.txt": column("0101 0110 0111 0000")}


def test_a_single_file_may_have_a_plainer_name(tmp_path: Path) -> None:
    file = {"tensor": "act", "name": "a{itile}.txt", "single": "a.txt", "lines": ["ij"], "lanes": ["row"]}
    assert list(written(tmp_path, tiny(), **file)) == ["a.txt"]


def test_psums_all_windowed_and_the_first(tmp_path: Path) -> None:
    file = {"tensor": "psum", "name": "p{kij}.txt", "lanes": ["col"], "radix": "dec"}
    found = written(tmp_path / "all", tiny(), lines=["nij"], **file)
    assert found["p0.txt"] == "0 0\n-10 11\n-12 14\n0 0\n0 0\n-14 17\n0 4\n0 0\n"
    assert found["p1.txt"] == "0 0\n8 -1\n12 -2\n0 0\n0 0\n16 -3\n12 -4\n0 0\n"
    found = written(tmp_path / "windowed", tiny(), lines=["onij"], **file)
    assert found["p0.txt"] == "0 0\n-10 11\n-12 14\n0 0\n-14 17\n0 4\n"
    assert found["p1.txt"] == "8 -1\n12 -2\n0 0\n16 -3\n12 -4\n0 0\n"
    found = written(tmp_path / "first", tiny(), lines=["nij"], first={"nij": 2}, **file)
    assert found["p1.txt"] == "0 0\n8 -1\n"


def test_outputs_signed_and_after_relu(tmp_path: Path) -> None:
    file = {"tensor": "out", "name": "o.txt", "lines": ["onij"], "lanes": ["col"]}
    found = written(tmp_path / "signed", tiny(), **file)
    # -1 = 111111, -3 = 111101, -12 = 110100, -2 = 111110
    assert found["o.txt"] == column(
        "001000_111111 000010_001001 110100_001110 010000_111101 111110_001101 000000_000100"
    )
    found = written(tmp_path / "relu", tiny(), relu=True, **file)
    assert found["o.txt"] == column(
        "001000_000000 000010_001001 000000_001110 010000_000000 000000_001101 000000_000100"
    )


def test_several_output_tiles_in_files_or_one_after_another(tmp_path: Path) -> None:
    file = {"tensor": "out", "lanes": ["col"], "radix": "dec"}
    found = written(tmp_path / "files", tiny(cols=1), name="o{otile}.txt", lines=["onij"], **file)
    assert found == {"o0.txt": "-1\n9\n14\n-3\n13\n4\n", "o1.txt": "8\n2\n-12\n16\n-2\n0\n"}
    found = written(tmp_path / "one", tiny(cols=1), name="o.txt", lines=["otile", "onij"], **file)
    assert found == {"o.txt": "-1\n9\n14\n-3\n13\n4\n8\n2\n-12\n16\n-2\n0\n"}
    found = written(tmp_path / "wide", tiny(cols=1), name="o.txt", lines=["onij"], tensor="out", lanes=["otile", "col"])
    assert found["o.txt"].splitlines()[0] == "001000" + "111111"  # both tiles in one word, the first at the right


def test_input_tiles_as_one_wide_word_and_rows_in_pairs(tmp_path: Path) -> None:
    # Rows of one channel each: two input tiles, side by side in a word.
    found = written(tmp_path / "wide", tiny(rows=1), tensor="act", name="a.txt", lines=["ij"], lanes=["itile", "row"])
    assert found == {"a.txt": column("0101_0001 0110_0010 0111_0011 0000_0100")}
    # Even rows on one line, odd rows on the next, for each column.
    file = {"tensor": "weight", "name": "w{kij}.txt", "lines": ["col", "row%2"], "lanes": ["row/2"]}
    found = written(tmp_path / "pairs", tiny(), **file)
    assert found["w0.txt"] == column("0001 0010  0000 1110")  # out 0: row 0, row 1; out 1: row 0, row 1
    with pytest.raises(BadInput, match="row%2: the 1 of axis row are not whole groups of 2"):
        written(tmp_path / "odd", tiny(rows=1), **file)


def test_headers(tmp_path: Path) -> None:
    file = {"tensor": "act", "name": "a.txt", "lines": ["ij"], "lanes": ["row"]}
    found = written(tmp_path / "tokens", tiny(), tokens=["time", "row"], **file)
    head = "#time0row1[msb-lsb],time0row0[msb-lsb]#\n#time1row1[msb-lsb],time1row0[msb-lsb]#\n#................#\n"
    assert found["a.txt"] == head + column("0101_0001 0110_0010 0111_0011 0000_0100")
    found = written(tmp_path / "free", tiny(), header=["// my testbench", "", "// 4 lines"], **file)
    assert found["a.txt"] == "// my testbench\n\n// 4 lines\n" + column("0101_0001 0110_0010 0111_0011 0000_0100")


def test_accumulation_addresses(tmp_path: Path) -> None:
    # For each output position, kij*8 + nij of kij 0 and of kij 1; offset 16.
    file = {"tensor": "address", "name": "acc.txt", "lines": ["onij", "kij"], "bits": 11, "offset": 16}
    found = written(tmp_path / "bin", tiny(), **file)
    assert found["acc.txt"].splitlines()[:4] == ["00000010000", "00000011001", "00000010001", "00000011010"]
    found = written(tmp_path / "dec", tiny(), radix="dec", **file)
    assert found["acc.txt"].split() == ["16", "25", "17", "26", "18", "27", "20", "29", "21", "30", "22", "31"]


def test_output_stationary(tmp_path: Path) -> None:
    # Output positions 0..5 two at a time on two rows; steps: ic 0 kij 0, ic 0 kij 1, ic 1 kij 0, ic 1 kij 1.
    file = {"tensor": "act_os", "name": "a{fold}.txt", "lines": ["ic", "kij"], "lanes": ["pixel"], "radix": "dec"}
    found = written(tmp_path / "act", tiny(), **file)
    # fold 0: position 0 takes 0 1 | 0 5, position 1 takes 1 2 | 5 6; fold 2: positions 4 and 5: 3 4 | 7 0 and 4 0 | 0 0
    assert found["a0.txt"] == "1 0\n2 1\n5 0\n6 5\n"
    assert found["a2.txt"] == "4 3\n0 4\n0 7\n0 0\n"
    file = {"tensor": "weight_os", "name": "w.txt", "lines": ["ic", "kij"], "lanes": ["col"], "radix": "dec"}
    assert written(tmp_path / "weight", tiny(), **file)["w.txt"] == "0 1\n3 -1\n-2 2\n1 0\n"
    file = {"tensor": "out_os", "name": "o{fold}.txt", "lines": ["pixel"], "lanes": ["col"], "radix": "dec"}
    found = written(tmp_path / "out", tiny(), **file)
    assert found == {"o0.txt": "8 -1\n2 9\n", "o1.txt": "-12 14\n16 -3\n", "o2.txt": "-2 13\n0 4\n"}


def test_signed_activations(tmp_path: Path) -> None:
    conv = Conv("first", WEIGHT, IntFormat(8, True), INT4, padding=(0, 1))
    result = run_layer(conv, ACT - 128, ArraySpec(2, 2, act_bits=8))
    found = written(tmp_path, result, tensor="act", name="a.txt", lines=["ij"], lanes=["row"])
    # 1-128 = -127 = 10000001, 5-128 = -123 = 10000101
    assert found["a.txt"].splitlines()[0] == "10000101" + "10000001"


def test_radixes_and_containers(tmp_path: Path) -> None:
    file = {"tensor": "act", "lines": ["ij"], "lanes": ["row"]}
    found = written(tmp_path / "hex", tiny(), name="a.hex", radix="hex", **file)
    assert found == {"a.hex": "51\n62\n73\n04\n"}
    found = written(tmp_path / "readmem", tiny(), name="a.hex", radix="hex", container="readmem", **file)
    assert found == {"a.hex": "@0 51\n@1 62\n@2 73\n@3 04\n"}
    found = written(tmp_path / "coe", tiny(), name="a.coe", radix="hex", container="coe", **file)
    assert found["a.coe"] == "memory_initialization_radix = 16;\nmemory_initialization_vector =\n51,\n62,\n73,\n04;\n"
    found = written(tmp_path / "mif", tiny(), name="a.mif", container="mif", **file)
    assert found["a.mif"] == (
        "DEPTH = 4;\nWIDTH = 8;\nADDRESS_RADIX = HEX;\nDATA_RADIX = BIN;\nCONTENT BEGIN\n"
        "0 : 01010001;\n1 : 01100010;\n2 : 01110011;\n3 : 00000100;\nEND;\n"
    )
    # Six bits a lane, two lanes: 12 bits are three digits; three lanes of six would be 18 bits in five.
    found = written(tmp_path / "psum", tiny(), tensor="out", name="o.hex", lines=["onij"], lanes=["col"], radix="hex")
    assert found["o.hex"].splitlines()[0] == f"{0b001000111111:03x}" == "23f"


def test_npy(tmp_path: Path) -> None:
    entry = {"tensor": "act", "name": "a.npy", "lines": ["ij"], "lanes": ["row"], "container": "npy"}
    write_bundle(tiny(), tmp_path / "b", layout_from({"name": "mine", "files": [entry]}, "mine"))
    assert np.load(tmp_path / "b" / "a.npy").tolist() == [[1, 5], [2, 6], [3, 7], [4, 0]]


def test_lane_widths_of_your_own(tmp_path: Path) -> None:
    file = {"tensor": "act", "name": "a.txt", "lines": ["ij"], "lanes": ["row"]}
    assert written(tmp_path / "wide", tiny(), bits=5, **file)["a.txt"] == column(
        "00101_00001 00110_00010 00111_00011 00000_00100"
    )
    with pytest.raises(
        BadInput, match=r"a.txt\[line 1, lane 1\] is 6, outside the range 0..5|is 5, outside the range 0..3"
    ):
        written(tmp_path / "narrow", tiny(), bits=2, **file)
    assert not (tmp_path / "narrow" / "b").exists()
