"""`layout`, `convert` and `check` as a user types them, without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.calling import NO_TORCH, call, one_object, refuse

SHAPE = ("--channels", "8x8", "--input", "4x4")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout")
    result = call("vectors", "--stimulus", "random", *SHAPE, "--out", folder / "r", code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    return folder / "r" / "random"


def words(path: Path) -> list[str]:
    return path.read_text().split()[3:]


def test_show_prints_toml_that_is_the_layout(tmp_path: Path) -> None:
    listed = call("layout", "show", code=NO_TORCH)
    for name in ("course", "seed", "course-2bit", "course-2bit-wide", "course-os", "readmemh", "mif", "coe", "npz"):
        assert any(line.startswith(f"{name} ") for line in listed.stdout.splitlines())
    (tmp_path / "mine.toml").write_text(call("layout", "show", "seed").stdout)
    assert call("layout", "show", tmp_path / "mine.toml").stdout == call("layout", "show", "seed").stdout
    refuse(call("layout", "show", "sed"), "no layout 'sed': expected one of coe, course")


def test_new_writes_a_layout_that_vectors_takes(tmp_path: Path, bundle: Path) -> None:
    made = call(
        *("layout", "new", "--out", tmp_path / "mine.toml", "--transposed", "--kij-major", "--unpadded", "--windowed"),
        *("--no-relu", "--addresses", "--header", "2", "--reverse-lanes", "out"),
    )
    assert made.returncode == 0, made.stderr
    result = call("convert", bundle, "--to", tmp_path / "mine.toml", "--out", tmp_path / "m", code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "m" / "weight_itile0_otile0.txt").read_text().splitlines()
    assert lines[:2] == ["// free", "// free"]
    assert len(lines) == 2 + 72
    assert len((tmp_path / "m" / "activation_tile0.txt").read_text().splitlines()) == 2 + 16
    assert len((tmp_path / "m" / "accumulation_address.txt").read_text().splitlines()) == 16 * 9
    refuse(call("layout", "new", "--out", tmp_path / "mine.toml"), "exists already")
    refuse(call("layout", "new", "--out", tmp_path / "mine.txt"), "ends in .toml")
    refuse(
        call("layout", "new", "--out", tmp_path / "n.toml", "--reverse-lanes", "acts"),
        "expected act, weight, psum or out",
    )


def test_convert_there_and_back_byte_for_byte(tmp_path: Path, bundle: Path) -> None:
    for name in ("seed", "readmemh", "course-os", "mif"):
        there = call("convert", bundle, "--to", name, "--out", tmp_path / name, code=NO_TORCH)
        assert there.returncode == 0, there.stderr
        plain = tmp_path / f"{name}-plain"
        shutil.copytree(tmp_path / name, plain)
        for extra in ("manifest.json", "tensors.npz"):
            (plain / extra).unlink()
        back = call("convert", plain, "--from", name, *SHAPE, "--to", "course", "--out", tmp_path / f"{name}-back")
        assert back.returncode == 0, back.stderr
        for path in bundle.glob("*.txt"):
            assert (tmp_path / f"{name}-back" / path.name).read_bytes() == path.read_bytes()


def test_convert_refuses_what_is_missing_or_not_implied(tmp_path: Path, bundle: Path) -> None:
    refuse(call("convert", bundle, "--to", "seed", "--out", tmp_path / "o", *SHAPE), "says its own shape", "--channels")
    refuse(call("convert", tmp_path, "--to", "seed", "--out", tmp_path / "o"), "no bundle", "--from LAYOUT")
    args = ("convert", bundle, "--from", "course", "--to", "seed", "--out", tmp_path / "o")
    refuse(call(*args), "does not say its layer's shape: expected --channels INxOUT and --input HxW")
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    path = broken / "out.txt"
    lines = path.read_text().splitlines()
    flipped = "0" if lines[5][-1] == "1" else "1"
    path.write_text("\n".join([*lines[:5], lines[5][:-1] + flipped, *lines[6:]]) + "\n")
    result = call("convert", broken, "--from", "course", *SHAPE, "--to", "seed", "--out", tmp_path / "o")
    assert result.returncode == 1
    assert "NOT CONVERTED: outputs after ReLU in the files = what the inputs imply" in result.stdout.splitlines()[-1]
    assert not (tmp_path / "o").exists()
    (broken / "activation_tile0.txt").unlink()
    refuse(
        call("convert", broken, "--from", "course", *SHAPE, "--to", "seed", "--out", tmp_path / "o"), "cannot be read"
    )


def test_check_of_a_folder_names_its_layout(tmp_path: Path, bundle: Path) -> None:
    value = one_object(call("layout", "check", bundle, *SHAPE, "--json", code=NO_TORCH))
    assert value["consistent"] == [{"layout": "course", "differences": [], "compared": 9 * 36 * 8 + 16 * 8}]
    mine = tmp_path / "mine.toml"
    assert call("layout", "new", "--out", mine, "--transposed").returncode == 0
    assert call("convert", bundle, "--to", mine, "--out", tmp_path / "t").returncode == 0
    result = call("layout", "check", tmp_path / "t", *SHAPE)
    assert result.returncode == 0
    assert result.stdout.startswith("consistent with layout course, but: weights transposed")
    refuse(call("layout", "check", tmp_path / "none", *SHAPE), "expected a folder")
    assert call("layout", "check", tmp_path, *SHAPE).returncode == 1


def test_check_of_a_dump(tmp_path: Path, bundle: Path) -> None:
    result = call("check", bundle, "--against", bundle, code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "verdict  all equal: 340 words"  # 9 x 36 psums, 16 outputs
    dump = tmp_path / "dump"
    dump.mkdir()
    golden = words(bundle / "out.txt")
    (dump / "out.txt").write_text("\n".join(["x" * 16 + golden[0][16:], *golden[1:]]) + "\n")
    result = call("check", bundle, "--against", dump)
    assert result.returncode == 1
    assert "out.txt, line 1, lane 7: layer random, output channel 7 at (0, 0)" in result.stdout
    assert "1 words wrong, 16 expected" in result.stdout.splitlines()[-1]
    value = call("check", bundle, "--against", dump, "--json")
    assert value.returncode == 1
    assert '"different": 1' in value.stdout
    refuse(call("check", bundle, "--against", tmp_path), "holds none of the psum and output files")


def test_check_names_a_mistake(tmp_path: Path, bundle: Path) -> None:
    # A machine that forgot the ReLU: the same layer, outputs before it.
    assert call("layout", "new", "--out", tmp_path / "n.toml", "--no-relu").returncode == 0
    assert call("convert", bundle, "--to", tmp_path / "n.toml", "--out", tmp_path / "n").returncode == 0
    result = call("check", bundle, "--against", tmp_path / "n")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == "verdict  NOT EQUAL: matches 'no ReLU' at 340 of 340 words"


def test_check_of_a_log_and_of_a_waveform(tmp_path: Path, bundle: Path) -> None:
    golden = words(bundle / "out.txt")
    log = tmp_path / "out.csv"
    log.write_text("".join(f"{at},{word}\n" for at, word in enumerate(golden)))
    result = call("check", bundle, "--against", log, code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "verdict  all equal: 16 words"
    log.write_text("".join(f"{at},{int(word, 2) & -2:x}\n" for at, word in enumerate(golden)))
    result = call("check", bundle, "--against", log, "--radix", "hex", "--json", code=NO_TORCH)
    assert result.returncode == 1, result.stderr
    value = json.loads(result.stdout)
    assert value["levels"] == {"output": {"words": 16, "different": sum(int(word, 2) & 1 for word in golden)}}
    assert value["would_be"]["no ReLU"]["words"] < 16
    assert "(time " in value["first"]
    refuse(call("check", bundle, "--against", log, "--radix", "oct"), "--radix 'oct': expected one of bin, hex, dec")
    refuse(call("check", bundle, "--against", log), "expected a binary value (--radix says another)")
    wave = tmp_path / "w.vcd"
    head = "$scope module top $end $var wire 128 o out $end $var wire 1 v valid $end $upscope $end $enddefinitions $end"
    wave.write_text(head + "".join(f"\n#{2 * at}\n1v\nb{w} o\n#{2 * at + 1}\n0v" for at, w in enumerate(golden)) + "\n")
    signals = ("--signal", "top.out", "--valid", "top.valid")
    assert call("check", bundle, "--against", wave, *signals, code=NO_TORCH).returncode == 0
    refuse(call("check", bundle, "--against", wave), "a waveform needs --signal and --valid")
    without = NO_TORCH.replace("'torch'", "'pywellen'")
    assert without != NO_TORCH
    missing = call("check", bundle, "--against", wave, *signals, code=without)
    refuse(missing, "`check of a .vcd file` needs pywellen, which is not installed: pip install 'systolith[waves]'")
