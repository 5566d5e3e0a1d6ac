"""What the nodes check alone and together, and the file they are kept in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.nets import Builder, random_network
from systolith.formats import BadInput, IntFormat
from systolith.network import IntegerNetwork, Step
from systolith.network.file import add_network, load_network, network_of, save_network
from systolith.network.graph import Add, Argmax, AvgPool, Flatten, MaxPool, Upsample
from systolith.network.reference import compute, run
from systolith.store import ModelFile, load_model_file, save_model_file

UINT4 = IntFormat(4, False)


def same(a: IntegerNetwork, b: IntegerNetwork) -> bool:
    assert [(type(s.node), s.name, s.inputs) for s in a.steps] == [(type(s.node), s.name, s.inputs) for s in b.steps]
    for x, y in zip(a.steps, b.steps, strict=True):
        for key, value in vars(x.node).items():
            other = getattr(y.node, key)
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, other)
            elif key == "thresholds":
                for part in ("values", "sign", "lo", "hi", "low"):
                    assert np.array_equal(getattr(value, part), getattr(other, part))
            else:
                assert value == other
    return True


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_file_gives_back_the_same_network(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    network = random_network(seed)
    path = tmp_path_factory.mktemp("n") / "n.safetensors"
    save_network(path, network, {"data": "none"})
    assert same(load_network(path), network)
    assert str(load_network(path)) == str(network)
    file = load_model_file(path)
    assert file.run == {"data": "none"}
    assert not file.floats


def simple(seed: int = 0) -> IntegerNetwork:
    b = Builder(seed)
    acc = b.conv("a", b.pixels(3, (12, 12)), 4)
    codes = b.put(MaxPool("p", (2, 2), (2, 2)), b.requantize("a>b", acc, UINT4))
    return b.network(b.linear("b", b.put(Flatten("f"), codes), 10))


def without(network: IntegerNetwork, drop: str) -> tuple[Step, ...]:
    return tuple(s for s in network.steps if s.name != drop)


def test_what_does_not_fit_together_is_refused() -> None:
    network = simple()
    for drop, message in {
        "input": "a: takes 'input', which no node before it produces",
        "a>b": "p: takes 'a>b', which no node before it produces",
        "class": "an integer network ends with an argmax, or names its outputs",
    }.items():
        with pytest.raises(BadInput, match=message):
            IntegerNetwork(without(network, drop))

    def rewired(name: str, *inputs: str) -> tuple[Step, ...]:
        return tuple(replace(s, inputs=inputs) if s.name == name else s for s in network.steps)

    for steps, message in (
        (rewired("p", "a"), "p: expected codes to take"),
        (rewired("a>b", "input"), "a>b: expected thresholds for 3 channels, found 4"),
        (rewired("b", "a>b"), r"b: expected \d+ channels to take"),
        (rewired("f", "p", "p"), "f: expected 1 inputs, found 2"),
        ((*network.steps[:-1], network.steps[1], network.steps[-1]), "a: the name of two nodes"),
        ((network.steps[0], Step(MaxPool("q", (1, 1), (1, 1)), ("input",)), *network.steps[1:]), "q: nothing takes"),
    ):
        with pytest.raises(BadInput, match=message):
            IntegerNetwork(steps)
    node = network.requantizes["a>b"]
    fewer = replace(node, thresholds=replace(node.thresholds, lo=node.thresholds.lo - 1))
    with pytest.raises(BadInput, match="a>b: its thresholds were made for accumulators of another range"):
        IntegerNetwork(tuple(replace(s, node=fewer) if s.name == "a>b" else s for s in network.steps))
    with pytest.raises(BadInput, match="no layer 'c' in this network; its layers are a, b"):
        _ = network["c"]


def test_operands_of_an_add_have_one_format() -> None:
    b = Builder(0)
    acc = b.conv("a", b.pixels(3, (12, 12)), 4)
    one, two = b.requantize("x", acc, UINT4), b.requantize("y", acc, IntFormat(5, False))
    with pytest.raises(BadInput, match=r"add: expected operands of one shape and format, found .* uint4, .* uint5"):
        b.put(Add("add"), one, two)


def test_nodes_refuse_nonsense() -> None:
    node = simple().requantizes["a>b"]
    values = node.thresholds.values.copy()
    values[2] = np.arange(15)[::-1]
    with pytest.raises(BadInput, match=r"a>b, channel 2: expected ascending thresholds, found \[14, 13"):
        replace(node, thresholds=replace(node.thresholds, values=values))
    with pytest.raises(BadInput, match=r"p: a window lies in the padding \(2, 0\) alone"):
        MaxPool("p", (2, 2), (1, 1), (2, 0)).output_shape(4, 4)
    with pytest.raises(BadInput, match="expected gains of at least 1"):
        Add("p", (0, 1))
    with pytest.raises(BadInput, match="expected factors of at least 1"):
        Upsample("p", (2, 0))
    with pytest.raises(BadInput, match="kernel and stride of at least 1"):
        AvgPool("p", (0, 2), (1, 1))
    with pytest.raises(BadInput, match=r"p: a window of \(5, 2\) does not fit the map \(4, 4\)"):
        MaxPool("p", (5, 2), (1, 1)).output_shape(4, 4)


def test_pooling_and_argmax_by_hand() -> None:
    codes = np.arange(12, dtype=np.int64).reshape(1, 1, 3, 4) - 6  # -6..5
    pool = MaxPool("p", (2, 2), (2, 2), (1, 1))
    # Padded to 5x6; windows of rows (pad, 0), (1, 2) and columns (pad, 0), (1, 2), (3, pad).
    assert compute(pool, codes).tolist() == [[[[-6, -4, -3], [2, 4, 5]]]]
    assert compute(AvgPool("a", (2, 3), (1, 1)), codes).tolist() == [[[[-18, -12], [6, 12]]]]
    assert compute(Argmax("c"), np.array([[1, 7, 7, 2]])).tolist() == [1]


def test_only_what_is_wanted_is_computed() -> None:
    network = simple()
    pixels = np.zeros((1, 3, 12, 12), np.uint8)
    assert list(run(network, pixels, "p")) == ["input", "a", "a>b", "p"]
    with pytest.raises(BadInput, match="no layer 'q'"):
        run(network, pixels, "q")
    with pytest.raises(BadInput, match=r"expected uint8 pictures \(N, 3, 12, 12\), found uint8 \(1, 3, 12, 11\)"):
        run(network, pixels[..., 1:])


def edited(change: str, value: Any) -> tuple[ModelFile, IntegerNetwork]:
    network = simple()
    path, key = change.rsplit(".", 1)
    file = add_network(ModelFile({}, {}, {}), network)
    assert file.network is not None
    step = next(s for s in file.network.steps if s["name"] == path)
    step[key] = value
    return file, network


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("a.kind", "Convolution"),
        ("a.stride", [1]),
        ("a.stride", "fast"),
        ("a>b.levels", 14),
        ("a>b.levels", -1),
        ("a>b.bits", 99),
        ("a>b.format", {"bits": 4}),
        ("a>b.inputs", None),
        ("p.kernel", [0, 0]),
        ("input.size", []),
    ],
)
def test_a_damaged_header_gives_one_sentence(tmp_path: Path, change: str, value: Any) -> None:
    network = simple()
    path = tmp_path / "n.safetensors"
    save_network(path, network, {})
    file = load_model_file(path)
    damaged, _ = edited(change, value)
    save_model_file(path, replace(file, network=replace(file.network, steps=damaged.network.steps)))  # type: ignore[union-attr, type-var]
    with pytest.raises(BadInput, match=r"n\.safetensors: "):
        load_network(path)


def test_missing_tensors_give_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    save_network(path, simple(), {})
    file = load_model_file(path)
    assert file.network is not None
    for name in file.network.tensors:
        kept = {n: t for n, t in file.network.tensors.items() if n != name}
        with pytest.raises(BadInput, match="here: a damaged integer network"):
            network_of(replace(file, network=replace(file.network, tensors=kept)), "here")
        narrow = {**file.network.tensors, name: file.network.tensors[name][..., :-1]}
        with pytest.raises(BadInput, match="here: "):
            network_of(replace(file, network=replace(file.network, tensors=narrow)), "here")
    assert network_of(replace(file, network=None), "here") is None
