"""Yosys, in a process of its own: it is a C++ library that ends the process which it runs in when it finds a fault."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from systolith.formats import BadInput

_CHILD = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.stdin.read().splitlines():
    libyosys.run_pass(line, design)
"""


def has_yosys() -> bool:
    """Whether the `pyosys` wheel is installed."""
    return importlib.util.find_spec("pyosys") is not None


def yosys_version() -> str:
    """The wheel's version."""
    return importlib.metadata.version("pyosys")


def run_yosys(commands: Sequence[str], timeout: float | None = None) -> str:
    """Run commands of Yosys, one after another; what it prints.

    Args:
        commands: a line each.
        timeout: seconds.

    Raises:
        BadInput: Yosys finds an error, which the message has, is not installed, or takes too long.
    """
    if not has_yosys():
        raise BadInput("Yosys is needed (pyosys), which is not installed: pip install 'systolith[synth]'")
    script = "".join(f"{command}\n" for command in commands)
    command = [sys.executable, "-c", _CHILD]
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"Yosys did not come to an end in {timeout:g} s") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        said = next((line for line in lines if re.search(r"\bERROR\b|ABC: Error", line)), "")
        if not said:
            said = f"ended by signal {-done.returncode}" if done.returncode < 0 else "stopped without a word"
        raise BadInput(f"Yosys: {said.replace('ERROR: ', '')}"[:300])
    return done.stdout


def quoted(path: Path) -> str:
    """A path as an argument of a command.

    Raises:
        BadInput: it has a quotation mark or a line's end, which no command can hold.
    """
    text = str(path.resolve())
    if '"' in text or "\\n" in text:
        raise BadInput(f"{text}: Yosys cannot read a path with quotation marks")
    return f'"{text}"'


@dataclass(frozen=True)
class Source:
    """What Yosys reads.

    Attributes:
        files: SystemVerilog.
        top: the module to elaborate.
        parameters: of it.
        include: folders.
        defines: macros.
    """

    files: tuple[Path, ...]
    top: str
    parameters: Mapping[str, int] = field(default_factory=dict)
    include: tuple[Path, ...] = ()
    defines: Mapping[str, int | str] = field(default_factory=dict)

    def commands(self) -> list[str]:
        """Those that read and elaborate it."""
        given = "".join(f" -chparam {name} {value}" for name, value in self.parameters.items())
        how = "".join(f" -I {quoted(place)}" for place in self.include)
        how += "".join(f" -D {name}={value}" for name, value in self.defines.items())
        read = [f"read_verilog -sv{how} {quoted(path)}" for path in self.files]
        return [*read, f"hierarchy -check -top {self.top}{given}"]
