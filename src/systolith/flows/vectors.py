"""`vectors`: the golden vectors of a network's layers, of your own integers, or of made-up ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from systolith.array import ArraySpec, run_mapped
from systolith.array import Mapping as ArrayMapping
from systolith.array.spec import parse_size
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.network.graph import paired, require_act
from systolith.requests.shared import DEFAULT_LAYER, DEFAULT_MODEL
from systolith.requests.verbs import VectorsRequest
from systolith.steps.bundles import Job, disk_of, write_jobs
from systolith.steps.common import go_without, make_spec, require_batch, settle
from systolith.steps.layers import Found, layers_of
from systolith.steps.shapes import given_geometry, shape_of
from systolith.steps.values import hidden, optional
from systolith.stimulus.stimulus import LeftOut, batch_of, make_cases
from systolith.store import atomic_folder, require_free
from systolith.timing.mapper import choose, require_known
from systolith.vectors import find_layout, write_bundle
from systolith.vectors.stream import Psums, first_tiles, predict


@dataclass(frozen=True)
class BundleFacts:
    """A bundle of several: its layer, where it is, how large, and the array's widths."""

    layer: str
    folder: str
    files: int
    words: int
    bytes: int
    act_bits: int
    weight_bits: int
    psum_bits: int


@dataclass(frozen=True)
class CaseFacts:
    """A made-up case's bundle: what it is for, where it is, and how large."""

    name: str
    note: str
    folder: str
    files: int
    words: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class VectorsReport(Report):
    """What was written.

    Attributes:
        folder, layout: where, and in which format.
        files, words, bytes: of all bundles.
        predicted, warnings: of layers: what was foreseen before writing; bounds that may overflow.
        bundles: of several layers, each one.
        psum_bits: of a single layer or of made-up ones.
        stimulus, seed, cases, left_out: of made-up integers: which, each case's bundle, and what could not be made.
        jobs: the layers as objects.
    """

    verb: ClassVar[str] = "vectors"
    folder: str
    files: int
    words: int
    bytes: int
    layout: str
    predicted: Mapping[str, int] | None = field(default=None, metadata=optional())
    warnings: tuple[str, ...] | None = field(default=None, metadata=optional())
    bundles: tuple[BundleFacts, ...] | None = field(default=None, metadata=optional())
    psum_bits: int | None = field(default=None, metadata=optional())
    stimulus: str | None = field(default=None, metadata=optional())
    seed: int | None = field(default=None, metadata=optional())
    cases: tuple[CaseFacts, ...] | None = field(default=None, metadata=optional())
    left_out: tuple[LeftOut, ...] | None = field(default=None, metadata=optional())
    jobs: tuple[Job, ...] = field(default=(), metadata=hidden(), repr=False)


@flow(VectorsRequest)
def vectors(request: VectorsRequest) -> VectorsReport:
    """Write the golden vectors of a model's layers, of your own integers (`tensors`), or of a `stimulus`.

    Returns:
        The bundles written, all of them or none.

    Raises:
        BadInput: no such model, layer, picture or layout; codes that do not fit; the folder is there already.
    """
    out = Path(request.out)
    require_known(request.schedule, drained=False, least="clocks")
    require_batch(request)
    require_free(out, request.force)
    find_layout(request.layout)
    others = {"--model": request.model, "--layer": request.layer, "--image": request.image}
    others |= {"--data": request.data, "--index": request.index}
    parts = {"--tiles": request.tiles, "--limit-nij": request.limit_nij, "--no-psum": request.no_psum}
    parts |= {"--yes": request.yes, "--jobs": request.jobs}
    made = given_geometry(request) | {"--most-negative": request.most_negative, "--act-range": request.act_range}
    made |= {"--weight-range": request.weight_range, "--density": request.density, "--seed": request.seed}
    if request.stimulus is not None:
        go_without("--stimulus makes its own layer: it", {"--tensors": request.tensors, **others, **parts})
        return _stimulus(request, out)
    go_without("a layer of a model or of --tensors (no --stimulus given)", made)
    if request.tensors is not None:
        go_without("--tensors brings its own layer and activations: it", others)
        return _layers(request, _from_tensors(Path(request.tensors), request), out)
    model, layer = request.model or DEFAULT_MODEL, request.layer or DEFAULT_LAYER
    pictures = request.image or [], request.data, request.index
    found = layers_of(
        *(model, layer, *pictures, request, "vectors", request.progress), batch=request.batch, simd=request.simd
    )
    return _layers(request, found, out)


def _layers(request: VectorsRequest, found: Iterator[Found], out: Path) -> VectorsReport:
    if request.jobs is not None and request.jobs < 1:
        raise BadInput(f"--jobs {request.jobs}: expected at least 1")
    layout, psums = find_layout(request.layout), Psums(not request.no_psum, request.limit_nij)
    block, free = disk_of(out)
    planned: list[Job] = []
    for one in found:
        conv, act = one.conv, one.act
        if request.tiles is not None:
            lanes = one.spec.rows * one.spec.simd_of(conv)
            conv, act = first_tiles(conv, act, lanes, one.spec.cols, parse_size(request.tiles))
        height, width = act.shape[-2:]
        mapping = _cut(request, ArrayMapping(conv, one.spec, height, width, request.batch))
        planned.append(Job(one.place, mapping, act, predict(mapping, layout, psums, act.dtype, block)))
    written = write_jobs(
        *(planned, out, layout, psums),
        free=free,
        yes=request.yes,
        jobs=request.jobs,
        force=request.force,
        progress=request.progress,
    )
    warnings = tuple(dict.fromkeys(filter(None, (job.mapping.bound_warning() for job in planned))))
    for warning in warnings:
        request.progress(f"warning: {warning}")
    several = bool(planned[0].place)
    bundles = []
    for job, done in zip(planned, written, strict=True):
        spec = job.mapping.spec
        widths = spec.act_bits, spec.weight_bits, spec.psum_bits
        folder = str(out / job.place)
        bundles.append(BundleFacts(job.mapping.conv.name, folder, done.files, done.words, done.bytes, *widths))
    total = _total(bundles)
    numbers = f"{total['files']:,} files in {out}, {total['words']:,} words, {total['bytes']:,} bytes"
    return VectorsReport(
        holds=True,
        verdict=f"{f'{len(planned)} bundles, ' if several else ''}{numbers}, layout {request.layout}",
        notes=warnings,
        folder=str(out),
        files=total["files"],
        words=total["words"],
        bytes=total["bytes"],
        layout=request.layout,
        predicted={key: sum(getattr(job.size, key) for job in planned) for key in ("files", "bytes")},
        warnings=warnings,
        bundles=tuple(bundles) if several else None,
        psum_bits=None if several else planned[0].mapping.spec.psum_bits,
        jobs=tuple(planned),
    )


def _cut(request: VectorsRequest, mapping: ArrayMapping) -> ArrayMapping:
    """The layer as the schedule cuts it; what streams when makes no other vectors."""
    return choose(mapping, request.schedule).mapping


def _total(entries: Sequence[BundleFacts | CaseFacts]) -> dict[str, int]:
    return {key: sum(getattr(entry, key) for entry in entries) for key in ("files", "words", "bytes")}


def _stimulus(request: VectorsRequest, out: Path) -> VectorsReport:
    """One bundle a case, `out`/CASE, all of them or none; what is left out is told."""
    name, seed = request.stimulus or "", request.seed or 0
    spec = _spec(request)
    ranges = request.act_range, request.weight_range, request.most_negative
    shape = shape_of(request, spec, "--stimulus makes a layer of any shape", *ranges)
    if request.psum_bits == "auto":
        spec = replace(spec, psum_bits=shape.least_psum_bits())
    density = 0.25 if request.density is None else request.density
    if request.density is not None and name not in ("corner", "sparse"):
        raise BadInput(f"--density is for --stimulus sparse (or corner, which holds it), not {name}")
    cases: list[CaseFacts] = []
    left_out: list[LeftOut] = []
    with atomic_folder(out, request.force) as temporary:
        for case in make_cases(name, shape, spec, seed, density):
            if isinstance(case, LeftOut):
                left_out.append(case)
                continue
            try:
                mapping = _cut(request, ArrayMapping(case.conv, spec, *shape.size, request.batch))
                result = run_mapped(mapping, batch_of(case.act, request.batch))
            except BadInput as error:  # the shape is sound: a value that overflows psum_bits
                left_out.append(LeftOut(case.name, f"{error}; --overflow wrap or saturate takes it"))
                continue
            try:
                written = write_bundle(result, temporary / case.name, request.layout)
            except BadInput as error:
                raise BadInput(str(error).replace(str(temporary), str(out))) from None
            sizes = written.files, written.words, written.bytes
            cases.append(CaseFacts(case.name, case.note, str(out / case.name), *sizes))
        if not cases:
            raise BadInput(f"nothing to write: {'; '.join(f'{left.name}: {left.reason}' for left in left_out)}")
    notes = tuple(f"left out {left.name}: {left.reason}" for left in left_out)
    for text in notes:
        request.progress(text)
    total = _total(cases)
    bundles = f"{len(cases)} bundle{'s' * (len(cases) > 1)} in {out}, cases left out: {len(left_out)}"
    size = f"{total['files']:,} files, {total['words']:,} words, {total['bytes']:,} bytes"
    return VectorsReport(
        holds=True,
        verdict=f"{bundles}; {size}, layout {request.layout}",
        notes=notes,
        folder=str(out),
        files=total["files"],
        words=total["words"],
        bytes=total["bytes"],
        layout=request.layout,
        psum_bits=spec.psum_bits,
        stimulus=name,
        seed=seed,
        cases=tuple(cases),
        left_out=tuple(left_out),
    )


def _spec(request: VectorsRequest) -> ArraySpec:
    """The array that the options describe."""
    return replace(make_spec(request), simd=request.simd)


def _from_tensors(path: Path, request: VectorsRequest) -> Iterator[Found]:
    """The user's own integers on the array that the options describe."""
    spec = _spec(request)
    try:
        with np.load(path, allow_pickle=False) as file:
            given: dict[str, Any] = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise BadInput(f"--tensors {path}: no such file") from None
    except Exception as error:  # NumPy and zipfile raise whatever the bytes provoke
        raise BadInput(f"--tensors {path}: not a readable .npz file ({error})") from None
    missing = {"act", "weight"} - set(given)
    if missing:
        raise BadInput(f"--tensors {path}: expected arrays act and weight, missing {', '.join(sorted(missing))}")
    stride, dilation = (_integers(path, given, name, 1, (1, 2)) for name in ("stride", "dilation"))
    padding, (groups, _) = _integers(path, given, "padding", 0, (1, 2, 4)), _integers(path, given, "groups", 1, (1,))
    formats = IntFormat(spec.act_bits // spec.simd, signed=False), spec.weight_format
    steps, steps_in = (stride[0], stride[1]), (dilation[0], dilation[1])
    conv = Conv(path.stem, given["weight"], *formats, steps, paired("padding", padding), steps_in, groups)
    act = given["act"]
    dims, expected = (3, "(C, H, W)") if request.batch == 1 else (4, f"({request.batch}, C, H, W)")
    if act.ndim != dims or (dims == 4 and len(act) != request.batch):
        raise BadInput(f"--tensors {path}: act: expected shape {expected}, found {act.shape}")
    for picture in act if dims == 4 else [act]:
        require_act(conv, picture)
    yield Found("", conv, act, settle(spec, request.psum_bits, conv, *act.shape[-2:]))


def _integers(path: Path, given: dict[str, Any], name: str, default: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """An array of so many integers, a single one standing for two; `BadInput` for anything else."""
    value = np.asarray(given.get(name, default))
    if value.size not in sizes or value.dtype.kind not in "iu":
        words = {(1,): "an integer", (1, 2): "one or two integers", (1, 2, 4): "one, two or four integers"}[sizes]
        raise BadInput(f"--tensors {path}: {name}: expected {words}, found {value.tolist()}")
    numbers = tuple(int(n) for n in value.reshape(-1))
    return numbers * 2 if len(numbers) == 1 else numbers
