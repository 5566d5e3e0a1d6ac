"""`verify`: the trained network = the integer network, proved and compared code by code."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from systolith.array.spec import ArraySpec, parse_size
from systolith.equality import Equality
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.network import IntegerNetwork
from systolith.requests.verbs import VerifyRequest
from systolith.steps.common import go_without, require_cluster, require_extra
from systolith.steps.compared import pictures_to_compare
from systolith.steps.narrow import Narrow, narrow_accuracy
from systolith.steps.values import hidden

if TYPE_CHECKING:
    from systolith.frontends.verify import WrongCode

SEEDED = 256
"""Pictures of random pixels where no data are given, and of real ones that narrow accumulators are tried on."""
EXECUTORS = ("fast", "reference", "onnx")


@dataclass(frozen=True)
class Counted:
    """Elements compared, and how many of them differ."""

    compared: int
    different: int


@dataclass(frozen=True, kw_only=True)
class VerifyReport(Report):
    """The trained network beside the integer network.

    Attributes:
        model, network, executor, pictures, images: what was compared with what, on how many pictures.
        codes, different, first: activation codes of all layers, how many differ, and the first that does.
        layers: the same by layer.
        proofs: thresholds at both sides of each, and weights, biases and tables as the trained network uses them.
        logits: of the last layer.
        correct, total: right answers of each network, where the pictures are labelled.
        least_psum_bits: the least safe accumulator, by layer.
        narrow: what narrower ones would do, by overflow.
        images_per_s: of comparing.
        engine: what ran the integers, in words.
        wrong: the first codes that differ, of the network `integers` on the pictures `pixels`, uint8 (N, C, H, W).
    """

    verb: ClassVar[str] = "verify"
    model: str
    network: str
    executor: str
    pictures: str
    images: int
    codes: int
    different: int
    first: str
    layers: Mapping[str, Counted]
    proofs: tuple[Equality, ...]
    logits: Counted
    correct: Mapping[str, int]
    total: int
    least_psum_bits: Mapping[str, int]
    narrow: Mapping[str, Narrow]
    images_per_s: float
    engine: str = field(metadata=hidden())
    psum_bits: int | None = field(metadata=hidden())
    wrong: tuple[WrongCode, ...] = field(metadata=hidden(), repr=False)
    integers: IntegerNetwork = field(metadata=hidden(), repr=False, compare=False)
    pixels: NDArray[np.uint8] = field(metadata=hidden(), repr=False, compare=False)


@flow(VerifyRequest)
def verify(request: VerifyRequest) -> VerifyReport:
    """Prove every threshold of the integer network, and compare every activation code with the trained network's.

    Returns:
        Codes compared and different, layer by layer, with the first difference located.

    Raises:
        BadInput: no such model or data, a network of another model, or labels that it has no class for.

    Examples:
        >>> import systolith as sl
        >>> report = sl.verify("vgg16-w4a4-s8", limit=2)
        >>> report.holds, report.different
        (True, 0)
    """
    require_extra("torch", "torch", "verify")
    from systolith.frontends.verify import least_psum_bits, prove
    from systolith.network.execute import plan
    from systolith.steps.comparing import asked_of, compare_all, compare_elsewhere, pair_of

    if request.executor not in EXECUTORS:
        raise BadInput(f"--executor {request.executor!r}: expected one of {', '.join(EXECUTORS)}")
    if request.executor == "onnx":
        for module in ("onnx", "onnxruntime"):
            require_extra(module, "onnx", "verify --executor onnx")
    spec = None
    if request.psum_bits is not None:
        # Lanes for every layer; they do not change a sum.
        spec = ArraySpec(*parse_size(request.array), 8, 8, request.psum_bits)
    given = None if request.network is None else Path(request.network)
    if request.scheduler is not None:
        asked = asked_of(request.model, given, request.executor)
        require_cluster(request.scheduler, "verify")
    pair = pair_of(request.model, given)
    integers, classes = pair.integers, pair.run.get("classes")
    shape = integers.values[integers.input.name].shape
    pixels, labels, pictures = pictures_to_compare(
        request.data, request.limit or SEEDED * (request.data is None), shape
    )
    if not integers.classifies:
        labels = None
        go_without("a network that names no class", {"--psum-bits": request.psum_bits})
    if labels is not None and int(labels.max()) >= integers.classes:
        raise BadInput(
            f"{pictures} has labels up to {labels.max()}, the network {integers.classes} classes ({classes})"
        )
    proofs = tuple(prove(pair.lowered, integers))
    begin = time.perf_counter()
    planned = plan(integers)

    def progress(done: int) -> None:
        request.progress("verifying", done, len(pixels))

    if request.scheduler is not None:
        compared = compare_elsewhere(asked, pixels, progress, request.scheduler)
    else:
        compared = compare_all(pair, planned, request.executor, pixels, progress)
    seconds = time.perf_counter() - begin
    codes = compared.equalities()[0]
    failed = next((e for e in [*proofs, *compared.equalities()] if not e.holds), None)
    images = f"{compared.images:,} images"
    if failed is None:
        verdict = f"proved and equal: 0 of {codes.compared:,} codes differ, {images}"
    elif failed in compared.equalities():
        verdict = f"NOT EQUAL: {codes.different:,} of {codes.compared:,} codes differ, {images}"
    else:
        verdict = f"NOT PROVED: {failed.name}: {failed}"[:190]
    correct = {}
    if labels is not None:
        for name, answers in (("trained", compared.trained), ("integer", compared.integer)):
            correct[name] = int((np.concatenate(answers) == labels).sum())
    narrow = {}
    if spec is not None:
        first = slice(request.limit or SEEDED)
        narrow = narrow_accuracy(
            planned, pixels[first], None if labels is None else labels[first], spec, request.progress
        )
    return VerifyReport(
        holds=failed is None,
        verdict=verdict,
        model=pair.name,
        network=pair.whence,
        executor=request.executor,
        pictures=pictures,
        images=compared.images,
        codes=codes.compared,
        different=codes.different,
        first=codes.first,
        layers={name: Counted(*counts) for name, counts in compared.codes.items()},
        proofs=proofs,
        logits=Counted(*compared.logits),
        correct=correct,
        total=len(pixels),
        least_psum_bits=least_psum_bits(integers),
        narrow=narrow,
        images_per_s=round(compared.images / seconds, 1),
        engine=f"fast: {planned}" if request.executor == "fast" else request.executor,
        psum_bits=request.psum_bits,
        wrong=tuple(compared.wrong),
        integers=integers,
        pixels=pixels,
    )
