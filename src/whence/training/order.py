"""In which order a run sees its examples: a function of the subset and the training seed alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from whence.study.recipe import Recipe
from whence.training.data import Draws, draw_augmentation

_ORDER = 0x0DE5  # keeps the stream of orders apart from that of initial weights


def generator(seed: int) -> torch.Generator:
    """The stream of orders and augmentations of one run (on the CPU, so that it is the same on every
    device)."""
    return torch.Generator().manual_seed((seed ^ _ORDER) & 0x7FFFFFFFFFFFFFFF)


def pool(weights: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Positions that a run goes over: those with weight for "shorter", all of them for "weighted"."""
    return torch.arange(len(weights)) if recipe.subset == "weighted" else torch.nonzero(weights).flatten()


def epochs(
    positions: torch.Tensor, recipe: Recipe, shape: tuple[int, ...], seed: int
) -> Iterator[tuple[torch.Tensor, Draws]]:
    """For each epoch the positions ``(k,)`` in order and the augmentation draws, both on the CPU."""
    stream = generator(seed)
    used = len(positions) // recipe.batch_size * recipe.batch_size if recipe.drop_last else len(positions)
    for _ in range(recipe.epochs):
        order = positions[torch.randperm(len(positions), generator=stream)][:used]
        yield order, draw_augmentation(recipe.augment, used, shape, stream)
