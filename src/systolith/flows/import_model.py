"""`import`: somebody's model file to a network of integers, compared with what the file itself computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from systolith.equality import Equality
from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.network import IntegerNetwork
from systolith.network.file import save_network
from systolith.requests.verbs import ImportRequest
from systolith.steps.common import NODE_HEADINGS, require_extra
from systolith.steps.compared import pictures_to_compare
from systolith.steps.values import hidden


@dataclass(frozen=True, kw_only=True)
class ImportReport(Report):
    """A file's network in integers.

    Attributes:
        file, kind: the file, and what it is: QONNX, QDQ or checkpoint.
        steps: the nodes: name, node, takes, shape, result, detail.
        images, pictures: how many were compared, and what they are.
        equalities: thresholds and codes against the file's operations done in torch, codes first.
        runtime: the codes of a QDQ file against onnxruntime's, a comparison a tensor; a tie counts as different.
        ties: each code that differs from onnxruntime's, explained.
        files: those written.
        network: the integer network itself.
    """

    verb: ClassVar[str] = "import"
    file: str
    kind: str
    steps: tuple[Mapping[str, str], ...]
    images: int
    pictures: str
    equalities: tuple[Equality, ...]
    runtime: tuple[Equality, ...]
    ties: tuple[str, ...]
    files: tuple[str, ...]
    network: IntegerNetwork = field(metadata=hidden(), repr=False)


@flow(ImportRequest)
def import_model(request: ImportRequest) -> ImportReport:
    """Turn somebody's model file into a network of integers; prove it, compare it, and write it.

    Returns:
        What was compared, the first difference located; ties with onnxruntime one by one.

    Raises:
        BadInput: a file that cannot be read, or holds what has no place in an integer network, by its name.

    Examples:
        >>> import systolith as sl
        >>> report = sl.import_model("resnet_qdq.onnx", out="resnet.safetensors")
        >>> report.kind, report.holds
        ('QDQ', True)
    """
    require_extra("torch", "torch", "import")
    file, out = Path(request.file), None if request.out is None else Path(request.out)
    if file.suffix == ".onnx":
        require_extra("onnx", "onnx", "import of an ONNX file")
    from systolith.frontends.verify import by_plan, compare_pictures, prove
    from systolith.importers.loading import load_any
    from systolith.network.execute import plan

    if out is not None and (out.is_dir() or (out.exists() and not request.force)):
        raise BadInput(f"{out}: exists already; --force replaces a file")
    mean, std = (_numbers(flag, text) for flag, text in (("--mean", request.mean), ("--std", request.std)))
    loaded = load_any(str(file), mean, std, request.weight_bits, request.act_bits)
    if loaded.foreign is None:
        raise BadInput(f"{file}: a model of systolith's own; `systolith lower` makes integers of it")
    for note in loaded.notes:
        request.progress(note)
    lowered = loaded.lower()
    network = lowered.network
    pixels, _, pictures = pictures_to_compare(request.data, request.limit, network.values[network.input.name].shape)
    proofs = prove(lowered, network)
    compared = compare_pictures(lowered, network, by_plan(plan(network)), pixels)
    equalities = (*proofs, *compared.equalities())
    runtime: tuple[Equality, ...] = ()
    ties: tuple[str, ...] = ()
    holds = all(e.holds for e in equalities)
    if loaded.foreign.kind == "QDQ":
        require_extra("onnxruntime", "onnx", "import of a QDQ file")
        from systolith.importers.original import compare_with_onnxruntime

        original = compare_with_onnxruntime(file, loaded.foreign, lowered, pixels)
        runtime, ties = original.equalities, tuple(map(str, original.ties))
        holds = holds and original.holds
    if out is not None and holds:
        save_network(out, network, loaded.run)
    return ImportReport(
        holds=holds,
        verdict=_verdict(holds, equalities, runtime, len(ties), len(pixels)),
        notes=loaded.notes,
        file=str(file),
        kind=loaded.foreign.kind,
        steps=tuple(dict(zip(NODE_HEADINGS, row, strict=True)) for row in network.table()),
        images=len(pixels),
        pictures=pictures,
        equalities=equalities,
        runtime=runtime,
        ties=ties,
        files=(str(out),) if out is not None and holds else (),
        network=network,
    )


def _verdict(
    holds: bool, equalities: tuple[Equality, ...], runtime: tuple[Equality, ...], ties: int, images: int
) -> str:
    failed = next((e for e in equalities if not e.holds), None)
    if failed is not None:
        return f"NOT EQUAL: {failed.name}: {failed}"[:190]
    codes = next(e for e in equalities if e.name == "codes of every layer")
    text = f"proved and equal: 0 of {codes.compared:,} codes differ, {images:,} images"
    if not runtime:
        return text
    compared = sum(e.compared for e in runtime)
    if not holds:
        first = next((e for e in runtime if e.different), runtime[0])
        return f"NOT onnxruntime's codes: {first.name}: {first}"[:190]
    how = f"{ties:,} ties of rounded floats" if ties else "all equal"
    return f"{text}; onnxruntime's: {compared:,} codes, {how}"


def _numbers(flag: str, text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise BadInput(f"{flag} {text!r}: expected numbers with commas between them") from None
