"""DSIR: data selection by importance resampling of hashed n-grams.

Xie, Santurkar, Ma, Liang 2023 (arXiv 2302.03169), section 3, with the settings of the released code
(p-lambda/dsir, HashedNgramDSIR): words and pairs of words, in lower case, in 10,000 buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.ngrams import counts
from whence.applications.selection.pool import Pool
from whence.errors import InputError

_FLOOR = 1e-8  # added to both distributions, as in the released code


@dataclass(frozen=True)
class DSIR(Selector):
    """A random choice without replacement, by the likelihood ratio of targets to pool.

    The log weight of a text is the sum over its n-grams of ``log(p_target + 1e-8) - log(p_pool + 1e-8)``,
    each p the share of a bucket among all n-grams. Gumbel noise on top makes the k highest scores a sample of
    size k without replacement with these weights.

    The sum grows with the length of a text: it is a likelihood ratio, and fair among texts of like length.

    Parameters
    ----------
    buckets : that n-grams are hashed into.
    longest : length of the longest n-grams, in words.
    """

    buckets: int = 10_000
    longest: int = 2
    name: str = "DSIR"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.buckets < 2 or self.longest < 1:
            raise InputError(
                f"buckets={self.buckets} must be at least 2 and longest={self.longest} at least 1 word."
            )

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) log weight plus Gumbel noise of `seed`."""
        return self.log_weights(pool) + np.random.default_rng(seed).gumbel(size=pool.n)

    def log_weights(self, pool: Pool) -> np.ndarray:
        """(n,) log of target likelihood over pool likelihood."""
        texts = pool.remember(self, lambda: self._counts(pool.texts))
        target = self._shares(self._counts(pool.target_texts))
        return np.asarray(texts @ (np.log(target + _FLOOR) - np.log(self._shares(texts) + _FLOOR)))

    def _counts(self, texts):  # type: ignore[no-untyped-def]
        return counts(texts, self.buckets, self.longest)

    @staticmethod
    def _shares(found) -> np.ndarray:  # type: ignore[no-untyped-def]
        total = np.asarray(found.sum(0), np.float64).ravel()
        return total / max(total.sum(), 1.0)
