"""Write a network in somebody else's format, read it back, and compare: only then does the file get its name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.equality import Equality, compare
from systolith.formats import BadInput
from systolith.network import IntegerNetwork, reference
from systolith.requests.option import Progress
from systolith.steps.common import find_network, require_extra
from systolith.store import atomic_file, atomic_folder, load_model_file, model_path

PICTURES = 4
AXES = ("picture", "channel", "i", "j")


@dataclass(frozen=True)
class Job:
    """What is written, and what is told.

    Attributes:
        network: the network.
        scales: fp32 by "LAYER/weight_scale" and "LAYER/act_scale", as far as they are known.
        pixels: seeded pictures to compare on.
        progress: told what is being done.
    """

    network: IntegerNetwork
    scales: Mapping[str, NDArray[np.float32]]
    pixels: NDArray[np.uint8]
    progress: Progress


Found = tuple[list[Equality], str]
"""What was compared, and how the file was read back."""


class _DiffersError(Exception):
    """Ends the writing, so that nothing is left."""


def export_network(job: Job, form: str, out: Path, force: bool) -> Found:
    """Write the network to `out`, unless what is read back differs.

    Raises:
        BadInput: another format, something there already, or what the format cannot hold.
    """
    if form not in FORMS:
        raise BadInput(f"--format {form!r}: expected {', '.join(FORMS)}")
    if form != "c" and (out.is_dir() or (out.exists() and not force)):
        raise BadInput(f"{out}: exists already; --force replaces a file")
    found: Found = ([], "")
    try:
        with atomic_folder(out, force) if form == "c" else atomic_file(out) as temporary:
            found = FORMS[form](job, temporary)
            if not all(equality.holds for equality in found[0]):
                raise _DiffersError
    except _DiffersError:
        pass
    return found


def job_of(model: str, form: str, progress: Progress) -> tuple[Job, tuple[str, ...]]:
    """The network of any model or file, with its scales where `form` has a place for them; and notes."""
    network, _ = find_network(model, "export")
    shape = network.values[network.input.name].shape
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, *shape), dtype=np.uint8)
    scales, why = _scales(model, network) if form in ("npz", "c") else ({}, "")
    if why:
        progress(why)
    return Job(network, scales, pixels, progress), (why,) if why else ()


def _scales(model: str, network: IntegerNetwork) -> tuple[dict[str, NDArray[np.float32]], str]:
    """The scales of a trained model's layers, as a `Job` has them, or why there are none."""
    path = model_path(model)
    if path.suffix == ".npz" or (path.suffix == ".safetensors" and not load_model_file(path).config):
        return {}, f"{model} holds integers only: no scales"
    if importlib.util.find_spec("torch") is None:
        return {}, "without torch the scales of a trained model are not known: left out"
    from systolith.importers.loading import load_any
    from systolith.quant import quant_layers

    found = {}
    for name, layer in quant_layers(load_any(model).model).items():
        if name in network.layers:
            for what, quantizer in (("weight", layer.weight_quant), ("act", layer.act_quant)):
                found[f"{name}/{what}_scale"] = quantizer.scale().detach().cpu().numpy().reshape(-1)
    return found, ""


def _npz(job: Job, path: Path) -> Found:
    from systolith.exports.arrays import compare_arrays, save_arrays

    save_arrays(job.network, path, job.scales)
    return compare_arrays(job.network, path, job.scales), "every array read back"


def _c(job: Job, folder: Path) -> Found:
    from systolith.exports.c import compare_binaries, compare_c, compiler, write_c

    write_c(job.network, folder, job.scales)
    binaries = compare_binaries(job.network, folder, job.scales)
    compiled = compiler()
    if compiled is None:
        job.progress("no C compiler here (cc, gcc or clang): the binaries were read back, the loop was not run")
        return binaries, "every binary read back; no C compiler here, so the loop was not run"
    job.progress("compiling and running the loop")
    run = compare_c(job.network, folder, job.pixels)
    return [*binaries, *run], f"every binary read back; every step's integers from the loop, by {compiled}"


def _onnx(job: Job, path: Path) -> Found:
    require_extra("onnxruntime", "onnx", "export to ONNX")
    import onnx

    from systolith.exports.onnx import run_onnx, save_onnx, watched

    save_onnx(job.network, path)
    found = run_onnx(watched(onnx.load(path), job.network), job.pixels)
    expected = reference.run(job.network, job.pixels)
    names = dict(zip(job.network.results, ("logits", "class"), strict=True)) if job.network.classifies else {}
    wanted = dict.fromkeys([*job.network.requantizes, *job.network.results])
    return [
        compare(name, expected[name], found[names.get(name, name)].astype(np.int64), AXES) for name in wanted
    ], "run by onnxruntime"


FORMS: dict[str, Callable[[Job, Path], Found]] = {"onnx": _onnx, "npz": _npz, "c": _c}
