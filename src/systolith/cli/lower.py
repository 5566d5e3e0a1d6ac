"""`systolith lower`: a trained model to its integer network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from systolith.cli import common, options
from systolith.cli.options import DEFAULT_MODEL


def lower(
    model: Annotated[str, typer.Argument(help="A shipped model, a model file, or a checkpoint.")] = DEFAULT_MODEL,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write (.safetensors).")] = None,
    integers_only: Annotated[
        bool, typer.Option("--integers-only", help="Leave the trained floats (scales, batch norms) out of the file.")
    ] = False,
    fixed_point: Annotated[
        bool, typer.Option("--fixed-point", help="Find the smallest exact (M, B, S) of every channel, too.")
    ] = False,
    multiplier_bits: Annotated[
        int, typer.Option("--multiplier-bits", min=2, max=32, help="The most that M may need with --fixed-point.")
    ] = 32,
    onnx: Annotated[Path | None, typer.Option("--onnx", help="Also export to ONNX, integer operators only.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: options.Json = False,
) -> None:
    """Turn a trained model into a network of integers, prove its thresholds, and write both into one file."""
    common.require_extra("torch", "torch", "lower")
    if onnx is not None:
        common.require_extra("onnx", "onnx", "lower --onnx")
    from systolith.formats import BadInput
    from systolith.frontends.lowering import lower as lower_model
    from systolith.frontends.verify import prove
    from systolith.models import load, to_model_file
    from systolith.network.file import add_network, save_network
    from systolith.network.requantize import to_fixed_point
    from systolith.store import save_model_file

    for path in (out, onnx):
        if path is not None and (path.is_dir() or (path.exists() and not force)):
            raise BadInput(f"{path}: exists already; --force replaces a file")
    trained, run = load(model)
    lowered = lower_model(trained)
    network = lowered.network
    proofs = prove(lowered, network)
    holds = all(e.holds for e in proofs)
    points = sum(e.compared for e in proofs if e.name.endswith("thresholds"))
    channels = sum(len(r.thresholds.values) for r in network.requantizes.values())
    forms: list[dict[str, Any]] = []
    if fixed_point:
        for name, node in network.requantizes.items():
            t = node.thresholds
            form = to_fixed_point(name, t, multiplier_bits)
            m, b, total = form.bits(t.lo, t.hi)
            forms.append(
                {"name": name, "channels": len(t.values), "multiplier_bits": m, "bias_bits": b}
                | {"sum_bits": total, "most_shift": int(form.shift.max())}
            )
    if out is not None and holds:
        if integers_only:
            save_network(out, network, run)
        else:
            save_model_file(out, add_network(to_model_file(trained, run), network))
    if onnx is not None and holds:
        from systolith.exports.onnx import save_onnx

        save_onnx(network, onnx)
    written = [str(path) for path in (out, onnx) if path is not None and holds]
    failed = next((e for e in proofs if not e.holds), None)
    verdict = (
        f"lowered: {len(network.steps)} nodes, {channels:,} channels, thresholds proved at {points:,} points"
        if failed is None
        else f"NOT PROVED: {failed.name}: {failed}"[:180]
    )
    if as_json:
        steps = [dict(zip(common.NODE_HEADINGS, row, strict=True)) for row in network.table()]
        common.print_json(
            {"model": model, "steps": steps, "channels": channels, "points": points, "fixed_point": forms}
            | {"files": written, "holds": holds}
        )
    else:
        common.print_table(common.NODE_HEADINGS, network.table())
        if forms:
            print()
            rows: list[tuple[str, ...]] = [tuple(map(str, form.values())) for form in forms]
            headings = ("(acc*M + B) >> S of", "channels", "bits of M", "bits of B", "bits of acc*M + B", "most S")
            common.print_table(headings, rows, headings[1:])
        print()
        common.print_rows(
            [*(("file", f"{path}, {Path(path).stat().st_size:,} bytes") for path in written), ("verdict", verdict)]
        )
    if not holds:
        raise typer.Exit(1)
