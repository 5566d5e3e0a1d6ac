"""What can be written can be read: over random layouts and geometries, and with every fault located."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import layers
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import BadInput
from systolith.vectors import find_layout, presets, write_bundle
from systolith.vectors.layout import Layout, sources, vector_files
from systolith.vectors.layout_file import layout_from, to_plain, to_toml
from systolith.vectors.read import geometry_of, golden_checks, implied, read_folder

POSITIONS = {"act": ("nij", "ij"), "psum": ("nij", "onij"), "out": ("onij",)}


@st.composite
def layouts(draw: st.DrawFn, tensors: tuple[str, ...] = ("act", "weight", "psum", "out")) -> Layout:
    """Each tensor with its axes dealt out to files, lines and lanes in any order, any radix and container."""
    entries = []
    for tensor in tensors:
        channels = {"act": ["itile", "row"], "weight": ["itile", "row", "otile", "col"]}
        channels |= {"psum": ["itile", "otile", "col"], "out": ["otile", "col"], "address": []}
        channels |= {"act_os": ["fold", "pixel", "ic", "kij"], "weight_os": ["otile", "col", "ic", "kij"]}
        axes = [*channels[tensor], *(["kij"] if tensor in ("weight", "psum", "address") else [])]
        if tensor in ("act", "weight") and draw(st.booleans()):
            axes = ["ic", *(a for a in axes if a not in ("itile", "row"))]
        if tensor in ("weight", "psum", "out", "weight_os") and draw(st.booleans()):
            axes = ["oc", *(a for a in axes if a not in ("otile", "col"))]
        if tensor in POSITIONS:
            axes.append(draw(st.sampled_from(POSITIONS[tensor])))
        if tensor == "address":
            axes.append("onij")
        axes = draw(st.permutations(axes))
        cuts = sorted(draw(st.lists(st.integers(0, len(axes)), min_size=2, max_size=2)))
        files, lines, lanes = axes[: cuts[0]], axes[cuts[0] : cuts[1]], axes[cuts[1] :]
        signs = {axis: draw(st.sampled_from(["", "-"])) for axis in axes}
        container = draw(st.sampled_from(["text", "text", "readmem", "mif", "coe", "npy"]))
        radix = draw(st.sampled_from(["bin", "hex", *(["dec"] if container in ("text", "npy") else [])]))
        entry: dict[str, Any] = {
            "tensor": tensor,
            "name": tensor + "".join(f"_{a}{{{a}{draw(st.sampled_from(['', '+1']))}}}" for a in files),
            "lines": [signs[a] + a for a in lines],
            "lanes": [signs[a] + a for a in lanes],
            "radix": radix,
            "container": container,
        }
        if container == "text" and draw(st.booleans()):
            entry |= draw(st.sampled_from([{"tokens": ["time", "row"]}, {"header": ["free text", "", "#"]}]))
        if tensor == "out":
            entry["relu"] = draw(st.booleans())
        entries.append(entry)
    return layout_from({"name": "random", "files": entries}, "random")


@st.composite
def results(draw: st.DrawFn) -> ArrayResult:
    conv, act = draw(layers(max_channels=5, max_map=5))
    rows, cols = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return run_layer(conv, act, ArraySpec(rows, cols))


@settings(max_examples=60)
@given(results(), layouts())
def test_write_then_read_is_the_identity(result: ArrayResult, layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(result, Path(folder) / "b", layout)
        reading = read_folder(Path(folder) / "b", layout, geometry_of(result))
    assert reading.missing() == ""
    for name, expected in sources(result).items():
        if name in reading.known:
            known = reading.known[name]
            assert (reading.values[name] == np.where(known, expected, 0)).all()
            assert known.all() or name == "psum"
    again = implied(reading)
    assert (again.act == result.act).all()
    assert (again.mapping.conv.weight == result.mapping.conv.weight).all()
    assert all(check.holds for check in golden_checks(reading, again))


@settings(max_examples=25)
@given(results(), layouts(("act_os", "weight_os", "address")))
def test_output_stationary_files_hold_what_some_output_takes(result: ArrayResult, layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(result, Path(folder) / "b", layout)
        reading = read_folder(Path(folder) / "b", layout, geometry_of(result))
    assert all(check.holds for check in reading.checks)
    assert reading.known["weight"].all()
    known = reading.known["act"]  # a stride may step over positions
    assert (reading.values["act"] == np.where(known, result.act, 0)).all()


@settings(max_examples=30)
@given(results(), layouts(), layouts())
def test_two_whole_layouts_convert_into_each_other_byte_for_byte(result: ArrayResult, a: Layout, b: Layout) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bundle(result, folder / "a", a)
        write_bundle(result, folder / "b", b)
        read = implied(read_folder(folder / "a", a, geometry_of(result)), result.mapping.conv.name)
        write_bundle(read, folder / "ab", b)
        for file in vector_files(result, b):
            assert (folder / "ab" / file.name).read_bytes() == (folder / "b" / file.name).read_bytes()


@given(layouts())
def test_toml_and_manifest_give_back_the_layout(layout: Layout) -> None:
    import tomllib

    assert layout_from(tomllib.loads(to_toml(layout)), "toml") == layout
    assert layout_from(to_plain(layout), "plain") == layout


def small() -> ArrayResult:
    from vectors.test_axes import tiny

    return tiny()


@pytest.mark.parametrize("name", [n for n in presets() if n not in ("npz", "course-2bit", "course-2bit-wide")])
def test_presets_round_trip(tmp_path: Path, name: str) -> None:
    result = small()
    if "first" in name:
        from dataclasses import replace

        from systolith.formats import IntFormat

        conv = replace(result.mapping.conv, act_format=IntFormat(8, True))
        result = run_layer(conv, result.act - 128, ArraySpec(2, 2, act_bits=8))
    write_bundle(result, tmp_path / "b", name)
    reading = read_folder(tmp_path / "b", find_layout(name), geometry_of(result))
    checks = golden_checks(reading, implied(reading))
    assert checks
    assert all(check.holds for check in checks)


def test_what_is_not_in_the_files_is_named(tmp_path: Path) -> None:
    entry = {"tensor": "act", "name": "a.txt", "lines": ["nij"], "lanes": ["row"], "first": {"nij": 3}}
    layout = layout_from({"name": "part", "files": [entry]}, "part")
    write_bundle(small(), tmp_path / "b", layout)
    reading = read_folder(tmp_path / "b", layout, geometry_of(small()))
    # nij 0, 1, 2 are padding, (0, 0) and (0, 1).
    assert reading.missing() == "4 of 8 of the act are in no file; the first is [ic 0, i 1, j 0]"
    with pytest.raises(BadInput, match="layout part: 4 of 8 of the act are in no file"):
        implied(reading)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (4, "00000001", "line 4, lane 0: expected 0 (padding, or a lane without a channel), found 1"),
        (5, "0101000x", "line 5, column 8: expected 0 or 1, found 'x'"),
        (5, "010100011", "line 5, column 9: expected 8 binary digits, found 9"),
        (5, "0101001", "line 5, column 8: expected 8 binary digits, found 7"),
        (5, "01010001\r", "line 5, column 9: expected the end of the line, found a carriage return (CRLF)"),
        (5, "", "line 5, column 1: expected 8 binary digits, found an empty line"),
        (5, "01010001 ", "line 5, column 9: expected the end of the line, found ' '"),
        (2, "# a blank", "line 2: expected a header without white space"),
        (11, None, "line 11: expected 8 words, found 7"),
    ],
)
def test_a_fault_in_a_golden_file_is_located(tmp_path: Path, line: int, text: str | None, message: str) -> None:
    write_bundle(small(), tmp_path / "b", "course")
    path = tmp_path / "b" / "activation_tile0.txt"
    lines = path.read_text().split("\n")
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_bytes("\n".join(lines).encode())
    with pytest.raises(BadInput) as caught:
        read_folder(tmp_path / "b", find_layout("course"), geometry_of(small()))
    assert f"activation_tile0.txt: {message}" in str(caught.value)


def test_a_golden_file_that_its_inputs_do_not_imply_is_found(tmp_path: Path) -> None:
    write_bundle(small(), tmp_path / "b", "course")
    path = tmp_path / "b" / "psum_itile0_otile0_kij1.txt"
    lines = path.read_text().split("\n")
    assert lines[4] == "001000111111"  # nij 1: 8 and -1
    lines[4] = "001000111110"
    path.write_text("\n".join(lines))
    reading = read_folder(tmp_path / "b", find_layout("course"), geometry_of(small()))
    psums, outputs = golden_checks(reading, implied(reading))
    assert psums.different == 1
    assert psums.first == "[ic_tile 0, oc_tile 0, kij 1, nij 1, col 0] expected -1, found -2"
    assert outputs.holds


def test_files_that_contradict_each_other(tmp_path: Path) -> None:
    twice = [
        {"tensor": "act", "name": "a.txt", "lines": ["ij"], "lanes": ["row"], "radix": "dec"},
        {"tensor": "act", "name": "b.txt", "lines": ["nij"], "lanes": ["row"], "radix": "dec"},
    ]
    layout = layout_from({"name": "twice", "files": twice}, "twice")
    write_bundle(small(), tmp_path / "b", layout)
    text = (tmp_path / "b" / "b.txt").read_text().split("\n")
    assert text[2] == "6 2"
    (tmp_path / "b" / "b.txt").write_text("\n".join([*text[:2], "6 3", *text[3:]]))
    with pytest.raises(BadInput, match=r"b.txt: line 3: act\[ic 0, i 0, j 1\] is 3 here and 2 elsewhere"):
        read_folder(tmp_path / "b", layout, geometry_of(small()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 1\nfiles = []", "name: expected text, found 1"),
        ("files = []", "name is missing"),
        ('name = "x"\nfiles = []\ncolour = 3', "unknown key 'colour'; expected name, about, files"),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nlans = ["row"]',
            "files[1]: unknown key 'lans'",
        ),
        ('name = "x"\n[[files]]\ntensor = "acts"\nname = "a"\nlines = []', "tensor 'acts': expected one of act"),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = "nij"',
            "lines: expected a list of text, found 'nij'",
        ),
        ('name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["kij"]', "'kij': the axes of act are itile"),
        ('name = "x"\n[[files]]\ntensor = "act"\nname = "a{kij}"\nlines = ["nij"]', "the axes of act are itile"),
        ('name = "x"\n[[files]]\ntensor = "act"\nname = "a{row!r}"\nlines = ["nij"]', "expected fields such as {kij}"),
        ('name = "x"\n[[files]]\ntensor = "act"\nname = "../a"\nlines = ["nij"]', "expected a path inside the folder"),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij", "nij"]',
            "axis 'nij' stands in two places",
        ),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nlanes = ["row", "row%2"]',
            "'row%2' stands in two",
        ),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nlanes = ["ic", "row"]',
            "ic stands for itile and row",
        ),
        ('name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij", "ij"]', "exclude one another"),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nrelu = true',
            "relu is of outputs, not of act",
        ),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nrelu = 1',
            "relu: expected true or false, found 1",
        ),
        ('name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nbits = 64', "bits 64: expected 1 to 63"),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nbits = true',
            "bits: expected a whole number",
        ),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\ncontainer = "coe"\nradix = "dec"',
            "'dec' has no words",
        ),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\ncontainer = "mif"\nheader = ["#"]',
            "header of its own",
        ),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\ntokens = ["t"]',
            "tokens: expected two labels",
        ),
        (
            'name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\nfirst = { nij = "all" }',
            "first: expected counts",
        ),
        ('name = "x"\n[[files]]\ntensor = "act"\nname = "a"\nlines = ["nij"]\noffset = 4', "offset is of addresses"),
        ('name = "x', "not TOML"),
    ],
)
def test_a_bad_layout_gives_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        find_layout(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    entry = {"tensor": "act", "name": "a.txt", "lines": ["ij"], "lanes": ["row"]}
    with pytest.raises(BadInput, match=r"two tensors have a file called a\.txt"):
        write_bundle(small(), tmp_path / "b", layout_from({"name": "x", "files": [entry, entry]}, "x"))
    assert not (tmp_path / "b").exists()
