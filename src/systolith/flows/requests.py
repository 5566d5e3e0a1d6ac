"""What each verb can be told: a dataclass a verb, of which Python's signature and the command line's options are made.

Standard library alone: the command line imports this before it knows which verb it is. Options that several verbs share
are inherited. An option that a verb has no use for in some case is None unless it was given, so that it can be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
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
    for each in fields(request):
        for extra in getattr(hints[each.name], "__metadata__", ()):
            if isinstance(extra, Option):
                found[each.name] = (hints[each.name].__origin__, extra, each.default)
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


# Of a network: which model, by name, file or checkpoint.
AnyModel = Annotated[str, Option("A shipped model, a model file, or a checkpoint of a run.", MODEL, position="too")]
TorchModel = Annotated[
    str, Option("A shipped model, a model file, or a checkpoint.", position="only", metavar="[MODEL]")
]


@dataclass(frozen=True)
class RunRequest(Array, OnePicture, Forcing, Request):
    """Take a picture through a trained network, map one layer on the array, check every step, write golden vectors."""

    model: Annotated[str, Option("A shipped model, a model file, or a checkpoint of a run.", MODEL)] = DEFAULT_MODEL
    layer: Annotated[str, Option("The layer to map, such as features.27.", MODEL)] = DEFAULT_LAYER
    layout: Annotated[
        str, Option("Format of the vector files: a name (systolith layout show) or a .toml file.", OUTPUT)
    ] = "course"
    out: Annotated[Path, Option("The bundle's folder.", OUTPUT)] = Path("build/run")


@dataclass(frozen=True)
class SimulateRequest(Array, OnePicture, Streaming, Request):
    """Predict every clock of a network on the array, step all registers of the array, and compare the two."""

    model: AnyModel = DEFAULT_MODEL
    layer: Annotated[str, Option("One layer, several with commas between, or `all`.", MODEL)] = "all"
    values: Annotated[
        bool,
        Option(
            "Step every register with the picture's codes and compare; or only predict.", RUNNING, off="--no-values"
        ),
    ] = True
    l0_depth: Annotated[int | None, Option("Words of the L0. [default: 2]", ARRAY)] = None
    ofifo_depth: Annotated[int | None, Option("Words of a column of the OFIFO. [default: the columns]", ARRAY)] = None
    act_depth: Annotated[int | None, Option("Words of the activation memory. [default: as needed]", ARRAY)] = None
    weight_depth: Annotated[int | None, Option("Words of the weight memory. [default: as needed]", ARRAY)] = None
    psum_depth: Annotated[int | None, Option("Words of the psum memory. [default: as needed]", ARRAY)] = None


@dataclass(frozen=True)
class CosimRequest(Array, OnePicture, Streaming, Forcing, Request):
    """Run layers on the RTL core in a real simulator; compare every psum, output and code, and the clock of each."""

    model: Annotated[
        str | None,
        Option(f"A shipped model, a model file, or a checkpoint. [default: {DEFAULT_MODEL}]", MODEL, position="too"),
    ] = None
    layer: Annotated[
        str | None,
        Option(
            "A layer, several with commas between, or `all`: an inference, layer after layer. "
            f"[default: {DEFAULT_LAYER}]",
            MODEL,
        ),
    ] = None
    random: Annotated[
        int | None, Option("Instead: so many made-up layers, of any shape, sign, stride and overflow.", MODEL)
    ] = None
    seed: Annotated[int | None, Option("Of --random. [default: 0]", MODEL)] = None
    requantize: Annotated[str, Option("How the core makes codes: thresholds, or fixed (M, B, S).", ARRAY)] = (
        "thresholds"
    )
    sim: Annotated[
        str, Option("auto (Verilator, else Icarus), icarus, verilator, or the path of one's compiler.", RUNNING)
    ] = "auto"
    core: Annotated[Path | None, Option("A folder with your version of the core's .sv files.", RUNNING)] = None
    waves: Annotated[Path | None, Option("Write every signal to this .fst or .vcd (of a single layer).", OUTPUT)] = None
    out: Annotated[Path | None, Option("Keep the vectors and what the core dumped in this folder.", OUTPUT)] = None
    timeout: Annotated[float, Option("Seconds that a simulation may take.", RUNNING)] = 900
    jobs: Annotated[int, Option("Compilers and simulators at a time.", RUNNING)] = 2


@dataclass(frozen=True)
class VerifyRequest(Size, Request):
    """Prove every threshold of the integer network, and compare every activation code with the trained network's."""

    model: TorchModel = DEFAULT_MODEL
    network: Annotated[Path | None, Option("The integer network's file. [default: the model's own]", MODEL)] = None
    data: Annotated[str | None, Option("A data set: a folder or a hub name.", PICTURE)] = None
    limit: Annotated[int, Option("Only the first so many pictures (0: all).", PICTURE, least=0)] = 0
    executor: Annotated[
        str, Option("What runs the integers: fast, reference (NumPy), or onnx (onnxruntime).", RUNNING)
    ] = "fast"
    psum_bits: Annotated[
        int | None, Option("Also say what accumulators of so many bits would do to accuracy.", ARRAY)
    ] = None


@dataclass(frozen=True)
class LowerRequest(Forcing, Request):
    """Turn a trained model into a network of integers, prove its thresholds, and write both into one file."""

    model: TorchModel = DEFAULT_MODEL
    out: Annotated[Path | None, Option("The file to write (.safetensors).", OUTPUT)] = None
    integers_only: Annotated[
        bool, Option("Leave the trained floats (scales, batch norms) out of the file.", OUTPUT)
    ] = False
    fixed_point: Annotated[bool, Option("Find the smallest exact (M, B, S) of every channel, too.")] = False
    multiplier_bits: Annotated[int, Option("The most that M may need with --fixed-point.", least=2, most=32)] = 32
    onnx: Annotated[Path | None, Option("Also export to ONNX, integer operators only.", OUTPUT)] = None


@dataclass(frozen=True)
class EvaluateRequest(Request):
    """Accuracy of a model on the test split of a data set, per class, with the confusion matrix."""

    model: TorchModel = DEFAULT_MODEL
    data: Annotated[str, Option("A data set: a folder or a hub name.", PICTURE)] = field(kw_only=True)
    limit: Annotated[int, Option("Only the first so many pictures (0: all).", PICTURE, least=0)] = 0


@dataclass(frozen=True)
class TrainRequest(Request):
    """Train a network by a recipe: leaves checkpoints, log, curves and model.safetensors in --out."""

    recipe: Annotated[str, Option("The name of a recipe, such as vgg16-w4a4-s8.", position="only")]
    data: Annotated[str, Option("A data set: a folder or a hub name.")]
    out: Annotated[Path, Option("The run's folder.", OUTPUT)]
    resume: Annotated[bool, Option("Go on with the run in --out.", OUTPUT)] = False
    changes: Annotated[list[str] | None, Option("key=value, overrides the recipe; repeatable.", flag="--set")] = None
    bits: Annotated[int | None, Option("32: the recipe's float twin.")] = None
    holdout: Annotated[int, Option("Training pictures kept out, to measure on.")] = 1000
    stages: Annotated[Path | None, Option("Where runs that this one stands on live. [default: OUT/stages]", OUTPUT)] = (
        None
    )
    minutes: Annotated[float, Option("Between checkpoints in an epoch.", flag="--checkpoint-minutes")] = 10.0
