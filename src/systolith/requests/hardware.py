"""Requests of the verbs of RTL, as `verbs.py` has them of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from systolith.requests.option import Option
from systolith.requests.shared import (
    ARRAY,
    DEFAULT_LAYER,
    DEFAULT_MODEL,
    DESIGN,
    MODEL,
    OUTPUT,
    PROJECT,
    RUNNING,
    SCHEDULER,
    Array,
    Forcing,
    MaybeModel,
    OnePicture,
    Request,
    Streaming,
)


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
    scheduler: Annotated[str | None, SCHEDULER] = None


@dataclass(frozen=True)
class MutateRequest(Request):
    """Change one thing at a time in the core's sources, or a project's; say which changes its layers reveal."""

    modules: Annotated[
        str | None,
        Option(
            "Modules to change, or their files, with commas between, or all. [default: "
            "mac_tile,mac_row,mac_array,l0,ofifo,sfp,sfp_lane,walk,taps; of a project, all but the testbench]"
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
    scheduler: Annotated[str | None, SCHEDULER] = None


@dataclass(frozen=True)
class SynthRequest(Request):
    """Estimate by Yosys what the core, or a design of yours, takes in gates, in an FPGA's or in a library's cells."""

    target: Annotated[str, Option("generic, ecp5, ice40, cyclone4, cyclone5; several with commas between.")] = "ecp5"
    liberty: Annotated[Path | None, Option("Count this library's cells and their area instead.")] = None
    sizes: Annotated[str | None, Option("Of the core, ROWSxCOLS, with commas between. [default: 8x8]", ARRAY)] = None
    bits: Annotated[str | None, Option("Of its lanes, with commas between. [default: 4]", ARRAY)] = None
    psum_bits: Annotated[int | None, Option("Of its psums. [default: 8 more than a product's]", ARRAY)] = None
    schedule: Annotated[
        str | None,
        Option(
            "What it can do, by the schedule that asks for it, with commas between: useful, double, packed, "
            "packed-double, os; auto: all of it, and each layer's best. [default: useful]",
            ARRAY,
        ),
    ] = None
    simd: Annotated[int | None, Option("Codes that its activation lanes can carry. [default: 1]", ARRAY)] = None
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
