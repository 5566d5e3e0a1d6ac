"""The batches of an epoch, augmented: a function of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from systolith.training.augment import crop, cutmix, cutout, flip
from systolith.training.recipes import Recipe


def batches(
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches of one epoch from step `start` on, this process's share of each.

    A function of (seed, epoch) alone, so that a resumed run sees the same. A picture is flipped every other epoch.
    Targets are classes, int64 (N,), or with `cutmix` their shares, fp32 (N, classes).
    """
    count, device = len(images), images.device
    flipped = torch.randint(0, 2, (count,), generator=torch.Generator().manual_seed(recipe.seed)).bool()
    gen = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(count, generator=gen).to(device)
    shifts = torch.randint(0, 9, (count, 2), generator=gen).to(device)
    cutout_at, cutmix_at = (
        torch.stack([torch.randint(0, side, (count,), generator=gen) for side in images.shape[2:]], 1).to(device)
        for _ in range(2)
    )
    chance, area = torch.rand(2, count, generator=gen).to(device)
    # An area drawn evenly from nothing to the whole picture, for a share of the pictures.
    sides = ((area.sqrt() * images.shape[2]).round() * (chance < recipe.cutmix)).long()
    flipped = flipped.to(device) ^ bool(epoch % 2)
    size, classes = min(recipe.batch, count), recipe.classes
    for at in range(start * size, count - size + 1, size):
        index = order[at : at + size][rank::world]
        batch = flip(crop(images[index], shifts[index]), flipped[index])
        target = labels[index]
        if recipe.cutmix:
            batch, target = cutmix(batch, target, cutmix_at[index], sides[index], classes)
        if recipe.cutout:
            batch = cutout(batch, cutout_at[index], recipe.cutout)
        yield batch.contiguous(memory_format=torch.channels_last), target
