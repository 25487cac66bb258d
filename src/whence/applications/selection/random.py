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
        """(n,) uniform in [0, 1); one number for all of a group, for the mean over a large group would never
        be the highest."""
        rng = np.random.default_rng(seed)
        if pool.groups is None:
            return rng.random(pool.n)
        names, members = np.unique(pool.groups, return_inverse=True)
        return rng.random(len(names))[members]
