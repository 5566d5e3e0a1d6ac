"""The public face: every name there, described, and its example true."""

from __future__ import annotations

import doctest
import inspect
import shutil
from pathlib import Path

import pytest

import systolith as sl
from importers.qdq_files import save_qdq
from systolith.store import ASSETS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an example runs: the shipped cat, and a data set of it."""
    shutil.copy(ASSETS / "cat.png", tmp_path)
    for split, count in (("train", 4), ("test", 1)):
        (tmp_path / "pictures" / split / "cat").mkdir(parents=True)
        for i in range(count):
            shutil.copy(ASSETS / "cat.png", tmp_path / "pictures" / split / "cat" / f"{i}.png")
    save_qdq(tmp_path / "resnet_qdq.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sl.__all__)
def test_a_public_name_has_an_example_that_is_true(name: str, folder: Path) -> None:
    thing = getattr(sl, name)
    assert thing.__doc__
    found = doctest.DocTestFinder(recurse=False).find(thing, name, globs={})
    examples = [example for test in found for example in test.examples]
    assert 2 <= len(examples) <= 4, f"{name}: an example of about three lines"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    said: list[str] = []
    for test in found:
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_help_names_them_by_task_and_completion_is_complete() -> None:
    assert sl.__doc__ is not None
    listed = {word.strip(",") for line in sl.__doc__.splitlines() if line.startswith("    ") for word in line.split()}
    assert {*sl.__all__} - {"load_pretrained"} <= listed
    assert set(sl.__all__) <= set(dir(sl))


@pytest.mark.parametrize(
    "verb", ["check", "convert", "cosim", "evaluate", "grade", "lower", "run", "simulate", "verify"]
)
def test_a_verb_says_what_it_takes(verb: str) -> None:
    function = getattr(sl, verb)
    parameters = inspect.signature(function).parameters
    assert "progress" in parameters
    for name in parameters:
        assert f"    {name}: " in function.__doc__


def test_public_names_are_there() -> None:
    for name in sl.__all__:
        assert getattr(sl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sl.nonsense
