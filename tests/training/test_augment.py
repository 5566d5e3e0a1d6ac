from __future__ import annotations

import numpy as np
import torch

from conftest import pictures
from systolith.training.augment import crop, cutout, flip


def test_crop_is_a_window_of_the_reflected_picture() -> None:
    images = pictures(9)[:, :, :7, :6]
    shifts = torch.tensor([[i, 8 - i] for i in range(9)])
    got = crop(torch.from_numpy(images), shifts)
    assert got.dtype == torch.uint8
    for n, (i, j) in enumerate(shifts.tolist()):
        padded = np.pad(images[n], ((0, 0), (4, 4), (4, 4)), mode="reflect")
        assert (got[n].numpy() == padded[:, i : i + 7, j : j + 6]).all()
    middle = torch.full((9, 2), 4)
    assert (crop(torch.from_numpy(images), middle).numpy() == images).all()


def test_flip_mirrors_the_chosen() -> None:
    images = torch.from_numpy(pictures(2))
    got = flip(images, torch.tensor([True, False]))
    assert (got[0].numpy() == images[0].numpy()[:, :, ::-1]).all()
    assert torch.equal(got[1], images[1])


def test_cutout_blackens_a_square_and_nothing_else() -> None:
    images = torch.from_numpy(pictures(3)).clamp(min=1)
    got = cutout(images, torch.tensor([[0, 0], [10, 31], [16, 16]]), 8)
    # Rows and columns centre - 4 .. centre + 3, as far as they are in the picture.
    for n, (rows, cols) in enumerate([((0, 4), (0, 4)), ((6, 14), (27, 32)), ((12, 20), (12, 20))]):
        expected = images[n].clone()
        expected[:, rows[0] : rows[1], cols[0] : cols[1]] = 0
        assert torch.equal(got[n], expected)
