"""Options that several verbs share, to inherit, so that each is said once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from systolith.requests.option import Option, Progress, quiet

if TYPE_CHECKING:
    from torch import nn

    ModelOrModule: TypeAlias = str | nn.Module
else:
    ModelOrModule = str
"""A name or a file, in Python a network of one's own too; on the command line a name alone."""

DEFAULT_MODEL, DEFAULT_LAYER = "vgg16-w4a4-s8", "features.27"
MODEL, PICTURE, LAYER, STIMULUS = "Model", "Picture", "Layer", "Stimulus"
ARRAY, OUTPUT, RUNNING, PROJECT, DESIGN = "Array", "Output", "Running", "Project", "Your design"
AXES = "Axes"

MOST_FILES = 20_000
"""Files that are written without being asked twice."""

FROM_DATA = Option("A data set (folder or hub name) to take the picture from.", PICTURE)
DATA_SET = Option("A data set: a folder or a hub name.", PICTURE)
SCHEDULER = Option("Run on the workers of the Dask cluster at this address, such as tcp://host:8786.", RUNNING)
Limit = Annotated[int, Option("Only the first so many pictures (0: all).", PICTURE, least=0)]
VectorLayout = Annotated[
    str, Option("Format of the vector files: a name (systolith layout show) or a .toml file.", OUTPUT)
]

# Of a network: which model, by name, file or checkpoint; None where it is left open.
MaybeModel = Annotated[
    str | None,
    Option(
        f"A shipped model, a model file, a checkpoint, .onnx or .npz. [default: {DEFAULT_MODEL}]", MODEL, position="too"
    ),
]
AnyModel = Annotated[str, Option("A shipped model, a model file, a checkpoint, .onnx or .npz.", MODEL, position="too")]
TorchModel = Annotated[
    ModelOrModule, Option("A shipped model, a model file, a checkpoint or .onnx.", position="only", metavar="[MODEL]")
]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests have."""

    progress: Progress = quiet


@dataclass(frozen=True, kw_only=True)
class OnePicture:
    """A picture to look at."""

    image: Annotated[Path | None, Option("A picture file. [default: the shipped cat]", PICTURE)] = None
    data: Annotated[str | None, FROM_DATA] = None
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
class Cut:
    """How a layer is cut for the array."""

    schedule: Annotated[
        str,
        Option(
            "What streams and when: useful positions, the whole padded map, double (-buffered weights), packed (kernel "
            "positions into rows), packed-double, os (output stationary); or auto: each layer's best.",
            ARRAY,
        ),
    ] = "useful"
    simd: Annotated[
        int, Option("Codes that an activation lane carries where a layer's are narrow enough: 1, 2, 4, 8.", ARRAY)
    ] = 1
    batch: Annotated[int, Option("Pictures that are computed together.", PICTURE)] = 1


@dataclass(frozen=True, kw_only=True)
class Streaming(Cut):
    """What the core is told to do."""

    least: Annotated[str, Option("What --schedule auto makes least: clocks, or traffic of the memories.", ARRAY)] = (
        "clocks"
    )
    act_bandwidth: Annotated[
        int | None, Option("Bits a clock that the activation memory gives. [default: a word]", ARRAY)
    ] = None
    weight_bandwidth: Annotated[int | None, Option("The same of the weight memory.", ARRAY)] = None
    psum_bandwidth: Annotated[
        int | None, Option("The same of the psum memory, which takes as many as it gives.", ARRAY)
    ] = None
    latency: Annotated[
        int, Option("Clocks that a memory takes longer for the first word of a pass's weights or positions.", ARRAY)
    ] = 0
    drained: Annotated[bool, Option("A pass waits until the array is empty; else it follows at once.", ARRAY)] = False


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A layer's shape, where no file says it."""

    channels: Annotated[str | None, Option("Channels of the layer, INxOUT.", LAYER)] = None
    size: Annotated[str | None, Option("The input map without padding, HxW.", LAYER, "--input")] = None
    kernel: Annotated[str | None, Option("A number or KHxKW. [default: 3x3]", LAYER)] = None
    padding: Annotated[str | None, Option("A number, AxB, or TOPxBOTTOMxLEFTxRIGHT. [default: 1]", LAYER)] = None
    stride: Annotated[str | None, Option("A number or AxB. [default: 1]", LAYER)] = None
    dilation: Annotated[str | None, Option("A number or AxB. [default: 1]", LAYER)] = None
    groups: Annotated[int | None, Option("Groups of channels; depthwise: one a channel. [default: 1]", LAYER)] = None
    signed_act: Annotated[bool, Option("Activations are signed.", LAYER)] = False


@dataclass(frozen=True, kw_only=True)
class Forcing:
    """An output that may be there already."""

    force: Annotated[bool, Option("Replace what is there.", OUTPUT)] = False
