"""Random: every choice is compared with chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool


@dataclass(frozen=True)
class Random(Selector):
    """Uniform scores: a choice of k is a uniform sample without replacement.

    For one seed larger choices contain the smaller ones.
    """

    name: str = "random"
    targeted: ClassVar[bool] = False
    random: ClassVar[bool] = True

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) uniform in [0, 1)."""
        return np.random.default_rng(seed).random(pool.n)
