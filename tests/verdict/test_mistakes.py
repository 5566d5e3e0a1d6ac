"""Every common mistake, planted in an array that shares no code with the product, on real and on random layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_rtl import Rtl, planted

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.network import Conv
from systolith.network.reference import run
from systolith.requests.option import quiet
from systolith.requests.shared import OnePicture
from systolith.steps.common import find_network, find_picture
from systolith.vectors import find_layout
from systolith.verdict.judge import judge

BOTH, OUTPUTS, PSUMS = ("psum", "out"), ("out",), ("psum",)


def random_layer(channels: tuple[int, int], kernel: tuple[int, int], stride: int, size: tuple[int, int]) -> ArrayResult:
    rng = np.random.default_rng(channels)
    weight = rng.integers(-8, 8, (channels[1], channels[0], *kernel))
    conv = Conv("layer", weight, UINT4, INT4, stride=(stride, stride), padding=(1, 1))
    act = rng.integers(0, 16, (channels[0], *size)) * rng.integers(0, 2, (channels[0], *size))
    return run_layer(conv, act, ArraySpec(4, 4, psum_bits=16))


def random_grouped() -> ArrayResult:
    """Two groups of 5 -> 4 channels: output tile 0 reads input tiles 0 and 1, output tile 1 reads 1 and 2."""
    rng = np.random.default_rng(7)
    conv = Conv("layer", rng.integers(-8, 8, (8, 5, 3, 2)), UINT4, INT4, padding=(1, 0, 2, 1), groups=2)
    return run_layer(conv, rng.integers(0, 16, (10, 5, 4)) * rng.integers(0, 2, (10, 5, 4)), ArraySpec(4, 4))


@pytest.fixture(scope="module")
def layers() -> dict[str, ArrayResult]:
    """Two layers of the shipped model with what they see of the shipped picture, and two random ones."""
    network, _ = find_network("vgg16-w4a4-s8", "test")
    pixels = find_picture(OnePicture(), quiet)[0]
    taken = {name: network[name].inputs[0] for name in ("features.27", "features.3")}
    seen = {name: run(network, pixels[None], node)[node][0] for name, node in taken.items()}
    whole, cut = network["features.27"].node, network["features.3"].node
    assert isinstance(whole, Conv)
    assert isinstance(cut, Conv)
    # Two input tiles and three output tiles of its codes, on a part of the map.
    small = replace(cut, weight=cut.weight[:24, :16])
    return {
        "features.27": run_layer(whole, seen["features.27"], ArraySpec()),
        "features.3, tiled": run_layer(small, seen["features.3"][:16, 10:16, 9:14], ArraySpec()),
        "random": random_layer((4, 4), (3, 3), 1, (4, 3)),
        "random, tiled, stride 2": random_layer((7, 10), (2, 3), 2, (6, 5)),
        "random, grouped, four pads": random_grouped(),
    }


NAMES = ("features.27", "features.3, tiled", "random", "random, tiled, stride 2", "random, grouped, four pads")


def collapsed(names: set[str]) -> set[str]:
    """Names, where several are forms of one mistake its name alone."""
    families: dict[str, set[str]] = {}
    for name in names:
        family = name.split(":")[0].removesuffix(" after each row").removesuffix(" in words of zeros alone")
        families.setdefault(family, set()).add(name)
    return {next(iter(group)) if len(group) == 1 else family for family, group in families.items()}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_planted_is_right(layers: dict[str, ArrayResult], name: str, tmp_path: Path) -> None:
    Rtl().dump(layers[name], tmp_path / "d")
    assert judge(layers[name], find_layout("course"), tmp_path / "d").holds


@pytest.mark.parametrize("levels", [BOTH, OUTPUTS, PSUMS], ids=["both", "outputs", "psums"])
@pytest.mark.parametrize("name", NAMES)
def test_the_planted_mistake_is_named_and_no_other_that_differs(
    layers: dict[str, ArrayResult], name: str, levels: tuple[str, ...], tmp_path: Path
) -> None:
    result, layout = layers[name], find_layout("course")
    mistakes = planted(result)
    words = {mistake: rtl.words(result, levels) for mistake, rtl in mistakes.items()}
    golden = Rtl().words(result, levels)
    alone = 0
    for number, (mistake, rtl) in enumerate(mistakes.items()):
        if words[mistake] == golden:
            continue  # these vectors do not show it
        rtl.dump(result, tmp_path / str(number), levels)
        verdict = judge(result, layout, tmp_path / str(number))
        total = sum(len(lines) for lines in golden.values())
        assert verdict.matched == (total, total), mistake
        # Those that leave the same words, and no other: forms of one mistake are one answer.
        equal = collapsed({other for other in mistakes if words[other] == words[mistake]})
        assert equal <= set(verdict.suspects), mistake
        assert not (set(verdict.suspects) - equal) & (set(mistakes) | collapsed(set(mistakes))), mistake
        if len(equal) == 1:
            assert set(verdict.suspects) == equal
            alone += 1
        # What the first wrong word would be under the suspects is what was found.
        assert verdict.alternatives[0].first
        found = verdict.first.rsplit("found ", 1)[1]
        assert found.startswith(("'", verdict.alternatives[0].value)), mistake
    # With psums and outputs, every mistake that shows at all is alone.
    shown = sum(words[mistake] != golden for mistake in mistakes)
    assert alone >= {BOTH: shown - 2, OUTPUTS: shown - 6, PSUMS: shown - 4}[levels]
    assert shown >= {BOTH: 18, OUTPUTS: 16, PSUMS: 9}[levels]
