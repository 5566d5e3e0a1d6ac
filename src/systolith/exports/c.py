"""A network as C: a header of its geometry and order of operations, flat binaries, and a loop that computes it.

`network.h` is made here; `network.c` and `main.c` (in `loop/`) are the same for every network. Arrays are those of
`arrays.py`, one little-endian `.bin` each, in C order, without a header: as a memory of an FPGA or `fread` wants them.
No array is written as C text: a compiler takes minutes for millions of numbers, and `xxd -i` makes it of any of these.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.equality import Equality, compare
from systolith.exports.arrays import ORDER, arrays_of, compare_named, fixed_point, without_fixed_point
from systolith.formats import BadInput
from systolith.network import reference
from systolith.network.graph import Requantize, sides
from systolith.network.integer import IntegerNetwork, Step
from systolith.network.requantize import FixedPoint
from systolith.version import __version__

LOOP = Path(__file__).parent / "loop"
BUILD = "cc -std=c99 -O2 -o network network.c main.c"
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
TIMEOUT = 600
MOST_INT = (1 << 31) - 1

_KIND = {"MaxPool": "MAX_POOL", "AvgPool": "AVG_POOL"}
_DECLARATIONS = """
#ifndef FIXED_POINT
#define FIXED_POINT 0
#else
#undef FIXED_POINT
#define FIXED_POINT 1
#endif

enum kind { INPUT, CONV, LINEAR, REQUANTIZE, MAX_POOL, AVG_POOL, ADD, CONCAT, UPSAMPLE, FLATTEN, ARGMAX };

struct array {
    const char *file;     /* little-endian, C order */
    int bytes, is_signed; /* of one number */
    long count;
};

struct step {
    const char *name;
    enum kind kind;
    int inputs, input;                                   /* how many steps it takes; the first one's place in INPUTS */
    int channels, height, width;                         /* of its result */
    int kernel[2], stride[2], dilation[2], padding[2];   /* vertical, horizontal; padding: above and to the left */
    int groups, factor[2];
    int64_t gains[2];
    int low, levels;                                     /* of codes: the least, and how many more there are */
    int table, weight, bias, thresholds, sign;           /* places in ARRAYS; 0: none */
    int multiplier, fixed_bias, shift, even, least, most; /* even: rounded half to even, else down */
};

const char *network_load(const char *folder);  /* NULL, or the name of what could not be loaded */
void network_run(const uint8_t *pixels);       /* PIXEL_COUNT bytes: channel outermost, then rows, then columns */
const int64_t *network_result(int step);       /* step_size(step) integers */
long step_size(int step);
"""


def write_c(network: IntegerNetwork, folder: Path, scales: Mapping[str, NDArray[np.float32]] | None = None) -> None:
    """Write `network.h`, `network.c`, `main.c` and the binaries into an empty `folder`.

    Raises:
        BadInput: a dimension or gain that C's `int` may not hold.
    """
    arrays = arrays_of(network, scales)
    (folder / "network.h").write_text(_header(network, arrays, scales or {}), encoding="ascii")
    for name in ("network.c", "main.c"):
        shutil.copyfile(LOOP / name, folder / name)
    for name, array in arrays.items():
        array.tofile(folder / file_of(network, name))


def file_of(network: IntegerNetwork, array: str) -> str:
    """The binary of an array "NODE/what": the step's number, its name as far as files may have it, and what."""
    node, _, what = array.rpartition("/")
    at = next(i for i, step in enumerate(network.steps) if step.name == node)
    return f"{at:03d}.{re.sub(r'[^A-Za-z0-9._-]+', '_', node)[:80]}.{what}.bin"


def compare_binaries(
    network: IntegerNetwork, folder: Path, scales: Mapping[str, NDArray[np.float32]] | None = None
) -> list[Equality]:
    """Every binary in `folder`, read back, against the network's arrays."""
    arrays = arrays_of(network, scales)
    found = {}
    for name, array in arrays.items():
        raw = np.fromfile(folder / file_of(network, name), array.dtype)
        if raw.size != array.size:
            raise BadInput(f"{folder / file_of(network, name)}: expected {array.size} numbers, found {raw.size}")
        found[name] = raw.reshape(array.shape)
    return compare_named(arrays, found)


def compiler() -> str | None:
    """The path of a C compiler, or None."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def run_c(
    network: IntegerNetwork, folder: Path, pixels: NDArray[np.uint8], shifted: bool = False
) -> dict[str, NDArray[np.int64]]:
    """Compile the loop in `folder`, outside of it, and run it: the result of every step, int64 (N, ...), by name.

    Args:
        shifted: codes by (M, B, S) where there is one, not by thresholds.

    Raises:
        BadInput: no compiler, or one that fails, or a program that does.
    """
    found = compiler()
    if found is None:
        raise BadInput("no C compiler here: expected cc, gcc or clang")
    with tempfile.TemporaryDirectory(prefix="systolith") as temporary:
        place = Path(temporary)
        program, raw, dump = place / "network", place / "pixels.raw", place / "dump.bin"
        more = ["-DFIXED_POINT"] if shifted else []
        sources = [str(folder / name) for name in ("network.c", "main.c")]
        pixels.tofile(raw)
        _call([found, "-std=c99", "-O2", *STRICT, *more, "-o", str(program), *sources])
        printed = _call([str(program), str(folder), str(raw), str(dump)])
        flat = np.fromfile(dump, "<i8").reshape(len(pixels), -1)
    results, at = {}, 0
    for step in network.steps:
        shape = network.values[step.name].shape
        count = int(np.prod(shape, dtype=np.int64))
        results[step.name] = flat[:, at : at + count].reshape(len(pixels), *shape).astype(np.int64)
        at += count
    _require_printed(network, results, printed)
    return results


def compare_c(network: IntegerNetwork, folder: Path, pixels: NDArray[np.uint8]) -> list[Equality]:
    """Every step of the compiled loop, codes by thresholds and by fixed point, against the reference."""
    expected = reference.run(network, pixels, *(step.name for step in network.steps))
    equalities = []
    for shifted, how in ((False, "thresholds"), (True, "(M, B, S)")):
        if shifted and len(without_fixed_point(network)) == len(network.requantizes):
            continue
        found = run_c(network, folder, pixels, shifted)
        equalities += [
            compare(f"{name} in C, by {how}", expected[name], found[name], ("picture", "channel", "i", "j"))
            for name in expected
        ]
    return equalities


def _require_printed(network: IntegerNetwork, results: Mapping[str, NDArray[np.int64]], printed: str) -> None:
    """The lines that the program prints are the results that it dumps."""
    pictures = range(len(results[network.results[0]]))
    expected = [" ".join(map(str, [name, *results[name][i].reshape(-1)])) for i in pictures for name in network.results]
    if printed.encode("utf-8", "replace") != "".join(f"{line}\n" for line in expected).encode("utf-8", "replace"):
        raise BadInput("the C program prints other results than it dumps")


def _call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"{Path(command[0]).name}: cannot be run, or takes more than {TIMEOUT} s ({error})") from None
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise BadInput(f"{Path(command[0]).name}: {said}")
    return done.stdout


# The header


def _header(network: IntegerNetwork, arrays: Mapping[str, NDArray[Any]], scales: Mapping[str, Any]) -> str:
    at = {step.name: i for i, step in enumerate(network.steps)}
    places = {name: i for i, name in enumerate([n for n in arrays if n not in scales], start=1)}
    inputs: list[int] = []
    rows = []
    for step in network.steps:
        rows.append(_step(network, step, places, len(inputs)))
        inputs += [at[name] for name in step.inputs] or [0]
    pixels = network.values[network.input.name].shape
    outputs = [at[name] for name in network.results]
    defines = {
        "PIXEL_COUNT": int(np.prod(pixels)),
        "STEP_COUNT": len(rows),
        "ARRAY_COUNT": len(places) + 1,
        "OUTPUT_COUNT": len(outputs),
    }
    declared = [
        f"    {{{_text(file_of(network, name))}, {arrays[name].dtype.itemsize}, "
        f"{int(arrays[name].dtype.kind == 'i')}, {arrays[name].size}}}, /* {i}: {_comment(name)}, "
        f"{'x'.join(map(str, arrays[name].shape))} */"
        for name, i in places.items()
    ]
    lines = [
        *_about(network, arrays, scales),
        "#ifndef SYSTOLITH_NETWORK_H",
        "#define SYSTOLITH_NETWORK_H",
        "",
        "#include <stdint.h>",
        "",
        *[f"#define {name} {value}" for name, value in defines.items()],
        _DECLARATIONS,
        "/* What the arrays are, in files beside this one. */",
        "static const struct array ARRAYS[ARRAY_COUNT] = {",
        '    {"", 1, 0, 0}, /* 0: none */',
        *declared,
        "};",
        "",
        "/* The steps that each step takes, one step's after another's. */",
        f"static const int INPUTS[] = {{{', '.join(map(str, inputs))}}};",
        "",
        "/* What leaves the network. */",
        f"static const int OUTPUTS[OUTPUT_COUNT] = {{{', '.join(map(str, outputs))}}};",
        "",
        "/* The order of operations: each step takes results of those before it. What is not named is 0. */",
        "static const struct step STEPS[STEP_COUNT] = {",
        *rows,
        "};",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _about(network: IntegerNetwork, arrays: Mapping[str, NDArray[Any]], scales: Mapping[str, Any]) -> list[str]:
    """The comment at the top: what this is, how it is built, what each kind of step computes."""
    pixels = "x".join(map(str, network.values[network.input.name].shape))
    kinds = {type(step.node).__name__: 0 for step in network.steps}
    missing = without_fixed_point(network)
    text = [
        f"A network of integers from {pixels} pixels (bytes), written by systolith {__version__}.",
        "",
        f"Build: {BUILD}      (-DFIXED_POINT: codes by (acc*M + B) >> S)",
        "Run:   ./network . pixels.raw [dump.bin]",
        "",
        "Files: an array each, in .bin, little-endian, in C order, without a header; `xxd -i FILE` makes C of one.",
        "Weights are (output channel, input channel of its group, row, column), thresholds (channel, k). The widths of",
        "files are those of whole bytes; the bits that numbers need are with each step below.",
        "",
        "What a step computes, all of it in integers, sums of products in 64 bits:",
        *[f"  {_kind(kind)}: {ORDER[kind]}" for kind in kinds],
    ]
    if missing:
        text += ["", "Without an exact M, B, S, so by thresholds always:", *[f"  {why}" for why in missing.values()]]
    if scales:
        text += ["", "Scales (fp32), which nothing here needs: a code times its scale is the real value."]
        text += [f"  {file_of(network, name)}: {_numbers(arrays[name])}" for name in scales]
    return ["/*", *[f" * {_comment(line)}".rstrip() for line in text], " */"]


def _numbers(array: NDArray[Any]) -> str:
    return f"{array.reshape(-1)[0]:.9g}" + f" and {array.size - 1} more" * (array.size > 1)


def _step(network: IntegerNetwork, step: Step, places: Mapping[str, int], first: int) -> str:
    node, value = step.node, network.values[step.name]
    c, h, w = (*value.shape, 1, 1, 1)[:3]
    facts: dict[str, Any] = {
        "name": _text(step.name),
        "kind": _kind(type(node).__name__),
        "inputs": len(step.inputs),
        "input": first,
        "channels": c,
        "height": h,
        "width": w,
    }
    for name in ("kernel", "stride", "dilation", "factor", "gains"):
        if hasattr(node, name):
            facts[name] = tuple(getattr(node, name))
    if hasattr(node, "stride") and "dilation" not in facts:
        facts["dilation"] = (1, 1)
    if hasattr(node, "padding"):
        facts["padding"] = sides(node.padding)[::2]
    if hasattr(node, "groups"):
        facts["groups"] = node.groups
    if isinstance(node, Requantize):
        facts |= {"low": node.thresholds.low, "levels": node.thresholds.values.shape[1]}
        form = fixed_point(node)
        if isinstance(form, FixedPoint):
            facts |= {"even": int(form.rounding == "even"), "least": form.least, "most": form.levels}
    wide = [n for key, v in facts.items() if key not in ("name", "kind", "gains") for n in np.ravel(v).tolist()]
    if max(map(abs, wide)) > MOST_INT or c * h * w > MOST_INT:
        raise BadInput(f"{step.name}: a dimension of more than 31 bits, which C's int may not hold")
    for what in ("table", "weight", "bias", "thresholds", "sign", "multiplier", "fixed_bias", "shift"):
        if f"{step.name}/{what}" in places:
            facts[what] = places[f"{step.name}/{what}"]
    shown = ", ".join(f".{key} = {_value(v)}" for key, v in facts.items())
    number, (name, kind, takes, shape, result, detail) = next(
        (i, row) for i, row in enumerate(network.table()) if row[0] == step.name
    )
    said = [f"{number}: {name}: {kind}" + f" of {takes}" * bool(takes), f"{shape} {result}", *[detail] * bool(detail)]
    return f"    /* {_comment(', '.join(said))} */\n    {{{shown}}},"


def _kind(name: str) -> str:
    return _KIND.get(name, name.upper())


def _value(value: Any) -> str:
    return f"{{{', '.join(map(str, value))}}}" if isinstance(value, tuple) else str(value)


def _text(name: str) -> str:
    """A C string literal of any name, its bytes as octal numbers where they are not plain letters."""
    plain = re.compile(rb"[A-Za-z0-9 ._>#()+*/=,:;@-]")
    parts = (chr(b) if plain.match(bytes([b])) else f"\\{b:03o}" for b in name.encode("utf-8", "surrogatepass"))
    return f'"{"".join(parts)}"'


def _comment(text: str) -> str:
    """ASCII that ends no comment and begins none."""
    plain = text.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
