"""A bundle: one flat folder with the vector files, `tensors.npz` and `manifest.json`, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from systolith import __version__
from systolith.array import ArrayResult, ArraySpec, Mapping
from systolith.array.layer import OUT_AXES, accumulate_all
from systolith.array.psums import AXES as PSUM_AXES
from systolith.array.psums import all_psums
from systolith.equality import Equality, compare
from systolith.formats import BadInput, IntFormat, require_integers
from systolith.network import Conv
from systolith.network.graph import require_act
from systolith.store import atomic_folder
from systolith.vectors.layout import Layout, find_layout, layout_from, orders, to_plain, vector_files
from systolith.vectors.text import decode_file, encode_file, require_count

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
    """
    folder = Path(folder)
    chosen = layout if isinstance(layout, Layout) else find_layout(layout)
    words = 0
    sums: dict[str, str] = {}
    with atomic_folder(folder, force) as temporary:
        for file in vector_files(result, chosen):
            content = encode_file(file.name, file.words, file.fmt, file.header, file.style)
            (temporary / file.name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / file.name).write_bytes(content)
            sums[file.name] = hashlib.sha256(content).hexdigest()
            words += len(file.words)
        np.savez(temporary / TENSORS, **_tensors(result))  # type: ignore[arg-type]
        sums[TENSORS] = _sha256(temporary / TENSORS)
        (temporary / MANIFEST).write_text(json.dumps(_manifest(result, chosen, sums), indent=1) + "\n")
        size = sum(p.stat().st_size for p in temporary.rglob("*") if p.is_file())
    return Written(folder, len(sums) + 1, words, size)


def _tensors(result: ArrayResult) -> dict[str, NDArray[Any]]:
    conv, spec = result.mapping.conv, result.mapping.spec
    return {
        "act": result.act,
        "weight": conv.weight,
        "psum": result.psum,
        "out": result.out,
        "rows": np.array(spec.rows),
        "cols": np.array(spec.cols),
        "act_bits": np.array(spec.act_bits),
        "weight_bits": np.array(spec.weight_bits),
        "psum_bits": np.array(spec.psum_bits),
        "padding": np.array(conv.padding),
        "stride": np.array(conv.stride),
        "dilation": np.array(conv.dilation),
    }


def _manifest(result: ArrayResult, layout: Layout, sums: MappingType[str, str]) -> dict[str, Any]:
    mapping, conv, spec = result.mapping, result.mapping.conv, result.mapping.spec
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
            "input": [mapping.height, mapping.width],
            "output": list(mapping.output_shape),
        },
        "formats": {
            "act": str(spec.act_format(conv)),
            "weight": str(spec.weight_format),
            "psum": str(spec.psum_format),
            "out": str(spec.psum_format),
        },
        "orders": {
            **orders(layout),
            "nij": "i*Wp + j over the padded map",
            "kij": "ki*KW + kj",
            "accumulation": "kij outer, ic_tile inner",
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
        },
        "layout": to_plain(layout),
        "sha256": dict(sums),
    }


def read_bundle(folder: Path | str) -> tuple[ArrayResult, dict[str, Any]]:
    """The tensors of a bundle as an `ArrayResult`, and its manifest.

    Raises:
        BadInput: not a bundle, or an incomplete or damaged one.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        with np.load(folder / TENSORS, allow_pickle=False) as file:
            t = {name: file[name] for name in file.files}
        signed = manifest["formats"]["act"].startswith("int")
        sizes = {n: int(t[n]) for n in ("rows", "cols", "act_bits", "weight_bits", "psum_bits")}
        array = manifest["array"]
        spec = ArraySpec(**sizes, dataflow=array["dataflow"], overflow=array["overflow"])
        stride, padding, dilation = ((int(t[n][0]), int(t[n][1])) for n in ("stride", "padding", "dilation"))
        conv = Conv(
            manifest["layer"]["name"],
            t["weight"],
            IntFormat(spec.act_bits, signed),
            spec.weight_format,
            stride,
            padding,
            dilation,
        )
        require_act(conv, t["act"])
        for name in ("psum", "out"):
            require_integers(f"{TENSORS} {name}", t[name])
        mapping = Mapping(conv, spec, *t["act"].shape[1:])
        return ArrayResult(mapping, t["act"], t["psum"], t["out"]), manifest
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
        raise BadInput(f"{folder}: not a readable bundle ({error})") from None


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def verify_bundle(folder: Path | str) -> list[Equality]:
    """Read a bundle back and recompute it.

    Returns:
        psums and outputs against those recomputed from `act` and `weight`, every word of every text file against
        `tensors.npz`, and every file against its SHA-256 in the manifest.

    Raises:
        BadInput: a file is missing, malformed, or of another number of words.
    """
    folder = Path(folder)
    stored, manifest = read_bundle(folder)
    mapping, layout = stored.mapping, layout_from(manifest["layout"], f"{folder / MANIFEST}: layout")
    psum = all_psums(mapping, stored.act)
    equalities = [
        compare("psums read back = recomputed", psum, stored.psum, PSUM_AXES),
        compare("outputs read back = recomputed", accumulate_all(mapping, psum), stored.out, OUT_AXES),
    ]
    compared = different = 0
    first = ""
    sums = {TENSORS: _sha256(folder / TENSORS)}
    for file in vector_files(stored, layout):
        lanes = file.words.shape[1]
        found = decode_file(folder / file.name, lanes, file.fmt, file.header, file.style)
        require_count(folder / file.name, len(found), len(file.words), len(file.header))
        # Padded positions and lanes without a channel are words like any other.
        outcome = compare(file.name, file.words, found, ("line", "lane"))
        compared, different = compared + outcome.compared, different + outcome.different
        first = first or (outcome.first and f"{file.name} {outcome.first}")
        sums[file.name] = _sha256(folder / file.name)
    equalities.append(Equality("vector files read back = tensors", compared, different, first))
    # Rebuilt from what was read: a manifest that says anything else than the files do is found here too.
    expected = json.loads(json.dumps(_manifest(stored, layout, sums)))
    wrong = [f"{key}" for key in expected if key != "tool" and manifest.get(key) != expected[key]]
    wrong += [f"{name} is extra" for name in manifest["sha256"] if name not in sums]
    entries = len(expected) - 1
    equalities.append(Equality("manifest = files", entries, min(len(wrong), entries), "; ".join(wrong)))
    return equalities
