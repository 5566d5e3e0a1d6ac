"""What each verb can be told: a dataclass a verb, of which Python's signature and the command line's options are made.

Standard library alone: the command line imports this before it knows which verb it is. Options that several verbs share
are inherited. An option that a verb has no use for in some case is None unless it was given, so that it can be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Protocol, get_type_hints

DEFAULT_MODEL, DEFAULT_LAYER = "vgg16-w4a4-s8", "features.27"
MODEL, PICTURE, LAYER, ARRAY, OUTPUT, RUNNING = "Model", "Picture", "Layer", "Array", "Output", "Running"


class Progress(Protocol):
    """Told how far a flow is: `what` is being done, `done` of `total`; without a total it is a sentence to show."""

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None: ...


def quiet(what: str, done: int = 0, total: int = 0) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Option:
    """How a field is given, and what it is for.

    Attributes:
        help: one sentence or two, for the command line and the reference.
        group: the heading in `--help` under which it stands; "" for "Options".
        flag: on the command line; "" is made of the field's name.
        position: an argument without a flag, "only", or "too" for one that has the flag as well.
        metavar: the argument's name in the usage line.
        least, most: of a number.
        off: the flag that switches it off, for one that is on unless said.
    """

    help: str
    group: str = ""
    flag: str = ""
    position: str = ""
    metavar: str = ""
    least: float | None = None
    most: float | None = None
    off: str = ""


def options_of(request: Any) -> dict[str, tuple[Any, Option, Any]]:
    """The fields of a request that a command line can give: type, `Option` and default (MISSING: required), by name."""
    hints = get_type_hints(request, include_extras=True)
    found = {}
    for field in fields(request):
        for extra in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(extra, Option):
                found[field.name] = (hints[field.name].__origin__, extra, field.default)
    return found


def described(request: Callable[..., Any]) -> str:
    """The fields of a request, a line each, for a docstring's arguments."""
    lines = [f"    {name}: {option.help}" for name, (_, option, _) in options_of(request).items()]
    return "\n".join([*lines, "    progress: Called with what is being done, how much of it is done, and of how much."])


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests have."""

    progress: Progress = quiet


@dataclass(frozen=True, kw_only=True)
class OnePicture:
    """A picture to look at."""

    image: Annotated[Path | None, Option("A picture file. [default: the shipped cat]", PICTURE)] = None
    data: Annotated[str | None, Option("A data set (folder or hub name) to take the picture from.", PICTURE)] = None
    index: Annotated[int | None, Option("Which picture of the test split. [default: 0]", PICTURE)] = None


@dataclass(frozen=True, kw_only=True)
class Size:
    """An array, as far as its mapping goes."""

    array: Annotated[str, Option("Size of the array, ROWSxCOLS.", ARRAY)] = "8x8"


@dataclass(frozen=True, kw_only=True)
class Lanes(Size):
    """An array, as far as what fits it goes."""

    act_bits: Annotated[int, Option("Width of an activation lane.", ARRAY)] = 4
    weight_bits: Annotated[int, Option("Width of a weight lane.", ARRAY)] = 4


@dataclass(frozen=True, kw_only=True)
class Array(Lanes):
    """An array, whole."""

    psum_bits: Annotated[
        str | None,
        Option(
            "Width of the accumulator, or `auto`: the least safe one. [default: 16; where several layers are taken, "
            "what they need]",
            ARRAY,
        ),
    ] = None
    overflow: Annotated[str, Option("What an accumulator does: error, wrap or saturate.", ARRAY)] = "error"


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """What the core is told to do."""

    schedule: Annotated[str, Option("What streams: `useful` positions, or the `whole` padded map.", ARRAY)] = "useful"
    drained: Annotated[bool, Option("A pass waits until the array is empty; else it follows at once.", ARRAY)] = False


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A layer's shape, where no file says it."""

    channels: Annotated[str | None, Option("Channels of the layer, INxOUT.", LAYER)] = None
    size: Annotated[str | None, Option("The input map without padding, HxW.", LAYER, "--input")] = None
    kernel: Annotated[str | None, Option("A number or KHxKW. [default: 3x3]", LAYER)] = None
    padding: Annotated[str | None, Option("A number or AxB. [default: 1]", LAYER)] = None
    stride: Annotated[str | None, Option("A number or AxB. [default: 1]", LAYER)] = None
    dilation: Annotated[str | None, Option("A number or AxB. [default: 1]", LAYER)] = None
    signed_act: Annotated[bool, Option("Activations are signed.", LAYER)] = False


@dataclass(frozen=True, kw_only=True)
class Forcing:
    """An output that may be there already."""

    force: Annotated[bool, Option("Replace what is there.", OUTPUT)] = False


@dataclass(frozen=True)
class CheckRequest(Request):
    """Compare dumped psums and outputs with the golden ones; explain the first wrong word, name the mistake."""

    bundle: Annotated[Path, Option("The bundle with the golden vectors.", position="only")]
    against: Annotated[
        Path, Option("What the RTL dumped: a folder of files, a time,value log, or a .vcd or .fst.", "The dump")
    ]
    layout: Annotated[
        str | None, Option("Of the dumped files: a name or a .toml file. [default: the bundle's]", "The dump")
    ] = None
    level: Annotated[
        str | None,
        Option(
            "What a log or signal holds: psum, sfp (outputs before ReLU, where the layout has both) or output. "
            "[default: by the file's name, then by the number of words, then output]",
            "The dump",
        ),
    ] = None
    radix: Annotated[str | None, Option("Of a log's values: bin, hex or dec. [default: the layout's]", "The dump")] = (
        None
    )
    signal: Annotated[str | None, Option("Of a waveform: the words, such as top.dut.out.", "The dump")] = None
    valid: Annotated[str | None, Option("Of a waveform: 1 where the signal is a word.", "The dump")] = None
    clock: Annotated[
        str | None, Option("Of a waveform: a word at each rising edge, as before the edge.", "The dump")
    ] = None


@dataclass(frozen=True)
class GradeRequest(Request):
    """Simulate hardware faults; say which of them the golden files would reveal, and which slip through."""

    bundles: Annotated[Path, Option("A bundle, or a folder of bundles of one layer shape and array.", position="only")]
    faults: Annotated[int, Option("At most so many faults, of every kind some; drawn where there are more.")] = 50_000
    seed: Annotated[int, Option("Of the draw.")] = 0
