"""`systolith mutate`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.calling import call, one_object, refuse
from systolith.hardware import mutate as flow
from systolith.mutation.run import Fate
from systolith.rtl.simulators import Simulator


def test_listed_mutants_are_spread_over_the_sources() -> None:
    every = one_object(call("mutate", "--list", "--modules", "mac_tile,walk", "--json"))
    assert {place["file"] for place in every["listed"]} == {"mac_tile.sv", "walk.sv"}
    assert every["mutants"] == len(every["listed"]) > 200
    few = one_object(call("mutate", "--list", "--modules", "mac_tile,walk", "--limit", "10", "--json"))
    assert few["listed"] == [every["listed"][number * every["mutants"] // 10] for number in range(10)]
    lines = call("mutate", "--list", "--modules", "mac_tile,walk", "--limit", "10").stdout.splitlines()
    assert len(lines) == 11
    assert lines[-1].split() == ["verdict", "10", "mutants"]


@pytest.mark.slow
def test_the_fates_are_kept_and_shown(icarus: Simulator, tmp_path: Path) -> None:
    given = ("mutate", "--modules", "ofifo", "--limit", "3", "--out", tmp_path / "out")
    value = one_object(call(*given, "--json"))
    counts = value["modules"]["ofifo.sv"]
    assert counts["mutants"] == 3 == sum(counts.values()) - 3
    assert counts["survived"] == 0 < counts["killed"]
    assert sum(kind["mutants"] for kind in value["operators"].values()) == 3
    assert len(value["equivalents"]) == counts["equivalent"]
    assert all(place["why"] and place["source"] for place in value["equivalents"])
    assert len((tmp_path / "out" / "fates.jsonl").read_text().splitlines()) == 4
    shown = call(*given).stdout.splitlines()
    assert shown[0].split() == ["module", "mutants", "killed", "survived", "equivalent", "do", "not", "compile"]
    assert shown[1].split() == ["ofifo", *(str(number) for number in counts.values())]
    assert shown[-1].endswith(value["verdict"])
    refuse(call(*given, "--no-proofs"), "fates.jsonl", "other sources or another testbench")


def test_a_survivor_is_named_and_the_exit_code_says_so(icarus: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "judge_all", lambda every, *_: tuple(flow.Judged(m, Fate("survived")) for m in every))
    result = call("mutate", "--modules", "l0", "--limit", "2", "--no-proofs")
    assert result.returncode == 1
    survived = [line for line in result.stdout.splitlines() if line.startswith("survived")]
    assert len(survived) == 2
    assert all("l0.sv:" in line and " -> " in line for line in survived)
    value = json.loads(call("mutate", "--modules", "l0", "--limit", "2", "--no-proofs", "--json").stdout)
    assert value["holds"] is False
    assert value["verdict"].startswith("0 of 2 mutants killed, 2 survived")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--modules", "mac_til"), "no module 'mac_til'"),
        (("--modules", "l0,l0"), "a module stands there twice"),
        (("--limit", "0"), "--limit 0: expected at least 1"),
        (("--jobs", "0"), "--jobs 0: expected at least 1"),
        (("--core", "nowhere"), "--core nowhere: expected a folder with core.sv"),
        (("--sim", "modelsim"), "no simulator 'modelsim'"),
    ],
)
def test_refusals_of_mutate(given: tuple[str, ...], said: str) -> None:
    refuse(call("mutate", *given), said)


@pytest.mark.parametrize(("module", "extra"), [("pyslang", "systolith[rtl]"), ("pyosys", "systolith[synth]")])
def test_what_is_missing_is_named(module: str, extra: str) -> None:
    code = (
        "import importlib.util as u; f = u.find_spec\n"
        f"u.find_spec = lambda n, *a: None if n == {module!r} else f(n, *a)\n"
        "from systolith.cli.main import main; main()"
    )
    refuse(call("mutate", "--limit", "1", code=code), f"needs {module}", f"pip install '{extra}'")
