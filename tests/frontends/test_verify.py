"""The proof and the comparison: equal where all is equal, and every planted fault found in its place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import pictures
from frontends.random_models import noise, scramble
from systolith.equality import Equality
from systolith.formats import IntFormat, least_signed_bits, pack_codes, unpack_codes
from systolith.frontends.lowering import Lowered, lower
from systolith.frontends.verify import BATCH, Executor, by_plan, by_reference, compare_pictures, prove
from systolith.models import load_pretrained
from systolith.network import reference
from systolith.network.execute import plan
from systolith.network.file import load_network, save_network
from systolith.network.integer import IntegerNetwork
from systolith.quant import ExactBatchNorm2d, QuantConv2d, QuantLinear
from systolith.store import Codes, ModelFile, NetworkPart, load_model_file, save_model_file

SIZE = (8, 8)
EXECUTORS: dict[str, Callable[[IntegerNetwork], Executor]] = {
    "plan": lambda network: by_plan(plan(network)),
    "reference": by_reference,
}


def vgg_like() -> nn.Sequential:
    return nn.Sequential(
        *(QuantConv2d(3, 4, 3, padding=1, pixels=0), ExactBatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(QuantConv2d(4, 6, 3, padding=1), ExactBatchNorm2d(6), nn.ReLU(inplace=True)),
        *(QuantConv2d(6, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
        *(
            nn.Flatten(),
            QuantLinear(16, 7, weight_bits=4, act_bits=4),
            nn.ReLU(inplace=True),
            QuantLinear(7, 5, act_bits=4),
        ),
    )


LAYERS = ("0", "4", "7", "11", "13")
EDGES = ("0>4", "4>7", "7>11", "11>13")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(3)
    return scramble(vgg_like(), noise(32, *SIZE), seed=4)


@pytest.fixture(scope="module")
def lowered(model: nn.Module) -> Lowered:
    return lower(model, SIZE)


def through_file(network: IntegerNetwork, folder: Path, change: Callable[[ModelFile], ModelFile]) -> IntegerNetwork:
    """The network as it comes from a file whose arrays were changed before it was written anew."""
    save_network(folder / "right.safetensors", network, {})
    changed = change(load_model_file(folder / "right.safetensors"))
    save_model_file(folder / "changed.safetensors", changed)
    return load_network(folder / "changed.safetensors")


def with_tensor(file: ModelFile, name: str, array: np.ndarray) -> ModelFile:
    assert file.network is not None
    assert array.shape == file.network.tensors[name].shape
    return replace(file, network=replace(file.network, tensors={**file.network.tensors, name: array}))


def with_weight(layer: str, index: tuple[int, ...], value: int) -> Callable[[ModelFile], ModelFile]:
    def change(file: ModelFile) -> ModelFile:
        codes = file.codes[layer]
        values = codes.values.copy()
        values[index] = value
        changed = Codes(values, codes.format, codes.scale, codes.act_format)
        return replace(file, codes={**file.codes, layer: changed})

    return change


def with_threshold(edge: str, channel: int, k: int | slice, by: int | np.ndarray) -> Callable[[ModelFile], ModelFile]:
    """T[k] (k from 1), or a slice of them, of one channel moved."""

    def change(file: ModelFile) -> ModelFile:
        assert file.network is not None
        steps = copy.deepcopy(file.network.steps)
        facts = next(step for step in steps if step["name"] == edge)
        tensors = dict(file.network.tensors)
        shape = len(tensors[f"{edge}/sign"]), facts["levels"]
        values = unpack_codes(tensors[f"{edge}/thresholds"], IntFormat(facts["bits"], True), shape)
        values[channel, k if isinstance(k, slice) else k - 1] += by
        facts["bits"] = least_signed_bits(int(values.min()), int(values.max()))
        tensors[f"{edge}/thresholds"] = pack_codes(values, IntFormat(facts["bits"], True))
        return replace(file, network=NetworkPart(steps, tensors))

    return change


def with_entry(name: str, index: tuple[int, ...], by: int) -> Callable[[ModelFile], ModelFile]:
    def change(file: ModelFile) -> ModelFile:
        assert file.network is not None
        array = file.network.tensors[name].copy()
        array[index] += by
        return with_tensor(file, name, array)

    return change


def failing(proofs: list[Equality]) -> list[Equality]:
    return [proof for proof in proofs if not proof.holds]


def reachable_points(network: IntegerNetwork, edge: str) -> int:
    """By hand: T[k]-1 and T[k] of every k where within the range of sign*acc, and both ends of the range."""
    t, count = network.requantizes[edge].thresholds, 0
    for row, sign, lo, hi in zip(t.values.tolist(), t.sign.tolist(), t.lo.tolist(), t.hi.tolist(), strict=True):
        low, high = (lo, hi) if sign > 0 else (-hi, -lo)
        count += 2 + sum(low <= point <= high for value in row for point in (value - 1, value))
    return count


def first_difference(right: IntegerNetwork, wrong: IntegerNetwork, pixels: np.ndarray, edge: str) -> str:
    """What the comparison has to say of the first code that differs at `edge`, from the executions of both networks."""
    for start in range(0, len(pixels), BATCH):
        batch = pixels[start : start + BATCH]
        expected, results = reference.run(right, batch)[edge], reference.run(wrong, batch)
        places = np.argwhere(expected != results[edge])
        if len(places):
            break
    at = tuple(places[0].tolist())
    t, channel, producer = wrong.requantizes[edge].thresholds, at[1], wrong.producer(edge)
    want, got = int(expected[at]), int(results[edge][at])
    k = max(want, got) - t.low
    mirrored = " of -accumulator" if t.sign[channel] < 0 else ""
    pixel = f", pixel {at[2:]}" if len(at) > 2 else ""
    return (
        f"image {start + at[0]}, layer {edge}, channel {channel}{pixel}: accumulator {results[producer][at]}, "
        f"threshold T[{k}] {t.values[channel, k - 1]}{mirrored}, expected code {want}, found {got}"
    )


def liveliest(network: IntegerNetwork, pixels: np.ndarray, edge: str) -> int:
    """The channel with the most different codes."""
    codes = reference.run(network, pixels)[edge]
    return int(np.argmax([len(np.unique(codes[:, c])) for c in range(codes.shape[1])]))


def require_found(
    lowered: Lowered, right: IntegerNetwork, wrong: IntegerNetwork, pixels: np.ndarray, edge: str, channel: int
) -> None:
    """Both executors' comparisons count what differs, and name this layer and channel first."""
    before, after = reference.run(right, pixels), reference.run(wrong, pixels)
    first = first_difference(right, wrong, pixels, edge)
    assert f"layer {edge}, channel {channel}" in first
    for made in EXECUTORS.values():
        found = compare_pictures(lowered, wrong, made(wrong), pixels)
        assert found.first == first
        for name in right.requantizes:
            assert found.codes[name] == (before[name].size, int((before[name] != after[name]).sum()))
        assert np.array_equal(np.concatenate(found.trained), before["class"])
        assert np.array_equal(np.concatenate(found.integer), after["class"])
        codes, logits, classes = found.equalities()
        different = [int((before[name] != after[name]).sum()) for name in ("13", "class")]
        assert (codes.first, codes.holds) == (first, False)
        assert (logits.compared, logits.different) == (5 * len(pixels), different[0])
        assert (classes.compared, classes.different) == (len(pixels), different[1])
        assert logits.first == (first if different[0] else "")
        assert classes.first == (first if different[1] else "")


# Everything equal


def test_the_proof_counts_what_it_compares(lowered: Lowered, tmp_path: Path) -> None:
    network = through_file(lowered.network, tmp_path, lambda file: file)
    proofs = prove(lowered, network)
    assert [(p.name, p.compared, p.different, p.first) for p in proofs] == [
        ("pixel table", 3 * 256, 0, ""),
        ("0 weights", 4 * 3 * 9, 0, ""),
        ("4 weights", 6 * 4 * 9, 0, ""),
        ("7 weights", 4 * 6 * 9, 0, ""),
        ("11 weights", 7 * 16, 0, ""),
        ("11 bias", 7, 0, ""),
        ("13 weights", 5 * 7, 0, ""),
        ("13 bias", 5, 0, ""),
        *((f"{edge} thresholds", reachable_points(network, edge), 0, "") for edge in EDGES),
    ]
    assert all(p.holds for p in proofs)
    assert {int(s) for node in network.requantizes.values() for s in node.thresholds.sign} == {-1, 1}


@pytest.mark.parametrize("made", EXECUTORS.values(), ids=EXECUTORS)
def test_the_comparison_counts_what_it_compares(lowered: Lowered, made: Any, model: nn.Module) -> None:
    pixels, done = noise(BATCH + 7, *SIZE, seed=1), list[int]()
    found = compare_pictures(lowered, lowered.network, made(lowered.network), pixels, done.append)
    n = BATCH + 7
    # In front of the pools: the accumulators' own maps.
    sizes = {"0>4": n * 4 * 64, "4>7": n * 6 * 16, "7>11": n * 4 * 16, "11>13": n * 7}
    assert found.codes == {name: (size, 0) for name, size in sizes.items()}
    assert [(e.name, e.compared, e.different, e.first) for e in found.equalities()] == [
        ("codes of every layer", sum(sizes.values()), 0, ""),
        ("logits", n * 5, 0, ""),
        ("classes", n, 0, ""),
    ]
    assert (found.images, done) == (n, [BATCH, n])
    with torch.no_grad():
        answers = model(torch.from_numpy(pixels)).argmax(1).numpy()
    assert len(np.unique(answers)) > 1
    assert np.array_equal(np.concatenate(found.trained), answers)
    assert np.array_equal(np.concatenate(found.integer), answers)


def test_nothing_is_proved_by_no_picture(lowered: Lowered) -> None:
    found = compare_pictures(lowered, lowered.network, by_reference(lowered.network), noise(0, *SIZE))
    assert not any(e.holds for e in found.equalities())


def test_the_codes_of_a_vgg16_and_a_wrong_weight_in_it(random_model_file: Path, tmp_path: Path) -> None:
    lowered = lower(load_pretrained(str(random_model_file)))
    network = through_file(lowered.network, tmp_path, lambda file: file)
    assert not failing(prove(lowered, network))
    assert len(network.requantizes) == 13
    found = compare_pictures(lowered, network, by_plan(plan(network)), pictures(3))
    # Maps of 32x32, 16x16, 8x8, 4x4 and 2x2; of the 4x4 ones, two have the 8 channels of the squeeze.
    size = 2 * 64 * 1024 + 2 * 128 * 256 + 3 * 256 * 64 + (8 + 8 + 512) * 16 + 3 * 512 * 4
    codes, logits, classes = found.equalities()
    assert (codes.compared, codes.different) == (3 * size, 0)
    assert (logits.compared, logits.different, classes.compared, classes.different) == (30, 0, 3, 0)

    # The weight in the middle of the kernel between the liveliest channels, to the other end of its range.
    edges = [next(n for n in network.requantizes if n.endswith(f">features.{i}")) for i in (27, 29)]
    results = reference.run(network, pictures(1), edges[1])
    index = (*(int(results[edge][0].std((1, 2)).argmax()) for edge in reversed(edges)), 1, 1)
    right = int(network.layers["features.27"].weight[index])
    value = -7 if right > 0 else 7
    wrong = through_file(network, tmp_path, with_weight("features.27", index, value))
    first = failing(prove(lowered, wrong))[0]
    place = "oc {}, ic {}, ki {}, kj {}".format(*index)
    assert (first.name, first.first) == ("features.27 weights", f"[{place}] expected {right}, found {value}")
    found = compare_pictures(lowered, wrong, by_plan(plan(wrong)), pictures(3))
    assert f"layer features.27>features.29, channel {index[0]}, " in found.first
    before = list(network.requantizes).index("features.27>features.29")
    different = [found.codes[name][1] for name in network.requantizes]
    assert different[:before] == [0] * 8
    assert different[before] > 0


# One fault each


@pytest.mark.parametrize("layer", LAYERS)
def test_one_weight(lowered: Lowered, layer: str, tmp_path: Path) -> None:
    network, pixels = lowered.network, noise(40, *SIZE, seed=2)
    weight = network.layers[layer].weight
    edge = EDGES[LAYERS.index(layer)] if layer != "13" else ""
    # Of the channel with the most codes (none is a constant), the largest weight, turned around.
    channel = liveliest(network, pixels, edge) if edge else 1
    index = (channel, *(int(i) for i in np.unravel_index(np.abs(weight[channel]).argmax(), weight.shape[1:])))
    right = int(weight[index])
    wrong = -right
    changed = through_file(network, tmp_path, with_weight(layer, index, wrong))

    first, *others = failing(prove(lowered, changed))
    axes = ("oc", "ic", "ki", "kj")
    place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, index, strict=False))
    assert first == Equality(f"{layer} weights", weight.size, 1, f"[{place}] expected {right}, found {wrong}")
    # The accumulator has another range now: only the thresholds of this very map can be in doubt.
    assert all(other.name == f"{edge} thresholds" for other in others)

    if edge:
        require_found(lowered, network, changed, pixels, edge, channel)
        return
    for made in EXECUTORS.values():
        found = compare_pictures(lowered, changed, made(changed), pixels)
        codes, logits, _ = found.equalities()
        assert codes.holds
        assert 0 < logits.different <= len(pixels)
        assert logits.first == "[images 0..39] in the logits, every code before them being equal"


def gap(network: IntegerNetwork, edge: str, sign: int, acc: np.ndarray, met: bool) -> tuple[int, int]:
    """(channel, k) of a threshold of that sign with room on both sides, that an accumulator is equal to, or none is."""
    t = network.requantizes[edge].thresholds
    low, high = t.mirrored_range()
    for channel in np.flatnonzero(t.sign == sign):
        row, values = t.values[channel], sign * acc[:, channel]
        for k in range(2, len(row)):
            inside = low[channel] < row[k - 1] < high[channel]
            room = row[k - 1] - row[k - 2] > 2 and row[k] - row[k - 1] > 2
            if inside and room and (values == row[k - 1]).any() == met:
                return int(channel), k
    raise AssertionError("no such threshold")


@pytest.mark.parametrize(
    ("edge", "sign"), [("0>4", 1), ("0>4", -1), ("4>7", 1), ("4>7", -1), ("7>11", 1), ("11>13", 1)]
)
def test_one_threshold_where_a_picture_shows_it(lowered: Lowered, edge: str, sign: int, tmp_path: Path) -> None:
    network, pixels = lowered.network, noise(70, *SIZE, seed=2)
    acc = reference.run(network, pixels)[network.producer(edge)]
    channel, k = gap(network, edge, sign, acc, met=True)
    value = int(network.requantizes[edge].thresholds.values[channel, k - 1])
    wrong = through_file(network, tmp_path, with_threshold(edge, channel, k, 1))
    # The accumulator at the old threshold falls back by one code; nothing else.
    place = f"[channel {channel}, accumulator {sign * value}] expected {k}, found {k - 1}"
    assert failing(prove(lowered, wrong)) == [
        Equality(f"{edge} thresholds", reachable_points(wrong, edge), 1, place),
    ]
    met = int((sign * acc[:, channel] == value).sum())
    for made in EXECUTORS.values():
        found = compare_pictures(lowered, wrong, made(wrong), pixels)
        assert found.codes[edge][1] == met > 0
        assert f"layer {edge}, channel {channel}" in found.first
        assert f": accumulator {sign * value}, threshold T[{k}] {value + 1}" in found.first
        assert found.first.endswith(f"expected code {k}, found {k - 1}")
        assert (" of -accumulator" in found.first) == (sign < 0)
    require_found(lowered, network, wrong, pixels, edge, channel)

    # Moved the other way, the accumulator below gains a code.
    wrong = through_file(network, tmp_path, with_threshold(edge, channel, k, -1))
    place = f"[channel {channel}, accumulator {sign * (value - 1)}] expected {k - 1}, found {k}"
    assert [(p.name, p.different, p.first) for p in failing(prove(lowered, wrong))] == [
        (f"{edge} thresholds", 1, place)
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_one_threshold_that_no_picture_meets_is_found_by_the_proof(lowered: Lowered, sign: int, tmp_path: Path) -> None:
    network, pixels = lowered.network, noise(2, *SIZE, seed=2)
    acc = reference.run(network, pixels)["4"]
    channel, k = gap(network, "4>7", sign, acc, met=False)
    wrong = through_file(network, tmp_path, with_threshold("4>7", channel, k, 1))
    found = compare_pictures(lowered, wrong, by_plan(plan(wrong)), pixels)
    assert all(e.holds for e in found.equalities())
    (proof,) = failing(prove(lowered, wrong))
    assert (proof.name, proof.different) == ("4>7 thresholds", 1)
    assert f"[channel {channel}, " in proof.first


def test_the_ends_of_the_range_are_proved_too(lowered: Lowered, tmp_path: Path) -> None:
    # Every threshold of a channel beyond its range: a constant 0, which no point beside a threshold contradicts.
    network = lowered.network
    t = network.requantizes["4>7"].thresholds
    high = t.mirrored_range()[1]
    channel = int(np.argmax((t.values <= high[:, None]).sum(1)))
    never = int(high[channel]) + 1
    moved = with_threshold("4>7", channel, slice(None), never - t.values[channel])
    (proof,) = failing(prove(lowered, through_file(network, tmp_path, moved)))
    assert f"[channel {channel}, accumulator {int(t.sign[channel]) * (never - 1)}] expected " in proof.first
    assert proof.first.endswith("found 0")


def test_one_sign_in_the_file(lowered: Lowered, tmp_path: Path) -> None:
    channel = int(np.flatnonzero(lowered.network.requantizes["4>7"].thresholds.sign < 0)[0])
    wrong = through_file(lowered.network, tmp_path, with_entry("4>7/sign", (channel,), 2))
    (proof,) = failing(prove(lowered, wrong))
    assert proof.name == "4>7 thresholds"
    assert f"[channel {channel}, " in proof.first
    require_found(lowered, lowered.network, wrong, noise(9, *SIZE), "4>7", channel)
