from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from systolith.formats import BadInput
from systolith.pictures import read_picture
from systolith.store import ASSETS


def test_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read, notes = read_picture(tmp_path / "a.png")
    assert notes == ()
    assert read.dtype == np.uint8
    assert (read == pixels.transpose(2, 0, 1)).all()
    assert (read_picture((tmp_path / "a.png").read_bytes())[0] == read).all()


def test_the_shipped_picture() -> None:
    read, notes = read_picture(ASSETS / "cat.png")
    assert read.shape == (3, 32, 32)
    assert notes == ()


@pytest.mark.parametrize(
    ("mode", "size", "notes"),
    [
        ("L", (32, 32), ("converted from L to RGB",)),
        ("RGBA", (32, 32), ("converted from RGBA to RGB, transparent parts white",)),
        ("RGB", (64, 64), ("resized from 64x64 to 32x32",)),
        ("RGB", (50, 40), ("resized from 50x40 to 32x32, centre square",)),
    ],
)
def test_other_pictures_are_converted_with_a_note(
    tmp_path: Path, mode: str, size: tuple[int, int], notes: tuple[str, ...]
) -> None:
    Image.new(mode, size).save(tmp_path / "a.png")
    read, found = read_picture(tmp_path / "a.png")
    assert read.shape == (3, 32, 32)
    assert found == notes


def test_16_bits_keep_their_upper_8(tmp_path: Path) -> None:
    ramp = (np.arange(1024, dtype=np.uint16) * 64).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    read, notes = read_picture(tmp_path / "a.png")
    assert notes == ("converted from 16-bit greyscale to RGB, the upper 8 bits kept",)
    assert (read == (ramp >> 8)).all()
    Image.fromarray(np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)).save(tmp_path / "a.tif")
    with pytest.raises(BadInput, match="expected integer pixels"):
        read_picture(tmp_path / "a.tif")


def test_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png")[0] == 255).all()


def test_unreadable_pictures(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such picture"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(BadInput, match=r"text.png: not a readable picture"):
        read_picture(tmp_path / "text.png")
    for suffix in ("png", "jpg"):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
        whole = (tmp_path / f"a.{suffix}").read_bytes()
        (tmp_path / f"half.{suffix}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadInput, match="not a readable picture, truncated"):
            read_picture(tmp_path / f"half.{suffix}")
    with pytest.raises(BadInput, match="not a readable picture"):
        read_picture(tmp_path)
