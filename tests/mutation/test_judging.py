"""What becomes of mutants: kept, gone on with after an interruption, judged by a simulator, proved by Yosys."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from systolith.formats import BadInput
from systolith.mutation.bench import Bench, Written, prepare
from systolith.mutation.listed import reasons
from systolith.mutation.mutants import Mutant, mutants
from systolith.mutation.proof import PROVED, SAME, prover
from systolith.mutation.run import Fate, judge_all, mutants_of
from systolith.rtl.simulators import RTL, Simulator
from systolith.synthesis.yosys import Source

TOY = "module toy (input logic [3:0] a, b, output logic [3:0] y);\n  assign y = a + b * 3;\nendmodule\n"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.sv").write_text(TOY)
    return tmp_path / "toy"


def by_text(mutant: Mutant, core: Path) -> Fate:
    """A judge that reads what it is given."""
    assert (core / "toy.sv").read_text() == mutant.apply(TOY)
    return Fate("killed", mutant.change) if mutant.operator == "operator" else Fate("survived")


def test_fates_in_the_order_of_the_mutants_however_many_at_a_time(toy: Path) -> None:
    every = mutants_of(toy, ["toy.sv"])
    told: list[int] = []
    found = judge_all(every, toy, by_text, jobs=3, progress=told.append)
    assert [one.mutant for one in found] == list(every)
    assert [one.fate.outcome for one in found] == ["killed" if m.operator == "operator" else "survived" for m in every]
    assert told == list(range(len(every) + 1))
    assert (toy / "toy.sv").read_text() == TOY


def test_an_interrupted_job_goes_on_to_the_same_result(toy: Path, tmp_path: Path) -> None:
    every, log = mutants_of(toy, ["toy.sv"]), tmp_path / "kept" / "fates.jsonl"
    whole = judge_all(every, toy, by_text)
    judged: list[str] = []

    def stopping(mutant: Mutant, core: Path) -> Fate:
        if len(judged) == 3:
            raise KeyboardInterrupt
        judged.append(mutant.name)
        return by_text(mutant, core)

    with pytest.raises(KeyboardInterrupt):
        judge_all(every, toy, stopping, log, "key")
    with log.open("a") as file:
        file.write('{"mutant": "toy.sv:2:14 oper')  # cut off in the middle of a line

    def going_on(mutant: Mutant, core: Path) -> Fate:
        assert mutant.name not in judged
        return by_text(mutant, core)

    assert judge_all(every, toy, going_on, log, "key") == whole
    names = [json.loads(line).get("mutant") for line in log.read_text().splitlines()]
    assert sorted(names[1:]) == sorted(mutant.name for mutant in every)

    def never(mutant: Mutant, core: Path) -> Fate:
        raise AssertionError

    assert judge_all(every, toy, never, log, "key") == whole
    with pytest.raises(BadInput, match="of other sources or another testbench"):
        judge_all(every, toy, never, log, "another key")
    (toy / "toy.sv").write_text(TOY.replace("3", "5"))
    with pytest.raises(BadInput, match="of other sources or another testbench"):
        judge_all(mutants_of(toy, ["toy.sv"]), toy, never, log, "key")
    log.write_text("something else\n")
    with pytest.raises(BadInput, match="expected the fates of mutants"):
        judge_all(every, toy, never, log, "key")
    with pytest.raises(BadInput, match=r"none.sv: cannot be read \(No such file"):
        mutants_of(toy, ["none.sv"])


def test_several_are_judged_at_once(toy: Path) -> None:
    both = threading.Barrier(2, timeout=60)

    def together(mutant: Mutant, core: Path) -> Fate:
        both.wait()
        return Fate("survived")

    every = mutants_of(toy, ["toy.sv"])[:2]
    assert len(judge_all(every, toy, together, jobs=2)) == 2


@pytest.fixture(scope="module")
def bench(icarus: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return prepare(icarus, tmp_path_factory.mktemp("bench"), RTL / "core", proofs=True, timeout=20)


def fate(bench: Bench, folder: Path, file: str, old: str, new: str) -> Fate:
    """What becomes of our core with a change that need not be a mutant's."""
    core = Path(shutil.copytree(RTL / "core", folder / "core"))
    text = (core / file).read_text()
    assert text.count(old) == 1
    (core / file).write_text(text.replace(old, new))
    return bench.judge(mutants("module m; assign y = !x; endmodule", file)[0], core)


@pytest.mark.parametrize(
    ("file", "old", "new", "outcome", "why"),
    [
        ("mac_tile.sv", "SUM'($signed(product))", "SUM'($signed(-product))", "killed", "narrow-random: psum 6 clock "),
        ("ofifo.sv", "assign valid = empty == '0", "assign valid = 1'b0", "killed", "words or beats are missing"),
        (
            "mac_tile.sv",
            "SUM'($signed(product))",
            "SUM'($signed(nothing))",
            "uncompiled",
            "iverilog cannot compile the core: ",
        ),
        ("mac_tile.sv", "parameter int ACT_BITS = 4", "parameter int ACT_BITS = 5", "equivalent", SAME),
        ("sfp.sv", "valid && needed && last", "needed && last && valid", "equivalent", PROVED),
        pytest.param(
            "mac_tile.sv", "if (west_stream) south", "if (1'b1) south", "survived", "", marks=pytest.mark.slow
        ),
    ],
)
def test_the_fates_of_our_core(
    file: str, old: str, new: str, outcome: str, why: str, bench: Bench, tmp_path: Path
) -> None:
    found = fate(bench, tmp_path, file, old, new)
    assert found.outcome == outcome
    assert why in found.why


@pytest.mark.slow
def test_a_core_that_differs_by_itself_has_no_mutants(bench: Bench, tmp_path: Path) -> None:
    bench.require(RTL / "core")
    core = Path(shutil.copytree(RTL / "core", tmp_path / "core"))
    (core / "fit.sv").write_text((core / "fit.sv").read_text().replace("saturate && !fits", "!fits"))
    with pytest.raises(BadInput, match="core: differs without any change: narrow-"):
        bench.require(core)


def test_one_that_hangs_is_killed(bench: Bench, tmp_path: Path) -> None:
    (first, *_) = bench.cores
    quick = Bench(bench.simulator, (Written(first.given, first.layers[:1], 1, True),), None, timeout=2)
    found = fate(quick, tmp_path, "fit.sv", "endmodule", "initial while (1) ;\nendmodule")
    assert found == Fate("killed", f"{first.layers[0][0].name}: icarus did not come to an end in 2 s (--timeout)")


def test_a_proof_is_of_every_choice_of_parameters(tmp_path: Path) -> None:
    """What is the same where the lanes are as wide as the default says, is not where they are wider."""
    source = "module toy #(parameter int W = 4) (input logic [W-1:0] a, output logic [W-1:0] y);\n  assign y = W'(a);\n"
    core = tmp_path / "gold" / "core"
    core.mkdir(parents=True)
    (core / "toy.sv").write_text(f"{source}endmodule\n")
    changed = tmp_path / "gate" / "core"
    changed.mkdir(parents=True)
    (changed / "toy.sv").write_text(f"{source.replace(chr(87) + chr(39), '4' + chr(39))}endmodule\n")
    for widths, same in (((4,), True), ((3, 4), True), ((4, 5), False)):
        proofs = prover([Source((core / "toy.sv",), "toy", {"W": w}) for w in widths], core, tmp_path / "gold")
        assert bool(proofs.prove(changed)) == same
        assert proofs.prove(core)


def test_what_is_listed_as_equivalent_is_there() -> None:
    there = {(m.file, m.context, m.change) for m in mutants_of(RTL / "core", sorted(p.name for p in _sources()))}
    assert set(reasons()) <= there, set(reasons()) - there
    assert all(len(why) > 20 for why in reasons().values())


def _sources() -> list[Path]:
    return list((RTL / "core").glob("*.sv"))
