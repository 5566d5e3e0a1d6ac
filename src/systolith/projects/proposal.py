"""A `core.toml` proposed from what a testbench opens, reads and prints; and what could not be found there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

from systolith.formats import BadInput
from systolith.projects.testbench import Opened, Testbench
from systolith.vectors import Layout
from systolith.vectors.layout import FileSpec
from systolith.vectors.layout_file import to_toml
from systolith.verdict.variants import LABELS

_TENSORS = (
    ("address", r"addr|acc(?!t)\w*_a|accum"),
    ("weight", r"weight|kernel|wgt|filter|^w\d*[_.]|^w\."),
    ("psum", r"psum|partial|ps_"),
    ("act", r"act|input|ifmap|image|pixel|feature|^x[_.\d]|^a[_.\d]|^in[_.\d]"),
    ("out", r"out|gold|expect|answer|result|ofmap|ref|^y[_.\d]"),
)
_AXES = {"act": ("itile",), "weight": ("itile", "otile", "kij"), "psum": ("itile", "otile", "kij"), "out": ("otile",)}
_LINES = {"act": ("nij",), "weight": ("col",), "psum": ("nij",), "out": ("onij",), "address": ("onij", "kij")}
_LANES = {"act": ("row",), "weight": ("row",), "psum": ("col",), "out": ("col",), "address": ()}
_PASS = re.compile(r"pass|success|no error|\bok\b|all .*(match|correct|equal|right)|completed successfully", re.I)
_FAIL = re.compile(r"fail|error|mismatch|wrong|differ", re.I)


@dataclass(frozen=True)
class Guess:
    """A file that the testbench opens, and the tensor that its name speaks of ("": none)."""

    opened: Opened
    tensor: str


@dataclass(frozen=True)
class Proposal:
    """A project file's text, what it rests on, and what is left to say by hand."""

    text: str
    guesses: tuple[Guess, ...]
    missing: tuple[str, ...]


def propose(bench: Testbench, sources: Sequence[str], folder: str = ".") -> Proposal:
    """The project of a testbench that was read, with these sources.

    Raises:
        BadInput: it opens no file to read.
    """
    reads = [one for one in bench.opened if one.reads]
    if not reads:
        raise BadInput(f"{sources[-1]}: opens no file for reading: a layout has nothing to go by")
    guesses = tuple(Guess(one, _tensor(one.name)) for one in bench.opened)
    missing = [
        f"{g.opened.file}:{g.opened.line}: the name of the file that is opened" for g in guesses if not g.opened.name
    ]
    specs: list[FileSpec] = []
    for tensor in ("act", "weight", "psum", "out", "address"):
        mine = [g.opened for g in guesses if g.tensor == tensor and g.opened.reads]
        if mine:
            specs.append(_spec(tensor, mine, missing))
    for guess in guesses:
        if guess.opened.name and guess.opened.reads and not guess.tensor:
            missing.append(f"{guess.opened.file}:{guess.opened.line}: what {guess.opened.name} holds")
    specs, shape = _shaped(specs, guesses, missing)
    unknown = "the order of lines and lanes, padding and ReLU, which no call shows: `cosim --project` tries them"
    passes, fails = _said(bench.prints, missing)
    folders = {Path(g.opened.name).parent.as_posix() for g in guesses if g.opened.name and g.opened.reads}
    lines = ["[rtl]", f"sources = [{', '.join(map(_quoted, sources))}]"]
    lines += [f"top = {_quoted(bench.modules[-1])}"] if bench.modules else []
    lines += ["", "[simulator]", f"run_in = {_quoted(folder)}", "time_limit = 60", "", "[vectors]"]
    inside = folders.pop() if len(folders) == 1 else "."
    lines.append(f"folder = {_quoted((Path(folder) / inside).as_posix())}")
    lines += [f"{key} = {_quoted(value)}" for key, value in shape.items()]
    lines += ["", "[verdict]", *(f"{k} = {_quoted(v)}" for k, v in (("pass", passes), ("fail", fails)) if v)]
    layout = to_toml(Layout("of the testbench", tuple(specs))).replace("[[files]]", "[[vectors.layout.files]]")
    lines += ["", "[vectors.layout]", layout]
    return Proposal("\n".join(lines), guesses, (*missing, unknown))


def _quoted(text: str) -> str:
    return "'" + text + "'" if "\\" in text and "'" not in text else '"' + text.replace('"', '\\"') + '"'


def _tensor(name: str) -> str:
    base = Path(name).name.lower()
    return next((tensor for tensor, words in _TENSORS if re.search(words, base)), "")


def _spec(tensor: str, mine: Sequence[Opened], missing: list[str]) -> FileSpec:
    """One kind of file, of every call that opens one."""
    first = mine[0]
    axes = _AXES.get(tensor, ())
    name, files = _name(tensor, [Path(one.name).name for one in mine], first, axes)
    where = f"{first.file}:{first.line}: {Path(first.name).name}"
    if not first.radix:
        missing.append(f"{where}: whether its words are binary, hexadecimal or decimal")
    if first.width is None:
        missing.append(f"{where}: the width of a word")
    if first.words is None:
        missing.append(f"{where}: how many words are read")
    lines = tuple(axis for axis in axes if axis == "kij" and axis not in files) if _is_long(first) else ()
    header: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    if first.call == "$fopen" and first.header:
        if first.tokens and first.header == 3:
            tokens = LABELS.get(tensor, ())
        else:
            header = ("#",) * first.header
    return FileSpec(
        *(tensor, name, (*lines, *_LINES[tensor]), _LANES[tensor]),
        tokens=tokens,
        header=header,
        radix=first.radix or "bin",
        bits=first.width if tensor == "address" else None,
    )


def _is_long(one: Opened) -> bool:
    """Whether a file without kij in its name can hold all of them."""
    return one.words is not None and one.words % 9 == 0 and one.words > 36


def _name(tensor: str, names: Sequence[str], first: Opened, axes: Sequence[str]) -> tuple[str, list[str]]:
    """The layout's name of files called so, and the axes in it."""
    files: list[str] = []
    if len(set(names)) > 1 and not any("%" in one for one in names):
        # The same name with numbers: those that change are fields.
        parts = [re.split(r"(\d+)", one) for one in dict.fromkeys(names)]
        if len({len(p) for p in parts}) == 1:
            made = ""
            for at, column in enumerate(zip(*parts, strict=True)):
                if at % 2 and len(set(column)) > 1:
                    axis = _axis(made, axes, files)
                    base = min(map(int, column))
                    made += f"{{{axis}{f'+{base}' if base else ''}}}"
                    files.append(axis)
                else:
                    made += column[0]
            return made, files
    name = names[0]
    for at, field in enumerate(re.findall(r"%\d*[dD]", name)):
        spoken = first.fields[at] if at < len(first.fields) else ""
        axis = _axis(spoken or name.split(field)[0], axes, files)
        plus = re.search(r"\+\s*(\d+)", spoken)
        name = name.replace(field, f"{{{axis}{f'+{plus[1]}' if plus else ''}}}", 1)
        files.append(axis)
    return name, files


def _axis(spoken: str, axes: Sequence[str], taken: Sequence[str]) -> str:
    """The axis that a formatted expression, or the text before it, speaks of."""
    left = [axis for axis in axes if axis not in taken] or list(axes) or ["kij"]
    words = {"kij": r"k", "itile": r"ic|itile|in_?t|it\b", "otile": r"oc|otile|out_?t|ot\b"}
    tail = re.split(r"[\W_]", spoken.lower().strip("_ "))[-1] or spoken.lower()
    return next((axis for axis in left if re.search(words[axis], tail)), left[-1])


def _shaped(
    specs: list[FileSpec], guesses: Sequence[Guess], missing: list[str]
) -> tuple[list[FileSpec], dict[str, str]]:
    """The layer's shape, as far as widths and counts give it; the act's padding by what is read."""
    of = {g.tensor: g.opened for g in reversed(guesses) if g.opened.reads}
    shape: dict[str, str] = {}
    act, weight, psum, out = (of.get(t) for t in ("act", "weight", "psum", "out"))
    rows = act.width // 4 if act is not None and act.width else None
    golden = out if out is not None and out.width else psum
    kijs = 9 if any(s.tensor == "weight" and "kij" in s.lines for s in specs) else 1
    cols = weight.words // kijs if weight is not None and weight.words and weight.words <= 64 * kijs else None
    if cols is not None and golden is not None and golden.width and golden.width % cols:
        cols = None
    if rows and cols:
        shape |= {"array": f"{rows}x{cols}", "channels": f"{rows}x{cols}", "stimulus": "random"}
        if golden is not None and golden.width:
            shape["psum_bits"] = str(golden.width // cols)
    else:
        missing.append("the array's rows and columns: array = and channels = under [vectors]")
    side = isqrt(act.words) if act is not None and act.words else 0
    after = isqrt(out.words) if out is not None and out.words else 0
    if side and act is not None and side * side == act.words:
        padded = side - 2
        if after == side:  # read without its ring, which the design adds
            specs = [replace(s, lines=("ij",)) if s.tensor == "act" else s for s in specs]
            padded = side
        shape["input"] = f"{padded}x{padded}"
        shape |= {"kernel": "3", "padding": "1"}
    else:
        missing.append('the input\'s size: input = "HxW" under [vectors]')
    return specs, shape


def _said(prints: Sequence[str], missing: list[str]) -> tuple[str, str]:
    """Regular expressions of what is printed for pass and for fail."""
    passes = [
        one
        for one in prints
        if _PASS.search(one) and not _FAIL.search(re.sub(r"no error|0 error", "", one, flags=re.I))
    ]
    fails = [
        one for one in prints if _FAIL.search(re.sub(r"no error|0 error", "", one, flags=re.I)) and one not in passes
    ]
    if not passes:
        missing.append("what the testbench prints when it passes: pass = under [verdict]")
    return (_regular(passes[-1]) if passes else ""), "|".join(dict.fromkeys(map(_regular, fails)))


def _regular(text: str) -> str:
    """A printed text as a regular expression: its longest run of plain words."""
    plain = re.split(r"%\d*[a-zA-Z]|\\n|\\t", text)
    return re.escape(max(plain, key=lambda one: len(one.strip())).strip()).replace(r"\ ", " ").replace("\\#", "#")
