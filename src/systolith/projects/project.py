"""`core.toml`: somebody's RTL, its testbench, the files that this reads and what it says, as data.

root = "."                            # the folder that runs are made in a copy of

[rtl]
sources = ["rtl/*.v", "tb/tb.v"]      # in order; or files = "sim/list.f", or both
top = "tb"
include = ["rtl"]
defines = { SIMULATION = "" }
parameters = { LENGTH = "{nijs}" }    # numbers, text, or of the layer: see `SIZES`

[simulator]
name = "icarus"                       # or verilator, auto, a path
language = "2012"                     # 1995, 2001, 2005, 2009
run_in = "sim"                        # where the simulation runs
plusargs = ["+quiet"]
time_limit = 60                       # seconds a run

[vectors]
layout = "course"                     # a name, a .toml file, or a table as such a file has it
folder = "sim"                        # where the vector files go
places = { "weight_*.txt" = "sim/w" } # those of them that go elsewhere: a folder, or a path
layer = "features.27"                 # what fills them: the options of `systolith vectors`

[verdict]
pass = "TEST PASSED"                  # regular expressions, sought in what the simulation prints
fail = "error"
dump = { folder = "sim/dump" }        # or instead: what it writes, for `check`; log = or waves = with its options
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from systolith.array import Mapping as ArrayMapping
from systolith.formats import BadInput
from systolith.projects.filelist import Named, read_list, spelled
from systolith.rtl.compiling import LANGUAGES, Design
from systolith.vectors import Layout, find_layout
from systolith.vectors.layout_file import layout_from, read_toml

SIZES = (
    *("rows", "cols", "act_bits", "weight_bits", "psum_bits", "itiles", "otiles", "kijs", "nijs", "onijs"),
    *("in_channels", "out_channels", "kernel_h", "kernel_w", "padded_h", "padded_w", "out_h", "out_w"),
    *("stride_h", "stride_w", "dilation_h", "dilation_w"),
)
"""What parameters, defines and plusargs may name in braces: numbers of the layer on the array."""


@dataclass(frozen=True)
class Dump:
    """What a testbench writes: exactly one of the first three, relative to the root; the rest as `check` takes it."""

    folder: str = ""
    log: str = ""
    waves: str = ""
    layout: str = ""
    level: str = ""
    radix: str = ""
    signal: str = ""
    valid: str = ""
    clock: str = ""

    @property
    def place(self) -> str:
        return self.folder or self.log or self.waves


@dataclass(frozen=True)
class Project:
    """A project as its file has it.

    Attributes:
        file: the `core.toml`.
        root: the folder that is copied; all paths below are relative to it, or absolute.
        sources, top, include, defines, parameters, language: as a compiler takes them, numbers of the layer still in
            braces.
        simulator: a name or a path; may be "auto".
        run_in, plusargs, time_limit: of the simulation.
        layout: of the files that the testbench reads.
        folder, places: where they go.
        fill: what fills them, as options of `vectors`.
        passes, fails: regular expressions; "" for none.
        dump: what is judged by `check`; None for none.
        notes: what a person should know: a file that is there in another case.
    """

    file: Path
    root: Path
    sources: tuple[str, ...]
    layout: Layout
    top: str = ""
    include: tuple[str, ...] = ()
    defines: Mapping[str, int | str] = field(default_factory=dict)
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    language: str = "2012"
    simulator: str = "auto"
    run_in: str = "."
    plusargs: tuple[str, ...] = ()
    time_limit: float = 60
    folder: str = "."
    places: Mapping[str, str] = field(default_factory=dict)
    fill: Mapping[str, Any] = field(default_factory=dict)
    passes: str = ""
    fails: str = ""
    dump: Dump | None = None
    notes: tuple[str, ...] = ()

    def place(self, name: str) -> str:
        """Where a vector file goes, relative to the root."""
        for pattern, where in self.places.items():
            if PurePosixPath(name).match(pattern):
                is_file = PurePosixPath(where).suffix != "" and not any(c in pattern for c in "*?[")
                return where if is_file else f"{where.rstrip('/')}/{PurePosixPath(name).name}"
        return (PurePosixPath(self.folder) / name).as_posix()

    def design(self, mapping: ArrayMapping) -> Design:
        """What is compiled for a layer: its numbers where the project names them."""
        sizes = sizes_of(mapping)
        parameters, defines = (
            {name: filled(value, sizes, name) for name, value in each.items()}
            for each in (self.parameters, self.defines)
        )
        return Design(self.sources, self.top, parameters, defines, self.include, self.language)

    def options(self, mapping: ArrayMapping) -> list[str]:
        """The plusargs of a layer."""
        sizes = sizes_of(mapping)
        return [str(filled(one, sizes, "plusargs")) for one in self.plusargs]


def sizes_of(mapping: ArrayMapping) -> dict[str, int]:
    """The numbers of `SIZES`."""
    spec = mapping.spec
    lanes = spec.rows, spec.cols, spec.act_bits, spec.weight_bits, spec.psum_bits
    tiles = mapping.ic_tiles, mapping.oc_tiles, mapping.kijs, mapping.nijs, mapping.onijs
    conv = mapping.conv
    shape = conv.in_channels, conv.out_channels, *conv.kernel, *mapping.padded_shape, *mapping.output_shape
    return dict(zip(SIZES, (*lanes, *tiles, *shape, *conv.stride, *conv.dilation), strict=True))


def filled(value: int | str, sizes: Mapping[str, int], where: str) -> int | str:
    """A value with the numbers that it names; one that is nothing else is a number."""
    if not isinstance(value, str) or "{" not in value:
        return value
    try:
        text = value.format_map(sizes)
    except (KeyError, ValueError, IndexError):
        raise BadInput(f"{where} = {value!r}: expected names in braces of {', '.join(SIZES)}") from None
    return int(text) if text.isdecimal() else text


def read_project(path: Path) -> Project:
    """The project of a `core.toml`.

    Raises:
        BadInput: the file cannot be read, an unknown key, a missing file; one sentence that names the place.
    """
    if path.is_dir():
        path = path / "core.toml"
    entry = read_toml(path, "no such project file; `systolith project new` writes one")
    top = _table(f"{path}", entry, _TOP)
    rtl = _table(f"{path}: [rtl]", top.get("rtl", {}), _RTL)
    run = _table(f"{path}: [simulator]", top.get("simulator", {}), _SIMULATOR)
    fill = dict(top.get("vectors", {}))
    place = {key: fill.pop(key) for key in _VECTORS if key in fill}
    place = _table(f"{path}: [vectors]", place, _VECTORS)
    verdict = _table(f"{path}: [verdict]", top.get("verdict", {}), _VERDICT)
    root = (path.parent / top.get("root", ".")).resolve()
    if not root.is_dir():
        raise BadInput(f"{path}: root {top['root']!r}: no such folder")
    named = _sources(path, root, rtl)
    if run.get("language", "2012") not in LANGUAGES:
        raise BadInput(f"{path}: [simulator] language {run['language']!r}: expected one of {', '.join(LANGUAGES)}")
    if run.get("time_limit", 1) <= 0:
        raise BadInput(f"{path}: [simulator] time_limit {run['time_limit']}: expected seconds, more than 0")
    if rtl.get("parameters") and not rtl.get("top"):
        raise BadInput(f"{path}: [rtl] parameters are those of the top module: expected top = its name")
    for name in ("pass", "fail"):
        try:
            re.compile(verdict.get(name, ""))
        except re.error as error:
            raise BadInput(f"{path}: [verdict] {name} {verdict[name]!r}: no regular expression ({error})") from None
    dump = _dump(path, verdict.get("dump"))
    if "pass" not in verdict and dump is None:
        raise BadInput(f"{path}: [verdict]: expected pass = a regular expression, or dump = what `check` shall read")
    run_in = run.get("run_in", ".")
    for what, folder in (("run_in", run_in), ("folder", place.get("folder", "."))):
        if Path(folder).is_absolute() or ".." in Path(folder).parts:
            raise BadInput(f"{path}: {what} {folder!r}: expected a path inside {root}")
    return Project(
        path,
        root,
        named.sources,
        _layout(path, place.get("layout", "course")),
        top=rtl.get("top", ""),
        include=(*rtl.get("include", ()), *named.include),
        defines={**named.defines, **rtl.get("defines", {})},
        parameters=rtl.get("parameters", {}),
        language=run.get("language", "2012"),
        simulator=run.get("name", "auto"),
        run_in=run_in,
        plusargs=tuple(run.get("plusargs", ())),
        time_limit=run.get("time_limit", 60),
        folder=place.get("folder", "."),
        places=place.get("places", {}),
        fill=fill,
        passes=verdict.get("pass", ""),
        fails=verdict.get("fail", ""),
        dump=dump,
        notes=named.notes,
    )


def _sources(path: Path, root: Path, rtl: Mapping[str, Any]) -> Named:
    named = Named()
    if "files" in rtl:
        named = read_list(root, spelled(root, rtl["files"], f"{path}: [rtl] files"), root)
    for one in rtl.get("sources", ()):
        if any(c in one for c in "*?["):
            found = sorted(p.relative_to(root).as_posix() for p in root.glob(one) if p.is_file())
            if not found:
                raise BadInput(f"{path}: [rtl] sources {one!r}: no such file in {root}")
            named = named.more([f for f in found if f not in named.sources])
        else:
            named = named.more([spelled(root, one, f"{path}: [rtl] sources")], written=one)
    if not named.sources:
        raise BadInput(f"{path}: [rtl]: expected sources = a list of files, or files = a file list")
    return named


def _layout(path: Path, given: Any) -> Layout:
    if isinstance(given, dict):
        return layout_from({"name": f"of {path.name}", **given}, f"{path}: [vectors.layout]")
    beside = path.parent / given
    return find_layout(str(beside) if given.endswith(".toml") else given)


def _dump(path: Path, given: Any) -> Dump | None:
    if given is None:
        return None
    dump = Dump(**_table(f"{path}: [verdict] dump", given, {f.name: str for f in fields(Dump)}))
    if sum(bool(one) for one in (dump.folder, dump.log, dump.waves)) != 1:
        raise BadInput(f"{path}: [verdict] dump: expected one of folder, log and waves")
    return dump


_TOP: dict[str, Any] = {"name": str, "root": str, "rtl": dict, "simulator": dict, "vectors": dict, "verdict": dict}
_RTL = {"sources": list, "files": str, "top": str, "include": list, "defines": dict, "parameters": dict}
_SIMULATOR = {"name": str, "language": str, "run_in": str, "plusargs": list, "time_limit": (int, float)}
_VECTORS = {"layout": (str, dict), "folder": str, "places": dict}
_VERDICT = {"pass": str, "fail": str, "dump": dict}
_WORDS = {str: "text", list: "a list of text", dict: "a table", int: "a number", float: "a number"}


def _table(where: str, entry: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in entry.items():
        if key not in kinds:
            raise BadInput(f"{where}: unknown key {key!r}; expected {', '.join(kinds)}")
        wanted = kinds[key] if isinstance(kinds[key], tuple) else (kinds[key],)
        text = wanted == (list,) and isinstance(value, list) and not all(isinstance(one, str) for one in value)
        scalars = wanted == (dict,) and key in ("defines", "parameters", "places")
        odd = scalars and isinstance(value, dict) and not all(type(v) in (int, str, bool) for v in value.values())
        if not isinstance(value, wanted) or text or odd or isinstance(value, bool):
            expected = " or ".join(dict.fromkeys(_WORDS[kind] for kind in wanted))
            raise BadInput(f"{where}: {key}: expected {expected}, found {value!r}")
    return {
        key: {k: int(v) if isinstance(v, bool) else v for k, v in value.items()} if isinstance(value, dict) else value
        for key, value in entry.items()
    }
