"""SCALE-Sim's topology files (https://github.com/scalesim-project, versions 1 to 3): a layer a line, cells by commas.

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
    Layer, M, N, K,

Its reader (`scalesim/topology_utils.py` of 3.0.0) takes columns by their place and skips the first line; here that line
says which of the two a file is, and whether strides have a second column.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from systolith.formats import BadInput
from systolith.topologies.topology import Layer, Topology, convolution, distinct, gemm

COLUMNS = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides"
WORDS = ("layer", "ifmap", "ifmap", "filter", "filter", "channel", "filter", "stride")
"""What the convolution's columns have in their names, however they are spelled."""
DEPTHWISE = re.compile(r"(^|[^a-z])dw|depth[-_ ]?wise", re.IGNORECASE)


def read_csv(path: Path) -> Topology:
    """The layers of a SCALE-Sim topology, of convolutions or of matrix products, with 8-bit codes.

    Input maps have their padding in them already. Where a stride does not divide what a kernel leaves of one, SCALE-Sim
    counts one more window, which reaches over the edge: padding below or to the right makes room for it. Strides may
    have a second, horizontal column. A convolution with "DP" in its name is depthwise, as SCALE-Sim 3 reads it:
    `Num Filter` filters for each channel alone. Other columns, sparsity among them, are not read, which a note says;
    neither is text behind the named columns.

    Raises:
        BadInput: naming the file and the line: what was expected there, and what was found.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'no text in UTF-8'})") from None
    between = "," if not lines or "," in lines[0] else "\t"
    rows = [[cell.strip() for cell in line.split(between)] for line in lines]
    head = [cell.lower() for cell in rows[0]] if rows else []
    products = sorted(head[1:4]) == ["k", "m", "n"]
    if not products and not (len(head) >= len(WORDS) and all(map(_in, WORDS, head))):
        found = ", ".join(rows[0] if rows else []).rstrip(", ")[:80] or "nothing"
        raise BadInput(f"{path}, line 1: expected the columns {COLUMNS} or Layer, M, N, K, found {found}")
    layers = []
    for number, row in enumerate(rows[1:], 2):
        if any(row):
            where = f"{path}, line {number}"
            layers.append(_product(where, head, row) if products else _convolution(where, head, row))
    if not layers:
        raise BadInput(f"{path}: expected a line for each layer under the columns' names, found none")
    read = 4 if products else 9 if _two_strides(head) else 8
    notes = _left_out([cell for cell in rows[0][read:] if cell])
    return Topology(path.stem, distinct(layers), path.name, notes if products else (*notes, *_odd(layers)))


def _in(word: str, cell: str) -> bool:
    return word in cell


def _two_strides(head: list[str]) -> bool:
    return len(head) > 8 and "stride" in head[8]


def _numbers(where: str, row: list[str], names: list[str]) -> list[int]:
    """The cells behind the layer's name, as many as there are `names`."""
    found = []
    for at, name in enumerate(names, 1):
        text = row[at] if at < len(row) else ""
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
            found_text = repr(text[:40]) if text else "nothing"
            raise BadInput(f"{where}: expected a number from 1 to 999999999 as {name}, found {found_text}")
        found.append(int(text))
    return found


def _product(where: str, head: list[str], row: list[str]) -> Layer:
    size = dict(zip(head[1:4], _numbers(where, row, [name.upper() for name in head[1:4]]), strict=True))
    return _made(where, gemm, _name(where, row), size["m"], size["k"], size["n"])


def _convolution(where: str, head: list[str], row: list[str]) -> Layer:
    names = COLUMNS.split(", ")[1:]
    # Some files have two strides under one heading.
    second = _two_strides(head) or (len(row) > 8 and row[8].isdigit() and not "".join(head[8:9]))
    numbers = _numbers(where, row, [*names, "horizontal stride"] if second else names)
    height, width, high, wide, channels, filters, *stride = numbers
    name, groups = _name(where, row), 1
    if "DP" in name:
        groups, filters = channels, channels * filters
    down, right = stride[0], stride[-1]
    # Windows are rounded up in number, as SCALE-Sim has them: the last may reach over the map's edge.
    padding = 0, (high - height) % down, 0, (wide - width) % right
    sizes = (channels, filters), (height, width), (high, wide), (down, right), padding
    return _made(where, convolution, name, *sizes, groups=groups)


def _name(where: str, row: list[str]) -> str:
    if not row[0]:
        raise BadInput(f"{where}: expected a layer's name, found {', '.join(row)[:80]!r}")
    return row[0]


def _made(where: str, make: Callable[..., Layer], *args: Any, **more: Any) -> Layer:
    try:
        return make(*args, **more)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def _left_out(columns: list[str]) -> tuple[str, ...]:
    if not columns:
        return ()
    return (f"not read: the columns {', '.join(columns)}; layers are dense, and there once",)


def _odd(layers: list[Layer]) -> tuple[str, ...]:
    """What to know of layers whose windows are rounded up, or that are depthwise by their names."""
    notes = []
    over = [layer.name for layer in layers if any(layer.conv.padding)]
    if over:
        notes.append(f"the last windows of {_some(over)} reach over the map's edge, as SCALE-Sim counts them")
    grouped = [layer.name for layer in layers if "DP" in layer.name]
    if grouped:
        notes.append(f"depthwise, as SCALE-Sim reads DP in a name: {_some(grouped)}")
    single = [x.name for x in layers if x.name not in grouped and x.conv.out_channels == 1 and DEPTHWISE.search(x.name)]
    if single:
        said = "depthwise by name, but by its numbers a convolution to one channel, and that is what is read"
        notes.append(f"one filter in {_some(single)}: {said}")
    return tuple(notes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
