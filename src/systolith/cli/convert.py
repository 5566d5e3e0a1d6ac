"""`systolith convert`: a bundle, or a folder of vector files, in another layout. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common, options, stimulus

if TYPE_CHECKING:
    from systolith.array import ArrayResult
    from systolith.equality import Equality

FromLayout = Annotated[
    str | None, typer.Option("--from", help="The folder's layout: a name or a .toml file. [default: the bundle's own]")
]


def convert(
    source: Annotated[Path, typer.Argument(help="A bundle, or a plain folder of vector files (with --from).")],
    to: Annotated[str, typer.Option("--to", help="The layout to write: a name or a .toml file.")],
    out: Annotated[Path, typer.Option("--out", help="The new bundle's folder.")],
    layout: FromLayout = None,
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
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Read vector files in one layout, check that the golden ones are what their inputs imply, write another layout."""
    from systolith.store import require_free
    from systolith.vectors import find_layout, write_bundle

    require_free(out, force)
    find_layout(to)
    shape = geometry_options(channels, size, kernel, padding, stride, dilation, signed_act)
    result, checks, name = read_source(source, layout, shape, (array, act_bits, weight_bits, psum_bits, overflow))
    failed = next((c for c in checks if not c.holds), None)
    written = write_bundle(result, out, to, force) if failed is None else None
    if as_json:
        common.print_json(
            {
                "from": name,
                "to": to,
                "folder": str(out) if written else None,
                "files": written.files if written else 0,
                "checks": [
                    {"name": c.name, "compared": c.compared, "different": c.different, "first": c.first} for c in checks
                ],
                "holds": failed is None,
            }
        )
    else:
        common.print_rows([("read", f"{source}, layout {name}"), *((c.name, str(c)) for c in checks)])
        if written is not None:
            print(f"{written.files} files in {out}, {written.words:,} words, layout {to}")
        else:
            print(f"NOT CONVERTED: {failed.name}: {failed}"[:190] if failed else "")
    if failed is not None:
        raise typer.Exit(1)


def geometry_options(
    channels: str | None,
    size: str | None,
    kernel: str | None,
    padding: str | None,
    stride: str | None,
    dilation: str | None,
    signed_act: bool,
) -> dict[str, Any]:
    """The options that say a layer's shape, by flag."""
    return {
        **{"--channels": channels, "--input": size, "--kernel": kernel, "--padding": padding, "--stride": stride},
        **{"--dilation": dilation, "--signed-act": signed_act},
    }


def read_source(
    source: Path, layout: str | None, given: dict[str, Any], array: tuple[str, int, int, str, str]
) -> tuple[ArrayResult, list[Equality], str]:
    """What a bundle or a plain folder holds, what was compared while reading, and the name of its layout.

    Args:
        given: of `geometry_options`, for a plain folder.
        array: the options of `common.make_spec`, for a plain folder.
    """
    from systolith.formats import BadInput
    from systolith.vectors import find_layout, read_bundle, verify_bundle
    from systolith.vectors.bundle import MANIFEST
    from systolith.vectors.read import Geometry, golden_checks, implied, read_folder

    if (source / MANIFEST).exists() and layout is None:
        common.go_without("a bundle says its own shape: it", given)
        result, manifest = read_bundle(source)
        return result, verify_bundle(source), manifest["layout"]["name"]
    if not source.is_dir():
        raise BadInput(f"{source}: expected a folder")
    if layout is None:
        raise BadInput(f"{source}: no bundle (no {MANIFEST}): expected --from LAYOUT with it, and the layer's shape")
    spec = common.make_spec(*array)
    geometry = Geometry(stimulus.shape_of(given, spec, "a plain folder does not say its layer's shape"), spec)
    reading = read_folder(source, find_layout(layout), geometry)
    result = implied(reading, source.resolve().name)
    return result, golden_checks(reading, result), find_layout(layout).name
