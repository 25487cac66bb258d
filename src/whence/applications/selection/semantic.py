"""Semantic de-duplication: drop what is nearly the same as another candidate, then choose at random.

Abbas, Tirumala, Simig, Ganguli, Morcos 2023 (SemDeDup, arXiv 2303.09540), with the rules of the released code
(facebookresearch/SemDeDup); DsDm draws uniformly from what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.applications.selection.similarity import features_of
from whence.errors import InputError
from whence.methods.similarity import Features


@dataclass(frozen=True, eq=False)
class SemanticDeduplication(Selector):
    """Uniform scores for the candidates that are kept, above all that are dropped.

    Embeddings are clustered by k-means; within a cluster candidates are gone through from the farthest from
    the centre to the nearest, and one is dropped if its cosine similarity to an earlier one is above
    `threshold` (whether or not that one was dropped itself, as released). Those dropped come after the
    others, least redundant first, so that a choice may be larger than what is kept.

    Parameters
    ----------
    features : as in `Similarity`.
    threshold : the paper's 1 - epsilon.
    clusters : of k-means; default the square root of the pool's size.
    """

    features: Features | None = None
    threshold: float = 0.95
    clusters: int | None = None
    name: str = "semantic de-duplication"
    targeted: ClassVar[bool] = False
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not -1 < self.threshold < 1:
            raise InputError(f"threshold is a cosine, above -1 and below 1, received {self.threshold}.")
        if self.clusters is not None and self.clusters < 1:
            raise InputError(f"clusters must be at least 1, received {self.clusters}.")

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) above 0 for those kept, uniform; below 0 for those dropped."""
        redundancy = pool.remember(self, lambda: self.redundancy(pool))
        kept = redundancy <= self.threshold
        return np.where(kept, 1 - np.random.default_rng(seed).random(pool.n), -1 - redundancy)

    def redundancy(self, pool: Pool) -> np.ndarray:
        """(n,) largest cosine similarity to a candidate of the same cluster that comes before it; -1 for the
        first."""
        train, _ = features_of(pool, self.features, 0)
        unit = train / np.maximum(np.linalg.norm(train, axis=1, keepdims=True), 1e-12)
        found = np.full(pool.n, -1.0)
        for members in _clusters(unit, self.clusters or max(1, round(pool.n**0.5))):
            near = unit[members] @ unit[members].mean(0)
            members = members[np.argsort(near, kind="stable")]
            products = unit[members] @ unit[members].T
            products[np.triu_indices(len(members))] = -1
            found[members] = products.max(1)
        return found


def _clusters(rows: np.ndarray, count: int) -> list[np.ndarray]:
    """Members of each cluster of k-means."""
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise InputError(
            "semantic de-duplication clusters with scikit-learn; pip install 'whence[sklearn]'."
        ) from None
    if count == 1 or len(rows) <= count:
        return [np.arange(len(rows))]
    labels = MiniBatchKMeans(count, random_state=0, n_init=3, batch_size=4096).fit_predict(rows)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
