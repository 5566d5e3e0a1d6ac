"""The fast executor against the referee, value by value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from network.nets import random_network
from systolith.formats import BadInput, IntFormat
from systolith.network import IntegerNetwork, Step, execute_codes
from systolith.network import execute as module
from systolith.network.execute import answer, classify, execute, plan
from systolith.network.graph import Argmax, Conv, Flatten, Input, Linear, Requantize
from systolith.network.integer import Value
from systolith.network.reference import run
from systolith.network.requantize import Thresholds, find_thresholds

UINT8 = IntFormat(8, False)


def every_value(
    network: IntegerNetwork, count: int = 3, batch: int = 2
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Run both on random pixels; the referee's values, all found equal, and the kernels chosen."""
    size = network.values["input"].shape
    pixels = np.random.default_rng(1).integers(0, 256, (count, *size), dtype=np.uint8)
    expected = run(network, pixels, *(step.name for step in network.steps))
    planned, seen = plan(network, batch), set()

    def watch(name: str, result: torch.Tensor) -> None:
        assert np.array_equal(result.to(torch.float64).numpy(), expected[name]), name
        seen.add(name)

    answers = answer(planned, torch.from_numpy(pixels), watch)
    assert seen == set(expected) - {"class"}
    assert {name: value.dtype for name, value in answers.items()} == dict.fromkeys(network.outputs, torch.int64)
    for name, value in answers.items():
        assert np.array_equal(value.numpy(), expected[name])
    if network.classifies:
        assert np.array_equal(classify(planned, pixels), expected["class"])
    return expected, planned.choices


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_every_value_of_random_networks_is_the_referees(seed: int) -> None:
    every_value(random_network(seed))


def small(thresholds: Thresholds | None = None, weight_bits: int = 4, channels: int = 16) -> IntegerNetwork:
    """pixels -> conv -> codes -> linear; thresholds of a rounded line unless given."""
    rng = np.random.default_rng(0)
    fmt = IntFormat(weight_bits, True)
    conv = Conv("conv", rng.integers(-fmt.hi, fmt.hi + 1, (4, channels, 3, 3)), UINT8, fmt, padding=(1, 1))
    table = np.tile(np.arange(256, dtype=np.int16), (channels, 1))
    lo, hi = conv.bounds()
    slope = np.array([0.001, -0.002, 0.01, 0.0])[:, None]

    def line(acc: np.ndarray) -> np.ndarray:
        return np.clip(np.floor(acc * slope + 3.7), 0, 15).astype(np.int64)

    if thresholds is None:
        thresholds = find_thresholds(line, lo, hi, np.array([1, -1, 1, 1], np.int8), 15)
    codes = Requantize("conv>linear", thresholds, IntFormat(4, False))
    linear = Linear("linear", rng.integers(-7, 8, (3, 4 * 36)), np.array([5, -6, 7]), codes.format, IntFormat(4, True))
    steps = [
        Step(Input("input", table, UINT8, (6, 6))),
        Step(conv, ("input",)),
        Step(codes, ("conv",)),
        Step(Flatten("flat"), ("conv>linear",)),
        Step(linear, ("flat",)),
        Step(Argmax("class"), ("linear",)),
    ]
    return IntegerNetwork(tuple(steps))


def test_a_rounded_line_is_computed_as_one() -> None:
    _, choices = every_value(small())
    assert choices["conv>linear"] == "codes by a line in fp32"
    assert choices["input"] == "pixels as they are"
    assert choices["conv"] in ("int8 convolution", "fp32 convolution")


def test_thresholds_that_are_no_line_go_through_a_table_or_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()
    t = network.requantizes["conv>linear"].thresholds
    values = t.values.copy()
    values[0] = np.sort(np.random.default_rng(2).integers(-3000, 3000, 15))
    crooked = small(replace(t, values=values))
    assert every_value(crooked)[1]["conv>linear"] == "codes by a table"
    monkeypatch.setattr(execute_codes, "MOST_TABLE", 10)
    assert every_value(crooked)[1]["conv>linear"] == "codes by search"


def test_wide_accumulators_are_carried_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1,200 channels x 9 positions x 255 x 127: up to 3.5e8, beyond 2^24.
    network = small(weight_bits=8, channels=1200)
    assert network.values["conv"].hi.max() > 1 << 24
    kinds = ("int8 convolution in parts", "float64 convolution")
    assert every_value(network, count=2)[1]["conv"] in kinds
    monkeypatch.setattr(module, "_has_vnni", lambda: False)
    assert every_value(network, count=2)[1]["conv"] == kinds[1]


def test_an_inexact_kernel_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(node: Conv, act: object) -> module.Kernel:
        def kernel(x: torch.Tensor) -> torch.Tensor:
            result = torch.from_numpy(module.reference.conv2d(node, x.to(torch.int64).numpy())).float()
            result[0, 0, 0, 0] += 1
            return result

        return kernel

    monkeypatch.setattr(module, "_int8_conv", off_by_one)
    assert every_value(small())[1]["conv"] == "fp32 convolution"
    monkeypatch.setattr(module.F, "conv2d", lambda *a, **k: torch.zeros(2, 4, 6, 6))
    with pytest.raises(RuntimeError, match="conv: this torch's convolution is not exact"):
        plan(small())


def test_a_line_that_is_off_at_one_threshold_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = execute_codes.middle_line

    def shifted(t: Thresholds) -> tuple[np.ndarray, np.ndarray]:
        slope, offset = honest(t)
        return slope, offset + np.array([0, 0, 0.02, 0])  # more than the 0.01 of one accumulator

    monkeypatch.setattr(execute_codes, "middle_line", shifted)
    assert every_value(small())[1]["conv>linear"] == "codes between two lines in fp32"
    monkeypatch.setattr(execute_codes, "MOST_BETWEEN", 0)
    assert every_value(small())[1]["conv>linear"] == "codes by a table"


def eight_bits(seed: int, most_off: int) -> tuple[Requantize, Value]:
    """Thresholds of 255 codes near a line, rising and falling, each up to `most_off` accumulators off it."""
    rng = np.random.default_rng(seed)
    lo, hi, sign = np.full(6, -90_000), np.full(6, 80_000), np.array([1, -1, 1, -1, 1, 1], np.int8)
    steps = rng.uniform(400, 900, 6)[:, None]
    values = np.rint(rng.integers(-40_000, 0, (6, 1)) + steps * np.arange(255)).astype(np.int64)
    values += rng.integers(-most_off, most_off + 1, values.shape)
    thresholds = Thresholds(values, sign, lo, hi, -128)
    first, last = thresholds.mirrored_range()
    bounded = np.clip(values, first[:, None], last[:, None] + 1)
    acc = Value((6, 4, 4), False, IntFormat(18, True), lo, hi)
    return Requantize("edge", replace(thresholds, values=bounded), IntFormat(9, True)), acc


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_between_two_lines_the_threshold_decides(seed: int, beyond: bool) -> None:
    node, acc = eight_bits(seed, 1)
    codes = Value(acc.shape, True, node.format, np.full(6, -128), np.full(6, 127))
    kernel, kind = execute_codes.requantize_kernel(node, acc, codes)
    assert kind == "codes between two lines in fp32"
    # Every accumulator that there is, and batches whose sizes are no multiple of 8.
    every = np.arange(-90_000, 80_001)[: 170_001 - 4 * beyond]
    found = kernel(torch.from_numpy(np.repeat(every[:, None], 6, axis=1)).to(torch.float32))
    assert found.dtype == torch.int16
    wanted = node.thresholds.apply(np.repeat(every[:, None], 6, axis=1))
    assert (found.numpy() == wanted).all()


def test_lines_that_do_not_enclose_the_thresholds_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    node, acc = eight_bits(0, 1)
    honest = execute_codes._corridor
    slope, below, _ = honest(node)
    monkeypatch.setattr(execute_codes, "_corridor", lambda node: (slope, below + 0.01, 0.001))
    codes = Value(acc.shape, True, node.format, np.full(6, -128), np.full(6, 127))
    assert execute_codes.requantize_kernel(node, acc, codes)[1] == "codes by a table"
    monkeypatch.undo()
    node, acc = eight_bits(0, 40)
    assert execute_codes.requantize_kernel(node, acc, codes)[1] == "codes by a table"


def test_int8_kernels_need_codes_of_one_byte_and_pairs_that_fit_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small(weight_bits=8, channels=4)
    node, act, bound = network["conv"].node, network.values["input"], 1 << 20
    assert isinstance(node, Conv)
    monkeypatch.setattr(module, "_has_vnni", lambda: False)
    # 2 * 255 * 127 = 64,770 does not fit int16; with 4-bit weights 2 * 255 * 7 = 3,570 does.
    assert not module._int8_is_exact(node, act, bound)
    narrow = small(channels=4)
    assert module._int8_is_exact(narrow["conv"].node, narrow.values["input"], bound)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "_has_vnni", lambda: True)
    assert module._int8_is_exact(node, act, bound)
    assert not module._int8_is_exact(node, act, (1 << 24) + 1)


def test_a_watch_may_put_another_result_in_place() -> None:
    network = small()
    pixels = torch.zeros((1, 16, 6, 6), dtype=torch.uint8)
    logits = execute(plan(network), pixels, lambda name, x: torch.zeros_like(x) if name == "flat" else None)
    assert logits.tolist() == [[5, -6, 7]]  # the bias alone


def test_wrong_pictures() -> None:
    planned = plan(small())
    with pytest.raises(BadInput, match=r"expected uint8 pictures \(N, 16, 6, 6\), found torch.int64 \(1, 16, 6, 6\)"):
        execute(planned, torch.zeros((1, 16, 6, 6), dtype=torch.int64))
    with pytest.raises(BadInput, match=r"found torch.uint8 \(1, 16, 6, 5\)"):
        execute(planned, torch.zeros((1, 16, 6, 5), dtype=torch.uint8))
