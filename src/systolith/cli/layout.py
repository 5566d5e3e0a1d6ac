"""`systolith layout`: show a layout, make one, and find out which one a folder is in. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from systolith.cli import common, options, stimulus
from systolith.cli.convert import geometry_options

app = typer.Typer(help="File formats of testbenches: show, new, check.", no_args_is_help=True, rich_markup_mode=None)


@app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(help="A layout's name or .toml file; without it, all names.")] = None,
    as_json: options.Json = False,
) -> None:
    """Print a layout as TOML, to copy and change; or list them."""
    from systolith.vectors import find_layout, presets
    from systolith.vectors.layout_file import to_plain, to_toml

    if name is None:
        if as_json:
            common.print_json({"layouts": {n: layout.about for n, layout in presets().items()}})
            return
        common.print_rows([(n, layout.about) for n, layout in presets().items()])
        return
    layout = find_layout(name)
    if as_json:
        common.print_json(to_plain(layout))
        return
    print(to_toml(layout), end="")


@app.command("new")
def new(
    out: Annotated[Path, typer.Option("--out", help="The .toml file to write.")],
    like: Annotated[str, typer.Option("--like", help="The layout to start from.")] = "course",
    header: Annotated[
        str | None, typer.Option("--header", help="none, tokens, or a number of free lines to skip.")
    ] = None,
    transposed: Annotated[bool, typer.Option("--transposed", help="Weights: a line per input channel.")] = False,
    kij_major: Annotated[bool, typer.Option("--kij-major", help="One file for all kij, kij after kij.")] = False,
    reverse_lines: Annotated[
        list[str] | None, typer.Option("--reverse-lines", help="act, weight, psum or out; repeatable.")
    ] = None,
    reverse_lanes: Annotated[
        list[str] | None, typer.Option("--reverse-lanes", help="act, weight, psum or out; repeatable.")
    ] = None,
    unpadded: Annotated[bool, typer.Option("--unpadded", help="Activations without their padding.")] = False,
    windowed: Annotated[bool, typer.Option("--windowed", help="Psums only where an output needs them.")] = False,
    no_relu: Annotated[bool, typer.Option("--no-relu", help="Outputs before ReLU.")] = False,
    addresses: Annotated[bool, typer.Option("--addresses", help="With a file of accumulation addresses.")] = False,
    radix: Annotated[str | None, typer.Option("--radix", help="bin, hex or dec.")] = None,
    force: options.Force = False,
) -> None:
    """Write a layout of your own: a preset with differences. Without flags, on a terminal, it asks."""
    import sys

    from systolith.formats import BadInput
    from systolith.store import atomic_file
    from systolith.vectors import find_layout
    from systolith.vectors.layout_file import read_layout, to_toml
    from systolith.verdict import variants as v

    if out.suffix != ".toml":
        raise BadInput(f"--out {out}: expected a file that ends in .toml")
    if out.exists() and not force:
        raise BadInput(f"{out}: exists already; --force replaces it")
    flags = (header, transposed, kij_major, reverse_lines, reverse_lanes, unpadded, windowed, no_relu, addresses, radix)
    if not any(flags) and sys.stdin.isatty():
        transposed = typer.confirm("Weights: one line per input channel (transposed)?", default=False)
        kij_major = typer.confirm("One file for all kij?", default=False)
        unpadded = typer.confirm("Activations without padding?", default=False)
        windowed = typer.confirm("Psums only where an output needs them?", default=False)
        no_relu = typer.confirm("Outputs before ReLU?", default=False)
        header = typer.prompt("Header lines (none, tokens, or how many free lines)", default="tokens")
        radix = typer.prompt("Radix (bin, hex, dec)", default="bin")
    chosen = find_layout(like)
    changes: list[tuple[str, v.Change]] = []
    changes += [("weight", v.transpose)] if transposed else []
    changes += [(tensor, v.kij_major) for tensor in ("weight", "psum") if kij_major]
    changes += [("act", v.unpadded)] if unpadded else []
    changes += [("psum", v.windowed)] if windowed else []
    reversals: list[tuple[str, list[str] | None, v.Change]] = [
        ("--reverse-lines", reverse_lines, v.reverse_lines),
        ("--reverse-lanes", reverse_lanes, v.reverse_lanes),
    ]
    for flag, names, change in reversals:
        for name in names or []:
            if name not in ("act", "weight", "psum", "out"):
                raise BadInput(f"{flag} {name!r}: expected act, weight, psum or out")
            changes.append((name, change))
    for tensor, change in changes:
        chosen = v.changed(chosen, tensor, change)
    made = v.with_options(chosen, out.stem, header, radix, no_relu, addresses)
    with atomic_file(out) as temporary:
        temporary.write_text(to_toml(made))
    read_layout(out)
    print(f"{out}: layout {made.name}, {len(made.files)} kinds of files; use it with --layout {out}")


@app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(help="A folder of vector files of unknown layout.")],
    channels: stimulus.Channels = None,
    size: stimulus.Size = None,
    kernel: stimulus.Kernel = None,
    padding: stimulus.Padding = None,
    stride: stimulus.Stride = None,
    dilation: stimulus.Dilation = None,
    signed_act: stimulus.SignedAct = False,
    array: options.Array = "8x8",
    act_bits: options.ActBits = 4,
    weight_bits: options.WeightBits = 4,
    psum_bits: options.PsumBits = "16",
    overflow: options.Overflow = "error",
    layout: Annotated[str | None, typer.Option("--layout", help="Only this one: a name or a .toml file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Say which layouts the files are consistent with, and what is different: such as weights transposed."""
    from systolith.formats import BadInput
    from systolith.vectors import find_layout, presets
    from systolith.vectors.read import Geometry
    from systolith.verdict.variants import consistent

    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder")
    spec = common.make_spec(array, act_bits, weight_bits, psum_bits, overflow)
    given = geometry_options(channels, size, kernel, padding, stride, dilation, signed_act)
    geometry = Geometry(stimulus.shape_of(given, spec, "the files do not say their layer's shape"), spec)
    found, reasons = [], {}
    for candidate in [find_layout(layout)] if layout else presets().values():
        try:
            readings = consistent(folder, candidate, geometry)
        except BadInput as error:
            reasons[candidate.name] = str(error)
            continue
        found += readings
        if not readings:
            reasons[candidate.name] = "its psums and outputs are not what its inputs imply, in no way known here"
    fewest = min((len(c.differences) for c in found), default=0)
    best = [c for c in found if len(c.differences) == fewest]
    if as_json:
        common.print_json(
            {
                "folder": str(folder),
                "consistent": [
                    {"layout": c.layout.name, "differences": list(c.differences), "compared": c.compared} for c in best
                ],
                "others": reasons,
            }
        )
    else:
        if not best:
            common.print_rows(list(reasons.items()))
        for c in best:
            but = f", but: {' and '.join(c.differences)}" if c.differences else ""
            print(
                f"consistent with layout {c.layout.name}{but} ({c.compared:,} golden words are what the inputs imply)"
            )
        if not best:
            print(f"{folder}: consistent with no layout known here")
    if not best:
        raise typer.Exit(1)
