"""`verify --scheduler`: what the workers of a cluster count is what one machine counts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import systolith as sl
from cli.calling import call, refuse
from small_cluster import Cluster
from systolith.flows.verify import VerifyReport
from systolith.formats import BadInput
from systolith.frontends import verify as comparing
from systolith.network.file import load_network, save_network
from systolith.steps.comparing import asked_of, compare_elsewhere
from systolith.store import model_path


def found(report: VerifyReport) -> dict[str, Any]:
    """All but the speed, and what no JSON has."""
    value = report.plain()
    del value["images_per_s"]
    return {**value, "wrong codes": report.wrong, "engine": report.engine}


@pytest.fixture(scope="module")
def wrong(random_model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The integer network of a model with two thresholds moved: some codes differ, in some pictures."""
    lowered = tmp_path_factory.mktemp("wrong") / "wrong.safetensors"
    network = sl.verify(str(random_model_file), limit=1).integers
    name = list(network.requantizes)[-1]
    steps = []
    for step in network.steps:
        if step.name == name:
            t = network.requantizes[name].thresholds
            moved = t.values.copy()
            moved[:2] += 1
            step = replace(step, node=replace(step.node, thresholds=replace(t, values=moved)))  # type: ignore[type-var]
        steps.append(step)
    save_network(lowered, replace(network, steps=tuple(steps)), {})
    assert load_network(lowered).steps
    return lowered


def test_counts_and_the_first_difference_are_the_same(
    random_model_file: Path, wrong: Path, two_workers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "MOST_WRONG", 7)
    how: dict[str, Any] = {"network": wrong, "limit": 140}
    near, far = (sl.verify(str(random_model_file), scheduler=at, **how) for at in (None, two_workers.address))
    assert not near.holds
    assert near.different > 7 == len(near.wrong)
    assert found(far) == found(near)


def test_right_answers_are_the_same_and_paths_may_be_relative(
    two_workers: Cluster, random_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(random_model_file, tmp_path / "model.safetensors")
    for number in range(3):
        (tmp_path / "pictures" / "test" / f"c{number}").mkdir(parents=True)
        for name in range(25):
            shutil.copy(
                model_path("vgg16-w4a4-s8").parents[1] / "cat.png", tmp_path / f"pictures/test/c{number}/{name}.png"
            )
    monkeypatch.chdir(tmp_path)
    near, far = (sl.verify("model.safetensors", data="pictures", scheduler=at) for at in (None, two_workers.address))
    assert (near.total, near.holds) == (75, True)
    assert set(near.correct) == {"trained", "integer"}
    assert found(far) == found(near)


def test_a_worker_with_another_file_is_refused(two_workers: Cluster, random_model_file: Path) -> None:
    asked = replace(asked_of(str(random_model_file), None, "fast"), digests=("another",))
    pixels = np.zeros((1, 3, 32, 32), np.uint8)
    with pytest.raises(BadInput, match="another file than where the run was begun \\(on the worker "):
        compare_elsewhere(asked, pixels, lambda done: None, two_workers.address)


def test_what_cannot_go_is_one_sentence(two_workers: Cluster) -> None:
    with pytest.raises(BadInput, match="workers load the model themselves: expected a name or a file, found a Vgg16"):
        sl.verify(sl.load("vgg16-w4a4-s8"), limit=1, scheduler=two_workers.address)
    refuse(call("verify", "--scheduler", "nowhere", process=True), "expected the address of a Dask scheduler")
