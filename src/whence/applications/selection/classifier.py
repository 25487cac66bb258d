"""Classifier: choose what a linear classifier on n-grams takes for target text.

Brown et al. 2020 (GPT-3, arXiv 2005.14165), appendix A, filter web text by such a classifier of wanted
against raw text; Joulin et al. 2017 (fastText, arXiv 1607.01759) is the usual one, a linear model of hashed
word n-grams; the choice of the highest scores without noise is that of the DsDm release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.ngrams import counts
from whence.applications.selection.pool import Pool
from whence.errors import InputError

_FOLDS = 2


@dataclass(frozen=True)
class Classifier(Selector):
    """Log odds of "target text" against "pool text", by logistic regression on hashed n-grams.

    Texts are brought to unit length, so that length is no evidence; the two sides weigh the same. In a small
    pool the candidates themselves are the negatives, which would push down exactly those that were trained
    on: each half of the pool is scored by the classifier that saw the other.

    Parameters
    ----------
    buckets, longest : as in DSIR.
    cost : inverse of the penalty on the weights (scikit-learn's C).
    """

    buckets: int = 2**18
    longest: int = 2
    cost: float = 10.0
    name: str = "classifier"
    needs: ClassVar[tuple[str, ...]] = ("texts",)

    def __post_init__(self) -> None:
        if self.buckets < 2 or self.longest < 1 or not self.cost > 0:
            raise InputError(
                f"buckets={self.buckets} must be at least 2, longest={self.longest} at least 1 word and "
                f"cost={self.cost} positive."
            )

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) log odds; `seed` splits the pool."""
        texts = pool.remember(self, lambda: self._rows(pool.texts))
        positive = self._rows(pool.target_texts)  # checks that scikit-learn is there
        from scipy.sparse import vstack
        from sklearn.linear_model import LogisticRegression

        fold = np.random.default_rng(seed).permutation(pool.n) % _FOLDS
        found = np.empty(pool.n)
        for part in range(_FOLDS):
            negative = texts[np.flatnonzero(fold != part)]
            model = LogisticRegression(
                C=self.cost, class_weight="balanced", solver="liblinear", random_state=0
            )
            answers = np.r_[np.ones(positive.shape[0]), np.zeros(negative.shape[0])]
            model.fit(vstack([positive, negative], format="csr"), answers)
            rows = np.flatnonzero(fold == part)
            found[rows] = model.decision_function(texts[rows])
        return found

    def _rows(self, texts):  # type: ignore[no-untyped-def]
        found = counts(texts, self.buckets, self.longest)
        from sklearn.preprocessing import normalize

        return normalize(found)
