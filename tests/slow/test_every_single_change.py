"""Every layout that is a single change away from what a testbench reads: the change back is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Find
from projects.questions import answers
from projects.styles import STYLES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", STYLES)
def test_the_change_back_is_named_for_every_single_change(name: str, tmp_path: Path, simulator: Find) -> None:
    given = list(answers(name, tmp_path, simulator("icarus")))
    assert len(given) >= 12
    assert [answer for answer in given if not answer.named] == []
