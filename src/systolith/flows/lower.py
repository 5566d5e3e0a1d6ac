"""`lower`: a trained model to its integer network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.network import IntegerNetwork
from systolith.network.file import add_network, save_network
from systolith.network.requantize import to_fixed_point
from systolith.requests.verbs import LowerRequest
from systolith.steps.common import NODE_HEADINGS, require_extra
from systolith.steps.values import hidden
from systolith.store import save_model_file


@dataclass(frozen=True)
class FixedPointBits:
    """Of a requantization as `(acc*M + B) >> S`: its channels, the bits that M, B and the sum need, and what M is.

    `rounding` is "floor", as a shift does, or "even", where only half to even gives the codes.
    """

    name: str
    channels: int
    multiplier_bits: int
    bias_bits: int
    sum_bits: int
    most_shift: int
    least_multiplier: int
    most_multiplier: int
    rounding: str


@dataclass(frozen=True, kw_only=True)
class LowerReport(Report):
    """The integer network of a model.

    Attributes:
        model: what was lowered.
        steps: its nodes: name, node, takes, shape, result, detail.
        channels, points: those with thresholds, and accumulators at which the thresholds were proved.
        fixed_point: by requantization, where asked for.
        files: those written; none unless everything is proved.
        network: the integer network itself.
    """

    verb: ClassVar[str] = "lower"
    model: str
    steps: tuple[Mapping[str, str], ...]
    channels: int
    points: int
    fixed_point: tuple[FixedPointBits, ...]
    files: tuple[str, ...]
    network: IntegerNetwork = field(metadata=hidden(), repr=False)


@flow(LowerRequest)
def lower(request: LowerRequest) -> LowerReport:
    """Turn a trained model into a network of integers and prove its thresholds; write both into one file.

    Returns:
        The nodes and the proof; `network` computes with integers alone.

    Raises:
        BadInput: no such model, a module that has no integer form, or a file that is there already.

    Examples:
        >>> import systolith as sl
        >>> report = sl.lower("vgg16-w4a4-s8")
        >>> report.holds, report.channels
        (True, 3216)
    """
    require_extra("torch", "torch", "lower")
    if request.onnx is not None:
        require_extra("onnx", "onnx", "lower --onnx")
    from systolith.frontends.verify import prove
    from systolith.importers.loading import load_any
    from systolith.models import to_model_file

    out, onnx = (None if path is None else Path(path) for path in (request.out, request.onnx))
    for path in (out, onnx):
        if path is not None and (path.is_dir() or (path.exists() and not request.force)):
            raise BadInput(f"{path}: exists already; --force replaces a file")
    loaded = load_any(request.model)
    lowered = loaded.lower()
    network = lowered.network
    proofs = prove(lowered, network)
    failed = next((e for e in proofs if not e.holds), None)
    points = sum(e.compared for e in proofs if e.name.endswith("thresholds"))
    channels = sum(len(node.thresholds.values) for node in network.requantizes.values())
    forms = _fixed_point(network, request.multiplier_bits) if request.fixed_point else ()
    if out is not None and failed is None:
        if request.integers_only or not loaded.has_config:
            save_network(out, network, loaded.run)
        else:
            save_model_file(out, add_network(to_model_file(loaded.own, loaded.run), network))
    if onnx is not None and failed is None:
        from systolith.exports.onnx import save_onnx

        save_onnx(network, onnx)
    verdict = f"lowered: {len(network.steps)} nodes, {channels:,} channels, thresholds proved at {points:,} points"
    return LowerReport(
        holds=failed is None,
        verdict=verdict if failed is None else f"NOT PROVED: {failed.name}: {failed}"[:180],
        model=loaded.name,
        steps=tuple(dict(zip(NODE_HEADINGS, row, strict=True)) for row in network.table()),
        channels=channels,
        points=points,
        fixed_point=forms,
        files=tuple(str(path) for path in (out, onnx) if path is not None and failed is None),
        network=network,
    )


def _fixed_point(network: IntegerNetwork, multiplier_bits: int) -> tuple[FixedPointBits, ...]:
    forms = []
    for name, node in network.requantizes.items():
        t = node.thresholds
        form = to_fixed_point(name, t, multiplier_bits)
        m, bits = form.multiplier, form.bits(t.lo, t.hi)
        shift, least, most = (int(end) for end in (form.shift.max(), m.min(), m.max()))
        forms.append(FixedPointBits(name, len(t.values), *bits, shift, least, most, form.rounding))
    return tuple(forms)
