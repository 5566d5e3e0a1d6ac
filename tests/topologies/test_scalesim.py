"""Of SCALE-Sim's files; what they hold was compared with what SCALE-Sim 3.0.0 makes of them."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from systolith.formats import BadInput
from systolith.topologies import Layer, convolution, gemm, read_csv

HEAD = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, text: str) -> Path:
    path = folder / "net.csv"
    path.write_bytes(text.encode())
    return path


def facts(layer: Layer) -> tuple[object, ...]:
    conv = layer.conv
    return layer.name, conv.weight.shape, layer.height, layer.width, conv.stride, conv.pads, conv.groups, layer.kind


@st.composite
def convolutions(draw: st.DrawFn) -> Layer:
    """Without padding, and with strides that fit the map."""
    kernel, stride, counts = (draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (5, 3, 30))
    size = [(count - 1) * step + tap for count, step, tap in zip(counts, stride, kernel, strict=True)]
    channels = draw(st.tuples(st.integers(1, 512), st.integers(1, 512)))
    return convolution("", channels, (size[0], size[1]), kernel, stride, (0, 0))


@ANY
@given(st.lists(convolutions(), min_size=1, max_size=5))
def test_convolutions_round_trip(tmp_path: Path, layers: list[Layer]) -> None:
    rows = [
        [f"c{i}", x.height, x.width, *x.conv.kernel, x.conv.in_channels, x.conv.out_channels, *x.conv.stride]
        for i, x in enumerate(layers)
    ]
    head = HEAD.replace("Strides", "Stride Height, Stride Width")
    text = "\n".join([head, *(f"{', '.join(map(str, row))}," for row in rows)])
    topology = read_csv(written(tmp_path, text))
    assert [facts(x)[1:] for x in topology.layers] == [facts(x)[1:] for x in layers]
    assert [x.name for x in topology.layers] == [row[0] for row in rows]
    assert (topology.name, topology.source, topology.notes) == ("net", "net.csv", ())


@ANY
@given(st.lists(st.tuples(*[st.integers(1, 1 << 20)] * 3), min_size=1, max_size=5), st.permutations("MNK"))
def test_products_round_trip(tmp_path: Path, sizes: list[tuple[int, int, int]], order: list[str]) -> None:
    made = [gemm(f"g{i}", *size) for i, size in enumerate(sizes)]
    lines = [f"Layer, {', '.join(order)},"]
    for layer in made:
        cells = {"M": layer.height, "K": layer.conv.in_channels, "N": layer.conv.out_channels}
        lines.append(f"{layer.name}, {', '.join(str(cells[key]) for key in order)},")
    found = read_csv(written(tmp_path, "\n".join(lines))).layers
    assert list(map(facts, found)) == list(map(facts, made))
    assert [x.conv.act_format for x in found] == [x.conv.act_format for x in made]


@pytest.mark.parametrize(("size", "kernel", "stride"), [(224, 7, 2), (224, 11, 4), (8, 3, 3), (9, 3, 3), (3, 3, 2)])
def test_windows_are_rounded_up_in_number(tmp_path: Path, size: int, kernel: int, stride: int) -> None:
    topology = read_csv(written(tmp_path, f"{HEAD}\nc, {size}, {size + 1}, {kernel}, {kernel}, 3, 64, {stride},"))
    (layer,) = topology.layers
    # As `topo_calc_hyperparams` of SCALE-Sim has it; without the padding it would be rounded down.
    high, wide = (ceil((side - kernel + stride) / stride) for side in (size, size + 1))
    assert layer.output_shape == (high, wide)
    assert layer.macs == high * wide * kernel * kernel * 3 * 64
    over = (size - kernel) % stride or (size + 1 - kernel) % stride
    said = ("the last windows of c reach over the map's edge, as SCALE-Sim counts them",)
    assert topology.notes == (said if over else ())


def test_what_occurs_in_their_files(tmp_path: Path) -> None:
    lines = [
        "\ufeffLayer name,Ifmap height,ifmap width,filter height,filter width,channels,num filters,strides,,,Eh,Ew",
        ",,,,,,,,,,",
        "",
        "\tConv1 , 9, 8, 3, 2, 3, 4, 1,,,110,110",
        "Conv1,5,5,3,3,2,6,2, 1",
        "Conv2,5,5,3,3,2,6,2,#dw",
        "Conv3,1,1,1,1,7,5,1",
        "  ",
    ]
    topology = read_csv(written(tmp_path, "\r\n".join(lines)))
    assert [facts(layer) for layer in topology.layers] == [
        ("Conv1", (4, 3, 3, 2), 9, 8, (1, 1), (0, 0, 0, 0), 1, "conv"),
        ("Conv1 (2)", (6, 2, 3, 3), 5, 5, (2, 1), (0, 0, 0, 0), 1, "conv"),
        ("Conv2", (6, 2, 3, 3), 5, 5, (2, 2), (0, 0, 0, 0), 1, "conv"),
        ("Conv3", (5, 7, 1, 1), 1, 1, (1, 1), (0, 0, 0, 0), 1, "conv"),
    ]
    assert topology.notes == ("not read: the columns Eh, Ew; layers are dense, and there once",)


def test_tabs_between_the_cells_and_sparsity(tmp_path: Path) -> None:
    tabs = "\n".join(line.replace(", ", "\t") for line in (HEAD[:-1], "UP, 28, 28, 2, 2, 1024, 512, 1"))
    assert facts(read_csv(written(tmp_path, tabs)).layers[0])[:4] == ("UP", (512, 1024, 2, 2), 28, 28)
    topology = read_csv(written(tmp_path, "Layer Name, M, N, K, Sparsity,\nGEMM_1, 3, 5, 16, 3:4,"))
    assert topology.macs == 3 * 5 * 16
    assert topology.notes == ("not read: the columns Sparsity; layers are dense, and there once",)


def test_depthwise_layers(tmp_path: Path) -> None:
    lines = "Conv2_dw, 9, 9, 3, 3, 32, 1, 1,\nDepthwiseConv2D_1, 9, 9, 3, 3, 8, 1, 2,\nDP1, 9, 9, 3, 3, 4, 2, 2,"
    topology = read_csv(written(tmp_path, f"{HEAD}\n{lines}\nedward, 9, 9, 3, 3, 4, 1, 1,"))
    named, _, grouped, _ = topology.layers
    # What the file says: one filter over 32 channels. The products are as many as those of a depthwise convolution.
    assert (named.conv.weight.shape, named.macs) == ((1, 32, 3, 3), 7 * 7 * 32 * 9)
    # SCALE-Sim reads DP as 4 layers of one channel and 2 filters.
    assert (grouped.conv.weight.shape, grouped.conv.groups) == ((8, 1, 3, 3), 4)
    assert grouped.macs == 4 * (4 * 4 * 9 * 2)
    assert topology.notes == (
        "depthwise, as SCALE-Sim reads DP in a name: DP1",
        "one filter in Conv2_dw, DepthwiseConv2D_1: depthwise by name, but by its numbers a convolution to one "
        "channel, and that is what is read",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the columns Layer name, IFMAP Height, .* or Layer, M, N, K, found nothing"),
        ("a,b,c\n", "line 1: expected the columns .*, found a, b, c"),
        (HEAD, "expected a line for each layer under the columns' names, found none"),
        (f"{HEAD}\n\nc, 9, 9, 3, 3, 2, 4,", "line 3: expected a number from 1 to 999999999 as Strides, found nothing"),
        (f"{HEAD}\nc, 9, x, 3, 3, 2, 4, 1", "line 2: expected a number from 1 to 999999999 as IFMAP Width, found 'x'"),
        (f"{HEAD}\nc, 9, 9, 3, 3, 2, 0, 1", "line 2: expected a number .* as Num Filter, found '0'"),
        (f"{HEAD}\nc, 9, 9, 3, 3, 2, 1e9, 1", "line 2: .* found '1e9'"),
        (f"{HEAD}\nc, 9, 9, 3, 3, 2, {'9' * 5000}, 1", r"line 2: .* as Num Filter, found '9{40}'"),
        (f"{HEAD}\nc, 9, 9, 3, 3, 2, ², 1", "line 2: .* found '²'"),
        (f"{HEAD}\n, 9, 9, 3, 3, 2, 1, 1", "line 2: expected a layer's name, found ', 9, 9, 3, 3, 2, 1, 1'"),
        (
            f"{HEAD}\nc, 2, 9, 3, 3, 2, 4, 1",
            r"line 2: c: a kernel of reach \(3, 3\) does not fit the padded map \(2, 9\)",
        ),
        ("Layer, M, N, K,\nc, 2, 9,", "line 2: expected a number from 1 to 999999999 as K, found nothing"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadInput, match=message) as error:
        read_csv(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.csv: cannot be read \(No such file or directory\)"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "net.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"net.csv: cannot be read \(no text in UTF-8\)"):
        read_csv(tmp_path / "net.csv")
