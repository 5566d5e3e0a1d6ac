"""`systolith vectors --stimulus`: its options, and writing one bundle a case."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from systolith.cli import common

if TYPE_CHECKING:
    from systolith.array import ArraySpec
    from systolith.vectors.shape import Shape

Stimulus = Annotated[
    str | None,
    typer.Option("--stimulus", help="Made-up integers: random, corner (all directed cases), or one case's name."),
]
Channels = Annotated[str | None, typer.Option("--channels", help="Channels of the layer, INxOUT.")]
Size = Annotated[str | None, typer.Option("--input", help="The input map without padding, HxW.")]
Kernel = Annotated[str | None, typer.Option("--kernel", help="A number or KHxKW. [default: 3x3]")]
Padding = Annotated[str | None, typer.Option("--padding", help="A number or AxB. [default: 1]")]
Stride = Annotated[str | None, typer.Option("--stride", help="A number or AxB. [default: 1]")]
Dilation = Annotated[str | None, typer.Option("--dilation", help="A number or AxB. [default: 1]")]
SignedAct = Annotated[bool, typer.Option("--signed-act", help="Activations are signed.")]
MostNegative = Annotated[
    bool, typer.Option("--most-negative", help="Stimulus: weights down to the most negative code, -8 in 4 bits.")
]
ActRange = Annotated[
    str | None, typer.Option("--act-range", help="Stimulus: activation codes, LO..HI. [default: the whole lane]")
]
WeightRange = Annotated[
    str | None, typer.Option("--weight-range", help="Stimulus: weight codes, LO..HI. [default: -7..7 in 4 bits]")
]
Density = Annotated[
    float | None, typer.Option("--density", help="Stimulus sparse: share of codes that are not 0. [default: 0.25]")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Stimulus: of the random codes. [default: 0]")]

REQUIRED = {"--channels": "INxOUT", "--input": "HxW"}
DEFAULTS = {"--kernel": "3x3", "--padding": "1", "--stride": "1", "--dilation": "1"}


def write_stimulus(
    stimulus: str,
    given: dict[str, Any],
    array: tuple[str, int, int, str, str],
    out: Path,
    layout: str,
    force: bool,
    as_json: bool,
) -> None:
    """One bundle a case, `out`/CASE, all of them or none; what is left out is named on stderr.

    Args:
        stimulus: of `systolith.stimulus.stimulus.STIMULI`.
        given: the options above but the first, by flag.
        array: the options of `common.make_spec`.

    Raises:
        BadInput: options that make no layer, or no case that can be written.
    """
    from dataclasses import replace

    from systolith.array import run_layer
    from systolith.formats import BadInput
    from systolith.stimulus.stimulus import LeftOut, make_cases
    from systolith.store import atomic_folder
    from systolith.vectors import write_bundle

    spec = common.make_spec(*array)
    shape = shape_of(given, spec)
    if array[3] == "auto":
        spec = replace(spec, psum_bits=shape.least_psum_bits())
    seed: int = given["--seed"] or 0
    density: float = 0.25 if given["--density"] is None else given["--density"]
    if given["--density"] is not None and stimulus not in ("corner", "sparse"):
        raise BadInput(f"--density is for --stimulus sparse (or corner, which holds it), not {stimulus}")
    cases: list[dict[str, Any]] = []
    left_out: list[LeftOut] = []
    with atomic_folder(out, force) as temporary:
        for case in make_cases(stimulus, shape, spec, seed, density):
            if isinstance(case, LeftOut):
                left_out.append(case)
                continue
            try:
                result = run_layer(case.conv, case.act, spec)
            except BadInput as error:  # the shape is sound: a value that overflows psum_bits
                left_out.append(LeftOut(case.name, f"{error}; --overflow wrap or saturate takes it"))
                continue
            try:
                written = write_bundle(result, temporary / case.name, layout)
            except BadInput as error:
                raise BadInput(str(error).replace(str(temporary), str(out))) from None
            entry = {"name": case.name, "note": case.note, "folder": str(out / case.name)}
            cases.append({**entry, "files": written.files, "words": written.words, "bytes": written.bytes})
        if not cases:
            raise BadInput(f"nothing to write: {'; '.join(f'{left.name}: {left.reason}' for left in left_out)}")
    for left in left_out:
        common.note(f"left out {left.name}: {left.reason}")
    total = {key: sum(case[key] for case in cases) for key in ("files", "words", "bytes")}
    if as_json:
        facts = {"stimulus": stimulus, "seed": seed, "layout": layout, "psum_bits": spec.psum_bits}
        dropped = [{"name": left.name, "reason": left.reason} for left in left_out]
        common.print_json({"folder": str(out), **total, **facts, "cases": cases, "left_out": dropped})
        return
    common.print_rows([(case["name"], case["note"]) for case in cases])
    bundles = f"{len(cases)} bundle{'s' * (len(cases) > 1)} in {out}, cases left out: {len(left_out)}"
    size = f"{total['files']:,} files, {total['words']:,} words, {total['bytes']:,} bytes"
    print(f"{bundles}; {size}, layout {layout}")


def shape_of(given: dict[str, Any], spec: ArraySpec, owner: str = "--stimulus makes a layer of any shape") -> Shape:
    """The layer that the options describe, by flag; `owner` is who needs it, for the message."""
    from systolith.formats import BadInput, IntFormat
    from systolith.vectors.shape import Shape

    missing = [f"{flag} {form}" for flag, form in REQUIRED.items() if given[flag] is None]
    if missing:
        raise BadInput(f"{owner}: expected {' and '.join(missing)} with it")
    if given.get("--most-negative") and given["--weight-range"] is not None:
        raise BadInput("--most-negative is a weight range of its own: it goes without --weight-range")
    ranges = {
        flag: _pair(flag, given[flag], "..", "LO..HI") for flag in ("--act-range", "--weight-range") if given.get(flag)
    }
    if given.get("--most-negative"):
        ranges["--weight-range"] = spec.weight_format.lo, spec.weight_format.hi
    channels, size = (_pair(flag, given[flag], "x", form) for flag, form in REQUIRED.items())
    kernel, padding, stride, dilation = (
        _pair(flag, given[flag] or default, "x", "a number or AxB") for flag, default in DEFAULTS.items()
    )
    act, weight = IntFormat(spec.act_bits, given["--signed-act"]), spec.weight_format
    act_range, weight_range = ranges.get("--act-range"), ranges.get("--weight-range")
    return Shape(*channels, size, kernel, padding, stride, dilation, act, weight, act_range, weight_range)


def _pair(flag: str, text: str, between: str, expected: str) -> tuple[int, int]:
    """ "3x5" to (3, 5), and "3" to (3, 3) where `expected` allows a number; `BadInput` for anything else."""
    from systolith.formats import BadInput

    number = r"(-?\d{1,6})"
    match = re.fullmatch(f"{number}(?:{re.escape(between)}{number})?", text.strip().lower())
    if not match or (match[2] is None and "a number" not in expected):
        raise BadInput(f"{flag} {text!r}: expected {expected}")
    return int(match[1]), int(match[1] if match[2] is None else match[2])
