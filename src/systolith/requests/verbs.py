"""One dataclass a verb, of which Python's signature and the command line's options are made.

An option that a verb has no use for in some case is None unless it was given, so that it can be refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from systolith.requests.option import Option
from systolith.requests.shared import (
    ARRAY,
    DATA_SET,
    DEFAULT_LAYER,
    DEFAULT_MODEL,
    DESIGN,
    FROM_DATA,
    LAYER,
    MODEL,
    MOST_FILES,
    OUTPUT,
    PICTURE,
    PROJECT,
    RUNNING,
    STIMULUS,
    AnyModel,
    Array,
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
class CosimRequest(Array, OnePicture, Streaming, Forcing, Request):
    """Run layers on the RTL core in a real simulator; compare every psum, output and code, and the clock of each."""

    model: MaybeModel = None
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
    core: Annotated[Path | None, Option("A folder with your version of our core's .sv files.", RUNNING)] = None
    project: Annotated[
        Path | None, Option("Instead of our core: your design and testbench, as a core.toml says.", PROJECT)
    ] = None
    stimulus: Annotated[
        str | None,
        Option("With --project: made-up layers instead, such as random:50,corner, of the project's shape.", PROJECT),
    ] = None
    control: Annotated[
        bool,
        Option(
            "With --project: a passing run again with a bit flipped in each kind of file.", PROJECT, off="--no-control"
        ),
    ] = True
    waves: Annotated[Path | None, Option("Write every signal to this .fst or .vcd (of a single layer).", OUTPUT)] = None
    out: Annotated[Path | None, Option("Keep the vectors and what the core dumped in this folder.", OUTPUT)] = None
    timeout: Annotated[float, Option("Seconds that a simulation may take.", RUNNING)] = 900
    jobs: Annotated[int, Option("Compilers and simulators at a time.", RUNNING)] = 2


@dataclass(frozen=True)
class MutateRequest(Request):
    """Change one thing at a time in the core's sources, or a project's; say which changes its layers reveal."""

    modules: Annotated[
        str | None,
        Option(
            "Modules to change, or their files, with commas between, or all. [default: "
            "mac_tile,mac_row,mac_array,l0,ofifo,sfp,sfp_lane,walk; of a project, all but the testbench]"
        ),
    ] = None
    project: Annotated[Path | None, Option("Change this core.toml's design; its testbench judges.", PROJECT)] = None
    stimulus: Annotated[
        str | None, Option("Of a project, instead of its layers: cases with commas between, random:N.", PROJECT)
    ] = None
    layer: Annotated[str | None, Option("Of a project, the layers, with commas between.", PROJECT)] = None
    limit: Annotated[int | None, Option("Only so many mutants, evenly spread over the sources.")] = None
    list: Annotated[bool, Option("Only list the mutants.")] = False
    proofs: Annotated[bool, Option("Let Yosys prove mutants equivalent.", RUNNING, off="--no-proofs")] = True
    sim: Annotated[
        str | None,
        Option("icarus, verilator, auto, or the path of one's compiler. [default: icarus, or the project's]", RUNNING),
    ] = None
    core: Annotated[Path | None, Option("A folder with your version of the core's .sv files.", RUNNING)] = None
    timeout: Annotated[float, Option("Seconds that a layer may take; what takes longer is killed.", RUNNING)] = 30
    jobs: Annotated[int, Option("Mutants at a time.", RUNNING)] = 2
    out: Annotated[Path | None, Option("Keep each mutant's fate in this folder, and go on from there.", OUTPUT)] = None


@dataclass(frozen=True)
class SynthRequest(Request):
    """Estimate by Yosys what the core, or a design of yours, takes in gates, in an FPGA's or in a library's cells."""

    target: Annotated[str, Option("generic, ecp5, ice40, cyclone4, cyclone5; several with commas between.")] = "ecp5"
    liberty: Annotated[Path | None, Option("Count this library's cells and their area instead.")] = None
    sizes: Annotated[str | None, Option("Of the core, ROWSxCOLS, with commas between. [default: 8x8]", ARRAY)] = None
    bits: Annotated[str | None, Option("Of its lanes, with commas between. [default: 4]", ARRAY)] = None
    psum_bits: Annotated[int | None, Option("Of its psums. [default: 8 more than a product's]", ARRAY)] = None
    model: Annotated[str | None, Option(f"The network whose clocks are counted. [default: {DEFAULT_MODEL}]", MODEL)] = (
        None
    )
    sources: Annotated[list[Path] | None, Option("SystemVerilog of your design instead; repeatable.", DESIGN)] = None
    project: Annotated[
        list[Path] | None, Option("The design that this core.toml's testbench tests; repeatable.", DESIGN)
    ] = None
    top: Annotated[str | None, Option("The sources' top module.", DESIGN)] = None
    parameter: Annotated[list[str] | None, Option("NAME=VALUE, of its top module; repeatable.", DESIGN)] = None
    operations: Annotated[int | None, Option("Its operations a clock, a MAC being two.", DESIGN)] = None
    frequency: Annotated[float | None, Option("MHz, of yours, for TOPS.", "Figures of yours")] = None
    power: Annotated[float | None, Option("mW, for TOPS/W.", "Figures of yours")] = None
    area: Annotated[float | None, Option("mm2, for TOPS/mm2.", "Figures of yours")] = None
    jobs: Annotated[int, Option("Syntheses at a time.", RUNNING)] = 2
    timeout: Annotated[float, Option("Seconds that one may take.", RUNNING)] = 900


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
class VectorsRequest(Array, Geometry, Forcing, Request):
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
class ProjectCheckRequest(Request):
    """Read a core.toml, compile what it names, and compare the files that its testbench opens with ours."""

    project: Annotated[Path, Option("The core.toml, or its folder.", position="only")]
    sim: Annotated[str | None, Option("The simulator. [default: the project's]", RUNNING)] = None


@dataclass(frozen=True)
class ProjectNewRequest(Forcing, Request):
    """Propose a core.toml for a testbench: the files that it opens, their headers and words; say what was not found."""

    from_testbench: Annotated[Path, Option("The testbench's source.", PROJECT, "--from-testbench")]
    sources: Annotated[
        list[str] | None,
        Option("The design's sources; repeatable. [default: those beside the testbench]", PROJECT, "--source"),
    ] = None
    out: Annotated[Path, Option("The project file to write.", OUTPUT)] = Path("core.toml")


@dataclass(frozen=True)
class ProjectStartRequest(Forcing, Request):
    """Write a passing start: our core and a testbench as your own copy, core.toml, Makefile, a cocotb test."""

    folder: Annotated[Path, Option("The new folder.", position="only")]


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
class InfoRequest(Lanes, Request):
    """List the shipped models, or the layers of one and how they sit on the array."""

    model: Annotated[
        str | None,
        Option("A shipped model or a model file; without it, the shipped ones.", position="only", metavar="[MODEL]"),
    ] = None
    nodes: Annotated[bool, Option("List the nodes of the integer network instead.")] = False
