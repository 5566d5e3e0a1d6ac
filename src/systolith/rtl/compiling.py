"""From SystemVerilog to a program: one design, by either simulator; those of our core are kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from pathlib import Path

from systolith.formats import BadInput
from systolith.rtl.simulators import RTL, Simulator, output_of, require_room, run_tool, shown
from systolith.store import atomic_folder

_PARTS = (".sv", ".svh", ".v", ".vh", ".inc", ".mem", ".hex")  # of a core
LANGUAGES = {"1995": "1364-1995", "2001": "1364-2001", "2005": "1364-2005", "2009": "1800-2009", "2012": "1800-2012"}
"""Icarus' names of the language's levels, and Verilator's."""


class CompileError(BadInput):
    """A compiler refused: `tool` is its name, `said` its first error."""

    def __init__(self, tool: str, said: str) -> None:
        super().__init__(f"{tool} cannot compile the core: {said}")
        self.tool, self.said = tool, said


@dataclass(frozen=True)
class Design:
    """What a compiler is given.

    Attributes:
        sources: files, relative to the folder that it runs in, or absolute.
        top: the testbench's module; "" leaves it to the compiler.
        parameters: of `top`: whole numbers, or text for a string.
        defines: macros; "" for those without a value.
        include: folders.
        language: of `LANGUAGES`.
    """

    sources: tuple[str, ...]
    top: str = ""
    parameters: MappingType[str, int | str] = field(default_factory=dict)
    defines: MappingType[str, int | str] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    language: str = "2012"


def build(
    simulator: Simulator,
    parameters: MappingType[str, int | str],
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
    cache = cache or _cache()
    core = core or RTL / "core"
    waves = waves if simulator.name == "verilator" else ""  # Icarus decides when it runs
    parts = _parts(core)
    with _writing(cache):
        place = cache / _key(simulator, sorted(parameters.items()), waves, _contents(parts))
        with _once(place):
            if not (place / "model").is_file():
                with atomic_folder(place, force=True) as temporary:
                    shutil.copy(RTL / "testbench.sv", temporary)
                    (temporary / "core").mkdir()
                    for path in parts:
                        shutil.copy(path, temporary / "core")
                    sources = sorted(f"core/{path.name}" for path in parts if path.suffix == ".sv")
                    own = Design(("testbench.sv", *sources), "testbench", parameters, include=("core",))
                    compile_design(simulator, own, temporary, waves, cache)
                    shutil.rmtree(temporary / "core")
    return place / "model"


def fingerprint(core: Path | None = None) -> str:
    """What tells a core, in the folder `core` or ours, from another one: all that its program is made of."""
    return _key(_contents(_parts(core or RTL / "core")))


def _parts(core: Path) -> list[Path]:
    return sorted(path for path in core.iterdir() if path.suffix in _PARTS)


def _contents(parts: Sequence[Path]) -> list[tuple[str, bytes]]:
    """All that can come into a program: what the core includes too, and how it is compiled."""
    return [(path.name, path.read_bytes()) for path in (RTL / "testbench.sv", Path(__file__), *parts)]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "systolith" / "rtl"


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


def compile_design(
    simulator: Simulator, design: Design, folder: Path, waves: str = "", cache: Path | None = None
) -> None:
    """The program `model` in `folder`, where the compiler runs.

    Args:
        waves: the waveform that a Verilator model shall be able to write, of `WAVES`, or "".
        cache: the folder for what is common to all models; as of `build`.

    Raises:
        BadInput: the simulator cannot compile it; the message has its first error.
    """
    if simulator.name == "verilator":
        _compile_verilator(simulator, design, folder, cache or _cache(), waves)
        return
    command = [simulator.command, f"-g{design.language}", *(f"-I{place}" for place in design.include)]
    command += [f"-D{name}" + (f"={value}" if value != "" else "") for name, value in design.defines.items()]
    command += ["-s", design.top] if design.top else []
    command += [f"-P{design.top}.{name}={_literal(value)}" for name, value in design.parameters.items()]
    _compile([*command, "-o", "model", *design.sources], folder)


def _literal(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _compile_verilator(simulator: Simulator, design: Design, folder: Path, cache: Path, waves: str) -> None:
    """SystemVerilog to C++ by Verilator, and that to a program: one compiler call, with Verilator's own part from the
    cache."""
    made = folder / "made"
    command = [simulator.command, "--cc", "--main", "--timing", "-O3", "--prefix", "Vtop"]
    command += ["--default-language", LANGUAGES[design.language]] if design.language != "2012" else []
    command += ["--top-module", design.top] if design.top else []
    command += [f"-G{name}={_literal(value)}" for name, value in design.parameters.items()]
    command += [f"+define+{name}" + (f"={value}" if value != "" else "") for name, value in design.defines.items()]
    command += [f"--trace-{waves}", "--trace-structs"] if waves else []
    command += ["-Wno-fatal", "--replication-limit", "0", *(f"-I{place}" for place in design.include)]
    _compile([*command, "--Mdir", "made", *design.sources], folder, {"VERILATOR_ROOT": simulator.root})
    include = Path(simulator.root) / "include"
    flags = ["-std=gnu++20", "-fcoroutines", "-O1", f"-I{include}", f"-I{include}/vltstd", "-DVL_TIME_CONTEXT"]
    switches = {"VM_COVERAGE": 0, "VM_SC": 0, "VM_TIMING": 1, "VM_TRACE": waves != "", "VM_TRACE_SAIF": 0}
    switches |= {"VM_TRACE_VCD": waves == "vcd", "VM_TRACE_FST": waves == "fst"}
    flags += ["-DVERILATOR=1", *(f"-D{name}={int(value)}" for name, value in switches.items())]
    # The list of Verilator's own files is in the makefile that it writes.
    own = re.findall(r"^\s+(verilated\w*) \\$", (made / "Vtop_classes.mk").read_text(), re.M)
    runtime = cache / _key("runtime", simulator, output_of(["g++", "--version"]), flags, own)
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
    """Run a compiler in `folder`; `CompileError` with its first error.

    Where the disk is full, which not all tell, it is a plain `BadInput`.
    """
    done = run_tool(command, environment, cwd=folder)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "Exiting due to" not in line]
        first = next((line for line in lines if re.search("rror|not found", line)), lines[0] if lines else "no message")
        raise CompileError(Path(command[0]).name, shown(first))
    require_room(folder)
