"""BM25: choose the texts that share rare words with the target examples.

Robertson and Zaragoza 2009; see `whence.methods.bm25`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.methods.bm25 import bm25, words_of


@dataclass(frozen=True)
class BM25(Selector):
    """The mean over target examples of the BM25 relevance of a candidate to the example's words.

    Relevance adds up over the words of a query, so all target examples are asked for at once, as one.

    Parameters
    ----------
    k1, b : how soon a repeated word saturates, and how much long texts are held back (0 to 1).
    """

    k1: float = 1.2
    b: float = 0.75
    name: str = "BM25"
    needs: ClassVar[tuple[str, ...]] = ("texts",)

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) 0 or more."""
        texts, targets = pool.texts, pool.target_texts
        assert texts is not None and targets is not None
        documents = pool.remember(self, lambda: [words_of(str(text)) for text in texts])
        query = [word for text in targets for word in words_of(str(text))]
        return bm25(documents, [query], self.k1, self.b)[0] / len(targets)
