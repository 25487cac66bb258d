"""Similarity: choose what looks like the target examples in some feature space.

The representation-based baseline that selection papers compare with (Xia et al. 2024, arXiv 2402.04333):
cosine similarity of embeddings, averaged over the target examples or that of the nearest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.errors import InputError
from whence.methods.encoders import words
from whence.methods.similarity import Features, feature_pair, similarity

_BLOCK = 8192  # candidates at a time, so that no (targets, n) matrix is held


@dataclass(frozen=True, eq=False)
class Similarity(Selector):
    """Cosine similarity to the target examples.

    Parameters
    ----------
    features : as in `whence.methods.Similarity`; default for studies with texts: `encoders.words`, else
        "penultimate".
    reduce : "mean" over target examples, or "max": that of the nearest.
    """

    features: Features | None = None
    reduce: Literal["mean", "max"] = "mean"
    name: str = "similarity"
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.reduce not in ("mean", "max"):
            raise InputError(f'reduce must be "mean" or "max", received {self.reduce!r}.')

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) in [-1, 1]; `seed` is that of the network whose features are taken."""
        train, targets = features_of(pool, self.features, seed)
        targets = targets[pool.target_index]
        over = np.mean if self.reduce == "mean" else np.max
        parts = [
            over(similarity(train[start : start + _BLOCK], targets), axis=0)
            for start in range(0, pool.n, _BLOCK)
        ]
        return np.concatenate(parts)


def features_of(pool: Pool, features: Features | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) of the candidates and (targets of the study, d), computed once for all tasks and for
    all rules that read the same."""
    default = words() if pool.texts is not None else "penultimate"
    chosen = default if features is None else features
    owner = feature_pair if features is None else features
    return pool.remember(owner, lambda: feature_pair(pool.study, chosen, seed), seed)
