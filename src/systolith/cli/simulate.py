"""`systolith simulate`: every clock of a network's layers on the array, predicted, and stepped. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, layers, options
from systolith.cli.options import DEFAULT_MODEL

if TYPE_CHECKING:
    from systolith.array import Mapping, Observation, Schedule
    from systolith.array.account import Split, Traffic
    from systolith.equality import Equality

# The parts of the clocks, and their headings.
PARTS = {
    "load": "load %",
    "useful": "useful %",
    "padding": "padding %",
    "turnaround": "turn %",
    "drain": "drain %",
    "stalls": "stall %",
}
MEMORIES = ("act", "weight", "psum", "out")


@dataclass(frozen=True, eq=False)
class Row:
    """A layer: where it is, what is predicted of it, and what the machine did (None: not stepped)."""

    mapping: Mapping
    clocks: int
    sfp: int
    split: Split
    traffic: Traffic
    found: Observation | None


def simulate(
    positional: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="The same as --model.")] = None,
    model: Annotated[str | None, typer.Option("--model", help=f"As in `run`. [default: {DEFAULT_MODEL}]")] = None,
    layer: Annotated[str, typer.Option("--layer", help="One layer, several with commas between, or `all`.")] = "all",
    image: options.Image = None,
    data: options.Data = None,
    index: options.Index = None,
    array: options.Array = "8x8",
    act_bits: options.ActBits = 4,
    weight_bits: options.WeightBits = 4,
    psum_bits: Annotated[
        str | None,
        typer.Option("--psum-bits", help="Width of the accumulator, or `auto`. [default: 16; of all at least 16]"),
    ] = None,
    overflow: options.Overflow = "error",
    schedule: options.Streamed = "useful",
    drained: options.Drained = False,
    values: Annotated[
        bool,
        typer.Option(
            "--values/--no-values", help="Step every register with the picture's codes and compare; or only predict."
        ),
    ] = True,
    l0_depth: Annotated[int | None, typer.Option("--l0-depth", help="Words of the L0. [default: 2]")] = None,
    ofifo_depth: Annotated[
        int | None, typer.Option("--ofifo-depth", help="Words of a column of the OFIFO. [default: the columns]")
    ] = None,
    act_depth: Annotated[
        int | None, typer.Option("--act-depth", help="Words of the activation memory. [default: as needed]")
    ] = None,
    weight_depth: Annotated[
        int | None, typer.Option("--weight-depth", help="Words of the weight memory. [default: as needed]")
    ] = None,
    psum_depth: Annotated[
        int | None, typer.Option("--psum-depth", help="Words of the psum memory. [default: as needed]")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw where the clocks go, into a .svg or .png.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Predict every clock of a network on the array, step all registers of the array, and compare the two."""
    from systolith.array import Mapping, observe
    from systolith.array.account import Depths, require_capacity, sfp_clocks, split, traffic
    from systolith.formats import BadInput
    from systolith.report.clocks import FORMATS, plot_clocks

    model = common.one_model(positional, model)
    how = common.make_schedule(schedule, drained)
    if plot is not None:
        if plot.suffix.lower() not in FORMATS:
            raise BadInput(f"--plot {plot}: expected a name that ends in {' or '.join(FORMATS)}")
        common.require_extra("matplotlib", "train", "simulate --plot")
    if not values:
        common.go_without("--no-values takes no picture: it", {"--image": image, "--data": data, "--index": index})
    model = model or DEFAULT_MODEL
    depths = Depths(l0_depth, ofifo_depth, act_depth, weight_depth, psum_depth)
    grow = psum_bits is None and overflow == "error"
    spec = (array, act_bits, weight_bits, psum_bits or "16", overflow)
    pictures, number = [image] if image is not None else None, str(index) if index is not None else None
    found = [
        (Mapping(conv, wide, *act.shape[1:]), act)
        for _, conv, act, wide in layers.layers_of(
            model, layer, pictures, data, number, spec, grow, "simulate", executed=values
        )
    ]
    for mapping, _ in found:
        require_capacity(mapping, how, depths)
    rows = []
    with common.progress("clocks", sum(how.clocks(mapping) for mapping, _ in found)) as show:
        for mapping, act in found:
            seen = observe(mapping, act, how, depths) if values else None
            predicted = split(mapping, how), traffic(mapping, how)
            rows.append(Row(mapping, how.clocks(mapping), sfp_clocks(mapping, how), *predicted, seen))
            show(sum(row.clocks for row in rows))
    if plot is not None:
        plot_clocks({row.mapping.conv.name: row.split for row in rows}, f"{model} on {array}, {_said(how)}", plot)
    equalities = _summed(rows)
    wrong = next((row for row in rows if row.found is not None and not row.found.holds), None)
    if as_json:
        common.print_json(_plain(model, how, rows, equalities, wrong is None if values else None))
    else:
        picture = image.name if image else f"{data}, picture {index or 0}" if data else "the shipped cat.png"
        facts = [("model", model), ("picture", picture if values else "none"), ("schedule", _said(how))]
        common.print_rows([*facts, ("array", str(rows[0].mapping.spec))])
        headings, cells = _table(rows)
        common.print_table(headings, cells, right=headings[3:])
        listed = [("equal" if i == 0 else "", f"{e.name}: {e}") for i, e in enumerate(equalities)]
        common.print_rows([*listed, ("verdict", _verdict(rows, equalities, wrong))])
    if wrong is not None:
        raise typer.Exit(1)


def _said(how: Schedule) -> str:
    streamed = "useful positions" if how.useful else "the whole padded map"
    return f"{streamed}, {'drained between passes' if how.drained else 'passes pipelined'}"


def _total(rows: list[Row]) -> tuple[int, Split, int, float]:
    """Clocks, their parts, those of the SFP behind them, and the utilisation, of all layers."""
    from systolith.array.account import Split

    parts = Split(*(sum(getattr(row.split, part) for row in rows) for part in PARTS))
    lanes = rows[0].mapping.spec.rows * rows[0].mapping.spec.cols
    used = sum(row.mapping.macs for row in rows) / (lanes * parts.clocks)
    return sum(row.clocks for row in rows), parts, sum(row.sfp for row in rows), used


def _summed(rows: list[Row]) -> list[Equality]:
    """The comparisons of all layers, by name; a difference says of which layer."""
    from systolith.equality import Equality

    found: dict[str, Equality] = {}
    for row in rows:
        for e in row.found.equalities if row.found is not None else ():
            before = found.get(e.name, Equality(e.name, 0, 0))
            first = before.first or (e.first and f"{row.mapping.conv.name}{e.first}")
            found[e.name] = Equality(e.name, before.compared + e.compared, before.different + e.different, first)
    return list(found.values())


def shares(parts: list[int]) -> list[str]:
    """Percentages of one decimal that sum to 100.0: rounded down, the rest to those that lost most."""
    whole = sum(parts)
    tenths = [1000 * part // whole for part in parts]
    lost = sorted(range(len(parts)), key=lambda i: -(1000 * parts[i] % whole))
    for i in lost[: 1000 - sum(tenths)]:
        tenths[i] += 1
    return [f"{tenth // 10}.{tenth % 10}" for tenth in tenths]


def _table(rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row a layer, and the sum of several: clocks, their parts in percent, the SFP's behind them, memories in kB."""
    from systolith.array.timing import utilisation

    def cells(clocks: int, parts: Split, sfp: int, used: float, moved: list[int]) -> tuple[str, ...]:
        percent = shares([getattr(parts, part) for part in PARTS])
        return (f"{clocks:,}", *percent, f"{sfp:,}", f"{used:.1%}", *(f"{bits / 8000:,.1f}" for bits in moved))

    def moved(row: Row) -> list[int]:
        return [getattr(row.traffic, memory).bits_moved for memory in MEMORIES]

    listed: list[tuple[str, ...]] = []
    for row in rows:
        mapping, conv = row.mapping, row.mapping.conv
        place = (conv.name, f"{conv.in_channels}->{conv.out_channels}", f"{mapping.height}x{mapping.width}")
        used = utilisation(mapping, row.clocks)
        listed.append((*place, f"{mapping.passes:,}", *cells(row.clocks, row.split, row.sfp, used, moved(row))))
    if len(rows) > 1:
        clocks, parts, sfp, used = _total(rows)
        sums = [sum(column) for column in zip(*map(moved, rows), strict=True)]
        passes = sum(row.mapping.passes for row in rows)
        listed.append((f"{len(rows)} layers", "", "", f"{passes:,}", *cells(clocks, parts, sfp, used, sums)))
    headings = ("layer", "channels", "map", "passes", "clocks", *PARTS.values(), "SFP", "used")
    return (*headings, *(f"{memory} kB" for memory in MEMORIES)), listed


def _verdict(rows: list[Row], equalities: list[Equality], wrong: Row | None) -> str:
    clocks, parts, _, used = _total(rows)
    said = f"{clocks:,} clocks, {used:.1%} of the multipliers"
    if not equalities:
        return f"predicted, not stepped: {said}"
    if wrong is None:
        compared = sum(e.compared for e in equalities)
        return f"all equal: {compared:,} elements in {len(equalities)} comparisons; {said}, {parts.stalls} stalls"
    different = next((e for e in equalities if not e.holds), None)
    if different is not None:
        return f"NOT EQUAL: {different.name}: {different}"[:180]
    return f"NOT EQUAL: {wrong.mapping.conv.name}: a queue overran, or a sum was read before it was written"


def _plain(
    model: str, how: Schedule, rows: list[Row], equalities: list[Equality], holds: bool | None
) -> dict[str, Any]:
    from dataclasses import asdict

    from systolith.array import contract
    from systolith.array.account import needed_depths
    from systolith.array.timing import utilisation

    clocks, parts, sfp, used = _total(rows)
    return {
        "model": model,
        "array": str(rows[0].mapping.spec),
        "contract": contract(rows[0].mapping.spec).as_dict(),
        "schedule": asdict(how),
        "layers": [
            {
                "name": row.mapping.conv.name,
                "in_channels": row.mapping.conv.in_channels,
                "out_channels": row.mapping.conv.out_channels,
                "input": [row.mapping.height, row.mapping.width],
                "act_bits": row.mapping.spec.act_bits,
                "weight_bits": row.mapping.spec.weight_bits,
                "psum_bits": row.mapping.spec.psum_bits,
                "passes": row.mapping.passes,
                "macs": row.mapping.macs,
                "clocks": row.clocks,
                "sfp_clocks": row.sfp,
                "split": asdict(row.split),
                "utilisation": utilisation(row.mapping, row.clocks),
                "traffic": asdict(row.traffic),
                "needed_depths": asdict(needed_depths(row.mapping, how)),
                "machine": row.found and _observed(row.found),
            }
            for row in rows
        ],
        "total": {"clocks": clocks, "split": asdict(parts), "sfp_clocks": sfp, "utilisation": used},
        "equalities": [asdict(e) for e in equalities],
        "holds": holds,
    }


def _observed(found: Observation) -> dict[str, Any]:
    """What the machine counted."""
    from dataclasses import asdict

    return {key: value for key, value in asdict(found).items() if key != "equalities"}
