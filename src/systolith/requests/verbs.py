"""One dataclass a verb, of which Python's signature and the command line's options are made.

An option that a verb has no use for in some case is None unless it was given, so that it can be refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from systolith.requests.hardware import CosimRequest as CosimRequest
from systolith.requests.hardware import MutateRequest as MutateRequest
from systolith.requests.hardware import ProjectCheckRequest as ProjectCheckRequest
from systolith.requests.hardware import ProjectNewRequest as ProjectNewRequest
from systolith.requests.hardware import ProjectStartRequest as ProjectStartRequest
from systolith.requests.hardware import SynthRequest as SynthRequest
from systolith.requests.option import Option
from systolith.requests.shared import (
    ARRAY,
    AXES,
    DATA_SET,
    DEFAULT_LAYER,
    DEFAULT_MODEL,
    FROM_DATA,
    LAYER,
    MODEL,
    MOST_FILES,
    OUTPUT,
    PICTURE,
    RUNNING,
    SCHEDULER,
    STIMULUS,
    AnyModel,
    Array,
    Cut,
    Forcing,
    Geometry,
    Lanes,
    Limit,
    MaybeModel,
    ModelOrModule,
    OnePicture,
    Request,
    Size,
    Streaming,
    TorchModel,
    VectorLayout,
)


@dataclass(frozen=True)
class CheckRequest(Request):
    """Compare dumped psums and outputs with the golden ones; explain the first wrong word, name the mistake."""

    bundle: Annotated[Path, Option("The bundle with the golden vectors.", position="only")]
    against: Annotated[
        Path, Option("What the RTL dumped: a folder of files, a file of words, a log, or a .vcd or .fst.", "The dump")
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
    radix: Annotated[
        str | None,
        Option("Of the words: bin, hex or dec. [default: the layout's, or another that they show]", "The dump"),
    ] = None
    pattern: Annotated[
        str | None,
        Option(
            "Of a text: a regular expression that finds the word of a line as its group, or as the one named value, "
            "beside those named time, address or lane.",
            "The dump",
        ),
    ] = None
    signal: Annotated[str | None, Option("Of a waveform: the words, such as top.dut.out.", "The dump")] = None
    valid: Annotated[str | None, Option("Of a waveform: 1 where the signal is a word.", "The dump")] = None
    clock: Annotated[
        str | None, Option("Of a waveform: a word at each rising edge, as before the edge.", "The dump")
    ] = None
    when: Annotated[
        str | None, Option("Of a waveform, instead of a valid: SIGNAL=VALUE, such as top.dut.state=3.", "The dump")
    ] = None
    times: Annotated[
        str | None, Option("Of a waveform, instead of a valid: the words' times, T,T,... or FROM:TO:STEP.", "The dump")
    ] = None


@dataclass(frozen=True)
class GradeRequest(Request):
    """Simulate hardware faults; say which of them the golden files would reveal, and which slip through."""

    bundles: Annotated[Path, Option("A bundle, or a folder of bundles of one layer shape and array.", position="only")]
    faults: Annotated[int, Option("At most so many faults, of every kind some; drawn where there are more.")] = 50_000
    seed: Annotated[int, Option("Of the draw.")] = 0
    double: Annotated[
        bool, Option("The array's weights are double-buffered: its shadow registers can be faulty, too.", ARRAY)
    ] = False


@dataclass(frozen=True)
class RunRequest(Array, OnePicture, Forcing, Request):
    """Take a picture through a trained network, map one layer on the array, check every step, write golden vectors."""

    model: Annotated[str, Option("A shipped model, a model file, a checkpoint or .onnx.", MODEL)] = DEFAULT_MODEL
    layer: Annotated[str, Option("The layer to map, such as features.27.", MODEL)] = DEFAULT_LAYER
    layout: VectorLayout = "course"
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
class VerifyRequest(Size, Request):
    """Prove every threshold of the integer network, and compare every activation code with the trained network's."""

    model: TorchModel = DEFAULT_MODEL
    network: Annotated[Path | None, Option("The integer network's file. [default: the model's own]", MODEL)] = None
    data: Annotated[str | None, DATA_SET] = None
    limit: Limit = 0
    executor: Annotated[
        str, Option("What runs the integers: fast, reference (NumPy), or onnx (onnxruntime).", RUNNING)
    ] = "fast"
    psum_bits: Annotated[
        int | None, Option("Also say what accumulators of so many bits would do to accuracy.", ARRAY)
    ] = None
    scheduler: Annotated[str | None, SCHEDULER] = None


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
class ImportRequest(Forcing, Request):
    """Turn somebody's model (QONNX, ONNX with QDQ pairs, a course checkpoint) into a network of integers, checked."""

    file: Annotated[Path, Option("The file: .onnx, .pth, .pth.tar.", position="only")]
    out: Annotated[Path | None, Option("The file to write (.safetensors); without, nothing is written.", OUTPUT)] = None
    mean: Annotated[
        str | None,
        Option("A mean a channel, of pixel/255. [default: 0; a checkpoint's: .491,.482,.447]", PICTURE),
    ] = None
    std: Annotated[
        str | None, Option("A deviation a channel. [default: 1; a checkpoint's: .247,.243,.262]", PICTURE)
    ] = None
    weight_bits: Annotated[int, Option("Of a course checkpoint's weights.", MODEL, least=2, most=8)] = 4
    act_bits: Annotated[int, Option("Of a course checkpoint's activations.", MODEL, least=1, most=8)] = 4
    data: Annotated[str | None, Option("A data set whose pictures are compared; else seeded noise.", PICTURE)] = None
    limit: Annotated[int, Option("Compare the first so many pictures.", PICTURE, least=1)] = 64


@dataclass(frozen=True)
class ExportRequest(Forcing, Request):
    """Write a network of integers in another format, read it back and compare it."""

    model: AnyModel
    form: Annotated[str, Option("onnx (integer operators), qdq, qonnx, npz or c.", OUTPUT, "--format")]
    out: Annotated[Path, Option("The file to write; for c a folder.", OUTPUT)]


@dataclass(frozen=True)
class EvaluateRequest(Request):
    """Accuracy of a model on the test split of a data set, per class, with the confusion matrix."""

    model: TorchModel = DEFAULT_MODEL
    data: Annotated[str, DATA_SET] = field(kw_only=True)
    limit: Limit = 0


@dataclass(frozen=True)
class TrainRequest(Request):
    """Train a network by a recipe: leaves checkpoints, log, curves and model.safetensors in --out."""

    recipe: Annotated[ModelOrModule, Option("The name of a recipe, such as vgg16-w4a4-s8.", position="only")]
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


@dataclass(frozen=True)
class VectorsRequest(Array, Cut, Geometry, Forcing, Request):
    """Write the golden vectors of a model's layers, of your own integers (--tensors), or of a --stimulus."""

    model: MaybeModel = None
    layer: Annotated[
        str | None, Option(f"One layer, several with commas between, or `all`. [default: {DEFAULT_LAYER}]", MODEL)
    ] = None
    tensors: Annotated[
        Path | None,
        Option("A .npz with act (C,H,W), weight (O,C,KH,KW), optionally padding, stride, dilation.", LAYER),
    ] = None
    stimulus: Annotated[
        str | None, Option("Made-up integers: random, corner (all directed cases), or one case's name.", STIMULUS)
    ] = None
    most_negative: Annotated[bool, Option("Weights down to the most negative code, -8 in 4 bits.", STIMULUS)] = False
    act_range: Annotated[str | None, Option("Activation codes, LO..HI. [default: the whole lane]", STIMULUS)] = None
    weight_range: Annotated[str | None, Option("Weight codes, LO..HI. [default: -7..7 in 4 bits]", STIMULUS)] = None
    density: Annotated[
        float | None, Option("Of `sparse`: share of codes that are not 0. [default: 0.25]", STIMULUS)
    ] = None
    seed: Annotated[int | None, Option("Of the random codes. [default: 0]", STIMULUS)] = None
    image: Annotated[
        list[Path] | None, Option("A picture file; may be repeated. [default: the shipped cat]", PICTURE)
    ] = None
    data: Annotated[str | None, FROM_DATA] = None
    index: Annotated[str | None, Option("Which pictures of the test split: 7, or 0-9,12. [default: 0]", PICTURE)] = None
    layout: VectorLayout = "course"
    tiles: Annotated[
        str | None, Option("Only the first input and output channel tiles, INxOUT, as a layer.", OUTPUT)
    ] = None
    limit_nij: Annotated[int | None, Option("Of each pass only the first so many psums.", OUTPUT)] = None
    no_psum: Annotated[bool, Option("No psums, neither as files nor in tensors.npz.", OUTPUT)] = False
    yes: Annotated[bool, Option(f"Write more than {MOST_FILES:,} files.", OUTPUT)] = False
    jobs: Annotated[int | None, Option("Layers at a time. [default: one a core]", RUNNING)] = None
    out: Annotated[Path, Option("The bundle's folder, or that of several, DIR/LAYER.", OUTPUT)] = Path("build/vectors")


@dataclass(frozen=True)
class ConvertRequest(Array, Geometry, Forcing, Request):
    """Read vector files in one layout, check that the golden ones are what their inputs imply, write another layout."""

    source: Annotated[Path, Option("A bundle, or a plain folder of vector files (with --from).", position="only")]
    to: Annotated[str, Option("The layout to write: a name or a .toml file.", OUTPUT)]
    out: Annotated[Path, Option("The new bundle's folder.", OUTPUT)]
    layout: Annotated[
        str | None,
        Option("The folder's layout: a name or a .toml file. [default: the bundle's own]", LAYER, flag="--from"),
    ] = None


@dataclass(frozen=True)
class LayoutShowRequest(Request):
    """Print a layout as TOML, to copy and change; or list them."""

    name: Annotated[
        str | None, Option("A layout's name or .toml file; without it, all names.", position="only", metavar="[NAME]")
    ] = None


@dataclass(frozen=True)
class LayoutNewRequest(Forcing, Request):
    """Write a layout of your own: a preset with differences. Without flags, on a terminal, it asks."""

    out: Annotated[Path, Option("The .toml file to write.", OUTPUT)]
    like: Annotated[str, Option("The layout to start from.")] = "course"
    header: Annotated[str | None, Option("none, tokens, or a number of free lines to skip.")] = None
    transposed: Annotated[bool, Option("Weights: a line per input channel.")] = False
    kij_major: Annotated[bool, Option("One file for all kij, kij after kij.")] = False
    reverse_lines: Annotated[list[str] | None, Option("act, weight, psum or out; repeatable.")] = None
    reverse_lanes: Annotated[list[str] | None, Option("act, weight, psum or out; repeatable.")] = None
    unpadded: Annotated[bool, Option("Activations without their padding.")] = False
    windowed: Annotated[bool, Option("Psums only where an output needs them.")] = False
    no_relu: Annotated[bool, Option("Outputs before ReLU.")] = False
    addresses: Annotated[bool, Option("With a file of accumulation addresses.")] = False
    radix: Annotated[str | None, Option("bin, hex or dec.")] = None


@dataclass(frozen=True)
class LayoutCheckRequest(Array, Geometry, Request):
    """Say which layouts the files are consistent with, and what is different: such as weights transposed."""

    folder: Annotated[Path, Option("A folder of vector files of unknown layout.", position="only")]
    layout: Annotated[str | None, Option("Only this one: a name or a .toml file.", LAYER)] = None


@dataclass(frozen=True)
class ViewRequest(Request):
    """Open a page that `--html` wrote, in a folder the newest; say where it is."""

    path: Annotated[Path, Option("The page, or a folder with pages.", position="only", metavar="FOLDER_OR_PAGE")]


@dataclass(frozen=True)
class ExploreRequest(Request):
    """Work out a space of designs, each layer's clocks, traffic, memories and energy; say which designs none beats."""

    space: Annotated[
        Path | None, Option("A .toml file with [axes] and [search].", position="only", metavar="[SPACE.toml]")
    ] = None
    model: Annotated[
        str | None,
        Option(
            "Shipped models, model files, built-in topologies, .csv (SCALE-Sim) or .onnx files, with commas between. "
            f"[default: {DEFAULT_MODEL}]",
            MODEL,
        ),
    ] = None
    array: Annotated[str | None, Option("Arrays, ROWSxCOLS with commas between. [default: 8x8]", AXES)] = None
    axis: Annotated[
        list[str] | None,
        Option(
            "NAME=VALUES, such as act_bits=4,8 or rows=4..32 or batch=1..9..2; repeatable. Names: see the docs.", AXES
        ),
    ] = None
    points: Annotated[int | None, Option("Only so many points, drawn at random. [default: all]", AXES, least=1)] = None
    search: Annotated[
        str, Option("How --points are found: random, or optuna, which learns from those before.", AXES)
    ] = "random"
    seed: Annotated[int | None, Option("Of the draw. [default: 0]", AXES, least=0)] = None
    minimize: Annotated[
        str, Option("Columns, with commas between: a design is on the front if none is as good in all of them.", OUTPUT)
    ] = "clocks_per_picture,energy_high_pj_per_picture"
    energy: Annotated[Path | None, Option("A table of energies, .toml. [default: 45 nm]", RUNNING)] = None
    image: Annotated[
        Path | None, Option("A picture on which zero products are counted. [default: the shipped cat]", PICTURE)
    ] = None
    data: Annotated[str | None, FROM_DATA] = None
    index: Annotated[str | None, Option("Which pictures of the test split: 7, or 0-9,12. [default: 0]", PICTURE)] = None
    top: Annotated[int, Option("Designs to show.", OUTPUT, least=1)] = 10
    out: Annotated[
        Path, Option("The folder of the results; what is there already is not worked out again.", OUTPUT)
    ] = Path("build/explore")
    jobs: Annotated[int | None, Option("Processes. [default: one a core]", RUNNING, least=1)] = None
    scheduler: Annotated[str | None, SCHEDULER] = None


@dataclass(frozen=True)
class InfoRequest(Lanes, Request):
    """List the shipped models, or the layers of one and how they sit on the array."""

    model: Annotated[
        str | None,
        Option("A shipped model or a model file; without it, the shipped ones.", position="only", metavar="[MODEL]"),
    ] = None
    nodes: Annotated[bool, Option("List the nodes of the integer network instead.")] = False
