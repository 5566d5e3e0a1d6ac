"""`systolith check`: what RTL dumped against the golden vectors. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from systolith.cli import common, options

if TYPE_CHECKING:
    from systolith.verdict.judge import Verdict


def check(
    bundle: Annotated[Path, typer.Argument(help="The bundle with the golden vectors.")],
    against: Annotated[
        Path,
        typer.Option("--against", help="What the RTL dumped: a folder of files, a time,value log, or a .vcd or .fst."),
    ],
    layout: Annotated[
        str | None,
        typer.Option("--layout", help="Of the dumped files: a name or a .toml file. [default: the bundle's]"),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            "--level",
            help="What a log or signal holds: psum, sfp (outputs before ReLU, where the layout has both) or output. "
            "[default: by the file's name, then by the number of words, then output]",
        ),
    ] = None,
    radix: Annotated[
        str | None, typer.Option("--radix", help="Of a log's values: bin, hex or dec. [default: the layout's]")
    ] = None,
    signal: Annotated[
        str | None, typer.Option("--signal", help="Of a waveform: the words, such as top.dut.out.")
    ] = None,
    valid: Annotated[str | None, typer.Option("--valid", help="Of a waveform: 1 where the signal is a word.")] = None,
    clock: Annotated[
        str | None, typer.Option("--clock", help="Of a waveform: a word at each rising edge, as before the edge.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare dumped psums and outputs with the golden ones; explain the first wrong word, name the mistake."""
    from systolith.formats import BadInput
    from systolith.vectors import find_layout, read_bundle
    from systolith.vectors.layout_file import layout_from
    from systolith.verdict.judge import judge
    from systolith.verdict.words import RADIXES, WAVEFORMS, How

    if radix not in (None, *RADIXES):
        raise BadInput(f"--radix {radix!r}: expected one of {', '.join(RADIXES)}")
    if against.suffix.lower() in WAVEFORMS:
        common.require_extra("pywellen", "waves", f"check of a {against.suffix} file")
    result, manifest = read_bundle(bundle)
    chosen = find_layout(layout) if layout else layout_from(manifest["layout"], f"{bundle}/manifest.json: layout")
    verdict = judge(result, chosen, against, How(level, radix, signal, valid, clock))
    if as_json:
        common.print_json({"bundle": str(bundle), "against": str(against), **_plain(verdict)})
    else:
        common.print_rows(_rows(verdict))
    if not verdict.holds:
        raise typer.Exit(1)


def _plain(verdict: Verdict) -> dict[str, object]:
    matched, total = verdict.matched
    return {
        "levels": {lv.name: {"words": lv.words, "different": lv.different} for lv in verdict.levels},
        "first": verdict.first,
        "suspects": list(verdict.suspects),
        "matched": matched,
        "words": total,
        "closest": [a.name for a in verdict.closest],
        "would_be": {a.name: {"value": a.value, "words": a.words} for a in verdict.alternatives},
        "holds": verdict.holds,
    }


def _rows(verdict: Verdict) -> list[tuple[str, str]]:
    matched, total = verdict.matched
    suspects = " or ".join(f"'{name}'" for name in verdict.suspects)
    rows = [(lv.name, f"{lv.words - lv.different:,} of {lv.words:,} words equal") for lv in verdict.levels]
    if verdict.first:
        rows.append(("first", verdict.first))
    # By value, the likeliest mistakes first; those that leave this word right say nothing about it.
    would: dict[str, list[str]] = {}
    for a in verdict.alternatives:
        if a.value != verdict.expected:
            would.setdefault(a.value, []).append(a.name)
    rows += [("instead", f"{value} under {', '.join(names)}") for value, names in would.items()]
    rows += [("closest", f"'{a.name}' at {a.words:,} of {total:,} words") for a in verdict.closest]
    if len(verdict.suspects) > 1:
        rows.append(("suspects", f"these vectors cannot tell {suspects} apart"))
    if verdict.holds:
        last = f"all equal: {total:,} words"
    elif suspects:
        last = f"NOT EQUAL: matches {suspects} at {matched:,} of {total:,} words"
    else:
        wrong = sum(level.different for level in verdict.levels)
        last = f"NOT EQUAL: {wrong:,} words wrong, {total:,} expected; no mistake known here makes them"
        if verdict.closest:
            best = verdict.closest[0]
            last += f" all; closest: '{best.name}' at {best.words:,} of {total:,} words"
    return [*rows, ("verdict", last[:190])]
