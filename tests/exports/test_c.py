"""The C loop: compiled with all warnings as errors, every result of every step against the reference."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exports.lined import lined_network
from network.nets import Builder, random_network
from systolith.exports import c
from systolith.exports.arrays import fixed_point, without_fixed_point
from systolith.exports.c import compare_binaries, compare_c, file_of, run_c, write_c
from systolith.formats import BadInput
from systolith.network import IntegerNetwork
from systolith.network.file import load_network
from systolith.network.requantize import FixedPoint
from systolith.store import shipped_models

needs_compiler = pytest.mark.skipif(c.compiler() is None, reason="no C compiler")


def pixels_of(network: IntegerNetwork, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *network.values["input"].shape), dtype=np.uint8)


@needs_compiler
@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int, tmp_path: Path) -> None:
    network = random_network(seed)
    write_c(network, tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    equalities = compare_c(network, tmp_path, pixels_of(network, 3, seed))
    assert all(e.holds for e in equalities), [str(e) for e in equalities if not e.holds]
    assert len(equalities) >= len(network.steps)
    assert all(e.holds for e in compare_binaries(network, tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == before  # the program was built elsewhere


@needs_compiler
@pytest.mark.parametrize("seed", range(10))
def test_networks_of_lines_by_fixed_point(seed: int, tmp_path: Path) -> None:
    network = lined_network(seed)
    forms = [form for node in network.requantizes.values() if isinstance(form := fixed_point(node), FixedPoint)]
    assert len(forms) == len(network.requantizes)
    write_c(network, tmp_path)
    equalities = compare_c(network, tmp_path, pixels_of(network, 3, seed))
    assert all(e.holds for e in equalities), [str(e) for e in equalities if not e.holds]
    assert len(equalities) == 2 * len(network.steps)


def test_both_roundings_are_tried() -> None:
    forms = [fixed_point(node) for seed in range(10) for node in lined_network(seed).requantizes.values()]
    found = {(form.rounding, form.least > 0) for form in forms if isinstance(form, FixedPoint)}
    assert {rounding for rounding, _ in found} == {"floor", "even"}


@needs_compiler
def test_the_shipped_network_by_thresholds_and_by_fixed_point(tmp_path: Path) -> None:
    network = load_network(shipped_models()["vgg16-w4a4-s8"])
    assert without_fixed_point(network) == {}
    write_c(network, tmp_path, {"features.0/weight_scale": np.array([0.25], np.float32)})
    equalities = compare_c(network, tmp_path, pixels_of(network, 1))
    assert all(e.holds for e in equalities)
    assert len(equalities) == 2 * len(network.steps)


def test_the_header_says_what_there_is(tmp_path: Path) -> None:
    network = random_network(5)
    write_c(network, tmp_path, {"b/weight_scale": np.array([0.25, 0.5, 1], np.float32)})
    header = (tmp_path / "network.h").read_text()
    assert c.BUILD in header
    assert "b.weight_scale.bin: 0.25 and 2 more" in header
    for number, step in enumerate(network.steps):
        assert f"/* {number}: {step.name}: {type(step.node).__name__}" in header
    for why in without_fixed_point(network).values():
        assert why in header
    weight = np.fromfile(tmp_path / file_of(network, "b/weight"), np.int8)
    assert (weight == network.layers["b"].weight.reshape(-1)).all()
    named = {line.split('"')[1] for line in header.splitlines() if '.bin", ' in line}
    scales = {file_of(network, "b/weight_scale")}
    assert named | scales == {p.name for p in tmp_path.glob("*.bin")}


def tiny(name: str) -> IntegerNetwork:
    b = Builder(0)
    source = b.pixels(2, (12, 12))
    return b.network(b.conv(name, source, 3), source)


@needs_compiler
@pytest.mark.parametrize(
    "name", ["*/ evil(); /*", 'a"b\\c', "line\nbreak", "../../up", "\u00fcber %s", "??/", "12", "a b", "x" * 300]
)
def test_any_name_is_only_a_name(name: str, tmp_path: Path) -> None:
    network = tiny(name)
    folder = tmp_path / "out"
    folder.mkdir()
    write_c(network, folder)
    assert all(e.holds for e in compare_c(network, folder, pixels_of(network, 2)))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@needs_compiler
def test_a_changed_binary_is_seen(tmp_path: Path) -> None:
    network = random_network(4)
    write_c(network, tmp_path)
    path = tmp_path / file_of(network, "a/weight")
    weight = np.fromfile(path, np.int8)
    weight[3] += 1
    weight.tofile(path)
    (wrong,) = [e for e in compare_binaries(network, tmp_path) if not e.holds]
    assert wrong.name == "a/weight"
    first = next(e for e in compare_c(network, tmp_path, pixels_of(network, 2)) if not e.holds)
    assert first.name == "a in C, by thresholds"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"expected \d+ numbers"):
        compare_binaries(network, tmp_path)
    with pytest.raises(BadInput, match="cannot be read"):
        run_c(network, tmp_path, pixels_of(network, 1))


@needs_compiler
def test_the_program_says_what_is_wrong(tmp_path: Path) -> None:
    network = random_network(6)
    write_c(network, tmp_path)
    sources = [tmp_path / "network.c", tmp_path / "main.c"]
    compiler = c.compiler()
    assert compiler is not None
    # With whatever the compiler can watch: no undefined shift or overflow, nothing read outside.
    watched = ["-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-Wconversion"]
    command = [compiler, "-std=c99", *watched, "-o", tmp_path / "network", *sources]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"no sanitizers here: {built.stderr.splitlines()[-1]}")
    count = int(np.prod(network.values["input"].shape))
    (tmp_path / "pixels.raw").write_bytes(bytes(count))

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        env = {"ASAN_OPTIONS": "detect_leaks=0"}
        return subprocess.run(["./network", *args], cwd=tmp_path, capture_output=True, text=True, check=False, env=env)

    assert call(".", "pixels.raw").returncode == 0
    assert "expected FOLDER PIXELS" in call(".").stderr
    assert call("nowhere", "pixels.raw").stderr.startswith("000.input.table.bin: cannot be read")
    assert call(".", "nothing").stderr == "nothing: cannot be read\n"
    (tmp_path / "pixels.raw").write_bytes(bytes(count + 1))
    short = call(".", "pixels.raw")
    assert short.returncode == 1
    assert short.stderr == "pixels.raw: ends within a picture\n"


def test_without_a_compiler_or_with_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(0)
    write_c(network, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert c.compiler() is None
    with pytest.raises(BadInput, match="no C compiler"):
        run_c(network, tmp_path, pixels_of(network, 1))
    monkeypatch.setattr(c, "compiler", lambda: shutil.which("false", path="/bin:/usr/bin"))
    with pytest.raises(BadInput, match="false: exit code 1"):
        run_c(network, tmp_path, pixels_of(network, 1))


def test_more_than_an_int_is_refused(tmp_path: Path) -> None:
    b = Builder(0)
    source = b.put(replace(random_network(0).input, size=(1 << 16, 1 << 16)))
    network = IntegerNetwork(tuple(b.steps), (source,))
    with pytest.raises(BadInput, match="more than 31 bits"):
        write_c(network, tmp_path)
