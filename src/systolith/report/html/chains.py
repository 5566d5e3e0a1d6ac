"""Which links of the chain a report speaks of, and whether they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from systolith.equality import Equality
from systolith.flows.flow import Report
from systolith.report.html.figures import STAGES, Chain

TRAINED, INTEGERS, ARRAY, VECTORS, RTL = STAGES
Lines = Mapping[str, tuple[tuple[str, bool], ...]]
"""Of each stage, sentences, and whether what each says is equal."""


def chain_of(report: Report) -> Chain | None:
    """The boxes of a report; None where it compares nothing of the chain."""
    make = _MAKERS.get(report.verb)
    if make is None:
        return None
    found: Lines = make(report)
    lines = {stage: [text for text, _ in said] for stage, said in found.items()}
    return Chain(lines, {stage: all(right for _, right in said) for stage, said in found.items() if said})


def _equalities(all_of: Iterable[Equality], stage: Any) -> Lines:
    found: dict[str, tuple[tuple[str, bool], ...]] = {}
    for one in all_of:
        place = stage(one.name)
        found[place] = (*found.get(place, ()), (f"{one.name}: {one}", one.holds))
    return found


def _stage(name: str) -> str:
    """Of an equality of `run`, by what it is about."""
    if name.startswith("integer network"):
        return INTEGERS
    if "file" in name or "read back" in name:
        return VECTORS
    return TRAINED if name.startswith(("relu", "acc", "max")) or "receives" in name else ARRAY


def _run(report: Any) -> Lines:
    return _equalities(report.equalities, _stage)


def _verify(report: Any) -> Lines:
    proofs = [e for e in report.proofs if e.compared]
    proved = sum(e.compared for e in proofs), sum(e.different for e in proofs)
    codes = f"{report.codes - report.different:,} of {report.codes:,} codes equal, {report.images:,} pictures"
    logits = report.logits
    return {
        TRAINED: ((codes, not report.different),),
        INTEGERS: (
            (f"{proved[0] - proved[1]:,} of {proved[0]:,} thresholds, weights and tables equal", not proved[1]),
            (f"{logits.compared - logits.different:,} of {logits.compared:,} logits equal", not logits.different),
        ),
    }


def _check(report: Any) -> Lines:
    said = tuple(
        (f"{name}: {one.words - one.different:,} of {one.words:,} words equal", not one.different)
        for name, one in report.levels.items()
    )
    return {RTL: said}


def _grade(report: Any) -> Lines:
    return {VECTORS: ((f"{report.detected:,} of {report.faults:,} faults revealed", report.holds),)}


def _simulate(report: Any) -> Lines:
    return _equalities(report.equalities, lambda name: ARRAY)


def _cosim(report: Any) -> Lines:
    name = type(report).__name__
    if name == "ProjectReport":
        return {RTL: ((f"{report.passed:,} of {len(report.runs):,} runs pass", report.holds),)}
    if name == "StressReport":
        return {RTL: ((f"{report.words:,} words and {report.timestamps:,} timestamps", report.holds),)}
    holds = all(one.holds for one in report.layers)
    clocks = f"{report.clocks:,} clocks, {report.predicted:,} predicted"
    found: dict[str, tuple[tuple[str, bool], ...]] = {
        ARRAY: ((clocks, report.clocks == report.predicted),),
        RTL: ((f"{report.words:,} words and {report.timestamps:,} timestamps compared", holds),),
    }
    if report.number is not None:
        said = f"class {report.number} from the core, {report.network_class} from the network"
        found[INTEGERS] = ((said, report.number == report.network_class),)
    return found


def _mutate(report: Any) -> Lines:
    if report.listed is not None:
        return {}
    return {RTL: ((report.verdict, report.holds),)}


_MAKERS: Mapping[str, Any] = {
    "run": _run,
    "verify": _verify,
    "check": _check,
    "grade": _grade,
    "simulate": _simulate,
    "cosim": _cosim,
    "mutate": _mutate,
}
