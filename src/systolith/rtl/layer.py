"""A layer as the testbench's files, and what the testbench says of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArrayResult, Mapping
from systolith.array.mapping import by_channel
from systolith.array.psums import leaving
from systolith.formats import BadInput, IntFormat, from_bits
from systolith.network.requantize import FixedPoint, Thresholds
from systolith.rtl import descriptor
from systolith.rtl.compiling import build
from systolith.rtl.simulators import Simulator, simulate
from systolith.timing import Schedule, contract
from systolith.timing.account import memory_words
from systolith.vectors.layout import FileSpec, Layout
from systolith.vectors.text import encode_words

M_BITS, B_BITS, S_BITS = 24, 48, 6
"""Widths of the core's (M, B, S), `sfp_lane.sv`."""
EVENTS = ("load", "stream", "read", "write")
"""Of `array.timing.Events`, those that the testbench watches beside the words that come, in its order."""


@dataclass(frozen=True)
class Outcome:
    """What the testbench counted.

    Attributes:
        psums, outputs: words that came, of those expected.
        wrong: words (psums, outputs, outputs after ReLU, codes) that are not the golden ones.
        events: beats that entered row 0 and accesses of the psum memory; how many there were, of those expected.
        late: words and events at another clock than predicted.
        overruns: clocks in which a queue was full.
        clocks: from the first weight beat entering the array to the last bottom-row psum registered.
        first: the testbench's lines about the first wrong one of each kind.
    """

    psums: tuple[int, int]
    outputs: tuple[int, int]
    wrong: tuple[int, int, int, int]
    events: tuple[int, int]
    late: int
    overruns: int
    clocks: int
    first: tuple[str, ...]

    @property
    def timestamps(self) -> int:
        """Words and events whose clock is compared."""
        return self.psums[1] + self.outputs[1] + self.events[1]

    @property
    def holds(self) -> bool:
        """Every word and event came, is right, and came at its clock."""
        whole = all(came == due > 0 for came, due in (self.psums, self.outputs, self.events))
        return whole and not any(self.wrong) and not self.late and not self.overruns


def parameters(mapping: Mapping, schedule: Schedule, code_bits: int = 4) -> dict[str, int]:
    """The testbench's parameters for a core that just holds the layer, and does just what its schedule asks."""
    spec, stationary = mapping.spec, mapping.stationary
    return {
        "ROWS": spec.rows,
        "COLS": spec.cols,
        "ACT_BITS": spec.act_bits,
        "WEIGHT_BITS": spec.weight_bits,
        "PSUM_BITS": spec.psum_bits,
        "CODE_BITS": code_bits,
        "SIMD": spec.simd,
        "DOUBLE": int(schedule.double and not stationary),
        "STATIONARY": int(stationary),
        "PACKED": int(mapping.flat is not None),
        **{f"{memory.upper()}_DEPTH": max(1, words) for memory, words in memory_words(mapping, schedule).items()},
        "OC_TILES": mapping.oc_tiles,
    }


def layout(schedule: Schedule) -> Layout:
    """The order in which the core gives psums and outputs."""
    position = "onij" if schedule.useful else "nij"
    psum = FileSpec("psum", "psum.txt", ("otile", "kij", "itile", position), ("col",))
    return Layout("core", (psum, FileSpec("out", "out.txt", ("otile", "onij"), ("col",))))


def write_layer(
    result: ArrayResult,
    folder: Path,
    schedule: Schedule,
    requantize: Thresholds | FixedPoint | None = None,
    code_bits: int = 4,
) -> None:
    """Write what `testbench.sv` reads into the existing folder `folder`.

    Raises:
        BadInput: a value that does not fit its lane, or (M, B, S) wider than the core's.
    """
    mapping = result.mapping
    conv, spec = mapping.conv, mapping.spec

    def write(name: str, blocks: Iterable[NDArray[np.integer]], fmt: IntFormat) -> int:
        count = 0
        with (folder / f"{name}.txt").open("wb") as out:
            for words in blocks:
                out.write(encode_words(name, words, fmt, first=count))
                count += len(words)
        return count

    acts = write("act", [descriptor.act_words(mapping, result.act)], mapping.code_format)
    lanes = descriptor.weight_words(mapping, schedule)
    weights = write("weight", [lanes.reshape(len(lanes), -1)], spec.weight_format)
    tiles = (result.psum[mapping.ic_range(oc_tile), oc_tile] for oc_tile in range(mapping.oc_tiles))
    psums = write("psum", (leaving(mapping, block, schedule.useful) for block in tiles), spec.psum_format)
    outs = write("out", [out_words(mapping, result.out)], spec.psum_format)
    clocks = _write_clocks(mapping, folder, schedule)
    stores = 0
    if requantize is not None:
        words_of = store(mapping, requantize, code_bits)
        (folder / "store.txt").write_text("".join(f"{word}\n" for word in words_of))
        stores = len(words_of)
        pictures = result.out.reshape(-1, *result.out.shape[-3:])
        codes = requantize.apply(pictures) - requantize.low
        write("code", [out_words(mapping, codes)], IntFormat(code_bits, signed=False))
    numbers = [
        *(conv.act_format.signed, spec.overflow == "saturate", isinstance(requantize, FixedPoint)),
        *(schedule.drained, schedule.double and not mapping.stationary, mapping.stationary),
        *(mapping.simd.bit_length() - 1, mapping.oc_tiles),
        *descriptor.reading(mapping, schedule).numbers(),
        *descriptor.placing(mapping, schedule).numbers(),
        *(acts, weights, stores, psums, outs, requantize is not None, 2 * schedule.clocks(mapping) + 1000),
        *(n for port in schedule.ports(mapping) for n in (port.every, port.late)),
        *(clocks[event] for event in EVENTS),
        contract(spec).lead + schedule.first(mapping),
    ]
    (folder / "layer.txt").write_text(" ".join(str(int(n)) for n in numbers) + "\n")
    found = descriptor.ranges(mapping)
    (folder / "range.txt").write_text("".join(f"{limit:032b}{begin:032b}\n" for begin, limit in found))
    begins = descriptor.starts(mapping)
    (folder / "row.txt").write_text("".join("".join(f"{n:032b}" for n in digits) + "\n" for digits in begins))


def out_words(mapping: Mapping, values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Outputs (O, OH, OW) or (picture, O, OH, OW) as words (word, col), one oc_tile after another."""
    cols, channels = mapping.spec.cols, mapping.conv.out_channels
    lanes = np.zeros((mapping.oc_tiles * cols, mapping.onijs), dtype=np.int64)
    lanes[:channels] = by_channel(values)
    return lanes.reshape(mapping.oc_tiles, cols, -1).swapaxes(1, 2).reshape(-1, cols)


def _write_clocks(mapping: Mapping, folder: Path, schedule: Schedule) -> dict[str, int]:
    """When everything must happen, a file for each kind of event; how many there are of each."""
    counts = dict.fromkeys((*EVENTS, "psum", "out"), 0)
    with contextlib.ExitStack() as stack:
        files = {event: stack.enter_context((folder / f"{event}_time.txt").open("w")) for event in counts}
        for oc_tile in range(mapping.oc_tiles):
            events = schedule.events(mapping, oc_tile)
            for event, file in files.items():
                clocks = getattr(events, event)
                counts[event] += len(clocks)
                file.writelines(f"{clock}\n" for clock in clocks.tolist())
    return counts


def store(mapping: Mapping, requantize: Thresholds | FixedPoint, code_bits: int) -> list[str]:
    """A word of bits for each lane of each oc_tile, as `sfp_lane.sv` reads it; lanes without a channel give code 0.

    Raises:
        BadInput: more thresholds than the codes have, or (M, B, S) that do not fit the core's or round half to even.
    """
    name, levels, wide = mapping.conv.name, (1 << code_bits) - 1, mapping.spec.psum_bits + 1
    width = max(levels * wide + 1, M_BITS + B_BITS + S_BITS)
    if isinstance(requantize, FixedPoint) and requantize.levels != levels:
        raise BadInput(f"{name}: codes up to {requantize.levels}: the core's fixed point clamps at {levels}")
    if isinstance(requantize, FixedPoint) and requantize.least:
        raise BadInput(f"{name}: codes from {requantize.least} up: the core's fixed point clamps at 0")
    if isinstance(requantize, FixedPoint) and requantize.rounding != "floor":
        raise BadInput(f"{name}: half to even has no (M, B, S) that the core's shift rounds: expected rounding up")
    given = 0 if isinstance(requantize, FixedPoint) else requantize.values.shape[1]
    if given > levels:
        raise BadInput(f"{name}: {given} thresholds a channel: codes of {code_bits} bits have {levels}")
    # What the accumulator cannot reach, and "never", one above its largest value, whichever way it is turned.
    least, never = -(1 << (mapping.spec.psum_bits - 1)), (1 << (mapping.spec.psum_bits - 1)) + 1
    words = []
    for channel in range(mapping.oc_tiles * mapping.spec.cols):
        inside = channel < mapping.conv.out_channels
        if isinstance(requantize, FixedPoint):
            fields = [(0, M_BITS, True), (0, B_BITS, True), (0, S_BITS, False)]
            if inside:
                numbers = requantize.multiplier, requantize.bias, requantize.shift
                fields = [(int(n[channel]), bits, signed) for n, (_, bits, signed) in zip(numbers, fields, strict=True)]
        else:
            row = np.clip(requantize.values[channel], least, never).tolist() if inside else []
            turned = int(inside and requantize.sign[channel] < 0)
            fields = [(turned, 1, False), *((value, wide, True) for value in row + [never] * (levels - len(row)))]
        word, at = 0, 0
        for value, bits, signed in fields:
            fmt = IntFormat(bits, signed)
            if not fmt.lo <= value <= fmt.hi:
                raise BadInput(f"{name} channel {channel}: {value} does not fit the core's {bits} bits")
            word |= (value & ((1 << bits) - 1)) << at
            at += bits
        words.append(f"{word:0{width}b}")
    return words


def run_on(
    simulator: Simulator,
    result: ArrayResult,
    folder: Path,
    schedule: Schedule | None = None,
    requantize: Thresholds | FixedPoint | None = None,
    code_bits: int = 4,
    cache: Path | None = None,
    core: Path | None = None,
    given: MappingType[str, int] | None = None,
    dump: int = 0,
    waves: Path | None = None,
    runs: int = 1,
    timeout: float | None = None,
) -> Outcome:
    """One layer through a real simulation of the core: every psum, output and code compared there, and their clocks.

    Args:
        folder: existing, for the files.
        cache, core: of `simulators.build`.
        given: the core's parameters; by default those that just hold the layer.
        dump, waves, runs, timeout: of `simulators.simulate`.
    """
    how = schedule or Schedule()
    try:
        write_layer(result, folder, how, requantize, code_bits)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror or error})") from None
    kind = waves.suffix[1:] if waves else ""
    model = build(simulator, given or parameters(result.mapping, how, code_bits), cache, core, kind)
    found = outcome(simulate(simulator, model, folder, dump, waves, runs, timeout))
    for name, (came, _) in (("psum", found.psums), ("out", found.outputs), ("code", found.outputs))[int(dump != 1) :]:
        # A simulator goes on when its disk is full.
        if dump and (folder / f"{name}.log").read_bytes().count(b"\n") != came:
            raise BadInput(f"{folder}/{name}.log: expected {came:,} lines, some are missing: is the disk full?")
    return found


def run_sequence(
    simulator: Simulator,
    layers: Sequence[tuple[ArrayResult, Schedule, Thresholds | FixedPoint | None]],
    folder: Path,
    code_bits: int = 4,
    cache: Path | None = None,
    core: Path | None = None,
) -> Outcome:
    """Layers on one core, one after another in one simulation, without a reset; `run_on` for what is compared.

    Args:
        folder: existing and empty, for a folder a layer.
    """
    for number, (result, schedule, requantize) in enumerate(layers):
        place = folder / str(number)
        place.mkdir()
        write_layer(result, place, schedule, requantize, code_bits)
    given = shared(parameters(result.mapping, schedule, code_bits) for result, schedule, _ in layers)
    return outcome(simulate(simulator, build(simulator, given, cache, core), folder, layers=len(layers)))


def shared(cores: Iterable[MappingType[str, int]]) -> dict[str, int]:
    """The parameters of one core that holds the layers of all these, which differ in their depths alone."""
    found: dict[str, int] = {}
    for core in cores:
        found = {name: max(value, found.get(name, 0)) for name, value in core.items()}
    return found


def read_outputs(mapping: Mapping, folder: Path) -> NDArray[np.int64]:
    """The accumulators that came out of the core, (picture, O, OH, OW), from its out.log.

    Raises:
        BadInput: words are missing, or one is not all zeros and ones.
    """
    return _placed(mapping, folder / "out.log", mapping.spec.psum_format)


def read_codes(mapping: Mapping, folder: Path, code_bits: int, low: int = 0) -> NDArray[np.int64]:
    """The codes that came out of the core, (picture, O, OH, OW), from its code.log; its own begin at 0, these at `low`.

    Raises:
        BadInput: as `read_outputs`.
    """
    return _placed(mapping, folder / "code.log", IntFormat(code_bits, signed=False)) + low


def _placed(mapping: Mapping, path: Path, fmt: IntFormat) -> NDArray[np.int64]:
    """The `time,value` words of a log, in the order of oc_tile and onij, as a map."""
    texts = [line.partition(",")[2] for line in path.read_text().splitlines()]
    cols, wanted = mapping.spec.cols, mapping.oc_tiles * mapping.onijs
    if len(texts) != wanted or any(len(text) != cols * fmt.bits or text.strip("01") for text in texts):
        raise BadInput(f"{path}: expected {wanted} words of {cols * fmt.bits} binary digits")
    digits = np.frombuffer("".join(texts).encode(), dtype=np.uint8) - ord("0")
    words = from_bits(digits.reshape(mapping.oc_tiles, mapping.onijs, cols, fmt.bits), fmt.signed)
    lanes = words[:, :, ::-1].swapaxes(1, 2).reshape(-1, mapping.batch, *mapping.output_shape)  # lane 0 is written last
    return np.ascontiguousarray(lanes[: mapping.conv.out_channels].swapaxes(0, 1))


_FIRST = re.compile(r"(time of )?(\w+) (\d+)(?: clock (-?\d+))? expected (\S+) found (\S+)")


def explain(mapping: Mapping, schedule: Schedule, outcome: Outcome, code_bits: int = 4) -> list[str]:
    """What the testbench saw first, of each kind: where it is in the layer, what was expected and what came."""
    sentences = []
    called = ("weight beat", "activation beat", "psum memory read", "psum memory write")
    for line in outcome.first:
        match = _FIRST.match(line)
        if match is None:
            continue
        late, kind, index, clock, expected, found = match.groups()
        if kind == "start":
            sentences.append(f"the first weight beat: expected {expected} clocks after start, came {found} after it")
            continue
        where = _where(mapping, schedule, kind, int(index))
        if kind.startswith("event"):
            kind = called[int(kind[-1])]
        if late:
            sentences.append(f"{kind} of {where}: expected at clock {expected}, came at {found}")
            continue
        fmt = IntFormat(code_bits, signed=False) if kind == "code" else mapping.spec.psum_format
        lanes = [
            [text[len(text) - (c + 1) * fmt.bits :][: fmt.bits] for text in (expected, found)]
            for c in range(mapping.spec.cols)
        ]
        col = next(c for c, (one, other) in enumerate(lanes) if one != other)
        one, other = (_number(text, fmt) for text in lanes[col])
        sentences.append(f"{kind} of {where}, col {col}, at clock {clock}: expected {one}, found {other}")
    if outcome.overruns:
        sentences.append(f"a queue was full in {outcome.overruns} clocks")
    counted = (("psum words", outcome.psums), ("output words", outcome.outputs), ("beats and accesses", outcome.events))
    sentences += [f"{came:,} {kind} came, {due:,} were expected" for kind, (came, due) in counted if came != due]
    return sentences


def _number(text: str, fmt: IntFormat) -> str:
    if text.strip("01"):
        return text
    return str(int(from_bits(np.array([int(digit) for digit in text], dtype=np.uint8), fmt.signed)))


def _where(mapping: Mapping, schedule: Schedule, kind: str, index: int) -> str:
    """Where in the layer the testbench's `index`-th event or word of a kind is."""
    position = "onij" if schedule.useful or mapping.flat is not None else "nij"
    within = {"psum": (schedule.vectors(mapping), "row" if mapping.stationary else position)}
    if mapping.stationary:
        within |= {"event0": (mapping.steps, "step"), "event1": (mapping.steps, "step")}
    else:
        beats = contract(mapping.spec, schedule.double).load_beats, "row" if schedule.double else "col"
        within |= {"event0": beats, "event1": (schedule.vectors(mapping), position)}
        within |= {"event2": (mapping.onijs, "onij"), "event3": (mapping.onijs, "onij")}
    if kind not in within:
        oc_tile, at = divmod(index, mapping.onijs)
        return f"oc_tile {oc_tile % mapping.oc_tiles}, onij {at}"
    count, last = within[kind]
    number, at = divmod(index, count)
    number %= mapping.rounds
    if mapping.stationary:
        return f"oc_tile {number // mapping.folds}, fold {number % mapping.folds}, {last} {at}"
    oc_tile, kij, ic_tile = mapping.order[number]
    place = f"row tile {ic_tile}" if mapping.flat is not None else f"kij {kij}, ic_tile {ic_tile}"
    return f"oc_tile {oc_tile}, {place}, {last} {at}"


_RESULT = re.compile(
    r"RESULT psums=(\d+) of=(\d+) wrong=(\d+) outputs=(\d+) of=(\d+) wrong=(\d+) relu_wrong=(\d+) code_wrong=(\d+) "
    r"events=(\d+) of=(\d+) time_wrong=(\d+) overruns=(\d+) clocks=(-?\d+)"
)


def outcome(printed: str) -> Outcome:
    """The testbench's verdict from what it, and perhaps the core, printed."""
    lines = printed.splitlines()
    verdict = next((found for line in reversed(lines) if (found := _RESULT.fullmatch(line))), None)
    if verdict is None:
        raise BadInput(f"the simulation gave no verdict: {lines[-1] if lines else 'it printed nothing'}")
    n = [int(number) for number in verdict.groups()]
    first = tuple(line.removeprefix("FIRST ") for line in lines if line.startswith("FIRST"))
    return Outcome((n[0], n[1]), (n[3], n[4]), (n[2], n[5], n[6], n[7]), (n[8], n[9]), n[10], n[11], n[12], first)
