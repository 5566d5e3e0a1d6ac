"""`systolith check`: what RTL dumped against the golden vectors. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from systolith.cli import common, options


def check(
    bundle: Annotated[Path, typer.Argument(help="The bundle with the golden vectors.")],
    against: Annotated[Path, typer.Option("--against", help="The folder of files that the RTL dumped.")],
    layout: Annotated[
        str | None,
        typer.Option("--layout", help="Of the dumped files: a name or a .toml file. [default: the bundle's]"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare dumped psums and outputs with the golden ones; explain the first wrong word, name the mistake."""
    from systolith.vectors import find_layout, read_bundle
    from systolith.vectors.layout import layout_from
    from systolith.vectors.verdict import judge

    result, manifest = read_bundle(bundle)
    chosen = find_layout(layout) if layout else layout_from(manifest["layout"], f"{bundle}/manifest.json: layout")
    verdict = judge(result, chosen, against)
    matched, total = verdict.matched
    suspects = " or ".join(f"'{name}'" for name in verdict.suspects)
    if verdict.holds:
        last = f"all equal: {sum(level.words for level in verdict.levels):,} words"
    elif suspects:
        last = f"NOT EQUAL: matches {suspects} at {matched:,} of {total:,} words"
    else:
        wrong = sum(level.different for level in verdict.levels)
        last = f"NOT EQUAL: {wrong:,} words wrong, {total:,} expected; no mistake known here makes them"
    if as_json:
        common.print_json(
            {
                "bundle": str(bundle),
                "against": str(against),
                "levels": {lv.name: {"words": lv.words, "different": lv.different} for lv in verdict.levels},
                "first": verdict.first,
                "suspects": list(verdict.suspects),
                "matched": matched,
                "words": total,
                "holds": verdict.holds,
            }
        )
    else:
        rows = [(f"{lv.name}s", f"{lv.words - lv.different:,} of {lv.words:,} words equal") for lv in verdict.levels]
        if verdict.first:
            rows.append(("first", verdict.first))
        if len(verdict.suspects) > 1:
            rows.append(("suspects", f"these vectors cannot tell {suspects} apart"))
        common.print_rows([*rows, ("verdict", last[:190])])
    if not verdict.holds:
        raise typer.Exit(1)
