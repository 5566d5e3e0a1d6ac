from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from systolith.formats import BadInput
from systolith.report.curves import plot_curves


def test_a_picture_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,loss,holdout\n1,2.0,0.3\n2,1.5,0.5\n")
    plot_curves(tmp_path / "log.csv", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert image.size == (840, 480)
        colours = {c for _, c in image.convert("RGB").getcolors(100_000)}  # type: ignore[union-attr]
    assert (31, 119, 180) in colours  # the loss
    assert (255, 127, 14) in colours  # the accuracy


def test_nothing_is_left_when_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,loss,holdout\n1,2.0,0.3\n")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        plot_curves(tmp_path / "log.csv", tmp_path / "file" / "curves.png")
