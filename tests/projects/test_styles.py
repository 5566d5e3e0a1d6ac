"""Every style of testbench passes with its core.toml, notices a flipped bit, and names the change it would need."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Find
from projects.styles import STYLES, write
from systolith.hardware.cosim import cosim


@pytest.mark.parametrize("name", STYLES)
def test_a_style_passes_and_notices_every_kind_of_flipped_bit(name: str, tmp_path: Path, simulator: Find) -> None:
    simulator("icarus")
    report = cosim(project=write(STYLES[name], tmp_path / "a project"))
    assert report.holds, report
    assert [run.end for run in report.runs] == ["passed"]
    kinds = {entry["tensor"] for entry in STYLES[name].layout}
    wanted = kinds - {"out"} if STYLES[name].dump else kinds
    assert set(report.controls) == wanted
    for kind, looked in report.controls.items():
        assert looked.flipped == 3, kind
        assert looked.noticed == 3, (kind, looked.said)
