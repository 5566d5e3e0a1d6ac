"""Every verb as a function and as a command: the same report, the same JSON, byte for byte."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cli.calling import call
from conftest import Find
from importers.qdq_files import save_qdq
from projects.styles import STYLES, write
from systolith.cli.main import app
from systolith.flows.flow import SCHEMA, Report
from systolith.models import vgg
from systolith.mutation import bench
from systolith.requests import verbs
from systolith.requests.option import options_of
from systolith.store import ASSETS
from training.narrow import PLAN

GEOMETRY = {"channels": "8x8", "size": "4x4"}
# What each is called with, flags on the left; paths are in the folder that `here` makes.
CASES: dict[str, dict[str, Any]] = {
    "run": {"out": Path("ran")},
    "vectors": {"layer": "features.24,features.27", "out": Path("many"), "no_psum": True},
    "vectors stimulus": {"stimulus": "random", **GEOMETRY, "out": Path("made")},
    "check": {"bundle": Path("bundle"), "against": Path("bundle")},
    "check wrong": {"bundle": Path("bundle"), "against": Path("wrong")},
    "grade": {"bundles": Path("bundle"), "faults": 60},
    "convert": {"source": Path("bundle"), "to": "seed", "out": Path("converted")},
    "layout show": {"name": "course"},
    "layout new": {"out": Path("mine.toml"), "transposed": True},
    "layout check": {"folder": Path("bundle"), **GEOMETRY, "padding": "1"},
    "simulate": {"layer": "features.27"},
    "cosim": {"layer": "features.27", "sim": "icarus"},
    "cosim random": {"random": 2, "sim": "icarus"},
    "cosim project": {"project": Path("mine"), "sim": "icarus"},
    "project new": {"from_testbench": Path("mine/tb.v"), "out": Path("mine/new.toml")},
    "project check": {"project": Path("mine"), "sim": "icarus"},
    "project start": {"folder": Path("started")},
    "mutate": {"modules": "ofifo", "limit": 2},
    "mutate project": {"project": Path("mine"), "modules": "dot", "limit": 1},
    "mutate listed": {"modules": "ofifo", "limit": 2, "list": True},
    "synth": {"sizes": "1x1"},
    "verify": {"limit": 2, "psum_bits": 10},
    "lower": {"fixed_point": True},
    "evaluate": {"data": "pictures"},
    "import": {"file": Path("net.onnx"), "out": Path("net.safetensors"), "limit": 2},
    "export": {"model": "vgg16-w4a4-s8", "form": "npz", "out": Path("net.npz")},
    "train": {"recipe": "smoke", "data": "pictures", "out": Path("trained"), "changes": ["epochs=1"], "holdout": 0},
    "view": {"path": Path("looks")},
    "explore": {"array": "4x4,8x8", "out": Path("explored"), "jobs": 1},
    "info": {"model": "vgg16-w4a4-s8"},
    "info all": {},
}
KEYS = {
    "run": "model picture prediction integer_prediction layer array ranges least_psum_bits recovered clocks "
    "utilisation equalities warnings bundle layout",
    "vectors": "folder files words bytes layout predicted warnings bundles",
    "vectors stimulus": "folder files words bytes layout psum_bits stimulus seed cases left_out",
    "check": "bundle against levels first suspects matched words closest would_be counts assumed",
    "grade": "bundles count faults detected undetectable survivors unknown kinds",
    "convert": "from to folder files checks",
    "layout show": "name about files",
    "layout new": "file layout",
    "layout check": "folder consistent others",
    "simulate": "model array contract schedule layers total equalities",
    "cosim": "simulator schedule layers words timestamps clocks predicted seconds why",
    "cosim random": "array seed layers words timestamps simulator why layer",
    "cosim project": "project simulator runs passed controls hints edits tried seconds",
    "project new": "file opened missing",
    "project check": "project simulator sources placed opened problems",
    "project start": "folder files next",
    "mutate": "mutants simulator modules operators survivors equivalents seconds",
    "mutate project": "mutants simulator modules operators survivors equivalents seconds",
    "mutate listed": "mutants simulator modules operators survivors equivalents listed seconds",
    "synth": "tool model rows",
    "verify": "model network executor pictures images codes different first layers proofs logits correct total "
    "least_psum_bits narrow images_per_s",
    "lower": "model steps channels points fixed_point files",
    "evaluate": "accuracy standard_error correct total per_class classes confusion model data images_per_s run",
    "import": "file kind steps images pictures equalities runtime ties files",
    "export": "model form images how equalities without_fixed_point files",
    "train": "recipe stands_on data classes train_pictures epochs chosen_epoch holdout_pictures holdout_accuracy "
    "seconds precision version torch test_data test_correct test_total test_accuracy folder",
    "view": "page others opened",
    "explore": "folder points computed models table minimize misfits misfit front top",
    "info": "model run array layers integer_network",
    "info all": "models",
}
FUNCTIONS = {"import": "import_model"}
"""Of a verb that is no name in Python."""
HARDWARE = ("cosim", "project", "mutate", "synth")
"""Verbs whose flows are in the room of that name."""
GROUPS = ("layout", "project")
OF_THE_RUN = ("seconds", "images_per_s", "computed")
"""What the second run of the same has otherwise: what a clock on the wall says, and what was not there yet."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle, a dump that is wrong, and pictures."""
    monkeypatch.chdir(tmp_path)
    assert call("vectors", "--out", "bundle").returncode == 0
    shutil.copytree("bundle", "wrong")
    lines = (tmp_path / "wrong" / "out.txt").read_text().splitlines(keepends=True)
    lines[5] = lines[5].translate(str.maketrans("01", "10"))
    (tmp_path / "wrong" / "out.txt").write_text("".join(lines))
    for split, count in (("train", 64), ("test", 1)):
        (tmp_path / "pictures" / split / "cat").mkdir(parents=True)
        for i in range(count):
            shutil.copy(ASSETS / "cat.png", tmp_path / "pictures" / split / "cat" / f"{i}.png")
    save_qdq(tmp_path / "net.onnx")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (tmp_path / "looks").mkdir()
    (tmp_path / "looks" / "page.html").write_text("<!doctype html>")
    write(STYLES["no header"], tmp_path / "mine")
    return tmp_path


def flow_of(verb: str) -> tuple[Any, str]:
    """The module and the function of a verb."""
    first, *rest = verb.split()
    first = FUNCTIONS.get(first, first)
    nested = first in GROUPS
    room = "hardware" if first in HARDWARE else "flows"
    return importlib.import_module(f"systolith.{room}.{first}"), f"{first}_{rest[0]}" if nested else first


def command_line(verb: str, given: dict[str, Any]) -> list[str]:
    """The same values as a user types them."""
    request, words = getattr(verbs, request_name(verb)), verb.split()[: 2 if verb.split()[0] in GROUPS else 1]
    for key, value in given.items():
        option = options_of(request)[key][1]
        flag = option.flag or f"--{key.replace('_', '-')}"
        if option.position == "only":
            words.append(str(value))
        elif value is True:
            words.append(flag)
        else:
            words += [text for one in (value if isinstance(value, list) else [value]) for text in (flag, str(one))]
    return [*words, "--json"]


def without_the_run(value: Any) -> Any:
    """JSON values but for `OF_THE_RUN`."""
    if isinstance(value, dict):
        return {key: without_the_run(content) for key, content in value.items() if key not in OF_THE_RUN}
    return [without_the_run(content) for content in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES)
def test_the_json_of_a_command_is_the_report_of_its_flow(
    case: str, here: Path, monkeypatch: pytest.MonkeyPatch, simulator: Find
) -> None:
    if case == "train":
        monkeypatch.setattr(vgg, "_PLAN", PLAN)
    if case == "mutate":  # the layers of one of nine cores
        monkeypatch.setattr(bench, "CORES", {"plain": bench.CORES["plain"]})
    if case.startswith(("cosim", "project", "mutate")):
        simulator("icarus")
    module, name = flow_of(case)
    flow, given = getattr(module, name), CASES[case]
    kept: list[Report] = []

    def keep(**options: Any) -> Report:
        kept.append(flow(**options))
        return kept[-1]

    monkeypatch.setattr(module, name, keep)
    printed = call(*command_line(case, given), cwd=here)
    (report,) = kept
    assert printed.stdout == report.to_json() + "\n"
    assert printed.returncode == (0 if report.holds else 1), printed.stderr
    assert len(report.verdict) < 200
    shown = report._repr_html_()
    assert len(shown) < 12_000  # a notebook's table, not its JSON
    assert ElementTree.fromstring(shown).findtext("caption/b") == report.verdict
    with pytest.raises(FrozenInstanceError):
        report.holds = not report.holds  # type: ignore[misc]

    # In Python the same values give the same report; a file that is there now is replaced, a run goes on.
    parameters = options_of(getattr(verbs, request_name(case)))
    again = {"force": True} if "force" in parameters else {"resume": True} if "resume" in parameters else {}
    same = flow(**given, **again)
    assert isinstance(same, Report)
    assert without_the_run(json.loads(same.to_json())) == without_the_run(json.loads(printed.stdout))

    value = json.loads(printed.stdout)
    assert value["schema"] == SCHEMA == 1
    assert value["verb"] == " ".join(case.split()[: 2 if case.split()[0] in GROUPS else 1])
    expected = KEYS[case.removesuffix(" wrong")].split()
    assert set(value) == {"schema", "verb", "holds", "verdict", "notes", *expected}, set(value) ^ set(expected)


def request_name(case: str) -> str:
    parts = case.split()[: 2 if case.split()[0] in GROUPS else 1]
    return "".join(part.capitalize() for part in parts) + "Request"


def test_every_verb_is_here() -> None:
    every = {command.name for command in app.registered_commands}
    assert {case.split()[0] for case in CASES} == every | set(GROUPS)
