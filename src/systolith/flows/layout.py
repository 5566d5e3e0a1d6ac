"""`layout`: show a layout, make one, and find out which one a folder is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.verbs import LayoutCheckRequest, LayoutNewRequest, LayoutShowRequest
from systolith.steps.common import make_spec
from systolith.steps.shapes import shape_of
from systolith.steps.values import hidden, optional
from systolith.store import atomic_file
from systolith.vectors import Layout, find_layout
from systolith.vectors.layout_file import presets, read_layout, to_plain, to_toml
from systolith.vectors.read import Geometry
from systolith.verdict import variants as v

TENSORS = ("act", "weight", "psum", "out")


@dataclass(frozen=True, kw_only=True)
class LayoutShowReport(Report):
    """A layout, or all in the package.

    Attributes:
        layouts: by name, what each is for; None where one was asked for.
        layout: the one asked for, as plain values at the top of the JSON; None where all are listed.
        toml: the same as a file's content.
    """

    verb: ClassVar[str] = "layout show"
    layouts: Mapping[str, str] | None = field(default=None, metadata=optional())
    layout: Mapping[str, Any] | None = field(default=None, metadata=hidden())
    toml: str = field(default="", metadata=hidden())

    def plain(self) -> dict[str, Any]:
        """As every report's, and the layout's own keys."""
        return {**super().plain(), **(self.layout or {})}


@flow(LayoutShowRequest)
def layout_show(request: LayoutShowRequest) -> LayoutShowReport:
    """A layout's definition, to copy and change; without a name, all of them.

    Raises:
        BadInput: no such layout, or a file that is none.
    """
    if request.name is None:
        known = {name: layout.about for name, layout in presets().items()}
        return LayoutShowReport(holds=True, verdict=f"{len(known)} layouts", layouts=known)
    layout = find_layout(request.name)
    said = f"layout {layout.name}, {len(layout.files)} kinds of files"
    return LayoutShowReport(holds=True, verdict=said, layout=to_plain(layout), toml=to_toml(layout))


@dataclass(frozen=True, kw_only=True)
class LayoutNewReport(Report):
    """The layout that was written, and the file that holds it."""

    verb: ClassVar[str] = "layout new"
    file: Path
    layout: Mapping[str, Any]


@flow(LayoutNewRequest)
def layout_new(request: LayoutNewRequest) -> LayoutNewReport:
    """Write a layout of your own: a preset with differences.

    Raises:
        BadInput: a file that is there already or is no .toml, or a difference that the preset cannot have.
    """
    out = Path(request.out)
    if out.suffix != ".toml":
        raise BadInput(f"--out {out}: expected a file that ends in .toml")
    if out.exists() and not request.force:
        raise BadInput(f"{out}: exists already; --force replaces it")
    chosen: Layout = find_layout(request.like)
    changes: list[tuple[str, v.Change]] = []
    changes += [("weight", v.transpose)] if request.transposed else []
    changes += [(tensor, v.kij_major) for tensor in ("weight", "psum") if request.kij_major]
    changes += [("act", v.unpadded)] if request.unpadded else []
    changes += [("psum", v.windowed)] if request.windowed else []
    reversals: list[tuple[str, list[str] | None, v.Change]] = [
        ("--reverse-lines", request.reverse_lines, v.reverse_lines),
        ("--reverse-lanes", request.reverse_lanes, v.reverse_lanes),
    ]
    for flag, names, change in reversals:
        for name in names or []:
            if name not in TENSORS:
                raise BadInput(f"{flag} {name!r}: expected act, weight, psum or out")
            changes.append((name, change))
    for tensor, change in changes:
        chosen = v.changed(chosen, tensor, change)
    made = v.with_options(chosen, out.stem, request.header, request.radix, request.no_relu, request.addresses)
    with atomic_file(out) as temporary:
        temporary.write_text(to_toml(made))
    read_layout(out)
    said = f"{out}: layout {made.name}, {len(made.files)} kinds of files; use it with --layout {out}"
    return LayoutNewReport(holds=True, verdict=said, file=out, layout=to_plain(made))


@dataclass(frozen=True)
class Consistent:
    """A layout that a folder's files are in, but for `differences`; `compared` golden words are what they imply."""

    layout: str
    differences: tuple[str, ...]
    compared: int


@dataclass(frozen=True, kw_only=True)
class LayoutCheckReport(Report):
    """Which layouts a folder's files are consistent with.

    Attributes:
        folder: what was looked at.
        consistent: those with the fewest differences.
        others: by name, why a layout is not it.
    """

    verb: ClassVar[str] = "layout check"
    folder: Path
    consistent: tuple[Consistent, ...]
    others: Mapping[str, str]


@flow(LayoutCheckRequest)
def layout_check(request: LayoutCheckRequest) -> LayoutCheckReport:
    """Say which layouts the files of a folder are consistent with, and what is different: such as weights transposed.

    Raises:
        BadInput: no such folder or layout, or a layer's shape that is not said.
    """
    folder = Path(request.folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder")
    spec = make_spec(request)
    geometry = Geometry(shape_of(request, spec, "the files do not say their layer's shape"), spec)
    found: list[v.Consistent] = []
    reasons: dict[str, str] = {}
    for candidate in [find_layout(request.layout)] if request.layout else presets().values():
        try:
            readings = v.consistent(folder, candidate, geometry)
        except BadInput as error:
            reasons[candidate.name] = str(error)
            continue
        found += readings
        if not readings:
            reasons[candidate.name] = "its psums and outputs are not what its inputs imply, in no way known here"
    fewest = min((len(c.differences) for c in found), default=0)
    best = [c for c in found if len(c.differences) == fewest]
    names = " or ".join(dict.fromkeys(c.layout.name for c in best))
    return LayoutCheckReport(
        holds=bool(best),
        verdict=f"{folder}: consistent with {f'layout {names}' if best else 'no layout known here'}"[:190],
        folder=folder,
        consistent=tuple(Consistent(c.layout.name, tuple(c.differences), c.compared) for c in best),
        others=reasons,
    )
