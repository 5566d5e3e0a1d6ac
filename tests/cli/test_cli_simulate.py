"""`simulate`, as a user types it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.calling import NO_TORCH, call, one_object, refuse
from systolith.report.simulate import shares

SQUEEZED = ("--layer", "features.27")


def test_a_layer_stepped_without_torch() -> None:
    """9 passes of 8 weight beats, a beat of nothing and 16 positions, 14 clocks across: 239; by the machine too."""
    result = call("simulate", *SQUEEZED, code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    row = next(line for line in lines if line.startswith("features.27"))
    assert row.split()[1:5] == ["8->8", "4x4", "9", "239"]
    percent = [float(cell) for cell in row.split()[5:11]]
    assert percent == [30.1, 60.2, 0, 3.8, 5.9, 0]
    assert row.split()[11:13] == ["5", "60.3%"]
    # 144 psums of 8 columns, 16 outputs; 72 weight beats, 144 activation beats and psums, reads, writes.
    assert "psums of the machine = integer products: 1,152 of 1,152 equal" in result.stdout
    assert "clocks of weight beats = predicted: 72 of 72 equal" in result.stdout
    assert lines[-1].startswith("verdict")
    assert "all equal" in lines[-1]
    assert "239 clocks, 60.3% of the multipliers, 0 stalls" in lines[-1]
    assert len(lines[-1]) < 200


def test_every_layer_and_schedule_is_predicted() -> None:
    """The clocks of the whole network: design, section 6."""
    useful = one_object(call("simulate", "--no-values", "--json", code=NO_TORCH))
    names = [layer["name"] for layer in useful["layers"]]
    assert names[0] == "features.0"
    assert len(names) == 14
    convolutions = [layer["clocks"] for layer in useful["layers"] if layer["name"] != "classifier"]
    assert round(sum(convolutions) / 1e6, 2) == 4.73
    whole = one_object(call("simulate", "--no-values", "--json", "--schedule", "whole", "--drained", code=NO_TORCH))
    for found in (useful, whole):
        assert (found["holds"], found["equalities"]) == (None, [])
        total = found["total"]
        assert total["clocks"] == sum(total["split"].values()) == sum(layer["clocks"] for layer in found["layers"])
        for layer in found["layers"]:
            assert layer["clocks"] == sum(layer["split"].values())
            assert layer["utilisation"] == layer["macs"] / (64 * layer["clocks"])
    assert (whole["schedule"]["schedule"], whole["schedule"]["drained"]) == ("whole", True)
    by_name = {layer["name"]: layer for layer in whole["layers"]}
    assert by_name["features.27"]["clocks"] == 9 * (8 + 1 + 36 + 14)
    assert by_name["features.27"]["split"]["drain"] == 9 * 14


def test_json_has_what_was_predicted_and_what_was_counted() -> None:
    found = one_object(
        call("simulate", "vgg16-w4a4-s8", "--layer", "features.24,features.27", "--json", "--schedule", "whole")
    )
    assert found["holds"] is True
    assert found["contract"]["load_beats"] == 8
    assert all(e["compared"] > 0 and e["different"] == 0 for e in found["equalities"])
    for layer in found["layers"]:
        machine = layer["machine"]
        for name in ("clocks", "split", "traffic"):
            assert machine[name] == layer[name]
        assert machine["sfp"] == layer["sfp_clocks"]
        assert (machine["overruns"], machine["hazards"], machine["split"]["stalls"]) == (0, 0, 0)
    squeezed = found["layers"][1]
    assert squeezed["clocks"] == 419
    assert squeezed["split"]["padding"] == 9 * 20
    assert squeezed["needed_depths"] == {"l0": 2, "ofifo": 8, "act": 36, "weight": 72, "psum": 16}


def test_another_array_and_narrow_accumulators() -> None:
    options = ("--array", "3x5", "--psum-bits", "8", "--overflow", "saturate", "--drained", "--json")
    found = one_object(call("simulate", *SQUEEZED, *options))
    assert found["holds"] is True
    # 3 x 2 tiles of 9 kij: 5 weight beats, a beat, 16 positions, 6 clocks across
    assert found["layers"][0]["clocks"] == 54 * (5 + 1 + 16 + 6)


def test_a_plot_of_the_parts(tmp_path: Path) -> None:
    for suffix, magic in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        result = call("simulate", "--no-values", "--plot", tmp_path / f"c.{suffix}")
        assert result.returncode == 0, result.stderr
        assert (tmp_path / f"c.{suffix}").read_bytes().startswith(magic)
    without = "import sys; sys.modules['matplotlib'] = None\n" + NO_TORCH.replace("'torch'", "'matplotlib'")
    said = call("simulate", *SQUEEZED, "--plot", tmp_path / "d.svg", code=without)
    refuse(said, "needs matplotlib", "pip install 'systolith[train]'")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.png", "c.svg"]


def test_shares_sum_to_a_hundred() -> None:
    assert shares([1, 1, 1]) == ["33.4", "33.3", "33.3"]
    assert shares([0, 239, 0]) == ["0.0", "100.0", "0.0"]
    for parts in ([72, 144, 0, 9, 14, 0], [1] * 7, [999, 1, 1]):
        assert sum(round(10 * float(share)) for share in shares(parts)) == 1000


def test_a_difference_is_exit_code_1_and_located() -> None:
    """The closed form with another turnaround than the machine's."""
    planted = (
        "from systolith.timing import schedule as timing, observation\n"
        "rules = timing.contract\n"
        "run = observation.machine\n"
        "observation.machine = lambda m, a, s, r: run(m, a, s, rules(m.spec))\n"
        "timing.SFP = 4\n"
        "from systolith.cli.main import main; main()"
    )
    result = call("simulate", *SQUEEZED, code=planted)
    assert result.returncode == 1, result.stderr
    last = result.stdout.splitlines()[-1]
    assert "NOT EQUAL: clocks of output words = predicted: 0 of 16 equal" in last
    assert re.search(r"first difference: features\.27\[0\] expected 229, found 228", last)
    assert len(last) < 200


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("no layer 'features.99'", ("--layer", "features.99")),
        ("'half': expected useful, whole, double, packed, packed-double, os or auto", ("--schedule", "half")),
        ("--least 'energy': expected clocks or traffic", ("--schedule", "auto", "--least", "energy")),
        ("--drained: expected useful, whole or packed, found --schedule os", ("--schedule", "os", "--drained")),
        ("--drained: expected a schedule by its name with it, found auto", ("--schedule", "auto", "--drained")),
        ("--batch 0: expected 1 to 1024 pictures", ("--batch", "0")),
        ("act bandwidth 0: expected at least 1 bit a clock", ("--act-bandwidth", "0")),
        ("latency -1: expected 0 to 10,000 clocks", ("--latency", "-1")),
        ("simd 3: expected 1, 2, 4 or 8 codes in a lane of 4 bits", ("--simd", "3")),
        ("expected one model, found a and --model b", ("a", "--model", "b")),
        ("expected a name that ends in .svg or .png", ("--plot", "clocks.pdf")),
        ("--no-values takes no picture: it goes without --image", ("--no-values", "--image", "x.png")),
        ("features.27: the L0 must hold 2 words, its depth is 1", (*SQUEEZED, "--l0-depth", "1")),
        ("features.27: each column of the OFIFO must hold 8 words, its depth is 7", (*SQUEEZED, "--ofifo-depth", "7")),
        ("features.27: the activation memory must hold 36 words", (*SQUEEZED, "--act-depth", "35")),
        ("features.27: the weight memory must hold 72 words, its depth is 0", (*SQUEEZED, "--weight-depth", "0")),
        ("features.27: the psum memory must hold 16 words", (*SQUEEZED, "--psum-depth", "15")),
        ("features.0 has 8-bit activations", ("--layer", "features.0")),
        ("outside the range -32..31 of 6 signed bits", (*SQUEEZED, "--psum-bits", "6")),
    ],
)
def test_bad_options(said: str, options: tuple[str, ...]) -> None:
    refuse(call("simulate", *options, code=NO_TORCH), said)
