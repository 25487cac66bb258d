"""What methods and evaluation read from a bank: retrainings as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """Retrainings of one part, in row order.

    Attributes
    ----------
    masks : boolean ``(m, n)``, True = trained on.
    outputs : float32 ``(m, targets)`` or ``(m, targets, classes)``; finite.
    mask_index, repeat, seed, rows : int64 ``(m,)``.
    """

    masks: np.ndarray
    outputs: np.ndarray
    mask_index: np.ndarray
    repeat: np.ndarray
    seed: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class MaskGroups:
    """Retrainings grouped by mask: only masks all of whose repeats are there and finite.

    Attributes
    ----------
    masks : boolean ``(g, n)``.
    outputs : float32 ``(g, seeds, targets)`` or ``(g, seeds, targets, classes)``.
    mask_index : int64 ``(g,)``.
    """

    masks: np.ndarray
    outputs: np.ndarray
    mask_index: np.ndarray

    def __len__(self) -> int:
        return len(self.mask_index)
