from __future__ import annotations

import numpy as np
import torch

from conftest import pictures
from systolith.training.augment import crop, cutmix, cutout, flip


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


def test_cutmix_takes_a_square_of_the_next_picture_and_its_class_by_as_much() -> None:
    images, labels = torch.from_numpy(pictures(4)), torch.tensor([3, 1, 4, 1])
    centres = torch.tensor([[0, 0], [10, 31], [16, 16], [5, 5]])
    got, shares = cutmix(images, labels, centres, torch.tensor([8, 7, 32, 0]), 5)
    # Rows and columns centre - side // 2 on, as far as they are in the picture; the last picture's next is the first.
    places = [((0, 4), (0, 4)), ((7, 14), (28, 32)), ((0, 32), (0, 32)), ((0, 0), (0, 0))]
    for n, ((top, bottom), (left, right)) in enumerate(places):
        expected, share = images[n].clone(), torch.zeros(5)
        expected[:, top:bottom, left:right] = images[(n + 1) % 4, :, top:bottom, left:right]
        given = (bottom - top) * (right - left) / 1024
        share[labels[n]] += 1 - given
        share[labels[(n + 1) % 4]] += given
        assert torch.equal(got[n], expected)
        assert torch.equal(shares[n], share)
    assert shares[2].tolist() == [0, 1, 0, 0, 0]  # all of it is the next one's
