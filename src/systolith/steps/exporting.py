"""Write a network in somebody else's format, read it back, and compare: only then does the file get its name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.equality import Equality, compare
from systolith.formats import BadInput
from systolith.network import IntegerNetwork, reference
from systolith.network.graph import Add, Flatten, Requantize, Upsample
from systolith.network.requantize import Thresholds, prove_thresholds
from systolith.requests.option import Progress
from systolith.steps.common import find_network, require_extra
from systolith.steps.predict import integers_only
from systolith.store import atomic_file, atomic_folder, model_path

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


@dataclass(frozen=True)
class Exported:
    """What was compared, how the file was read back, and whether it is there now."""

    equalities: tuple[Equality, ...]
    how: str

    @property
    def holds(self) -> bool:
        return all(equality.holds for equality in self.equalities)

    @property
    def verdict(self) -> str:
        wrong = next((f"NOT EQUAL: {e.name}: {e}"[:190] for e in self.equalities if not e.holds), "")
        return wrong or f"equal: {sum(e.compared for e in self.equalities):,} integers, {self.how}"


Found = tuple[list[Equality], str]
"""What was compared, and how the file was read back."""


class _DiffersError(Exception):
    """Ends the writing, so that nothing is left."""


def export_network(job: Job, form: str, out: Path, force: bool) -> Exported:
    """Write the network to `out`, unless what is read back differs.

    Raises:
        BadInput: another format, something there already, or what the format cannot hold.
    """
    if form not in FORMS:
        raise BadInput(f"--format {form!r}: expected {', '.join(FORMS)}")
    if form != "c" and (out.is_dir() or (out.exists() and not force)):
        raise BadInput(f"{out}: exists already; --force replaces a file")
    try:
        with atomic_folder(out, force) if form == "c" else atomic_file(out) as temporary:
            equalities, how = FORMS[form](job, temporary)
            done = Exported(tuple(equalities), how)
            if not done.holds:
                raise _DiffersError
    except _DiffersError:
        pass
    return done


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
    if integers_only(model_path(model)):
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


def _qdq(job: Job, path: Path) -> Found:
    for module in ("onnxruntime", "torch"):
        require_extra(module, "onnx" if module == "onnxruntime" else module, "export to QDQ")
    import onnx

    from systolith.exports.floats import integers_of, run_floats, tensor_of
    from systolith.exports.qdq import codes_of, to_qdq, watched

    network = job.network
    _save(to_qdq(network), path)
    results = run_floats(watched(onnx.load(path), network), job.pixels)
    expected = reference.run(network, job.pixels, *_watched(network), *network.outputs)
    codes = [(name, results[codes_of(tensor_of(network, name))].astype(np.int64)) for name in _watched(network)]
    outputs = [(name, integers_of(network, name, results[tensor_of(network, name)])) for name in network.outputs]
    run = [compare(f"{name} in onnxruntime", expected[name], found, AXES) for name, found in (*codes, *outputs)]
    again = _imported(job, path, lambda name: codes_of(tensor_of(network, name)))
    return [*run, *again], "run by onnxruntime; imported again, every threshold and code"


def _qonnx(job: Job, path: Path) -> Found:
    for module in ("onnx", "torch"):
        require_extra(module, module, "export to QONNX")
    from systolith.exports.floats import tensor_of
    from systolith.exports.qonnx import to_qonnx

    _save(to_qonnx(job.network), path)
    return _imported(job, path, lambda name: tensor_of(job.network, name)), "imported again, every threshold and code"


def _save(model: Any, path: Path) -> None:
    import onnx.checker

    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _watched(network: IntegerNetwork) -> tuple[str, ...]:
    return (network.input.name, *network.requantizes)


def _imported(job: Job, path: Path, tensor: Callable[[str], str]) -> list[Equality]:
    """Our own importer's network: weights, thresholds at both sides of each, and what both make of the pictures.

    Args:
        tensor: the quantizer's tensor in the file, of the name of a `Requantize` or the input.
    """
    from systolith.exports.floats import integers_of
    from systolith.frontends.lowering import lower
    from systolith.importers.importing import import_onnx

    job.progress("reading it back")
    network = job.network
    try:
        foreign = import_onnx(path)
        lowered = lower(foreign.model, foreign.size)
    except BadInput as error:
        raise BadInput(f"written, but not read back by `import`: {str(error).removeprefix(f'{path}: ')}") from None
    again = lowered.network
    of = {made: lowered.quantized[module] for module, made in foreign.quantizers.items()}
    ours, theirs = (list(one.layers.values()) for one in (network, again))
    equalities = [
        compare(f"{one.name} weights", one.weight.astype(np.int64), other.weight.astype(np.int64), ("oc", "ic"))
        for one, other in zip(ours, theirs, strict=True)
    ]
    for name, node in network.requantizes.items():
        step = again[of[tensor(name)]]
        assert isinstance(step.node, Requantize)
        other, times = step.node.thresholds, _times(network, name, again, step.name)
        reachable = _in_units(node.thresholds, other, times)
        equalities.append(prove_thresholds(f"{name} thresholds", reachable, partial(_codes, other)))
    expected = reference.run(network, job.pixels, *_watched(network), *network.outputs)
    found = reference.run(again, job.pixels, *of.values(), *again.outputs)
    for name in _watched(network):
        codes = found[of[tensor(name)]].reshape(expected[name].shape)
        equalities.append(compare(f"{name} imported", expected[name], codes, AXES))
    for name, output in zip(network.outputs, lowered.outputs, strict=True):
        values = lowered.outputs[output].dequantize(_tensor(found[output])).numpy().reshape(expected[name].shape)
        equalities.append(compare(f"{name} imported", expected[name], integers_of(network, name, values), AXES))
    return equalities


def _times(network: IntegerNetwork, name: str, again: IntegerNetwork, other: str) -> int:
    """How many units of the accumulators of `network` one of `again` is: gains of an Add are read back without twos."""
    step, same = network[network.producer(name)], again[again.producer(other)]
    while isinstance(step.node, (Upsample, Flatten)):
        step = network[step.inputs[0]]
    while isinstance(same.node, (Upsample, Flatten)):
        same = again[same.inputs[0]]
    both = isinstance(step.node, Add) and isinstance(same.node, Add)
    return step.node.gains[0] // same.node.gains[0] if both else 1  # type: ignore[union-attr]


def _in_units(t: Thresholds, other: Thresholds, times: int) -> Thresholds:
    """`t` of accumulators that are `times` as large, as far as `other` reaches: its formats may be narrower."""
    lo, hi = np.maximum(-(-t.lo // times), other.lo), np.minimum(t.hi // times, other.hi)
    ends = replace(t, lo=lo, hi=hi).mirrored_range()
    values = np.clip(-(-t.values // times), ends[0][:, None], ends[1][:, None] + 1)
    return Thresholds(values, t.sign, lo, hi, t.low)


def _codes(thresholds: Thresholds, acc: NDArray[np.int64]) -> NDArray[np.int64]:
    return thresholds.apply(acc[None])[0]


def _tensor(values: NDArray[np.int64]) -> Any:
    import torch

    return torch.from_numpy(values)


FORMS: dict[str, Callable[[Job, Path], Found]] = {"onnx": _onnx, "qdq": _qdq, "qonnx": _qonnx, "npz": _npz, "c": _c}
