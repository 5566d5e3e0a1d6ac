"""How a run ended, told apart: one line with the simulator's or the testbench's own words, and what to change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.projects.project import Project
from systolith.projects.testbench import Opened, opened
from systolith.rtl.compiling import CompileError
from systolith.rtl.simulators import shown
from systolith.verdict.judge import Verdict

KINDS = {
    "passed": "the testbench says that it passed",
    "failed": "the testbench says that it failed, or its dump is wrong",
    "all x": "what it prints is x",
    "no file": "it opens a file that is not there",
    "hung": "it does not come to an end",
    "silent": "it prints nothing",
    "no verdict": "it prints neither what means pass nor what means fail",
    "no dump": "it does not write the dump",
    "crashed": "the simulation ended with an error",
    "compile": "it does not compile",
    "construct": "the simulator cannot do something that the sources use",
}
"""What a run's end is called, and what it means."""
SILENT = ("no verdict", "silent")
"""Ends without a word for it: a dump can still be judged."""

_MISSING = (
    re.compile(r"(?:Unable to open|cannot open|[Cc]an't open|could not open) [\"'`]?(?P<name>[^\s\"'`]+)", re.I),
    re.compile(r"(?P<name>[^\s:]+):0: \$readmem file not found"),
)
_DESCRIPTOR = re.compile(r"invalid file descriptor|\(0x0\)|File descriptor .*invalid|fd \(0\)", re.I)
_REFUSED = re.compile(r"is not assignable|sorry: |not (?:yet )?supported", re.I)
_SIZE = re.compile(r"\d\s*[xX]\s*\d")  # 8x8, 4 x 4
_X = re.compile(r"(?<!\w)(?:\d*'[bhdBHD])?[xX][xX_]*(?!\w)")
_MOST = 3


@dataclass(frozen=True)
class Ended:
    """What a simulation printed, its exit code (None: it was killed), and its seconds."""

    text: str
    code: int | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        name: of the run.
        kind: of `KINDS`.
        said: the first words of the simulator or testbench about it, or what was found.
        change: what to change; "" where only the design's author knows.
        lines: the testbench's own lines about it, at most three.
        seconds: of the simulation.
        verdict: of the dump, where there is one.
    """

    name: str
    kind: str
    said: str
    change: str = ""
    lines: tuple[str, ...] = ()
    seconds: float = 0.0
    verdict: Verdict | None = None

    @property
    def passed(self) -> bool:
        return self.kind == "passed"


def of_compiler(name: str, error: CompileError) -> Outcome:
    """What a compiler's first error means."""
    said = f"{error.tool}: {error.said}"
    if re.search(r"sorry:|Unsupported|UNSUPPORTED|not supported", error.said):
        other = "icarus" if "verilator" in error.tool else "verilator"
        return Outcome(name, "construct", said, f"another simulator (--sim {other}), or other words in the source")
    if re.search(r"Include file|Cannot find include|can't find include", error.said, re.I):
        return Outcome(name, "compile", said, "include = [...] under [rtl]: the folder of that file")
    if re.search(r"Unknown module|Cannot find file containing module|Can't resolve module", error.said, re.I):
        return Outcome(name, "compile", said, "sources = [...] under [rtl]: the file of that module is missing")
    if re.search(r"Unable to find the root module|top module|Specified --top-module", error.said, re.I):
        return Outcome(name, "compile", said, "top = under [rtl]: no module of that name in the sources")
    return Outcome(name, "compile", said, "the source at that line, or language = under [simulator]")


def classify(project: Project, name: str, ended: Ended, copy: Path, placed: Sequence[str]) -> Outcome:
    """What a simulation's end means.

    Args:
        copy: the folder of the run, its files still there.
        placed: paths of the vector files in it.
    """
    text, seconds = ended.text, round(ended.seconds, 3)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ways = [(pattern, _lines(pattern, text)) for pattern in (project.passes, project.fails)]
    (_, passes), (_, fails) = ways
    stopped = ended.code == 0 or (ended.code is not None and "$stop" in text)
    if passes and not fails and stopped:
        return Outcome(name, "passed", shown(passes[0]), lines=tuple(passes[:_MOST]), seconds=seconds)

    def outcome(kind: str, said: str, change: str = "", own: Sequence[str] = ()) -> Outcome:
        own = [shown(line) for line in (own or fails or lines[-_MOST:])]
        return Outcome(name, kind, shown(said), change, tuple(own[:_MOST]), seconds)

    refused = next((line for line in lines if _REFUSED.search(line)), None)
    if refused is not None:
        return outcome("construct", refused, "another simulator (--sim), or other words in the source")
    missing = _missing(project, text, copy, placed)
    if missing is not None:
        return outcome("no file", *missing)
    if ended.code is None:
        last = f"; its last line: {lines[-1]}" if lines else ", without a line"
        why = f"no end in {project.time_limit:g} s" if ended.seconds > project.time_limit else "it prints without end"
        return outcome("hung", f"{why}{last}", "a clock or a handshake that waits, $finish, or time_limit =")
    if not lines:
        return outcome("silent", "the simulation printed nothing", "top = under [rtl], or what the testbench prints")
    told = fails or lines
    unknown = [line for line in told if _X.search(_SIZE.sub("", line))]
    if not passes and unknown and 2 * len(unknown) >= len(told):
        return outcome(
            "all x", unknown[0], "the reset, an input that nothing drives, or a memory that is not filled", unknown
        )
    if fails:
        return outcome("failed", fails[0])
    if passes:
        return outcome("crashed", f"it says {passes[0]!r}, but ended with exit code {ended.code}", "", lines)
    if not stopped:
        first = next((line for line in lines if re.search("fatal|error", line, re.I)), lines[-1])
        return outcome("crashed", f"exit code {ended.code}: {first}")
    wanted = f"no line matches pass = {project.passes!r}"
    also = f" or fail = {project.fails!r}" if project.fails else ""
    return outcome("no verdict", f"{wanted}{also}; the last line: {lines[-1]}", "pass = under [verdict]")


def _lines(pattern: str, text: str) -> list[str]:
    """The lines in which a pattern is found; "" is found nowhere."""
    return [line.strip() for line in text.splitlines() if pattern and re.search(pattern, line)]


def _missing(project: Project, text: str, copy: Path, placed: Sequence[str]) -> tuple[str, str] | None:
    """A file that was opened and is not there: what is said of it, and what to change."""
    for pattern in _MISSING:
        if match := pattern.search(text):
            line = next(line for line in text.splitlines() if match[0] in line)
            return line.strip(), _remedy(project, match["name"].rstrip(".,;"), placed)
    gone = [one for one in opened(project) if one.reads and not _is_there(project, one, copy)]
    if gone and (_DESCRIPTOR.search(text) or not text.strip() or len(gone) == 1):
        one = gone[0]
        return f"{one.file}:{one.line} opens {one.name}: no such file", _remedy(project, one.name, placed)
    return None


def _is_there(project: Project, one: Opened, copy: Path) -> bool:
    """Whether a run's folder has a file of that name, or of that pattern."""
    folder = copy / project.run_in
    if not one.fields:
        return (folder / one.name).exists()
    parent = folder / Path(one.name).parent
    return parent.is_dir() and any(one.pattern.fullmatch(path.name) for path in parent.iterdir())


def _remedy(project: Project, name: str, placed: Sequence[str]) -> str:
    """How a layout's file gets that name."""
    wanted = Path(name).name
    case = [one for one in placed if Path(one).name.lower() == wanted.lower() and Path(one).name != wanted]
    if case:
        return f"the layout's name: it writes {Path(case[0]).name}, and case counts"
    same = [one for one in placed if Path(one).name == wanted]
    if same:
        return (
            f"folder = or places = under [vectors]: the file is at {same[0]}, the simulation runs in {project.run_in}"
        )
    return f"the layout: it writes no {wanted}, but {', '.join(sorted(Path(p).name for p in placed)[:4])}"
