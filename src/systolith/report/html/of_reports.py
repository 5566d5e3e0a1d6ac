"""What the page of each verb shows beside its text: made from the report alone."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from systolith.array import run_mapped
from systolith.flows.flow import Report
from systolith.mutation.run import FATES
from systolith.report.html.arrays import Layer, animation, clock_bars, histograms, timing, utilisations
from systolith.report.html.chains import chain_of
from systolith.report.html.codes import maps
from systolith.report.html.designs import figures as designs
from systolith.report.html.figures import Bars, Curves, Figure, Heatmap, Pictures, buckets
from systolith.report.parts import Table
from systolith.timing import Schedule

_MOST_BUCKETS = 40


def figures_of(report: Report) -> Iterator[Any]:
    """The chain first, then what one sees, then tables that the text has no room for."""
    chain = chain_of(report)
    if chain is not None:
        yield chain
    make = _MAKERS.get(type(report).__name__)
    if make is not None:
        yield from make(report)


def _run(report: Any) -> Iterator[Figure]:
    result = report.result
    yield from _on_array([(result.mapping.conv.name, result.mapping, result.act, Schedule())])


def _simulate(report: Any) -> Iterator[Figure]:
    rows = [row for row in report.rows if row.act is not None]
    layers = [(row.mapping.conv.name, row.mapping, row.act, row.choice.schedule) for row in rows]
    if layers:
        yield from _on_array(layers)
    else:  # nothing was stepped
        yield clock_bars([(row.mapping.conv.name, row.mapping, row.choice.schedule) for row in report.rows])


def _cosim(report: Any) -> Iterator[Figure]:
    yield from _on_array([(one.planned.name, one.planned.mapping, one.act, one.planned.schedule) for one in report.ran])


def _on_array(layers: list[Layer]) -> Iterator[Figure]:
    yield animation(layers)
    yield timing(layers[0])
    yield clock_bars([(name, mapping, how) for name, mapping, _, how in layers])
    yield utilisations(layers)
    if len(layers) == 1:
        _, mapping, act, _ = layers[0]
        yield from histograms(run_mapped(mapping, act))


def _check(report: Any) -> Iterator[Figure]:
    """Where words differ: a row a file, its words from left to right."""
    for level in dict.fromkeys(one.level for one in report.maps):
        files = [one for one in report.maps if one.level == level]
        if not any(one.wrong.any() for one in files):
            continue
        size, cols = buckets(max(len(one.wrong) for one in files), _MOST_BUCKETS)
        values, details = [], {}
        for r, one in enumerate(files):
            counts: list[float | None] = []
            words = one.words
            for c in range(len(cols)):
                start = c * size
                part = one.wrong[start : start + size]
                counts.append(float(part.sum()) if len(part) else None)
                told = [text for line, text in words if start <= line < start + size]
                if part.any():
                    more = int(part.sum()) - len(told)
                    details[r, c] = "\n\n".join([*told, *([f"{more:,} more here"] if more else [])])
            values.append(counts)
        what = (
            "Wrong words of a file, by the word's number in it; choose one to see what it should be, down to products."
        )
        yield Heatmap(
            f"Where {level} words differ",
            [one.name for one in files],
            cols,
            values,
            what,
            "",
            "file, word",
            True,
            details,
        )


def _verify(report: Any) -> Iterator[Any]:
    rows = [(name, f"{one.compared:,}", f"{one.different:,}") for name, one in report.layers.items()]
    yield Table(("layer", "codes compared", "different"), rows, ("codes compared", "different"))
    yield from maps(report)


def _grade(report: Any) -> Iterator[Figure]:
    """By PE: what slips through, and what is revealed."""
    graded = report.graded

    def place(fault: Any) -> tuple[int, int] | None:
        at = dict(fault.at)
        return (int(at["row"]), int(at["col"])) if "row" in at and "col" in at else None

    every = [p for fault in graded.faults if (p := place(fault)) is not None]
    if not every:
        return
    rows, cols = (max(p[i] for p in every) + 1 for i in (0, 1))
    slip: dict[tuple[int, int], list[str]] = {}
    for one in graded.survivors:
        if (p := place(one.fault)) is not None:
            slip.setdefault(p, []).append(f"{one.fault}; {one.revealed_by} reveals it")
    for fault in graded.unknown:
        if (p := place(fault)) is not None:
            slip.setdefault(p, []).append(f"{fault}: unknown")
    total, found = Counter(every), Counter(p for fault in graded.detected if (p := place(fault)) is not None)
    names = [f"row {r}" for r in range(rows)], [f"col {c}" for c in range(cols)]
    missed = [[len(slip.get((r, c), ())) for c in range(cols)] for r in range(rows)]
    more = {p: "\n".join(texts) for p, texts in slip.items()}
    what = "Faults of a processing element that no golden word reveals, though some stimulus would; choose to see them."
    yield Heatmap("Faults that slip through", *names, missed, what, bad=True, details=more)
    share = [
        [round(100 * found[r, c] / total[r, c]) if total[r, c] else None for c in range(cols)] for r in range(rows)
    ]
    yield Heatmap("Faults revealed", *names, share, "Of the faults simulated in a processing element.", "%")


def _mutate(report: Any) -> Iterator[Any]:
    if report.listed is not None:
        return
    for what, counts in (("module", report.modules), ("operator", report.operators)):
        kept = {name: one for name, one in counts.items() if one.mutants}
        parts = {fate: [getattr(one, fate) for one in kept.values()] for fate in FATES}
        yield Bars(f"Mutants by {what}", list(kept), parts, "Mutants")
    rows = [(p.file, str(p.line), p.operator, p.change, p.source, p.why) for p in report.survivors]
    if rows:
        yield Table(("file", "line", "operator", "change", "source", "what would reveal it"), rows, ("line",))


def _evaluate(report: Any) -> Iterator[Figure]:
    names = [str(name) for name in report.classes]
    values = report.confusion.tolist()
    what = "A row holds the pictures of a class, a column what they are taken for."
    yield Heatmap("Confusion matrix", names, names, values, what, corner="is, taken for")
    if report.worst:
        shown = [(_data_url(one.pixels), f"{one.label}, taken for {one.answer}") for one in report.worst]
        wrong = report.total - report.correct
        yield Pictures(f"The worst {len(shown)} of {wrong:,} wrong pictures", shown)


def _train(report: Any) -> Iterator[Figure]:
    if len(report.log) > 1:
        epochs = [float(row["epoch"]) for row in report.log]
        lines = {"training loss": [float(row["loss"]) for row in report.log]}
        if all(row.get("holdout") not in (None, "") for row in report.log):
            lines["held-out accuracy"] = [float(row["holdout"]) for row in report.log]
        yield Curves("The run", "epochs", epochs, lines)


def _data_url(pixels: Any) -> str:
    """A picture (C, H, W), uint8, as PNG inside a URL."""
    from PIL import Image

    made, height = io.BytesIO(), np.asarray(pixels).transpose(1, 2, 0)
    Image.fromarray(height).save(made, "png")
    return f"data:image/png;base64,{base64.b64encode(made.getvalue()).decode()}"


_MAKERS: Mapping[str, Callable[[Any], Iterator[Any]]] = {
    "RunReport": _run,
    "SimulateReport": _simulate,
    "CosimReport": _cosim,
    "CheckReport": _check,
    "VerifyReport": _verify,
    "GradeReport": _grade,
    "MutateReport": _mutate,
    "EvaluateReport": _evaluate,
    "TrainReport": _train,
    "ExploreReport": designs,
}
