"""The timing diagram, from a waveform whose every clock is known."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArraySpec, run_layer
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.report.diagram import draw, read_rows, write_diagram
from systolith.rtl.layer import run_on
from systolith.rtl.simulators import Simulator
from systolith.timing import Schedule, contract


def test_what_the_core_did_clock_by_clock(icarus: Simulator, models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    conv = Conv("layer", rng.integers(-8, 8, (2, 3, 1, 2)), UINT4, INT4)
    spec = ArraySpec(3, 2)
    result = run_layer(conv, rng.integers(0, 16, (3, 2, 3)), spec)
    waves = tmp_path / "w.vcd"
    assert run_on(icarus, result, tmp_path, cache=models, waves=waves).holds
    first, rows = read_rows(waves, spec)
    found = {}
    for row in rows:
        found.setdefault(row.name, row)
    mapping, schedule = result.mapping, Schedule()
    period = 2 + 1 + 4  # columns, turnaround, 2x2 outputs
    assert schedule.period(mapping) == period

    def clocks(name: str) -> list[int]:
        return [first + at for at, value in enumerate(found[name].values) if value == "1"]

    assert clocks("weight into row 0") == [0, 1, period, period + 1]
    assert clocks("activation into row 0") == [3, 4, 5, 6, period + 3, period + 4, period + 5, period + 6]
    assert clocks("word leaves the OFIFO") == schedule.psum_clocks(mapping).reshape(-1).tolist()
    assert clocks("output word") == schedule.out_clocks(mapping).reshape(-1).tolist()
    events = [schedule.events(mapping, oc_tile) for oc_tile in range(mapping.oc_tiles)]
    assert clocks("psum memory is read") == [int(t) for e in events for t in e.read]
    assert clocks("psum memory is written") == [int(t) for e in events for t in e.write]
    # A weight's address is at its memory so long before its beat enters row 0.
    assert first == -contract(spec).lead
    assert found["state"].values[0] == "load"
    # Row 0's codes: of the two columns' weights, then of the activations that both kj need.
    tile = [text for text in found["its code"].values if text]
    weights, acts = mapping.weight_tiles()[0, 0, :, :, 0], mapping.act_tiles(result.act)[0, :, 0]
    expected = [[*weights[kij], *acts[mapping.windows()[kij]]] for kij in (0, 1)]
    assert tile == [str(int(v)) for part in expected for v in part]
    outs = [r for r in rows if r.name == "its lane 0"][-1]
    assert [v for v in outs.values if v] == [str(v) for v in result.out[0].reshape(-1)]

    picture = tmp_path / "d.svg"
    write_diagram(waves, spec, picture, "a < b")
    root = ElementTree.fromstring(picture.read_text())
    texts = [element.text for element in root.iter() if element.text]
    assert "a < b" in texts
    assert "output word" in texts
    # A long run is drawn with a break, narrower than the whole.
    width = [
        int(ElementTree.fromstring(draw(first, rows, "t", most)).attrib["viewBox"].split()[2]) for most in (9, 999)
    ]
    assert width[0] < width[1]


def test_another_waveform_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "w.vcd"
    path.write_text("$timescale 1ns $end $var wire 1 ! a $end $enddefinitions $end #0 0! #1 1!\n")
    with pytest.raises(BadInput, match=r"no signal 'testbench\.clk'"):
        write_diagram(path, ArraySpec(), tmp_path / "d.svg", "")
    assert not (tmp_path / "d.svg").exists()
