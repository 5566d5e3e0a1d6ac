"""`run`: a picture through the network, one layer onto the array, every step compared, vectors written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, run_layer
from systolith.equality import Equality, compare
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.network.reference import run as execute
from systolith.pictures import CIFAR10_CLASSES
from systolith.requests.verbs import RunRequest
from systolith.steps.common import (
    as_conv,
    find_layer,
    find_picture,
    make_spec,
    require_extra,
    settle,
    stored_network,
)
from systolith.steps.values import called, hidden
from systolith.store import require_free
from systolith.timing import clocks
from systolith.vectors import find_layout, verify_bundle, write_bundle

if TYPE_CHECKING:
    from systolith.importers.loading import Loaded


@dataclass(frozen=True)
class Guess:
    """What a network takes the picture for: class, its name, and the name of the second."""

    number: int = field(metadata=called("class"))
    name: str
    second: str


@dataclass(frozen=True)
class LayerFacts:
    """A layer as the array sees it; sizes as (height, width)."""

    name: str
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    input: tuple[int, int]
    padded: tuple[int, int]
    output: tuple[int, int]
    act_format: str
    weight_format: str


@dataclass(frozen=True, kw_only=True)
class RunReport(Report):
    """One picture, one layer, every equality of the chain.

    Attributes:
        model, picture: name and metadata; where the pixels came from.
        prediction, integer_prediction: of the trained network and of the integers.
        layer, array, ranges: what was put on the array, on which, and the least and largest integer of each tensor.
        least_psum_bits: the least safe widths, of a pass and accumulated.
        recovered: difference of relu(psum)*scale from what the next module of the trained network receives.
        clocks, utilisation: streaming the whole padded map, and only the useful nij.
        equalities: every comparison that was made.
        bundle, layout: the files that were written.
        result: activations, psums and outputs, as arrays.
    """

    verb: ClassVar[str] = "run"
    model: Mapping[str, Any]
    picture: Mapping[str, Any]
    prediction: Guess
    integer_prediction: Guess
    layer: LayerFacts
    array: Mapping[str, Any]
    ranges: Mapping[str, tuple[int, int]]
    least_psum_bits: Mapping[str, int]
    recovered: Mapping[str, float]
    clocks: Mapping[str, int]
    utilisation: Mapping[str, float]
    equalities: tuple[Equality, ...]
    warnings: tuple[str, ...]
    bundle: Mapping[str, Any]
    layout: str
    result: ArrayResult = field(metadata=hidden(), repr=False)


@flow(RunRequest)
def run(request: RunRequest) -> RunReport:
    """Take a picture through a trained network and one layer onto the array; check every step, write golden vectors.

    Returns:
        Every equality of the chain with the number of elements compared, and the layer's integers.

    Raises:
        BadInput: no such model, layer or picture; codes that do not fit the lanes; the output folder is there already.

    Examples:
        >>> import systolith as sl
        >>> report = sl.run("vgg16-w4a4-s8", "features.27", out="build/doc-run", force=True)
        >>> report.holds, report.clocks["useful"]
        (True, 239)
    """
    require_extra("torch", "torch", "run")
    from systolith.frontends.torch import recover
    from systolith.importers.loading import load_any

    out = Path(request.out)
    require_free(out, request.force)
    find_layout(request.layout)
    make_spec(request)
    loaded = load_any(request.model)
    pixels, source, notes = find_picture(request, request.progress, (3, *loaded.size))
    recovered = recover(loaded.model, request.layer, pixels)
    notes = (*notes, *loaded.notes)
    try:
        equalities, act, logits = _network(loaded, request.model, request.layer, pixels)
    except BadInput as error:
        if loaded.foreign is None:
            raise
        # Of somebody's network that has no integer form as a whole, the layer alone.
        notes = (*notes, f"no integer network, the layer alone: {error}")
        equalities, act, logits = (), recovered.act[0], recovered.logits
    for note in notes[len(notes) - len(loaded.notes) - (not equalities) :]:
        request.progress(note)
    conv = recovered.conv
    result = run_layer(conv, act, settle(make_spec(request), request.psum_bits, conv, *act.shape[1:]))
    equalities += (
        recovered.match,
        compare("activations on the array = the trained layer's", recovered.act[0], result.act),
        compare("integer convolution = the network's accumulators", recovered.network_acc, recovered.acc),
        result.check_psums(),
        compare("array outputs = the network's accumulators", recovered.network_acc[0], result.out),
        result.check(),
    )
    written = write_bundle(result, out, request.layout, request.force)
    equalities += tuple(verify_bundle(out))
    mapping = result.mapping
    times, (pass_bits, out_bits) = clocks(mapping), mapping.least_psum_bits()
    warning = mapping.bound_warning()
    if warning:
        request.progress(f"warning: {warning}")
    wrong = next((e for e in equalities if not e.holds), None)
    total = sum(e.compared for e in equalities)
    verdict = f"all equal: {total:,} elements in {len(equalities)} comparisons"
    return RunReport(
        holds=wrong is None,
        verdict=verdict if wrong is None else f"NOT EQUAL: {wrong.name}: {wrong}"[:180],
        notes=(*notes, *([warning] if warning else [])),
        model={"name": request.model, "run": dict(loaded.run)},
        picture={"source": source, "notes": list(notes)},
        prediction=_guess(recovered.logits[0]),
        integer_prediction=_guess(logits[0]),
        layer=_facts(result),
        array={"size": str(mapping.spec), "psum_bits": mapping.spec.psum_bits, "passes": mapping.passes},
        ranges=_ranges(result),
        least_psum_bits={"pass": pass_bits, "accumulated": out_bits},
        recovered={"max_difference": recovered.max_difference, "mean_difference": recovered.mean_difference},
        clocks={"whole_map": times.whole_map, "useful": times.useful},
        utilisation={"whole_map": times.utilisation, "useful": times.utilisation_useful},
        equalities=equalities,
        warnings=(warning,) if warning else (),
        bundle={"folder": str(out), "files": written.files, "words": written.words, "bytes": written.bytes},
        layout=request.layout,
        result=result,
    )


def _network(
    loaded: Loaded, model: str, layer: str, pixels: NDArray[np.uint8]
) -> tuple[tuple[Equality, ...], NDArray[np.int16], NDArray[Any]]:
    """The integer network beside the trained one, for one picture; what the layer takes there; the logits."""
    from systolith.frontends.verify import compare_pictures, of_results, prove

    lowered = loaded.lower()
    network = stored_network(model)[0] or lowered.network
    proofs = prove(lowered, network)
    (taken,) = network[layer].inputs
    integers = execute(network, pixels[None], *(step.name for step in network.steps))
    compared = compare_pictures(lowered, network, lambda _: of_results(network, integers), pixels[None])
    codes, logits, *_ = compared.equalities()
    different = next((e.first for e in proofs if e.different), "")
    compared_tables, different_tables = (sum(getattr(e, key) for e in proofs) for key in ("compared", "different"))
    name = "integer network: tables, weights, thresholds = the trained network's"
    equalities = (
        Equality(name, compared_tables, different_tables, different),
        replace(codes, name="integer network: every layer's codes = the trained network's"),
        replace(logits, name="integer network: logits = the trained network's"),
    )
    return equalities, as_conv(find_layer(network, layer), integers[taken][0])[1], integers[network.outputs[0]]


def _guess(logits: NDArray[Any]) -> Guess:
    """The classes that logits (classes,) name first and second."""
    order = np.argsort(-logits, kind="stable")
    names = CIFAR10_CLASSES if len(order) == 10 else tuple(map(str, range(len(order))))
    return Guess(int(order[0]), names[order[0]], names[order[1]])


def _facts(result: ArrayResult) -> LayerFacts:
    mapping = result.mapping
    conv = mapping.conv
    sizes = (mapping.height, mapping.width), mapping.padded_shape, mapping.output_shape
    formats = str(conv.act_format), str(conv.weight_format)
    return LayerFacts(conv.name, conv.in_channels, conv.out_channels, conv.kernel, *sizes, *formats)


def _ranges(result: ArrayResult) -> dict[str, tuple[int, int]]:
    tensors = {"act": result.act, "weight": result.mapping.conv.weight, "psum": result.psum, "out": result.out}
    return {name: (int(tensor.min()), int(tensor.max())) for name, tensor in tensors.items()}
