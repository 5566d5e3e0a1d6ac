"""What several verbs do: the picture, the array's spec, the screen, and missing extras."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from systolith.array import ArraySpec, Schedule
    from systolith.network import Conv, IntegerNetwork
    from systolith.network.graph import Linear


NODE_HEADINGS = ("name", "node", "takes", "shape", "result", "detail")


def require_extra(module: str, extra: str, verb: str) -> None:
    """Raise `BadInput` with the line to type if `module` is not installed."""
    from systolith.formats import BadInput

    if importlib.util.find_spec(module) is None:
        raise BadInput(f"`{verb}` needs {module}, which is not installed: pip install 'systolith[{extra}]'")


def go_without(owner: str, options: dict[str, Any]) -> None:
    """Raise `BadInput` if one of `options`, by flag, was given (neither None nor False): `owner` has no use for it."""
    from systolith.formats import BadInput

    given = [flag for flag, value in options.items() if value is not None and value is not False]
    if given:
        raise BadInput(f"{owner} goes without {', '.join(given)}")


def find_picture(
    image: Path | None, data: str | None, index: int | None
) -> tuple[NDArray[np.uint8], str, tuple[str, ...]]:
    """uint8 (3, 32, 32), a name for people, and notes on conversions."""
    from systolith.formats import BadInput
    from systolith.pictures import read_picture
    from systolith.store import ASSETS

    if image is not None and data is not None:
        raise BadInput("expected --image or --data, found both")
    if index is not None and data is None:
        raise BadInput("--index picks a picture of a data set: expected --data with it")
    if data is not None:
        from systolith.training.data import load_data

        pictures, index = load_data(data, "test"), index or 0
        if not 0 <= index < len(pictures):
            raise BadInput(f"--index {index}: expected 0..{len(pictures) - 1} for {pictures.source}")
        label = pictures.classes[pictures.labels[index]]
        return pictures.images[index], f"{pictures.source} picture {index}, labelled {label}", ()
    if image is None:
        return read_picture(ASSETS / "cat.png")[0], "the shipped cat.png", ()
    pixels, notes = read_picture(image)
    return pixels, image.name, notes


def find_network(model: str, verb: str) -> tuple[IntegerNetwork, dict[str, Any]]:
    """The integer network of a shipped model, a model file or a checkpoint, and the metadata of its run.

    Without torch where the file holds it; lowered now where it does not.
    """
    network, metadata = stored_network(model)
    if network is not None:
        return network, metadata
    require_extra("torch", "torch", f"{verb} of a model that is not lowered yet (`systolith lower` writes one)")
    from systolith.frontends.lowering import lower
    from systolith.models import load

    trained, run = load(model)
    return lower(trained).network, dict(run)


def stored_network(model: str) -> tuple[IntegerNetwork | None, dict[str, Any]]:
    """The integer network in a model's file, None where it holds none, and the metadata of the run."""
    from systolith.network.file import network_of
    from systolith.store import is_checkpoint, load_model_file, model_path

    path = model_path(model)
    if is_checkpoint(path):
        return None, {}
    file = load_model_file(path)
    return network_of(file, path), dict(file.run)


def find_layer(network: IntegerNetwork, layer: str) -> Conv | Linear:
    """The layer with weights of that name; `BadInput` naming those there are."""
    from systolith.formats import BadInput

    if layer not in network.layers:
        raise BadInput(f"no layer {layer!r} in this network; its layers are {', '.join(network.layers)}")
    return network.layers[layer]


def find_layers(network: IntegerNetwork, layer: str) -> dict[str, Conv | Linear]:
    """The layers of `--layer`, by name: one, several with commas between, or "all"; `BadInput` as `find_layer`."""
    from systolith.formats import BadInput

    names = list(network.layers) if layer == "all" else layer.split(",")
    if len(set(names)) < len(names):
        raise BadInput(f"--layer {layer}: a layer stands there twice")
    return {name: find_layer(network, name) for name in names}


def one_model(positional: str | None, model: str | None) -> str | None:
    """The model that was named, as an argument or by --model; `BadInput` if both ways."""
    from systolith.formats import BadInput

    if positional is not None and model is not None:
        raise BadInput(f"expected one model, found {positional} and --model {model}")
    return model or positional


def as_conv(node: Conv | Linear, act: NDArray[np.integer]) -> tuple[Conv, NDArray[np.int16]]:
    """The layer as the array sees it, and its activations, codes (C, H, W) or (F,), as (C, H, W)."""
    import numpy as np

    from systolith.network.graph import Linear

    conv = node.as_conv() if isinstance(node, Linear) else node
    return conv, np.ascontiguousarray(act.reshape(*act.shape, *[1] * (3 - act.ndim)).astype(np.int16))


def print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]], right: tuple[str, ...] = ()) -> None:
    """Rows under headings; those of `right` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, width=None if Console().is_terminal else 160).print(table)


def make_spec(array: str, act_bits: int, weight_bits: int, psum_bits: str, overflow: str) -> ArraySpec:
    """The array that the options describe; `auto` psum bits are left wide until `settle` sees the layer."""
    from systolith.array import ArraySpec
    from systolith.array.spec import parse_size
    from systolith.formats import BadInput

    rows, cols = parse_size(array)
    if psum_bits == "auto":
        return ArraySpec(rows, cols, act_bits, weight_bits, 48, overflow=overflow)
    try:
        width = int(psum_bits)
    except ValueError:
        raise BadInput(f"--psum-bits {psum_bits!r}: expected a number or auto") from None
    return ArraySpec(rows, cols, act_bits, weight_bits, width, overflow=overflow)


def make_schedule(streamed: str, drained: bool) -> Schedule:
    """What the core is told to do; `streamed` is "useful" or "whole"."""
    from systolith.array import Schedule
    from systolith.formats import BadInput

    if streamed not in ("useful", "whole"):
        raise BadInput(f"--schedule {streamed!r}: expected useful or whole")
    return Schedule(streamed == "useful", drained)


def settle(spec: ArraySpec, psum_bits: str, conv: Conv, height: int, width: int) -> ArraySpec:
    """With `--psum-bits auto` the spec with the least width that can never overflow; else `spec`."""
    from systolith.array import Mapping

    if psum_bits != "auto":
        return spec
    return replace(spec, psum_bits=max(2, *Mapping(conv, spec, height, width).least_psum_bits()))


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while something runs (none where that is not a terminal); call with the number done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def note(text: str) -> None:
    """One line on stderr."""
    print(f"systolith: {text}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Exactly one JSON object on stdout."""
    print(json.dumps(value, indent=1, default=str, allow_nan=False))


def print_rows(rows: list[tuple[str, str]]) -> None:
    """Label and text in two columns; long texts wrap under themselves."""
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(label, text)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # A file or a pipe has no width: one line a row.
        width = max((len(label) for label, _ in rows), default=0)
        for label, text in rows:
            print(f"{label:<{width}}  {text}")
        return
    console.print(table)
