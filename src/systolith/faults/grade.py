"""How good are the vectors? Which hardware faults their golden files would reveal, and which slip through.

A fault is *detected* if some word of a golden psum or output file differs; *undetectable* if it is proved that no
integers of the formats, on this layer and array, could show it in these files; *survived* if other stimulus reveals it;
and *unknown* if neither a proof nor a stimulus is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from systolith.array import ArrayResult, Mapping
from systolith.array.layer import run_mapped
from systolith.array.psums import psum_shape
from systolith.faults.faults import Fault, make_faults
from systolith.faults.faulty import columns_of, faulty_out, faulty_psum
from systolith.faults.lattice import Ints, Machine
from systolith.faults.undetectable import Seen, proof
from systolith.formats import BadInput
from systolith.stimulus.stimulus import Case, batch_of, make_cases
from systolith.vectors.layout import FileSpec, Layout, lane_format, spec_files
from systolith.vectors.shape import Shape

RANDOM = 16  # seeds of random stimulus that are tried on what slips through


@dataclass(frozen=True)
class Survivor:
    """A detectable fault that the vectors do not reveal, and a stimulus that would."""

    fault: Fault
    revealed_by: str


@dataclass(frozen=True)
class Grade:
    """The outcome.

    Attributes:
        faults: all that were simulated.
        detected: those that some golden word reveals, and the first bundle that does.
        undetectable: those that no stimulus can reveal, and why.
        survivors: those that slip through.
        unknown: those neither revealed by anything tried nor proved undetectable.
    """

    faults: tuple[Fault, ...]
    detected: dict[Fault, str]
    undetectable: dict[Fault, str]
    survivors: tuple[Survivor, ...]
    unknown: tuple[Fault, ...]

    @property
    def holds(self) -> bool:
        """Every fault known to be detectable is detected, and there was one."""
        return bool(self.detected) and not self.survivors

    def table(self) -> list[tuple[str, int, int, int, int, int]]:
        """By kind: faults, detected, undetectable, survived, unknown."""
        parts = self.faults, self.detected, self.undetectable, [s.fault for s in self.survivors], self.unknown
        counts = [Counter(fault.kind for fault in part) for part in parts]
        return [(kind, *(c[kind] for c in counts)) for kind in counts[0]]  # type: ignore[misc]


def grade(
    results: Iterable[tuple[str, ArrayResult]],
    layout: Layout,
    most: int | None = None,
    seed: int = 0,
    double: bool = False,
) -> Grade:
    """Simulate every fault on every stimulus.

    Args:
        results: a name and a stimulus, one after another; all of one layer shape, array and way to map one on the
            other.
        layout: of their golden files.
        most: faults; where the array has more, they are drawn by `seed`, some of every kind.
        double: weights are double-buffered.

    Raises:
        BadInput: no stimulus, stimuli of different shapes, a layout without psums and outputs, `most` too small, or
            `double` with stationary outputs.
    """
    first: tuple[str, ArrayResult] | None = None
    faults: list[Fault] = []
    alive: list[Fault] = []
    detected: dict[Fault, str] = {}
    for name, result in results:
        if first is None:
            first = name, result
            seen = visible(layout, result.mapping)
            faults = alive = make_faults(result.mapping, bool(seen.after.any()), most, seed, double)
        elif geometry(result.mapping) != geometry(first[1].mapping):
            raise BadInput(f"{name} and {first[0]} are of different layers or arrays: grade those of one together")
        found, alive = _revealed(result, alive, seen)
        detected |= dict.fromkeys(found, name)
    if first is None:
        raise BadInput("no vectors to grade")
    mapping = first[1].mapping
    undetectable, open_ = {}, []
    for fault in alive:
        reason = proof(fault, mapping, seen)
        if reason:
            undetectable[fault] = reason
        else:
            open_.append(fault)
    survivors: list[Survivor] = []
    for name, result in _other_stimuli(mapping) if open_ else ():
        found, open_ = _revealed(result, open_, seen)
        survivors += [Survivor(fault, name) for fault in found]
        if not open_:
            break
    order = {fault: n for n, fault in enumerate(faults)}
    survivors.sort(key=lambda survivor: order[survivor.fault])
    return Grade(tuple(faults), detected, undetectable, tuple(survivors), tuple(open_))


def geometry(mapping: Mapping) -> tuple[object, ...]:
    """What stimuli that are graded together have in common."""
    conv = mapping.conv
    shape = conv.weight.shape, conv.groups, conv.stride, conv.pads, conv.dilation, mapping.height, mapping.width
    return mapping.spec, mapping.code_format, mapping.batch, mapping.packed, shape


def visible(layout: Layout, mapping: Mapping) -> Seen:
    """Which psums and outputs the layout's golden files show.

    Raises:
        BadInput: none that a fault could show in.
    """
    conv, spec = mapping.conv, mapping.spec
    lanes = mapping.oc_tiles * spec.cols
    # Lanes without a channel are words as well, where the layout has lanes.
    weight = np.broadcast_to(np.int8(0), (lanes, conv.in_channels, *conv.kernel))
    whole = replace(mapping, conv=replace(conv, weight=weight, groups=1))
    psum = np.zeros(psum_shape(mapping), dtype=np.int64)
    out, after = (np.zeros((lanes, mapping.onijs), dtype=np.int64) for _ in range(2))
    for file in layout.files:
        if file.tensor == "psum":
            _show(layout, file, mapping, psum, len(psum))
        elif file.tensor in ("out", "out_os"):
            of, channels = (mapping, conv.out_channels) if "oc" in file.axes else (whole, lanes)
            _show(layout, replace(file, relu=False), of, after if file.relu else out, channels)
    if not (psum.any() or out.any() or after.any()):
        raise BadInput(f"layout {layout.name}: has no psums or outputs that could reveal a fault")
    outs = (part.reshape(mapping.oc_tiles, spec.cols, mapping.onijs) for part in (out, after))
    return Seen(psum.transpose(1, 4, 0, 2, 3).copy(), *outs)


def _show(layout: Layout, file: FileSpec, mapping: Mapping, shown: Ints, channels: int) -> None:
    """Set the bits of `shown` (of a source array) that a file holds."""
    places = np.arange(1, shown.size + 1).reshape(shown.shape)[:channels]
    mask = (1 << lane_format(file, mapping).bits) - 1
    flat = shown.reshape(-1)
    for one in spec_files(layout, file, mapping, places):
        flat[one.words[one.words > 0] - 1] |= mask


def _revealed(result: ArrayResult, faults: list[Fault], seen: Seen) -> tuple[list[Fault], list[Fault]]:
    """Those of `faults` that show, and the others."""
    machine = Machine(result)
    found, left = [], list(faults)
    # One output tile reveals most; the others are simulated for what is left.
    for o in range(result.mapping.oc_tiles):
        shows = [any(_shows(machine, fault, seen, o, c) for c in columns_of(fault, result.mapping)) for fault in left]
        found += [fault for fault, shown in zip(left, shows, strict=True) if shown]
        left = [fault for fault, shown in zip(left, shows, strict=True) if not shown]
    return found, left


def _shows(m: Machine, fault: Fault, seen: Seen, o: int, c: int) -> bool:
    """Whether a golden word of column `c` in oc_tile `o` would differ."""
    psum, right = faulty_psum(m, fault, o, c), m.psum(o, c)
    if psum is not None:
        different = psum ^ right
        if not different.any():
            return False
        if (different & seen.psum[o, c, m.mapping.ic_range(o)]).any():
            return True
    if not (seen.out[o, c].any() or seen.after[o, c].any()):
        return False
    out, after = faulty_out(m, fault, o, c, right if psum is None else psum)
    if ((out ^ m.out[o, c]) & seen.out[o, c]).any():
        return True
    return bool(((after ^ np.maximum(m.out[o, c], 0)) & seen.after[o, c]).any())


def _other_stimuli(mapping: Mapping) -> Iterator[tuple[str, ArrayResult]]:
    """Stimuli of the same shape that may reveal what others do not, and their names."""
    spec, shape = mapping.spec, Shape.of(mapping)
    weight = spec.weight_format
    widest = replace(shape, weight_range=(weight.lo, weight.hi))
    for chosen, more in ((shape, ""), (widest, " --most-negative")):
        for stimulus, seeds in (("corner", range(1)), ("random", range(RANDOM)), ("sparse", range(RANDOM))):
            for seed in seeds:
                for case in make_cases(stimulus, chosen, spec, seed):
                    if not isinstance(case, Case):
                        continue
                    try:
                        result = run_mapped(replace(mapping, conv=case.conv), batch_of(case.act, mapping.batch))
                    except BadInput:  # overflows where that is an error: not a stimulus
                        continue
                    yield f"--stimulus {case.name}{more}{f' --seed {seed}' if seed else ''}", result
