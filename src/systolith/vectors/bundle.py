"""A bundle: one flat folder with the vector files, `tensors.npz` and `manifest.json`, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, ArraySpec, Mapping
from systolith.array.layer import out_axes, result_of
from systolith.array.psums import AXES as PSUM_AXES
from systolith.array.psums import all_psums, psum_shape
from systolith.equality import Equality, compare
from systolith.formats import BadInput, IntFormat, require_integers
from systolith.network import Conv
from systolith.network.graph import paired
from systolith.store import atomic_folder, sha256_of
from systolith.vectors.layout import Layout, VectorFile, orders, sources, vector_files
from systolith.vectors.layout_file import find_layout, layout_from, to_plain
from systolith.vectors.tensors import blocks
from systolith.vectors.text import decode_file, require_count
from systolith.version import __version__

MANIFEST, TENSORS = "manifest.json", "tensors.npz"


@dataclass(frozen=True)
class Written:
    """What `write_bundle` wrote: the folder, its number of files (all), words of text, and bytes (all)."""

    folder: Path
    files: int
    words: int
    bytes: int


def write_bundle(
    result: ArrayResult, folder: Path | str, layout: Layout | str = "course", force: bool = False
) -> Written:
    """Write the vector files of `result` in `layout`, with `tensors.npz` and `manifest.json`.

    Args:
        force: replace an existing folder (at the very end, when everything is written).

    Raises:
        BadInput: the folder exists, cannot be written, or a value does not fit its lane; nothing is left behind.

    Examples:
        >>> import numpy as np, systolith as sl
        >>> result = sl.run_layer(sl.Conv.of(np.ones((8, 8, 3, 3), int)), np.ones((8, 4, 4), int), sl.ArraySpec(8, 8))
        >>> sl.write_bundle(result, "build/doc", layout="course", force=True).files
        22
    """
    folder = Path(folder)
    chosen = layout if isinstance(layout, Layout) else find_layout(layout)
    with atomic_folder(folder, force) as temporary:
        written = fill(temporary, result.mapping, sources(result), chosen, vector_files(result, chosen))
    return replace(written, folder=folder)


def fill(
    folder: Path,
    mapping: Mapping,
    arrays: MappingType[str, NDArray[np.integer]],
    layout: Layout,
    files: Iterable[VectorFile],
    release: Callable[[], None] = lambda: None,
) -> Written:
    """Write a bundle's files into an existing folder, one after another.

    Args:
        arrays: `act`, `weight`, `out`, and `psum` unless the bundle goes without; they may be views of a file.
        files: the vector files.
        release: called after each piece, to let go of what was mapped for it.
    """
    words = size = 0
    sums: dict[str, str] = {}
    for file in files:
        path, digest = folder / file.name, hashlib.sha256()
        if path.parent != folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for piece in file.encode():
                out.write(piece)
                digest.update(piece)
                size += len(piece)
                release()
        sums[file.name] = digest.hexdigest()
        words += file.shape[0]
    _save(folder / TENSORS, {**arrays, **_settings(mapping)}, release)
    sums[TENSORS] = sha256_of(folder / TENSORS)
    manifest = json.dumps(manifest_of(mapping, layout, sums, _shapes(arrays)), indent=1) + "\n"
    (folder / MANIFEST).write_text(manifest)
    size += (folder / TENSORS).stat().st_size + len(manifest)
    return Written(folder, len(sums) + 1, words, size)


def _save(path: Path, arrays: MappingType[str, NDArray[np.integer]], release: Callable[[], None]) -> None:
    """What `np.savez` writes, a few megabytes at a time in memory."""
    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            # A ZipInfo of its own has no time of day: the same tensors are the same bytes.
            with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                header = np.lib.format.header_data_from_array_1_0(array[:0] if array.ndim else array)
                np.lib.format.write_array_header_1_0(member, {**header, "fortran_order": False, "shape": array.shape})
                for piece in blocks(array, array.ndim, 1 << 20):
                    member.write(piece.tobytes())
                    release()


def _settings(mapping: Mapping) -> dict[str, NDArray[np.integer]]:
    conv, spec = mapping.conv, mapping.spec
    return {
        "rows": np.array(spec.rows),
        "cols": np.array(spec.cols),
        "act_bits": np.array(spec.act_bits),
        "weight_bits": np.array(spec.weight_bits),
        "psum_bits": np.array(spec.psum_bits),
        "padding": np.array(conv.padding),
        "stride": np.array(conv.stride),
        "dilation": np.array(conv.dilation),
        "groups": np.array(conv.groups),
    }


def _shapes(arrays: MappingType[str, NDArray[np.integer]]) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in arrays.items()}


def manifest_of(
    mapping: Mapping, layout: Layout, sums: MappingType[str, str], shapes: MappingType[str, list[int]]
) -> dict[str, Any]:
    """The manifest: `sums` is the SHA-256 of each file, `shapes` those of the tensors in `tensors.npz`."""
    conv, spec = mapping.conv, mapping.spec
    return {
        "format": "systolith-bundle",
        "version": 1,
        "tool": f"systolith {__version__}",
        "layer": {
            "name": conv.name,
            "in_channels": conv.in_channels,
            "out_channels": conv.out_channels,
            "kernel": list(conv.kernel),
            "stride": list(conv.stride),
            "padding": list(conv.padding),
            "dilation": list(conv.dilation),
            "groups": conv.groups,
            "input": [mapping.height, mapping.width],
            "output": list(mapping.output_shape),
        },
        "formats": {
            "act": str(mapping.code_format),
            "weight": str(spec.weight_format),
            "psum": str(spec.psum_format),
            "out": str(spec.psum_format),
        },
        "orders": {
            **orders(layout),
            **_positions(mapping),
            "word": "highest lane first, most significant bit first",
        },
        "array": {
            "rows": spec.rows,
            "cols": spec.cols,
            "dataflow": spec.dataflow,
            "overflow": spec.overflow,
            "ic_tiles": mapping.ic_tiles,
            "oc_tiles": mapping.oc_tiles,
            "passes": mapping.passes,
            **_cut(mapping),
        },
        "tensors": dict(shapes),
        "layout": to_plain(layout),
        "sha256": dict(sums),
    }


def _positions(mapping: Mapping) -> dict[str, str]:
    """What positions and kernel positions count, in words."""
    pictures = ", picture outermost" if mapping.batch > 1 else ""
    if mapping.flat is not None:
        axis = "ic*KH*KW + kij" if mapping.stationary else "kij*C + ic, C channels of the oc_tile's groups"
        return {"nij": f"oi*OW + oj of the outputs{pictures}", "reduction": axis, "accumulation": "ic_tile"}
    kij = {"kij": "ki*KW + kj", "accumulation": "kij outer, ic_tile inner"}
    return {"nij": f"i*Wp + j over the padded map{pictures}", **kij}


def _cut(mapping: Mapping) -> dict[str, Any]:
    """How the layer is cut for the array, where that is not weight stationary, one picture, one code a lane."""
    found = {"batch": (mapping.batch, 1), "packed": (mapping.packed, False), "simd": (mapping.simd, 1)}
    return {name: value for name, (value, plain) in found.items() if value != plain}


def read_bundle(folder: Path | str) -> tuple[ArrayResult, dict[str, Any]]:
    """The tensors of a bundle as an `ArrayResult`, and its manifest.

    Psums that the bundle was written without are computed from its activations and weights.

    Raises:
        BadInput: not a bundle, or an incomplete or damaged one.

    Examples:
        >>> import systolith as sl
        >>> report = sl.run(out="build/doc-bundle", force=True)
        >>> sl.read_bundle("build/doc-bundle")[0].out.shape
        (8, 4, 4)
    """
    mapping, arrays, manifest = _read(Path(folder))
    psum, shape = arrays.get("psum"), psum_shape(mapping)
    if psum is not None and (psum.shape[:3] != shape[:3] or psum.shape[4:] != shape[4:] or psum.shape[3] > shape[3]):
        raise BadInput(f"{folder}: not a readable bundle (psums of shape {psum.shape}, expected {shape})")
    if psum is None or psum.shape != shape:
        psum = all_psums(mapping, arrays["act"])
    return ArrayResult(mapping, arrays["act"], psum, arrays["out"]), manifest


def _read(folder: Path) -> tuple[Mapping, dict[str, NDArray[Any]], dict[str, Any]]:
    """The layer on the array, what `tensors.npz` holds of act, weight, psum and out, and the manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        with np.load(folder / TENSORS, allow_pickle=False) as file:
            t = {name: file[name] for name in file.files}
        signed = manifest["formats"]["act"].startswith("int")
        packed, simd = bool(manifest["array"].get("packed", False)), int(manifest["array"].get("simd", 1))
        sizes = {n: int(t[n]) for n in ("rows", "cols", "act_bits", "weight_bits", "psum_bits")}
        array = manifest["array"]
        spec = ArraySpec(**sizes, dataflow=array["dataflow"], overflow=array["overflow"], simd=simd)
        manifest["layer"].setdefault("groups", 1)  # as bundles were before there were any
        stride, dilation = ((int(t[n][0]), int(t[n][1])) for n in ("stride", "dilation"))
        padding = paired(TENSORS, tuple(int(n) for n in t["padding"]))
        groups = int(t["groups"]) if "groups" in t else 1
        formats = IntFormat(spec.act_bits // simd, signed), spec.weight_format
        conv = Conv(manifest["layer"]["name"], t["weight"], *formats, stride, padding, dilation, groups)
        act = t["act"]
        height, width = act.shape[-2:]
        mapping = Mapping(conv, spec, height, width, len(act) if act.ndim == 4 else 1, packed)
        mapping.require(act)
        arrays = {name: t[name] for name in ("act", "weight", "psum", "out") if name in t}
        for name in ("psum", "out"):
            if name in manifest["tensors"]:
                require_integers(f"{TENSORS} {name}", arrays[name])
        return mapping, arrays, manifest
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
        raise BadInput(f"{folder}: not a readable bundle ({error})") from None


def verify_bundle(folder: Path | str) -> list[Equality]:
    """Read a bundle back and recompute it.

    Returns:
        psums and outputs of `tensors.npz`, and every word of every text file, against those recomputed from its `act`
        and `weight`; and every file against its SHA-256 in the manifest.

    Raises:
        BadInput: a file is missing, malformed, or of another number of words.

    Examples:
        >>> import systolith as sl
        >>> report = sl.run(out="build/doc-bundle", force=True)
        >>> all(e.holds for e in sl.verify_bundle("build/doc-bundle"))
        True
    """
    folder = Path(folder)
    mapping, stored, manifest = _read(folder)
    layout = layout_from(manifest["layout"], f"{folder / MANIFEST}: layout")
    psum = all_psums(mapping, stored["act"])
    whole = result_of(mapping, stored["act"], psum)
    equalities = []
    if "psum" in stored:
        # Of a bundle written with fewer nij these are the first ones.
        first_nijs = psum[:, :, :, : stored["psum"].shape[3]] if stored["psum"].ndim == 5 else psum
        equalities.append(compare("psums read back = recomputed", first_nijs, stored["psum"], PSUM_AXES))
    equalities.append(compare("outputs read back = recomputed", whole.out, stored["out"], out_axes(whole.out)))
    compared = different = 0
    first = ""
    sums = {TENSORS: sha256_of(folder / TENSORS)}
    for file in vector_files(whole, layout):
        count, lanes = file.shape
        found = decode_file(folder / file.name, lanes, file.fmt, file.header, file.style)
        require_count(folder / file.name, len(found), count, len(file.header))
        # Padded positions and lanes without a channel are words like any other.
        outcome = compare(file.name, file.words, found, ("line", "lane"))
        compared, different = compared + outcome.compared, different + outcome.different
        first = first or (outcome.first and f"{file.name} {outcome.first}")
        sums[file.name] = sha256_of(folder / file.name)
    if layout.files:
        equalities.append(Equality("vector files read back = recomputed", compared, different, first))
    # Rebuilt from what was read: a manifest that says anything else than the files do is found here too.
    expected = json.loads(json.dumps(manifest_of(mapping, layout, sums, _shapes(stored))))
    wrong = [f"{key}" for key in expected if key != "tool" and manifest.get(key) != expected[key]]
    wrong += [f"{name} is extra" for name in manifest["sha256"] if name not in sums]
    entries = len(expected) - 1
    equalities.append(Equality("manifest = files", entries, min(len(wrong), entries), "; ".join(wrong)))
    return equalities
