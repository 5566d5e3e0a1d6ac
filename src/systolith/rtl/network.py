"""A network's convolutions on the core, one after another, each fed what the one before gave there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingType
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.array import ArraySpec, Mapping, run_mapped
from systolith.array.spec import widened
from systolith.equality import Equality, compare
from systolith.network import Conv, IntegerNetwork
from systolith.network.graph import Argmax, Linear, Requantize
from systolith.network.reference import compute
from systolith.network.requantize import FixedPoint, Thresholds, to_fixed_point
from systolith.rtl.compiling import build
from systolith.rtl.layer import Outcome, parameters, read_codes, read_outputs, run_on, shared, store
from systolith.rtl.simulators import Simulator
from systolith.timing import Choice, Schedule, choose


@dataclass(frozen=True, eq=False)
class Planned:
    """A layer and the core that it will run on.

    Attributes:
        name: of the node.
        choice: on the core's array, in its schedule.
        consumer: the node whose codes the core gives, "" where it gives accumulators alone.
        requantize: what makes them, of accumulators without the bias: the array adds products alone.
        bias: int64 (O,), what the network adds to those, or None.
        code_bits: their width in the core.
        core: the testbench's parameters; layers of the same lanes share one core.
    """

    name: str
    choice: Choice
    consumer: str
    requantize: Thresholds | FixedPoint | None
    bias: NDArray[np.int64] | None
    code_bits: int
    core: dict[str, int]

    @property
    def mapping(self) -> Mapping:
        """The layer on the core's array."""
        return self.choice.mapping

    @property
    def schedule(self) -> Schedule:
        """What the core is told."""
        return self.choice.schedule


@dataclass(frozen=True, eq=False)
class Ran:
    """A layer that ran.

    Attributes:
        planned: what was to run.
        act: activation codes that it took, (C, H, W), of a batch (picture, C, H, W).
        outcome: the testbench's.
        equal: in a network: the accumulators and codes that came out of the core, read from its dump, against the
            network's own.
        seconds: wall time, vectors included.
    """

    planned: Planned
    act: NDArray[np.integer]
    outcome: Outcome
    equal: Equality | None
    seconds: float

    @property
    def holds(self) -> bool:
        return self.outcome.holds and (self.equal is None or self.equal.holds)


def plan(
    network: IntegerNetwork,
    names: Sequence[str],
    spec: ArraySpec,
    auto: bool = False,
    fixed_point: bool = False,
    widen: bool = False,
    choose: Callable[[Mapping], Choice] = choose,
    batch: int = 1,
) -> list[Planned]:
    """The layers `names`, no one twice, on cores of the size of `spec`, a core for each width of codes among them.

    Args:
        spec: of the cores.
        auto: psum bits are the least that no layer of a core can overflow, not those of `spec`.
        fixed_point: codes by (M, B, S) instead of thresholds.
        widen: lanes that are too narrow for a layer are widened for it.
        choose: the schedule of a layer.
        batch: pictures that are computed together.

    Raises:
        BadInput: no such layer, one too wide for its lanes, or no exact (M, B, S) of some channel.
    """
    groups: dict[tuple[int, int, int], list[Planned]] = {}
    for name in names:
        (taken,) = network[name].inputs
        node = network.layers[name]
        conv = node.as_conv() if isinstance(node, Linear) else node.product()
        wide = widened(conv, spec) if widen else spec
        shape = network.values[taken].shape if isinstance(node, Conv) else (1, 1, 1)
        consumer = next((s.node for s in network.steps if s.inputs == (name,) and isinstance(s.node, Requantize)), None)
        code_bits, chosen = 1, None
        if consumer is not None and isinstance(node, Conv):
            code_bits = consumer.thresholds.values.shape[1].bit_length()
            thresholds = without_bias(consumer.thresholds, node.bias)
            chosen = to_fixed_point(consumer.name, thresholds) if fixed_point else thresholds
        produced = consumer.name if consumer is not None and chosen else ""
        unscheduled = Choice("", Mapping(conv, wide, shape[-2], shape[-1], batch), Schedule())
        one = Planned(name, unscheduled, produced, chosen, node.bias, code_bits, {})
        groups.setdefault((wide.act_bits, wide.weight_bits, code_bits), []).append(one)
    placed = {one.name: one for group in groups.values() for one in _on_one_core(group, auto, choose)}
    for one in placed.values():
        if one.requantize is not None:
            store(one.mapping, one.requantize, one.code_bits)  # whether they fit, before anything runs
    return [placed[name] for name in names]


def without_bias(thresholds: Thresholds, bias: NDArray[np.int64] | None) -> Thresholds:
    """The thresholds of accumulators from which the bias is still missing: the same codes."""
    if bias is None:
        return thresholds
    t = thresholds
    return replace(t, values=t.values - (t.sign * bias)[:, None], lo=t.lo - bias, hi=t.hi - bias)


def _on_one_core(group: Sequence[Planned], auto: bool, choose: Callable[[Mapping], Choice]) -> list[Planned]:
    """Layers of the same lanes and codes, on the core that they share."""
    spec = group[0].mapping.spec
    if auto:
        spec = replace(spec, psum_bits=max(2, *(max(one.mapping.least_psum_bits()) for one in group)))
    placed = [replace(one, choice=choose(replace(one.mapping, spec=spec))) for one in group]
    core = shared(parameters(one.mapping, one.schedule, one.code_bits) for one in placed)
    return [replace(one, core=core) for one in placed]


def build_all(
    simulator: Simulator,
    planned: Sequence[Planned],
    jobs: int,
    cache: Path | None = None,
    core: Path | None = None,
    waves: str = "",
) -> int:
    """Compile every core that the layers need, `jobs` at a time; their number."""
    cores = {tuple(sorted(one.core.items())): one.core for one in planned}
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda given: build(simulator, given, cache, core, waves), cores.values()))
    return len(cores)


def run_one(
    simulator: Simulator,
    planned: Planned,
    act: NDArray[np.integer],
    folder: Path,
    cache: Path | None = None,
    dump: int = 0,
    waves: Path | None = None,
    core: Path | None = None,
    timeout: float | None = None,
) -> Ran:
    """One layer on its core, for its activation codes; `folder` exists, for the files."""
    begin = time.perf_counter()
    result = run_mapped(planned.mapping, act)
    how = planned.schedule, planned.requantize, planned.code_bits, cache, core, planned.core
    found = run_on(simulator, result, folder, *how, dump, waves, timeout=timeout)
    return Ran(planned, act, found, None, time.perf_counter() - begin)


def run_network(
    simulator: Simulator,
    network: IntegerNetwork,
    pixels: NDArray[np.uint8],
    expected: MappingType[str, NDArray[np.int64]],
    planned: Sequence[Planned],
    folder: Path,
    cache: Path | None = None,
    core: Path | None = None,
    keep: bool = False,
    timeout: float | None = None,
) -> Iterator[Ran | tuple[int, ...]]:
    """A whole inference: the planned layers on the core, everything else on the host (`network/reference.py`).

    Each layer takes what the core gave for the layers before it. Every layer's `Ran` as it ends, and last the class of
    each picture, if the network names one. After a layer that differs nothing more runs.

    Args:
        pixels: uint8 (picture, C, H, W), as many as were planned for.
        expected: what each node of the network makes of them, as `reference.run` gives it.
        folder: existing, for a folder a layer.
        cache, core: of `simulators.build`.
        timeout: seconds a layer.
        keep: leave each layer's vectors there, and the dump of its psums.
    """
    on_core = {one.name: one for one in planned}
    results: dict[str, NDArray[np.int64]] = {}
    for step in network.steps:
        one = on_core.get(step.name)
        if one is not None:
            place = folder / step.name
            place.mkdir()
            act = results[step.inputs[0]].astype(np.int32)
            ran = run_one(
                simulator, one, act if len(act) > 1 else act[0], place, cache, 1 if keep else 2, None, core, timeout
            )
            if ran.outcome.holds:
                given = _given(one, place)
                ran = replace(ran, equal=_as_the_network(one, given, expected))
                results |= given
            yield ran
            if not ran.holds:
                return
            if not keep:
                shutil.rmtree(place)
        elif step.name not in results:
            taken = [results[name] for name in step.inputs] or [pixels.astype(np.int64)]
            results[step.name] = compute(step.node, *taken)
    if isinstance(network.steps[-1].node, Argmax):
        yield tuple(int(one) for one in results[network.steps[-1].name])


def _given(planned: Planned, folder: Path) -> dict[str, NDArray[np.int64]]:
    """What came out of the core, (picture, O, OH, OW), by the name of the node that produces it in the network."""
    acc = read_outputs(planned.mapping, folder)
    given = {planned.name: acc if planned.bias is None else acc + planned.bias[:, None, None]}
    if planned.requantize is not None:
        given[planned.consumer] = read_codes(planned.mapping, folder, planned.code_bits, planned.requantize.low)
    return given


def _as_the_network(
    planned: Planned, given: dict[str, NDArray[np.int64]], expected: MappingType[str, NDArray[np.int64]]
) -> Equality:
    found = [compare(name, expected[name], values, ("picture", "oc", "oi", "oj")) for name, values in given.items()]
    first = next((f"{one.name} {one.first}" for one in found if one.different), "")
    name = f"{planned.name}: accumulators and codes from the core = the network's"
    return Equality(name, sum(one.compared for one in found), sum(one.different for one in found), first)
