"""Writing and reading a network's vectors: all 13 convolutions of the squeezed VGG16 with their psums, on one core.

    python -m benchmarks.vectors

Ours is `stream_bundle` and `read_folder` as `systolith vectors --layer all` and `convert` call them: psums computed,
text written, hashed, `tensors.npz` and all; then every file read back, every word compared. MB are those of the text.
The files are in memory (/dev/shm) where there is such a place: creating one on a disk takes 0.1 ms and more, as the
last rows show.
Rivals, on one psum file of the largest map and scaled up: text put together character by character, `numpy.savetxt` of
the bits, and for reading Python's `int(text, 2)` of every lane.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.rivals import literal_text, seconds
from systolith.array import ArraySpec, Mapping
from systolith.formats import to_bits
from systolith.network import Conv
from systolith.network.reference import run
from systolith.requests.option import quiet
from systolith.requests.shared import OnePicture
from systolith.steps.common import find_network, find_picture
from systolith.vectors import find_layout
from systolith.vectors.bundle import read_bundle
from systolith.vectors.layout import FileSpec, Layout
from systolith.vectors.read import geometry_of, golden_checks, implied, read_folder
from systolith.vectors.stream import stream_bundle

KIJ_MAJOR = Layout(
    "kij-major",
    (
        FileSpec("act", "act_{itile}.txt", ("nij",), ("row",)),
        FileSpec("weight", "weight_{itile}_{otile}.txt", ("kij", "col"), ("row",)),
        FileSpec("psum", "psum_{itile}_{otile}.txt", ("kij", "nij"), ("col",)),
        FileSpec("out", "out_{otile}.txt", ("onij",), ("col",)),
    ),
)


MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def layers() -> list[tuple[Mapping, np.ndarray]]:
    """Each convolution on an 8x8 array, lanes and accumulators as wide as it needs, and its codes for one picture."""
    network, _ = find_network("vgg16-w4a4-s8", "benchmark")
    values = run(network, find_picture(OnePicture(), quiet)[0][None])
    found = []
    for name, conv in network.layers.items():
        if isinstance(conv, Conv):
            act = values[network[name].inputs[0]][0].astype(np.int16)
            spec = ArraySpec(act_bits=max(4, conv.act_format.bits), psum_bits=48)
            bits = max(16, *Mapping(conv, spec, *act.shape[1:]).least_psum_bits())
            found.append((Mapping(conv, replace(spec, psum_bits=bits), *act.shape[1:]), act))
    return found


def round_trip(mapping: Mapping, act: np.ndarray, layout: Layout, folder: Path) -> tuple[int, int, float, float]:
    """Files, bytes of text, seconds to write and to read and compare."""
    write = seconds(lambda: stream_bundle(mapping, act, folder, layout), 1)
    paths = [path for path in folder.rglob("*") if path.suffix == ".txt"]
    stored, _ = read_bundle(folder)

    def read() -> None:
        reading = read_folder(folder, layout, geometry_of(stored))
        for check in golden_checks(reading, implied(reading)):
            if not check.holds:
                raise SystemExit(f"{check.name}: {check}: the benchmark means nothing")

    return len(paths), sum(path.stat().st_size for path in paths), write, seconds(read, 1)


def by_character(words: np.ndarray, bits: int, path: Path) -> None:
    """The rival: every character put together and written."""
    path.write_bytes(literal_text(words, bits))


def by_savetxt(words: np.ndarray, bits: int, path: Path) -> None:
    """The rival: NumPy's own writer, given the bits."""
    np.savetxt(path, to_bits(words[:, ::-1], bits).reshape(len(words), -1), fmt="%d", delimiter="")


def by_int(path: Path, lanes: int, bits: int) -> np.ndarray:
    """The rival: Python's `int` of every lane."""
    rows = []
    for line in path.read_text().splitlines():
        values = [int(line[at : at + bits], 2) for at in range(0, lanes * bits, bits)]
        rows.append([v - (1 << bits) if v >> (bits - 1) else v for v in reversed(values)])
    return np.array(rows)


def rivals(mapping: Mapping, act: np.ndarray, folder: Path) -> tuple[float, float, float]:
    """MB/s of the three, on the first psum file."""
    stream_bundle(mapping, act, folder, KIJ_MAJOR)
    words = read_bundle(folder)[0].psum[0, 0].reshape(-1, mapping.spec.cols)
    ours, theirs, bits = folder / "psum_0_0.txt", folder / "rival.txt", mapping.spec.psum_bits
    speeds = []
    for write in (by_character, by_savetxt):
        took = seconds(lambda write=write: write(words, bits, theirs), 1)  # type: ignore[misc]
        if theirs.read_bytes() != ours.read_bytes():
            raise SystemExit(f"{write.__name__} writes other text: the benchmark means nothing")
        speeds.append(ours.stat().st_size / took / 1e6)
    begin = time.perf_counter()
    read = by_int(ours, mapping.spec.cols, bits)
    speeds.append(ours.stat().st_size / (time.perf_counter() - begin) / 1e6)
    if not (read == words).all():
        raise SystemExit("by_int reads other words: the benchmark means nothing")
    return speeds[0], speeds[1], speeds[2]


def main() -> None:
    """Print a row a layer, the rivals, and whether each aim is met; exit code 1 if one is not."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = layers()
    print(f"{'layer':<12}{'channels':>12}{'files':>8}{'MB':>8}{'write MB/s':>12}{'read MB/s':>12}")
    files = size = 0
    write = read = 0.0
    for mapping, act in found:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            n, b, w, r = round_trip(mapping, act, KIJ_MAJOR, Path(folder))
        channels = f"{mapping.conv.in_channels}->{mapping.conv.out_channels}"
        print(f"{mapping.conv.name:<12}{channels:>12}{n:>8,}{b / 1e6:>8.1f}{b / w / 1e6:>12.0f}{b / r / 1e6:>12.0f}")
        files, size, write, read = files + n, size + b, write + w, read + r
    print(f"{'all 13':<24}{files:>8,}{size / 1e6:>8.1f}{size / write / 1e6:>12.0f}{size / read / 1e6:>12.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)
    print(f"peak memory of writing and reading them: {peak:.0f} MiB")
    large = next(pair for pair in found if pair[0].conv.name == "features.3")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        character, savetxt, by_lane = rivals(*large, Path(folder))
    print(f"rivals: character by character {character:.1f} MB/s, numpy.savetxt {savetxt:.1f} MB/s, int() {by_lane:.1f}")
    tiny = next(pair for pair in found if pair[0].conv.name == "features.33")
    for layout in (KIJ_MAJOR, find_layout("course")):
        for place, base in (("in memory", MEMORY), ("on the disk", None)):
            with tempfile.TemporaryDirectory(dir=base) as folder:
                n, b, w, r = round_trip(*tiny, layout, Path(folder))
            speeds = (
                f"written {n / w:,.0f} files/s, {b / w / 1e6:.1f} MB/s, read {n / r:,.0f}/s, {b / r / 1e6:.1f} MB/s"
            )
            print(f"features.33, {layout.name}, {n:,} files of {b / n:,.0f} bytes {place}: {speeds}")
    outcomes = [
        (f"written at {size / write / 1e6:.0f} MB/s, at least 100", size / write / 1e6 >= 100),
        (f"{size / write / 1e6 / character:.0f}x the writer by character", size / write / 1e6 >= character),
        (f"{size / write / 1e6 / savetxt:.0f}x numpy.savetxt", size / write / 1e6 >= savetxt),
        (f"read and compared at {size / read / 1e6:.0f} MB/s, at least 100", size / read / 1e6 >= 100),
        (f"peak memory {peak:.0f} MiB, under 1 GiB", peak < 1024),
    ]
    for name, holds in outcomes:
        print(f"{'met' if holds else 'NOT MET'}: {name}")
    if not all(holds for _, holds in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
