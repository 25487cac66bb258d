"""BM25: the words that a training text and a target share, the baseline that attributions of text have to
beat.

Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", section 3.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, first_output, lacking, provenance, signed_by_class

_WORD = re.compile(r"\w+")


class BM25(Method):
    """Scores by shared words, rare ones counting more: the target's text is the query, training texts are
    the documents.

    Parameters
    ----------
    texts : (training texts (n,), targets' texts (t,)); None takes those of the study
    k1, b : how soon a repeated word saturates, and how much long texts are held back (0 to 1)
    signed : True scores examples of the target's class positively and all others negatively; None does so
        where the study has labels
    words : text -> its words; by default runs of letters and digits, in lower case

    Scores are right at most up to scale. For outputs where lower is better (loss) the sign is turned.
    """

    needs = ("ids",)

    def __init__(
        self,
        texts: tuple[Sequence[str], Sequence[str]] | None = None,
        *,
        k1: float = 1.2,
        b: float = 0.75,
        signed: bool | None = None,
        words: Callable[[str], list[str]] | None = None,
    ) -> None:
        if not k1 >= 0 or not 0 <= b <= 1:
            raise InputError(f"k1 is {k1} and b {b}, but k1 must be 0 or more and b between 0 and 1.")
        self.texts = texts
        self.k1 = k1
        self.b = b
        self.signed = signed
        self.words = words

    def missing(self, source: Any, output: str | None = None) -> list[str]:
        also = () if self.texts is not None else ("texts",)
        if self.signed:
            also = (*also, "labels")
        return super().missing(source, output) + lacking(source, also)

    def attribute(self, source: Any, output: str | None = None) -> Attribution:
        """Scores (target, train) for a Study with texts (a Bank will do if texts are given)."""
        self.require(source, output)
        output = first_output(source, output)
        train, targets = self.texts if self.texts is not None else (source.train_texts, source.target_texts)
        expected = len(source.train_ids), len(source.target_ids)
        if (len(train), len(targets)) != expected:
            raise InputError(
                f"texts has {len(train)} training texts and {len(targets)} targets' texts, but there are "
                f"{expected[0]} training examples and {expected[1]} targets."
            )
        split = self.words if self.words is not None else words_of
        documents, queries = ([split(str(text)) for text in part] for part in (train, targets))
        scores = bm25(documents, queries, self.k1, self.b)
        scores, signed = signed_by_class(scores, source, self.signed)
        attribution = Attribution(
            scores.astype(np.float32),
            target_ids=source.target_ids,
            train_ids=source.train_ids,
            output=output,
            units="BM25",
            method=f"BM25{' (signed by class)' if signed else ''}",
            provenance=provenance(source, self),
        )
        if attribution.lower_is_better:
            attribution.data["weight"] = -attribution.data["weight"]
        return attribution

    def __repr__(self) -> str:
        return f"BM25(k1={self.k1}, b={self.b}, signed={self.signed})"


def bm25(
    train: Sequence[list[str]], targets: Sequence[list[str]], k1: float = 1.2, b: float = 0.75
) -> np.ndarray:
    """(t, n) float64 relevance of documents `train` to queries `targets`, lists of words; never negative.

    Each word w of the query adds log(1 + (n - n_w + 1/2) / (n_w + 1/2)) (k1 + 1) f / (f + k1 (1 - b + b |d| /
    mean)), where f counts w in document d and n_w documents have it; a repeated word adds repeatedly.
    """
    lengths = np.array([len(text) for text in train], np.float64)
    norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-12))
    found: dict[str, dict[int, int]] = {}  # word -> document -> how often
    for place, text in enumerate(train):
        for word, count in Counter(text).items():
            found.setdefault(word, {})[place] = count
    scores = np.zeros((len(targets), len(train)))
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # those of the queries' words only
    for row, text in zip(scores, targets, strict=True):
        for word, times in Counter(text).items():
            if word not in found:
                continue
            if word not in weights:
                places = np.array(list(found[word]))
                counts = np.array(list(found[word].values()))
                rarity = np.log1p((len(train) - len(places) + 0.5) / (len(places) + 0.5))
                weights[word] = places, rarity * counts * (k1 + 1) / (counts + norm[places])
            places, weight = weights[word]
            row[places] += times * weight
    return scores


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())
