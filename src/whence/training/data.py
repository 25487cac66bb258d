"""Training data on the device: prepared once and gathered and augmented there, or prepared batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from whence.errors import InputError
from whence.study._examples import Examples
from whence.study.recipe import Augment

Draws = dict[str, torch.Tensor]
_COUNTED = 1024  # images at a time


class Resident:
    """Inputs of a study on a device, ready for the network.

    uint8 images are scaled to zero mean and unit variance per channel (statistics of the whole training set,
    which belong to the study, not to a subset) and kept channels-last, which CPU and GPU convolutions like
    best.

    Attributes
    ----------
    x : prepared inputs ``(n, ...)`` (images as ``(n, H, W, C)``).
    y : labels ``(n,)`` or answers ``(n, ...)``.
    """

    def __init__(
        self,
        examples: Examples,
        statistics: Examples,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        prepare = _Preparation(examples, statistics)
        self.is_image = prepare.is_image
        self.x = prepare(examples.inputs).to(device)
        if self.x.is_floating_point():
            self.x = self.x.to(dtype)
        self.x = self.x.contiguous()
        rows = self.x.flatten(1) if self.x.ndim > 1 else self.x[:, None]
        # Rows are gathered as long words where they are made of such: twice as fast as numbers of two bytes.
        self._rows = rows.view(torch.int64) if rows.shape[1] * rows.element_size() % 8 == 0 else rows
        self.y = _labels(examples).to(device)

    def inputs(self, index: torch.Tensor | slice, draws: Draws | None = None) -> torch.Tensor:
        """Network inputs for `index`, any shape ``(...,)`` of positions; images come as ``(..., C, H,
        W)``."""
        if isinstance(index, slice):
            x = self.x[index]
        else:  # index_select copies whole rows, several times faster than fancy indexing
            gathered = self._rows.index_select(0, index.flatten())
            x = gathered.view(self.x.dtype).view(*index.shape, *self.x.shape[1:])
        if not self.is_image:
            return x
        if draws:
            lead = x.shape[:-3]
            x = _augment(x.flatten(0, -4), {k: v.flatten(0, len(lead) - 1) for k, v in draws.items()}).view(
                x.shape
            )
        return x.movedim(-1, -3)

    def answers(self, index: torch.Tensor) -> torch.Tensor:
        """What the examples at `index` are trained to be: their labels or answers."""
        return self.y[index]


class Selected:
    """Examples of a `Resident` chosen for each model of a stack, with answers of their own.

    Parameters
    ----------
    points : positions in `data`, int64 ``(m, k)``; repeats are allowed.
    answers : what the loss holds them against, ``(m, k, ...)``; by default their labels.
    """

    def __init__(self, data: Resident, points: torch.Tensor, answers: torch.Tensor | None = None) -> None:
        self.data, self.points = data, points.to(data.y.device)
        self.x, self.y = data.x, data.y
        self._answers = data.y[self.points] if answers is None else answers.to(data.y.device)

    def inputs(self, index: torch.Tensor, draws: Draws | None = None) -> torch.Tensor:
        """Network inputs of choices number `index` ``(m, b)``."""
        return self.data.inputs(self.points.gather(1, index), draws)

    def answers(self, index: torch.Tensor) -> torch.Tensor:
        """The answers of choices number `index` ``(m, b)``."""
        return self._answers[torch.arange(len(index), device=index.device)[:, None], index]


class OnDemand:
    """The inputs of `Resident`, not augmented, made anew each time they are asked for: nothing is held beside
    the study's own array, which may lie on disk (`numpy.memmap`).

    Attributes
    ----------
    y : labels ``(n,)`` or answers ``(n, ...)``
    """

    def __init__(
        self,
        examples: Examples,
        statistics: Examples,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._examples, self._device, self._dtype = examples, device, dtype
        self._prepare = _Preparation(examples, statistics)
        self.y = _labels(examples).to(device)

    def inputs(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Network inputs for `index`, a slice or positions ``(b,)``; images come as ``(b, C, H, W)``."""
        chosen = index if isinstance(index, slice) else index.cpu().numpy()
        x = self._prepare(self._examples.inputs[chosen]).to(self._device)
        if x.is_floating_point():
            x = x.to(self._dtype)
        return x.movedim(-1, -3) if self._prepare.is_image else x


def _labels(examples: Examples) -> torch.Tensor:
    answers = examples.answers
    return torch.as_tensor(np.zeros(len(examples), dtype=np.int64) if answers is None else answers)


def draw_augmentation(
    augment: Augment | None, count: int, shape: tuple[int, ...], generator: torch.Generator
) -> Draws:
    """Random numbers for `count` examples of an epoch, images of `shape` ``(H, W, C)``; CPU int64 tensors."""
    if augment is None:
        return {}
    height, width = shape[0], shape[1]
    draws: Draws = {}
    if augment.erase is not None:
        box = augment.erase
        erased = torch.rand(count, generator=generator) < box.probability
        corner = torch.tensor([box.row, box.column, box.height, box.width])
        draws["erase"] = torch.where(erased[:, None], corner, 0)  # no height, no hole
    if augment.flip:
        draws["flip"] = torch.randint(0, 2, (count,), generator=generator)
    if augment.translate:
        draws["shift"] = torch.randint(
            -augment.translate, augment.translate + 1, (count, 2), generator=generator
        )
    if augment.cutout:
        size = augment.cutout
        draws["cutout_row"] = torch.randint(0, height - size + 1, (count,), generator=generator)
        draws["cutout_column"] = torch.randint(0, width - size + 1, (count,), generator=generator)
        draws["cutout_size"] = torch.full((count,), size)
    return draws


def _augment(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Augmented images ``(b, H, W, C)``; what happens to each is told by `draws`, so this is a pure
    function."""
    b, height, width, _ = x.shape
    rows = torch.arange(height, device=x.device).expand(b, height)
    columns = torch.arange(width, device=x.device).expand(b, width)
    if "erase" in draws:
        row, column, tall, wide = draws["erase"].T.unsqueeze(-1)
        down, across = rows - row, columns - column
        x = x.masked_fill(_hole(down, across, tall, wide), 0.0)
    if "shift" in draws:
        rows = _reflect(rows + draws["shift"][:, :1], height)
        columns = _reflect(columns + draws["shift"][:, 1:], width)
    if "flip" in draws:
        columns = torch.where(draws["flip"][:, None] == 1, width - 1 - columns, columns)
    if "shift" in draws or "flip" in draws:
        x = x[torch.arange(b, device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if "cutout_row" in draws:
        size = draws["cutout_size"][:, None]
        down = torch.arange(height, device=x.device) - draws["cutout_row"][:, None]
        across = torch.arange(width, device=x.device) - draws["cutout_column"][:, None]
        x = x.masked_fill(_hole(down, across, size, size), 0.0)
    return x


def _hole(down: torch.Tensor, across: torch.Tensor, tall: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
    """(b, H, W, 1) True inside a rectangle, from each pixel's distance to its corner, (b, H) and (b, W)."""
    inside = ((down >= 0) & (down < tall))[:, :, None] & ((across >= 0) & (across < wide))[:, None, :]
    return inside[..., None]


def _reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


class _Preparation:
    """How arrays of a study become inputs of a network, images still channels-last."""

    def __init__(self, examples: Examples, statistics: Examples) -> None:
        inputs = examples.inputs
        self.is_image = len(inputs.shape) in (3, 4) and examples.is_image
        kind = np.asarray(inputs[:1]).dtype
        if kind.kind not in "biuf":
            raise InputError(
                f"a recipe trains on numbers, received inputs of dtype {kind}; encode them first."
            )
        self._scaled = kind == np.uint8
        if self._scaled and not self.is_image:
            raise InputError(
                f"uint8 inputs are read as images (n, H, W[, C]), received shape {tuple(inputs.shape)}; pass "
                "float features or integer tokens instead."
            )
        if self._scaled:
            self._mean, self._deviation = _channel_statistics(statistics.inputs)

    def __call__(self, rows: Any) -> torch.Tensor:
        x = torch.tensor(np.asarray(rows))
        if self._scaled:
            x = x if x.ndim == 4 else x[..., None]
            return ((x.float() - self._mean) / self._deviation).contiguous()
        if self.is_image:
            return x.float().movedim(1, -1).contiguous()
        return x.float() if x.is_floating_point() else x.long()


def _channel_statistics(inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    channels = inputs.shape[3] if len(inputs.shape) == 4 else 1
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(inputs), _COUNTED):  # counting takes eight bytes a pixel
        rows = np.asarray(inputs[start : start + _COUNTED]).reshape(-1, channels)
        for c in range(channels):
            counts[c] += np.bincount(rows[:, c], minlength=256)
    levels = np.arange(256)
    means = [float((k * levels).sum() / k.sum()) for k in counts]
    deviations = [
        float(np.sqrt((k * (levels - m) ** 2).sum() / k.sum())) for k, m in zip(counts, means, strict=True)
    ]
    return torch.tensor(means), torch.tensor(deviations).clamp_min(1.0)
