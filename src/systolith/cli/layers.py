"""`systolith vectors MODEL --layer L|all`: the bundles of a network's layers, their size known before anything is
written."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from systolith.array import ArraySpec, Mapping
    from systolith.network import Conv
    from systolith.vectors.layout import Layout
    from systolith.vectors.stream import Psums, Size, Written

MOST_FILES = 20_000

Layers = Annotated[
    str | None,
    typer.Option("--layer", help="One layer, several with commas between, or `all`. [default: features.27]"),
]
Images = Annotated[
    list[Path] | None, typer.Option("--image", help="A picture file; may be repeated. [default: the shipped cat]")
]
Indices = Annotated[
    str | None, typer.Option("--index", help="Which pictures of the test split: 7, or 0-9,12. [default: 0]")
]
Tiles = Annotated[
    str | None, typer.Option("--tiles", help="Only the first input and output channel tiles, INxOUT, as a layer.")
]
LimitNij = Annotated[int | None, typer.Option("--limit-nij", help="Of each pass only the first so many psums.")]
NoPsum = Annotated[bool, typer.Option("--no-psum", help="No psums, neither as files nor in tensors.npz.")]
Yes = Annotated[bool, typer.Option("--yes", help=f"Write more than {MOST_FILES:,} files.")]
Jobs = Annotated[int | None, typer.Option("--jobs", help="Layers at a time. [default: one a core]")]


@dataclass(frozen=True, eq=False)
class Job:
    """One bundle to write: its place below the output folder, the layer on the array, its activations (C, H, W)."""

    place: str
    mapping: Mapping
    act: NDArray[np.integer]
    size: Size


def layers_of(
    model: str,
    layer: str,
    images: list[Path] | None,
    data: str | None,
    index: str | None,
    array: tuple[str, int, int, str, str],
    grow: bool,
    verb: str = "vectors",
    executed: bool = True,
) -> Iterator[tuple[str, Conv, NDArray[np.integer], ArraySpec]]:
    """Place below the output folder ("" for a single bundle), layer, activations and array, one a bundle.

    Args:
        executed: without, no picture is taken and all activations are 0.
        layer: names with commas between, or "all": then a layer of wider codes gets wider lanes, and with `grow` one
            whose sums could overflow a wider accumulator; stderr tells.
        array: the options of `common.make_spec`.
    """
    import numpy as np

    from systolith.network.reference import run

    spec = common.make_spec(*array)
    network, _ = common.find_network(model, verb)
    nodes = common.find_layers(network, layer)
    taken = {name: network[name].inputs[0] for name in nodes}
    size = network.values[network.input.name].shape
    pictures = list(_pictures(images, data, index)) if executed else [("", np.zeros(size, dtype=np.uint8))]
    for folder, pixels in pictures:
        if executed:
            results = run(network, pixels[None], *taken.values())
        else:
            results = {name: np.zeros((1, *network.values[name].shape), dtype=np.int64) for name in taken.values()}
        for name, node in nodes.items():
            conv, act = common.as_conv(node, results[taken[name]][0])
            wide = _widened(spec, conv, act, grow) if layer == "all" else spec
            wide = common.settle(wide, array[3], conv, *act.shape[1:])
            parts = [folder] * (len(pictures) > 1) + [name] * (len(nodes) > 1 or layer == "all")
            yield "/".join(parts), conv, act, wide


def _widened(spec: ArraySpec, conv: Conv, act: NDArray[np.integer], grow: bool) -> ArraySpec:
    """The array with lanes that take the layer, and (`grow`) accumulators that it cannot overflow; stderr tells."""
    from systolith.array import Mapping
    from systolith.array.spec import widened

    wide = widened(conv, spec)
    if grow:
        wide = replace(wide, psum_bits=max(spec.psum_bits, *Mapping(conv, wide, *act.shape[1:]).least_psum_bits()))
    if wide != spec:
        lanes = f"{wide.act_bits}-bit activations, {wide.weight_bits}-bit weights, {wide.psum_bits}-bit psums"
        common.note(f"{conv.name} is wider: {lanes}")
    return wide


def _pictures(
    images: list[Path] | None, data: str | None, index: str | None
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """A name for a folder and the pixels, one a picture."""
    from systolith.formats import BadInput

    chosen: list[tuple[str, tuple[Path | None, str | None, int | None]]] = []
    if images and len(images) > 1:
        chosen = [(path.stem, (path, data, None)) for path in images]
        if len({name for name, _ in chosen}) < len(chosen):
            raise BadInput("--image: two pictures of one name would share a folder")
    else:
        numbers = _numbers(index) if index is not None else [None]
        chosen = [(f"picture{n}", (images[0] if images else None, data, n)) for n in numbers]
    for name, which in chosen:
        pixels, source, notes = common.find_picture(*which)
        for text in notes:
            common.note(f"{source}: {text}")
        yield name, pixels


def _numbers(text: str) -> list[int]:
    """ "0-2,7" to [0, 1, 2, 7]."""
    import re

    from systolith.formats import BadInput

    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise BadInput(f"--index {text!r}: expected numbers such as 7 or 0-9,12")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(numbers)) < len(numbers):
        raise BadInput(f"--index {text!r}: a picture stands there twice")
    return numbers


def write_layers(
    found: Iterator[tuple[str, Conv, NDArray[np.integer], ArraySpec]],
    out: Path,
    layout_name: str,
    tiles: str | None,
    psums: Psums,
    yes: bool,
    jobs: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the bundles of `layers_of` (or of the user's own integers), all of them or none.

    Raises:
        BadInput: more than `MOST_FILES` files without `yes`, a disk too small, or a value that does not fit.
    """
    from systolith.array import Mapping
    from systolith.array.spec import parse_size
    from systolith.formats import BadInput
    from systolith.store import atomic_folder
    from systolith.vectors import find_layout
    from systolith.vectors.stream import first_tiles, predict

    if jobs is not None and jobs < 1:
        raise BadInput(f"--jobs {jobs}: expected at least 1")
    layout = find_layout(layout_name)
    planned: list[Job] = []
    block, free = _disk(out)
    for place, conv, act, spec in found:
        if tiles is not None:
            conv, act = first_tiles(conv, act, spec.rows, spec.cols, parse_size(tiles))
        mapping = Mapping(conv, spec, *act.shape[1:])
        planned.append(Job(place, mapping, act, predict(mapping, layout, psums, act.dtype, block)))
    files, size = sum(job.size.files for job in planned), sum(job.size.bytes for job in planned)
    will = f"{files:,} files of {size / 1e6:,.1f} MB"
    if files > MOST_FILES and not yes:
        raise BadInput(f"{will} would be written, more than {MOST_FILES:,}: --yes does so, another --layout has fewer")
    if sum(job.size.disk for job in planned) > free:
        needed = sum(job.size.disk for job in planned)
        raise BadInput(f"{out}: {will} need {needed / 1e6:,.1f} MB of disk, {free / 1e6:,.1f} MB are free")
    if len(planned) > 1:
        common.note(f"writing {len(planned)} bundles, {will}")
    with atomic_folder(out, force) as temporary:
        try:
            written = _write(planned, temporary, layout, psums, jobs)
        except BadInput as error:
            raise BadInput(str(error).replace(str(temporary), str(out))) from None
    warnings = list(dict.fromkeys(filter(None, (job.mapping.bound_warning() for job in planned))))
    for warning in warnings:
        common.note(f"warning: {warning}")
    total = {key: sum(getattr(w, key) for w in written) for key in ("files", "words", "bytes")}
    if as_json:
        entries = [_entry(job, w, out) for job, w in zip(planned, written, strict=True)]
        several = {"bundles": entries} if planned[0].place else {"psum_bits": planned[0].mapping.spec.psum_bits}
        facts = {"layout": layout_name, "predicted": {"files": files, "bytes": size}, "warnings": warnings}
        common.print_json({"folder": str(out), **total, **facts, **several})
        return
    if planned[0].place:
        headings = ("bundle", "channels", "map", "passes", "lanes", "psum bits", "files", "bytes")
        rows = [_row(job, w) for job, w in zip(planned, written, strict=True)]
        common.print_table(headings, rows, right=headings[3:])
    bundles = f"{len(planned)} bundles, " if planned[0].place else ""
    numbers = f"{total['files']:,} files in {out}, {total['words']:,} words, {total['bytes']:,} bytes"
    print(f"{bundles}{numbers}, layout {layout_name}")


def _disk(out: Path) -> tuple[int, int]:
    """Allocation unit and free bytes of the disk that `out` will be on."""
    parent = next(p for p in (out.resolve(), *out.resolve().parents) if p.exists())
    block = os.statvfs(parent).f_frsize if hasattr(os, "statvfs") else 4096
    disk = shutil.disk_usage(parent)
    # A file system without a size, such as /proc, says itself why nothing can be written there.
    return block, disk.free if disk.total else sys.maxsize


def _write(planned: list[Job], folder: Path, layout: Layout, psums: Psums, jobs: int | None) -> list[Written]:
    """Each job's bundle below `folder`, the largest first, in processes of their own where there are several."""
    from systolith.vectors.stream import stream_bundle

    for job in planned:
        (folder / job.place).mkdir(parents=True, exist_ok=True)
    count = min(jobs or len(os.sched_getaffinity(0)), len(planned))
    with common.progress("bytes", sum(job.size.bytes for job in planned)) as show:
        done = 0

        def finished(job: Job) -> None:
            nonlocal done
            done += job.size.bytes
            show(done)

        if count == 1:
            written = []
            for job in planned:
                written.append(stream_bundle(job.mapping, job.act, folder / job.place, layout, psums))
                finished(job)
            return written
        return _in_parallel(planned, folder, layout, psums, count, finished)


def _in_parallel(
    planned: list[Job], folder: Path, layout: Layout, psums: Psums, count: int, finished: Callable[[Job], None]
) -> list[Written]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from systolith.vectors.stream import stream_bundle

    order = sorted(planned, key=lambda job: -job.size.bytes)
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            pool.submit(stream_bundle, job.mapping, job.act, folder / job.place, layout, psums): job for job in order
        }
        try:
            for future in as_completed(futures):
                future.result()
                finished(futures[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        by_place = {job.place: future.result() for future, job in futures.items()}
    return [by_place[job.place] for job in planned]


def _entry(job: Job, written: Written, out: Path) -> dict[str, Any]:
    spec = job.mapping.spec
    return {
        "layer": job.mapping.conv.name,
        "folder": str(out / job.place),
        "files": written.files,
        "words": written.words,
        "bytes": written.bytes,
        "act_bits": spec.act_bits,
        "weight_bits": spec.weight_bits,
        "psum_bits": spec.psum_bits,
    }


def _row(job: Job, written: Written) -> tuple[str, ...]:
    mapping = job.mapping
    conv, spec = mapping.conv, mapping.spec
    return (
        job.place,
        f"{conv.in_channels} -> {conv.out_channels}",
        f"{mapping.height}x{mapping.width}",
        f"{mapping.passes:,}",
        f"{spec.act_bits} x {spec.weight_bits}",
        str(spec.psum_bits),
        f"{written.files:,}",
        f"{written.bytes:,}",
    )
